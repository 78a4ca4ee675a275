"""What the SDK does with a stream's records: its stream map and its check."""

from __future__ import annotations

import typing as t

from singer_sdk.exceptions import InvalidRecord, MapExpressionError
from singer_sdk.sinks import Sink

from target_altcraft.codec import holds_no_number
from target_altcraft.compiled_maps import FILTER, compiled
from target_altcraft.errors import Rejection, TargetError
from target_altcraft.names import near, visible
from target_altcraft.profile import without_json
from target_altcraft.schemas import expanded, open_to_metadata
from target_altcraft.validation import RecordValidator

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from singer_sdk.mapper import StreamMap


class AltcraftSink(Sink):
    """What the SDK knows of a stream: its schema and its validator. It holds no records."""

    def get_validator(self) -> RecordValidator | None:
        """Return the validator, unless the setting `validate_records` is off.

        It sees `_sdc_*` columns as the tap described them, so it takes the original schema.
        """
        if not self.validate_schema:
            return None
        return RecordValidator(open_to_metadata(self.original_schema))

    def check(self, record: dict[str, t.Any]) -> None:
        """Check a mapped record.

        Raises:
            Rejection: If it breaks its schema or lacks a key property.
        """
        if self._validator is not None:
            try:
                self._validator.validate(record)
            except InvalidRecord as error:
                if holds_no_number(record):
                    raise without_json(record) from None
                raise Rejection("schema", f"it breaks its schema: {error.error_message}") from None
        for name in self._key_properties:
            if name not in record:
                hint = near(name, record)
                raise Rejection("missing_key", f"it has no key property '{visible(name)}'{hint}")

    def process_record(self, record: dict[str, t.Any], context: dict[str, t.Any]) -> None:
        """Do nothing: records go to the router, which knows no sinks."""

    def process_batch(self, context: dict[str, t.Any]) -> None:
        """Do nothing: what the SDK would drain here went to the delivery when it was read."""


def mapping_of(stream_map: StreamMap) -> Callable[[dict[str, t.Any]], dict[str, t.Any] | None]:
    """Return a stream map as a function that raises `Rejection`.

    An expression's own words may hold a value, so they are not shown. Where an object has been
    flattened into columns, a record in which it is null has none of them, and no object either.
    """
    options = stream_map.flattening_options
    objects = (
        expanded(stream_map.transformed_schema["properties"], options.separator)
        if options is not None and stream_map.flattening_enabled
        else frozenset[str]()
    )
    mapped_by = compiled(stream_map)

    def transform(record: dict[str, t.Any]) -> dict[str, t.Any] | None:
        try:
            mapped = mapped_by(record)
            if objects and mapped and not objects.isdisjoint(mapped):
                return {k: v for k, v in mapped.items() if v is not None or k not in objects}
        except MapExpressionError as error:
            why = f"a stream map failed for {_what(error)}: {str(error).rstrip('.')}"
            raise Rejection("stream_map", why) from None
        except TargetError:
            raise
        except Exception as error:  # noqa: BLE001 - an expression can raise anything
            why = f"a stream-map expression failed for {_what(error)} ({type(error).__name__})"
            raise Rejection("stream_map", why) from None
        return mapped

    return transform


def _what(error: Exception) -> str:
    """Name the column, or the filter, whose expression failed, if that is known."""
    name = getattr(error, "__notes__", ["this record"])[-1]
    return name if name in {FILTER, "this record"} else f"column '{visible(name)}'"
