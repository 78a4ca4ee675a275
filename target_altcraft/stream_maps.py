"""What is wrong with the setting `stream_maps`, found before a record is read.

The SDK takes it on trust: a key that it does not know becomes a column, and a filter that assigns
(`=` for `==`) lets everything pass. Expressions are not shown: one may hold a value.
"""

from __future__ import annotations

import ast
import typing as t

from target_altcraft.misspelt import nearest

if t.TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = {"__alias__", "__source__"}
_KEYS = {*_NAMES, "__else__", "__filter__", "__key_properties__"}
_REMOVED = (None, "__NULL__")


def faults(stream_maps: object) -> Iterator[str]:
    """Yield what is wrong, a line each.

    Args:
        stream_maps: The setting, of whatever type it is.
    """
    for stream, rules in stream_maps.items() if isinstance(stream_maps, dict) else ():
        where = f"stream_maps.{stream}"
        if isinstance(rules, dict):
            for key, rule in rules.items():
                if fault := _fault(str(key), rule):
                    yield f"{where}.{key} {fault}"
        elif rules not in _REMOVED:
            yield f"{where} must be an object of columns and their expressions, or null"


def _fault(key: str, rule: object) -> str:
    """Return what is wrong with one rule of a stream; nothing if it is in order."""
    if key.startswith("__") and key.endswith("__") and key != "__filter__":
        return _special_fault(key, rule)
    if rule in _REMOVED:
        return ""
    if not isinstance(rule, str):
        return "must be an expression in quotes, or null"
    return _expression_fault(rule)


def _special_fault(key: str, rule: object) -> str:
    if key in _NAMES:
        is_right, what = isinstance(rule, str) and bool(rule.strip()), "a name"
    elif key == "__else__":
        is_right, what = rule in _REMOVED, "null or __NULL__"
    elif key == "__key_properties__":
        is_list = isinstance(rule, list) and all(isinstance(name, str) for name in rule)
        is_right, what = is_list or rule is None, "an array of columns"
    else:
        return f"is no key of a stream map{nearest(key, _KEYS)}"
    return "" if is_right else f"must be {what}"


def _expression_fault(text: str) -> str:
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "is no expression"
    if not statements:
        return "must not be empty; to remove the column, give null"
    if len(statements) > 1 or not isinstance(statements[0], ast.Expr):
        return "is no expression that has a value; to compare, write == and not ="
    return ""
