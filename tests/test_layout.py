"""The shape of the code: no circles, no long modules, no long functions."""

from __future__ import annotations

import ast
import re
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "target_altcraft"
MOST_LINES_OF_A_MODULE = 450
MOST_LINES_OF_A_FUNCTION = 60
KNOW_THE_SDK = {"cli", "compiled_maps", "reader", "sink", "target", "validation"}
"""`cli` knows its exceptions only."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
SOURCES = {name: path.read_text(encoding="utf-8") for name, path in PATHS.items()}


def imports(name: str, source: str, modules: t.Collection[str], *, is_package: bool) -> set[str]:
    """The modules of the package that one of them imports, also for type hints only."""
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = name.split(".")[: len(name.split(".")) - node.level + is_package]
                base = ".".join([*up, *filter(None, [node.module])])
            for alias in node.names:
                deep = f"{base}.{alias.name}"
                found.add(deep if deep in modules else base)
    return found & set(modules) - {name}


def circle(graph: t.Mapping[str, t.Collection[str]]) -> list[str]:
    """One circle among modules, from a module back to itself; nothing if there is none."""
    done = set[str]()

    def search(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name not in done:
            for other in sorted(graph.get(name, ())):
                if found := search(other, [*way, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := search(name, []))), [])


def long_functions(source: str) -> list[str]:
    """The functions with too many lines, from `def` to the last one, docstrings included."""
    return [
        f"{node.name}: {node.end_lineno - node.lineno + 1}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    ]


def test_imports_of_every_kind_are_found() -> None:
    source = (
        "import a.b\n"
        "import elsewhere\n"
        "from a import c\n"
        "from a.d import Thing\n"
        "from . import f\n"
        "from .g import h\n"
        "if t.TYPE_CHECKING:\n    from a.e import Other\n"
        "def work():\n    from ..a import i\n"
    )
    modules = ["a", *(f"a.{letter}" for letter in "bcdefghi")]
    expected = {f"a.{letter}" for letter in "bcdefgi"}
    assert imports("a.x", source.replace("..a", "."), modules, is_package=False) == expected
    assert imports("a", source.replace("..a", "."), modules, is_package=True) == expected


def test_circles_are_found() -> None:
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []
    assert circle({"a": ["b"], "b": ["c"], "c": ["d", "b"]}) == ["b", "c", "b"]


def test_long_functions_are_found() -> None:
    body = "    '''Docs.\n\n    More.\n    '''\n" + "    x = 1\n" * (MOST_LINES_OF_A_FUNCTION - 5)
    assert long_functions(f"def f():\n{body}") == []
    assert long_functions(f"def f():\n{body}    x = 2\n") == ["f: 61"]


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {
        name: imports(name, source, PATHS, is_package=PATHS[name].name == "__init__.py")
        for name, source in SOURCES.items()
    }
    assert circle(graph) == []


def test_few_modules_know_the_sdk() -> None:
    knows = re.compile(r"^\s*(from|import) singer_sdk", re.MULTILINE)
    found = {name for name, source in SOURCES.items() if knows.search(source)}
    assert found == {f"{PACKAGE}.{name}" for name in KNOW_THE_SDK}


def test_no_module_is_long() -> None:
    lengths = {name: len(source.splitlines()) for name, source in SOURCES.items()}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES_OF_A_MODULE} == {}


def test_no_function_is_long() -> None:
    found = {name: long_functions(source) for name, source in SOURCES.items()}
    assert {name: functions for name, functions in found.items() if functions} == {}
