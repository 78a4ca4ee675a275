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


def installed(config: pytest.Config, folder: Path, name: str, requirement: str) -> Path:
    """Return the folder of commands of an environment that has a package.

    It lies in pytest's cache, and is made by the first run that needs it.

    Args:
        config: Where the cache is.
        folder: Where it is made if there is no cache.
        name: What to call it.
        requirement: For pip.
    """
    cache: pytest.Cache | None = getattr(config, "cache", None)
    return environment(cache.mkdir(name_of(name)) if cache else folder, requirement)


def name_of(name: str) -> str:
    """The folder of an environment, in the cache."""
    return f"{name}-{'.'.join(map(str, sys.version_info[:2]))}"


def environment(folder: Path, requirement: str) -> Path:
    """Return the commands of an environment in a folder, which is made unless it has the package.

    Args:
        folder: An existing one.
        requirement: For pip.

    Raises:
        subprocess.CalledProcessError: If it cannot be installed.
    """
    venv, stamp = folder / "venv", folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != requirement:
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, requirement], check=True)
            stamp.write_text(requirement)
    return venv / "bin"
