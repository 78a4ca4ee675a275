"""Programs that the tests install once, each in an environment of its own."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path

    import pytest

TAP = "meltanolabs-tap-postgres>=0.10,<0.11"
MELTANO = "meltano>=4.4,<5"
BUILD = (
    "build>=1.3",
    "twine>=6.1",
    "hatchling>=1.25",
    "hatch-fancy-pypi-readme>=24.1",
)


def installed(config: pytest.Config, folder: Path, name: str, *requirements: str) -> Path:
    """Return the folder of commands of an environment that has some packages.

    It lies in pytest's cache, and is made by the first run that needs it.

    Args:
        config: Where the cache is.
        folder: Where it is made if there is no cache.
        name: What to call it.
        requirements: For pip.
    """
    cache: pytest.Cache | None = getattr(config, "cache", None)
    return environment(cache.mkdir(name_of(name)) if cache else folder, *requirements)


def name_of(name: str) -> str:
    """The folder of an environment, in the cache."""
    return f"{name}-{'.'.join(map(str, sys.version_info[:2]))}"


def environment(folder: Path, *requirements: str) -> Path:
    """Return the commands of an environment in a folder, which is made unless it has the packages.

    Args:
        folder: An existing one.
        requirements: For pip.

    Raises:
        subprocess.CalledProcessError: If it cannot be installed.
    """
    wanted = "\n".join(requirements)
    venv, stamp = folder / "venv", folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, *requirements], check=True)
            stamp.write_text(wanted)
    return venv / "bin"
