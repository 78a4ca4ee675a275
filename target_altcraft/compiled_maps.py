"""Stream maps compiled: what is mostly written in them becomes plain operations, once per schema.

The SDK's `CustomStreamMap` evaluates each expression for each record with simpleeval, over a copy
of the record. Here a name, a constant, `str()`, `int()`, `float()`, `bool()`, `md5()`, `sha256()`,
a text's method such as `strip()`, comparisons, `not`, `and`, `or` and `if … else` become operations
on the record. Every other expression stays with the SDK, in its place among the others, and so does
a compiled one for a record on which it fails. Result, order of columns and errors are the SDK's;
only a value that is nested about as deeply as the interpreter allows may pass here and fail there.

It needs nothing of this package. In the SDK, `CustomStreamMap._init_functions_and_schema` would
return `compiled_transform(...)`, with the local values that `compiled` reads from the function that
is returned there today.
"""

from __future__ import annotations

import ast
import inspect
import typing as t
from functools import partial
from operator import itemgetter, methodcaller

from singer_sdk.mapper import CustomStreamMap

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from singer_sdk.mapper import StreamMap

    Record = dict[str, t.Any]
    Transform = Callable[[Record], Record | None]
    Operation = Callable[[Record], t.Any]
    Rule = tuple[str, str, ast.stmt | None]
    """A column, its expression, and that parsed: None for a column that is removed."""

_PURE = {"bool", "float", "int", "md5", "sha256", "str"}
"""Functions that may be called twice where once would do."""
_TEXT_METHODS = {"capitalize", "lower", "lstrip", "rstrip", "strip", "title", "upper"}
"""Methods that texts alone have, called without arguments."""
_RECORD = {"_", "record"}
_STREAM = {"__original_stream_name__", "__stream_name__"}
_NO_COLUMNS = {*_RECORD, *_STREAM, "config", "fake"}
"""Names that do not mean the record's column of that name."""
FILTER = "__filter__"
"""The key of a stream map's filter."""
_MOST_LEVELS = 8
"""An expression that is nested more deeply stays with the SDK: it may be too deep to evaluate."""


def compiled(stream_map: StreamMap) -> Transform:
    """Return a function that does what a stream map's `transform` does.

    Args:
        stream_map: If it is of another kind than `CustomStreamMap`, its `transform` is returned.
    """
    if type(stream_map) is not CustomStreamMap:
        return stream_map.transform
    known = inspect.getclosurevars(stream_map._transform_fn).nonlocals  # noqa: SLF001
    rules: Sequence[Rule] = known["stream_map_parsed"]
    if not all(tree is None or isinstance(tree, ast.Expr) for _, _, tree in rules):
        return stream_map.transform  # which says for each record what is wrong
    of_filter = inspect.getclosurevars(stream_map._filter_fn).nonlocals  # noqa: SLF001
    transform = compiled_transform(
        stream_map,
        rules,
        keeps=_filter(stream_map, of_filter.get("filter_rule_parsed")) if of_filter else None,
        keeps_other_columns=known["include_by_default"],
    )
    if not stream_map.flattening_enabled:
        return transform

    def flattened(record: Record) -> Record | None:
        result = transform(record)
        return None if result is None else stream_map.flatten_record(result)

    return flattened


def compiled_transform(
    stream_map: CustomStreamMap,
    rules: Sequence[Rule],
    *,
    keeps: Operation | None,
    keeps_other_columns: bool,
) -> Transform:
    """Return a stream map as one function, without flattening.

    No two rules are about the same column, so it makes no difference that all columns to be removed
    are removed first. The others are made in their order: what the SDK evaluates may change the
    record. An error of an expression has its column as a note, or `__filter__`.

    Args:
        stream_map: It evaluates what is not compiled.
        rules: Of the stream map.
        keeps: The filter.
        keeps_other_columns: Whether columns stay that no rule names; if not, key properties do.
    """
    removed = [name for name, _, tree in rules if tree is None]
    columns = [
        (name, *_operations(stream_map, name, text, tree)) for name, text, tree in rules if tree
    ]
    keys = tuple(stream_map.transformed_key_properties or ())

    def transform(record: Record) -> Record | None:
        name = FILTER
        try:
            if keeps is not None and not keeps(record):
                return None
            if keeps_other_columns:
                result = record.copy()
                for name in removed:
                    if name in result:
                        del result[name]
            else:
                result = {key: record[key] for key in keys if key in record}
            for name, operation, by_sdk in columns:
                try:
                    result[name] = operation(record)
                except Exception:  # noqa: PERF203 - the SDK says what is wrong, if anything is
                    if by_sdk is None:
                        raise
                    result[name] = by_sdk(record)
        except Exception as error:
            error.__dict__["__notes__"] = [name]  # as `add_note` does, which Python 3.10 lacks
            raise
        return result or None

    return transform


