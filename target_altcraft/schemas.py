"""The schemas that taps send, brought to a form in which every column says what it is.

A tap may put a column's schema elsewhere and refer to it, leave its type out, or offer
alternatives. What comes after this (stream maps, flattening, the compiled validator, the dates of
an entry) then looks at the column alone.
"""

from __future__ import annotations

import typing as t
from functools import partial

from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from target_altcraft.errors import InputError
from target_altcraft.names import visible

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from referencing._core import Resolver  # the type of what a registry gives

Json = dict[str, t.Any]
DateKind = t.Literal["date", "date or text"]

_DATES = ("date", "date-time")
_REFERENCES = ("$ref", "$dynamicRef")
_SCHEMAS = {
    *("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
    *("anyOf", "oneOf", "allOf", "not", "if", "then", "else"),
}
"""Keywords that hold a schema, or an array of schemas."""
_NAMED_SCHEMAS = {"properties", "patternProperties", "dependentSchemas"}
_PLACES = {"$id", "$anchor", "$dynamicAnchor", "$defs", "definitions", "$schema", *_REFERENCES}
_REMARKS = {"title", "description", "default", "examples", "$comment", "deprecated"}
_MOST_REFERENCES = 10_000
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
"""What a reference or an `$id` that is none makes the library raise."""
_ALTERNATIVES = ("anyOf", "oneOf")
_SCALARS = ["null", "boolean", "number", "string"]
_ALL_TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
_NOTHING: Json = {"not": {}}


def prepared(schema: Json, *, flattened_to: int) -> Json:
    """Return a tap's schema with its references followed and a type for each column.

    Args:
        schema: The SCHEMA message's, an object; it is left as it is.
        flattened_to: Levels of objects that become columns of their own, 0 if none do.

    Raises:
        InputError: If that is not possible; the message is for whoever can name stream and line.
        RecursionError: If it is nested too deeply.
    """
    if _refers(schema):
        schema = t.cast("Json", _Dereferencer(schema).result())
    columns = schema.get("properties")
    if columns is None:
        raise InputError(
            "has no properties. Have the tap describe the stream's columns, deselect it there, or "
            "leave it out: stream_maps with __NULL__ for it"
        )
    if not isinstance(columns, dict):
        raise InputError("is no valid JSON schema: its properties are not an object")
    level = 0 if flattened_to else None
    return {
        **schema,
        "properties": {
            name: _column(column, level, flattened_to) for name, column in columns.items()
        },
    }


def date_kind(schema: object) -> DateKind | None:
    """Tell whether a column's texts are dates, by its schema: all of them, some, or none."""
    kinds = set(_texts(schema))
    if "date" not in kinds:
        return None
    return "date" if kinds == {"date"} else "date or text"


def open_to_metadata(schema: Json) -> Json:
    """Return a schema that lets `_sdc_*` columns pass which it does not list.

    They never become a profile's fields, so a schema that is closed to others has no say in them.
    """
    if not schema.keys() & {"additionalProperties", "unevaluatedProperties"}:
        return schema
    patterns = schema.get("patternProperties", {})
    if not isinstance(patterns, dict):
        return schema  # it is none, as its validator will say
    return {**schema, "patternProperties": {"^_sdc_": True, **patterns}}


def expanded(columns: Iterable[str], separator: str) -> frozenset[str]:
    """Return the names of the objects that flattening has replaced by columns of their own."""
    found = set[str]()
    for column in columns:
        place = column.find(separator, 1)
        while place > 0:
            found.add(column[:place])
            place = column.find(separator, place + 1)
    return frozenset(found.difference(columns))


def mended(schema: Json) -> Json:
    """Return a mapped schema without what the SDK's stream maps do to alternatives.

    They add "null" to `anyOf` as a type, where a schema must stand.
    """
    columns = schema.get("properties", {})
    if not any(
        isinstance(column, dict) and any(isinstance(e, str) for e in _listed(column.get("anyOf")))
        for column in columns.values()
    ):
        return schema
    return {**schema, "properties": {name: _mended(column) for name, column in columns.items()}}


def _mended(column: t.Any) -> t.Any:  # noqa: ANN401 - whatever the tap says
    alternatives = _listed(column.get("anyOf")) if isinstance(column, dict) else []
    if not alternatives:
        return column
    return {**column, "anyOf": [{"type": e} if isinstance(e, str) else e for e in alternatives]}


# Dates


def _texts(schema: object) -> Iterator[str]:
    """Yield what the texts are that a schema lets pass: "date", "text", or nothing."""
    if not isinstance(schema, dict):
        if schema is True:
            yield "text"
        return
    if schema.get("format") in _DATES:
        yield "date"
        return
    for key in _ALTERNATIVES:
        if isinstance(alternatives := schema.get(key), list):
            for alternative in alternatives:
                yield from _texts(alternative)
            return
    parts = schema.get("allOf")
    kinds = [set(_texts(part)) for part in _listed(parts)]
    if dated := [kind for kind in kinds if "date" in kind]:
        yield from min(dated, key=len)
    elif _lets_texts_pass(schema):
        yield "text"


def _lets_texts_pass(schema: Mapping[str, t.Any]) -> bool:
    if "type" in schema:
        return "string" in _types(schema)
    if "const" in schema:
        return isinstance(schema["const"], str)
    if isinstance(values := schema.get("enum"), list):
        return any(isinstance(value, str) for value in values)
    return "not" not in schema


# References


def _refers(schema: object) -> bool:
    """Tell whether a reference may stand anywhere in a schema."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if not each.keys().isdisjoint(_REFERENCES):
                return True
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return False


class _Dereferencer:
    """Puts in place of each reference what it refers to.

    Where a schema refers to one that it is part of, the inner one lets everything pass.

    Args:
        schema: It is left as it is.
    """

    def __init__(self, schema: Json) -> None:
        self._root = schema
        self._followed = 0

    def result(self) -> t.Any:  # noqa: ANN401 - a schema may be a boolean
        """Return the schema without references.

        Raises:
            InputError: If one leads out of the schema, or nowhere.
        """
        try:
            resource = DRAFT202012.create_resource(self._root)
            return self._walk(self._root, Registry().resolver_with_root(resource), ())
        except _MALFORMED:
            raise InputError("is no valid JSON schema: its references cannot be followed") from None

    def _walk(self, schema: t.Any, resolver: Resolver[t.Any], way: tuple[int, ...]) -> t.Any:  # noqa: ANN401
        if not isinstance(schema, dict):
            return schema
        if isinstance(schema.get("$id"), str) and schema is not self._root:
            resolver = resolver.in_subresource(DRAFT202012.create_resource(schema))
        result = {
            key: self._within(key, value, partial(self._walk, resolver=resolver, way=way))
            for key, value in schema.items()
            if key not in _PLACES
        }
        for key in _REFERENCES:
            if key in schema:
                result = _both(self._follow(schema[key], resolver, way), result)
        return result

    @staticmethod
    def _within(key: str, value: t.Any, walk: Callable[[t.Any], t.Any]) -> t.Any:  # noqa: ANN401
        """Return a keyword's value with the schemas in it walked."""
        if key in _SCHEMAS:
            return [walk(each) for each in value] if isinstance(value, list) else walk(value)
        if key in _NAMED_SCHEMAS and isinstance(value, dict):
            return {name: walk(each) for name, each in value.items()}
        return value

    def _follow(self, reference: t.Any, resolver: Resolver[t.Any], way: tuple[int, ...]) -> t.Any:  # noqa: ANN401
        if not isinstance(reference, str):
            raise InputError("is no valid JSON schema: a $ref is not a text")
        try:
            found = resolver.lookup(reference)
        except (Unresolvable, *_MALFORMED):
            raise InputError(
                f"refers to '{visible(reference)}', which does not stand in it; other documents "
                "are not read. Have the tap put it in"
            ) from None
        self._followed += 1
        if self._followed > _MOST_REFERENCES:
            raise InputError(f"has more than {_MOST_REFERENCES} references in one another")
        schema = found.contents
        if id(schema) in way:
            return {}
        return self._walk(schema, found.resolver, (*way, id(schema)))


def _both(found: t.Any, beside: Json) -> t.Any:  # noqa: ANN401 - a schema may be a boolean
    """Return the schema that means what both of them mean."""
    if not beside:
        return found
    if not isinstance(found, dict):
        return beside if found is True else {**_NOTHING, **beside}
    common = {key for key in found.keys() & beside.keys() if found[key] != beside[key]}
    if common <= _REMARKS:
        return {**found, **beside}
    return {**beside, "allOf": [*_listed(beside.get("allOf")), found]}


# Columns


def _types(schema: Mapping[str, t.Any]) -> list[str]:
    types = schema.get("type")
    return [types] if isinstance(types, str) else _listed(types)


def _listed(value: t.Any) -> list[t.Any]:  # noqa: ANN401 - of the tap
    return value if isinstance(value, list) else []


def _column(schema: t.Any, level: int | None, depth: int) -> Json:  # noqa: ANN401 - of the tap
    """Return a column's schema with a type, and, on a level that is flattened, in flat form."""
    if isinstance(schema, bool):
        schema = {} if schema else _NOTHING
    if not isinstance(schema, dict):
        raise InputError("is no valid JSON schema: a column's schema is not an object")
    _check_types(schema)
    if level is None:
        if "type" in schema or any(key in schema for key in (*_ALTERNATIVES, "allOf")):
            return schema
        return {**schema, "type": _ALL_TYPES}
    object_ = _object(schema) if level < depth else None
    if object_ is None:
        return _leaf(schema)
    columns = object_["properties"].items()
    return {**object_, "properties": {n: _column(c, level + 1, depth) for n, c in columns}}


def _check_types(schema: Json) -> None:
    types = schema.get("type", [])
    if not (isinstance(types, str) or (isinstance(types, list) and set(map(type, types)) <= {str})):
        raise InputError("is no valid JSON schema: a column's type is not a name")


def _object(schema: Json) -> Json | None:
    """Return the object that becomes columns of its own; None if there is none."""
    if "object" in _types(schema) and isinstance(schema.get("properties"), dict):
        return schema
    for key in _ALTERNATIVES:
        alternatives = schema.get(key)
        if "type" not in schema and isinstance(alternatives, list):
            others = [each for each in alternatives if each != {"type": "null"}]
            if len(others) == 1 and isinstance(others[0], dict):
                found = _object(others[0])
                return None if found is None else {**found, "type": ["object", "null"]}
    return None


def _leaf(schema: t.Any) -> Json:  # noqa: ANN401 - of the tap
    """Return a column's schema once its arrays and objects have become text."""
    if not isinstance(schema, dict):
        return {"type": _SCALARS} if schema is True else {"type": _SCALARS, **_NOTHING}
    _check_types(schema)
    if "type" in schema:
        types = _types(schema)
        if not {"array", "object"}.intersection(types):
            return schema
        kept = [each for each in types if each not in {"array", "object", "string"}]
        return {"type": [*kept, "string"]}
    result = {**schema, "type": _SCALARS}
    for key in (*_ALTERNATIVES, "allOf"):
        if isinstance(alternatives := result.pop(key, None), list):
            # Two alternatives of which both are text now: one of them is enough.
            result["allOf" if key == "allOf" else "anyOf"] = [_leaf(each) for each in alternatives]
    if any(isinstance(value, (dict, list)) for value in _listed(result.get("enum"))):
        del result["enum"]
    if isinstance(result.get("const"), (dict, list)):
        del result["const"]
    return result
