"""One stream and schema of the input: from record to entry."""

from __future__ import annotations

import typing as t
from functools import cached_property

from singer_sdk.exceptions import InvalidRecord
from singer_sdk.sinks import Sink

from target_altcraft.codec import encode_json
from target_altcraft.errors import Rejection
from target_altcraft.journal import digest
from target_altcraft.profile import EntryPlan
from target_altcraft.validation import RecordValidator

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_altcraft.profile import Entry
    from target_altcraft.settings import StreamSettings
    from target_altcraft.target import TargetAltcraft


class AltcraftSink(Sink):
    """Checks the records of a stream and makes them entries.

    It holds no records: batches belong to the stream and live on when a new schema brings a new
    sink, so that a customer's records keep their order.
    """

    def __init__(
        self,
        target: TargetAltcraft,
        stream_name: str,
        schema: dict[str, t.Any],
        key_properties: Sequence[str] | None,
    ) -> None:
        super().__init__(target, stream_name, schema, key_properties)
        self._target = target

    @cached_property
    def settings(self) -> StreamSettings:
        """Settings of the stream.

        Raises:
            SettingsError: If they are not complete.
        """
        return self._target.settings.stream(self.stream_name)

    @cached_property
    def _plan(self) -> EntryPlan:
        return EntryPlan(self.settings, self.schema)

    def get_validator(self) -> RecordValidator | None:
        """Return the validator, unless the setting `validate_records` is off.

        It sees `_sdc_*` columns as the tap described them, so it takes the original schema.
        """
        return RecordValidator(self.original_schema) if self.validate_schema else None

    def entry(self, record: dict[str, t.Any]) -> Entry:
        """Return the entry of a record.

        Args:
            record: The record after stream maps.

        Raises:
            Rejection: If it cannot be delivered.
        """
        if self._validator is not None:
            try:
                self._validator.validate(record)
            except InvalidRecord as error:
                raise Rejection("schema", f"it breaks its schema: {error.error_message}") from None
        for name in self._key_properties:
            if name not in record:
                raise Rejection("missing_key", f"it has no key property '{name}'")
        return self._plan.entry(record)

    def key(self, record: Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Return a record's key properties."""
        return {name: record[name] for name in self.key_properties}

    def entry_digest(self, entry: Entry) -> bytes:
        """Return what tells an entry and where it goes from any other."""
        return digest(self._scope, entry.body)

    @cached_property
    def _scope(self) -> bytes:
        stream = self.settings
        return encode_json([stream.name, stream.workflow_id, stream.matching, stream.field_name])

    def process_record(self, record: dict[str, t.Any], context: dict[str, t.Any]) -> None:  # noqa: ARG002
        """Add a record to the stream's batch, as the SDK's own loop would."""
        self._target.batches.add(self.settings, self.entry(record))

    def process_batch(self, context: dict[str, t.Any]) -> None:
        """Do nothing: what the SDK would drain here went to the delivery when it was read."""
