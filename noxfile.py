"""The checks on every Python that is supported: `make nox`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
IF_PRESENT = ["3.14"]


def _find_pyenv_pythons() -> None:
    """Put every Python that pyenv has on the PATH, not only the one that its shims answer for."""
    roots = [os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"]
    root = next((Path(root) for root in roots if root and Path(root).is_dir()), None)
    if root is None:
        return
    folders = [
        str(folder)
        for version in [*PYTHONS, *IF_PRESENT]
        for folder in sorted(root.glob(f"versions/{version}.*/bin"))
    ]
    os.environ["PATH"] = os.pathsep.join([*folders, os.environ["PATH"]])


_find_pyenv_pythons()
nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"


@nox.session(python=[*PYTHONS, *(v for v in IF_PRESENT if shutil.which(f"python{v}"))])
def tests(session: nox.Session) -> None:
    """Run ruff, mypy and the suite."""
    session.install("--editable", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("pytest", "-n", "2", *session.posargs)
