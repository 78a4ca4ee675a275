"""Records checked against their schema by a compiled validator."""

from __future__ import annotations

import re
import typing as t
from functools import cached_property

import jsonschema_rs
from referencing import Registry
from referencing.exceptions import Unresolvable
from singer_sdk.exceptions import InvalidJSONSchema, InvalidRecord
from singer_sdk.sinks.core import BaseJSONSchemaValidator, JSONSchemaValidator

from target_altcraft.names import visible

if t.TYPE_CHECKING:
    from collections.abc import Sequence


class RecordValidator(BaseJSONSchemaValidator):
    """Gives the JSON Schema verdict of Draft 2020-12, as the SDK's own validator does, but faster.

    A schema that cannot be compiled is left to the SDK's. Formats are not checked, as in the SDK.
    A message names the column and the keyword, never the value.

    Args:
        schema: The stream's schema.

    Raises:
        InvalidJSONSchema: If it is no JSON schema.
    """

    def __init__(self, schema: dict[str, t.Any]) -> None:
        super().__init__(schema)
        self._compiled: jsonschema_rs.Draft202012Validator | None
        try:
            self._compiled = jsonschema_rs.Draft202012Validator(
                schema, validate_formats=False, retriever=_refuse
            )
        except (jsonschema_rs.ValidationError, ValueError):
            self._compiled = None
            _ = self._stock  # says so if it is no schema at all

    @cached_property
    def _stock(self) -> t.Any:  # noqa: ANN401 - of the SDK's choice
        # With a registry of its own it reads no other document either.
        return JSONSchemaValidator(self.schema).validator.evolve(
            registry=Registry(), _resolver=None
        )

    def validate(self, record: dict[str, t.Any]) -> None:
        """Check a record.

        Raises:
            InvalidRecord: If it breaks the schema.
            InvalidJSONSchema: If the schema refers to what is not there.
        """
        if self._compiled is not None:
            try:
                if self._compiled.is_valid(record):
                    return
                raise InvalidRecord(_compiled_fault(self._compiled, record), record)
            except ValueError:
                pass  # a value that is no JSON, such as a date that a stream map made
        try:
            if not self._stock.is_valid(record):
                raise InvalidRecord(_stock_fault(self._stock, record), record)
        except Unresolvable as error:
            raise InvalidJSONSchema("a reference leads nowhere") from error


def _refuse(address: str) -> t.NoReturn:
    """Read no other document, by the network or from the disk, because a schema says so."""
    raise ValueError(address)


def _compiled_fault(validator: jsonschema_rs.Draft202012Validator, record: object) -> str:
    error: t.Any = next(iter(validator.iter_errors(record)))
    unlisted = getattr(error.kind, "unexpected", None) or (None,)
    missing = getattr(error.kind, "property", None)
    return _fault(error.instance_path, error.kind.name, missing or unlisted[0])


def _stock_fault(validator: t.Any, record: object) -> str:  # noqa: ANN401 - of the SDK's choice
    error = next(iter(validator.iter_errors(record)))
    column = None
    if error.validator == "required":
        column = next((n for n in error.validator_value if n not in error.instance), None)
    elif error.validator == "additionalProperties":
        listed = error.schema.get("properties", {})
        patterns = error.schema.get("patternProperties", {})
        column = next(
            (
                name
                for name in error.instance
                if name not in listed and not any(re.search(each, name) for each in patterns)
            ),
            None,
        )
    return _fault(list(error.absolute_path), error.validator, column)


def _fault(path: Sequence[str | int], keyword: str, column: str | None) -> str:
    """Name a column and the keyword that it breaks.

    Args:
        path: Where the fault is, from the record on.
        keyword: Of the schema.
        column: Of a fault of the record itself: the column that is missing, or not listed.
    """
    name = path[0] if path else column
    if name is None:
        return f"the record breaks '{keyword}'"
    return f"column '{visible(name)}' breaks '{keyword}'"
