"""What is imported is declared, what is declared is imported, and what is built holds all of it."""

from __future__ import annotations

import ast
import email
import re
import subprocess
import sys
import tarfile
import typing as t
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from installed import BUILD, installed

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


def test_the_plugin_definition_is_described_as_the_package() -> None:
    definition = yaml.safe_load((ROOT / "target-altcraft.yml").read_text(encoding="utf-8"))
    assert definition["description"] == PROJECT["description"]
    assert definition["name"] == definition["executable"] == PROJECT["name"]
    assert definition["executable"] in PROJECT["scripts"]


def test_no_address_is_given_that_is_not_known() -> None:
    assert "urls" not in PROJECT


# What is built


class Built(t.NamedTuple):
    programs: Path
    sdist: Path
    wheel: Path

    @property
    def description(self) -> str:
        with zipfile.ZipFile(self.wheel) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
            message = email.message_from_bytes(wheel.read(name))
        assert message["Description-Content-Type"] == "text/markdown"
        return t.cast("bytes", message.get_payload(decode=True)).decode()


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions of this checkout."""
    folder = tmp_path_factory.mktemp("build")
    programs = installed(pytestconfig, folder, "build", *BUILD)
    made = folder / "dist"
    build = [str(programs / "python"), "-m", "build", "--no-isolation", "--outdir", str(made)]
    subprocess.run([*build, str(ROOT)], check=True, stdout=subprocess.DEVNULL, timeout=100)
    (sdist,), (wheel,) = made.glob("*.tar.gz"), made.glob("*.whl")
    return Built(programs, sdist, wheel)


def test_the_source_distribution_is_the_checkout(built: Built) -> None:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    done = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    there = {name for name in done.stdout.splitlines() if (ROOT / name).exists()}
    with tarfile.open(built.sdist) as sdist:
        names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    assert names - {"PKG-INFO"} == there


def test_the_wheel_holds_every_file_of_the_package(built: Built) -> None:
    files = (path for path in PACKAGE.rglob("*") if path.is_file())
    wanted = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == wanted
    assert {"target_altcraft/py.typed", "target_altcraft/sandbox/page.html"} <= names


def test_the_long_description_has_no_link_and_no_picture_that_an_index_cannot_show(
    built: Built,
) -> None:
    text = built.description
    assert text.startswith("# target-altcraft\n")
    assert len(text) > len((ROOT / "README.md").read_text(encoding="utf-8")) * 0.8
    assert "![" not in text
    assert "<img" not in text
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    distributions = [str(built.sdist), str(built.wheel)]
    subprocess.run([str(built.programs / "twine"), "check", "--strict", *distributions], check=True)