def _operations(
    stream_map: CustomStreamMap, column: str, text: str, tree: ast.stmt
) -> tuple[Operation, Operation | None]:
    """Return what makes a column, and what does so where that fails; None if that is final."""
    expression = t.cast("ast.Expr", tree)
    by_sdk = partial(stream_map._eval, text, expression, property_name=column)  # noqa: SLF001
    operation = _Compiler(stream_map, column).operation(tree)
    return (by_sdk, None) if operation is None else (operation, by_sdk)


def _filter(stream_map: CustomStreamMap, tree: ast.stmt | None) -> Operation:
    operation = _Compiler(stream_map, None).operation(tree)
    if operation is None:
        return stream_map.get_filter_result

    def keeps(record: Record) -> t.Any:  # noqa: ANN401 - whatever the expression gives
        try:
            return operation(record)
        except Exception:  # noqa: BLE001 - the SDK says what is wrong, if anything is
            return stream_map.get_filter_result(record)

    return keeps


class _NotCompiledError(Exception):
    """The SDK is to evaluate this expression."""


class _Compiler:
    """Makes operations of expressions.

    An operation has no effect but its result, so that it may fail and be evaluated again.

    Args:
        stream_map: Whose functions, operators and constants are used.
        column: That the expression makes, known to it as `self`; None for a filter.
    """

    def __init__(self, stream_map: CustomStreamMap, column: str | None) -> None:
        functions = stream_map.expr_evaluator.functions
        self._pure: Mapping[str, t.Any] = {name: functions[name] for name in _PURE & {*functions}}
        self._operators: Mapping[type, t.Any] = stream_map.expr_evaluator.operators
        self._stream_map = stream_map
        self._self = column or "self"

    def operation(self, tree: ast.stmt | None) -> Operation | None:
        """Return an expression as an operation; None if the SDK is to evaluate it."""
        try:
            return self._of(tree.value, _MOST_LEVELS) if isinstance(tree, ast.Expr) else None
        except _NotCompiledError:
            return None

    def _of(self, node: ast.expr, levels: int) -> Operation:
        if levels == 0:
            raise _NotCompiledError
        of = partial(self._of, levels=levels - 1)
        match node:
            case ast.Name(name) if name not in _NO_COLUMNS:
                result: Operation = itemgetter(self._self if name == "self" else name)
            case ast.Subscript(ast.Name(name), ast.Constant(str()) as key) if name in _RECORD:
                result = itemgetter(self._constant(key))
            case ast.Call(ast.Name(name), [each], []) if name in self._pure:
                result = _applied(self._pure[name], of(each))
            case ast.Call(ast.Attribute(each, name), [], []) if name in _TEXT_METHODS:
                result = _applied(methodcaller(name), of(each))
            case ast.UnaryOp(ast.Not(), each):
                result = _applied(self._operators[ast.Not], of(each))
            case ast.Compare(left, [operator], [right]):
                result = _compared(self._operators[type(operator)], of(left), of(right))
            case ast.BoolOp(operator, parts):
                result = _joined(list(map(of, parts)), stops_at=isinstance(operator, ast.Or))
            case ast.IfExp(test, body, orelse):
                result = _chosen(of(test), of(body), of(orelse))
            case _:
                result = _always(self._constant(node))
        return result

    def _constant(self, node: ast.expr) -> t.Any:  # noqa: ANN401 - whatever it is
        """Return what a constant is to the SDK: a literal, a stream's name, or a tuple of these."""
        for part in node.elts if isinstance(node, ast.Tuple) else [node]:
            match part:
                case ast.Constant() | ast.UnaryOp(ast.USub(), ast.Constant()):
                    pass
                case ast.Name(name) if name in _STREAM:
                    pass
                case _:
                    raise _NotCompiledError
        try:
            return self._stream_map._eval("", t.cast("ast.Expr", node), {}, None)  # noqa: SLF001
        except Exception:  # noqa: BLE001 - such as a text that is too long
            raise _NotCompiledError from None


def _always(value: t.Any) -> Operation:  # noqa: ANN401
    return lambda _: value


def _applied(function: Callable[[t.Any], t.Any], part: Operation) -> Operation:
    return lambda record: function(part(record))


def _compared(
    compare: Callable[[t.Any, t.Any], t.Any], left: Operation, right: Operation
) -> Operation:
    return lambda record: compare(left(record), right(record))


def _chosen(test: Operation, body: Operation, orelse: Operation) -> Operation:
    return lambda record: body(record) if test(record) else orelse(record)


def _joined(parts: Sequence[Operation], *, stops_at: bool) -> Operation:
    def result(record: Record) -> t.Any:  # noqa: ANN401 - what one of the parts gives
        value = None
        for part in parts:
            value = part(record)
            if bool(value) is stops_at:
                break
        return value

    return result
