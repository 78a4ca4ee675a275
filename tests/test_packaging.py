"""What is imported is declared in pyproject.toml, and what is declared is imported."""

from __future__ import annotations

import ast
import re
import sys
import typing as t
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "target_altcraft"
SANDBOX = PACKAGE / "sandbox"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_NAME = re.compile(r"[\w.-]+")


def normal(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    matches = [_NAME.match(requirement) for requirement in requirements]
    return {normal(match.group()) for match in matches if match}


def imported_modules(source: str) -> set[str]:
    """The top-level modules that a source imports, also for type hints only, save its own."""
    names = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    tops = {name.partition(".")[0] for name in names}
    return tops - sys.stdlib_module_names - {"target_altcraft", "_typeshed"}


def imported(paths: t.Iterable[Path]) -> set[str]:
    """The distributions that files import."""
    sources = [path.read_text(encoding="utf-8") for path in paths]
    modules = set[str]().union(*map(imported_modules, sources))
    homes = packages_distributions()
    return {normal(home) for name in modules for home in homes.get(name, [name])}


def of_the_target() -> set[str]:
    return imported(path for path in PACKAGE.rglob("*.py") if SANDBOX not in path.parents)


def of_the_sandbox() -> set[str]:
    return imported(SANDBOX.rglob("*.py"))


def test_imports_are_found_wherever_they_stand() -> None:
    source = (
        "from __future__ import annotations\n"
        "import json, one.deep as x\n"
        "if t.TYPE_CHECKING:\n    from two.deep import y\n"
        "def f():\n    import three\n"
        "from . import near\nfrom target_altcraft.codec import z\n"
    )
    assert imported_modules(source) == {"one", "two", "three"}


def test_what_the_target_imports_is_declared() -> None:
    assert of_the_target() - declared(PROJECT["dependencies"]) == set()


def test_what_is_declared_is_imported_by_the_target() -> None:
    assert declared(PROJECT["dependencies"]) - of_the_target() == set()


def test_what_only_the_sandbox_imports_is_its_extra() -> None:
    extra = declared(PROJECT["optional-dependencies"]["sandbox"])
    assert of_the_sandbox() - declared(PROJECT["dependencies"]) == extra


def test_the_validator_is_pinned_to_the_minor_version_that_was_tested() -> None:
    # Its errors' `kind` is not promised to stay; see validation.py.
    major, minor = map(int, version("jsonschema-rs").split(".")[:2])
    pin = next(r for r in PROJECT["dependencies"] if declared([r]) == {"jsonschema-rs"})
    assert pin == f"jsonschema-rs>={major}.{minor},<{major}.{minor + 1}"
