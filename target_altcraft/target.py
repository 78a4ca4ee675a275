"""The SDK's shell: Singer messages in, and nothing else."""

from __future__ import annotations

import fnmatch
import logging
import os
import sys
import typing as t
from functools import cached_property, partial

import click
from singer_sdk import Target, metrics
from singer_sdk.exceptions import (
    ConfigValidationError,
    InvalidRecord,
    MapExpressionError,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)
from singer_sdk.helpers.capabilities import PluginCapabilities, TargetCapabilities
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform
from singer_sdk.singerlib.exceptions import InvalidInputLine
from singer_sdk.sinks import Sink

from target_altcraft import environment, names
from target_altcraft import settings as settings_module
from target_altcraft.batch_files import rows
from target_altcraft.cli import check as check_run
from target_altcraft.cli import run
from target_altcraft.codec import encode_json
from target_altcraft.config_file import read_config_file
from target_altcraft.errors import Rejection, SettingsError, TargetError, UndeliverableRecord
from target_altcraft.pipeline import Pipeline
from target_altcraft.progress import is_for_a_person
from target_altcraft.reader import LineReader
from target_altcraft.route import Output
from target_altcraft.settings_schema import SCHEMA
from target_altcraft.validation import RecordValidator

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from singer_sdk.mapper import StreamMap
    from singer_sdk.singerlib.encoding.base import GenericSingerReader

    from target_altcraft.batch import Batch
    from target_altcraft.settings import Settings

_WITHOUT_MEANING_HERE = ("add_record_metadata", "load_method")
_TICK_ROWS = 1000


class AltcraftSink(Sink):
    """What the SDK knows of a stream: its schema and its validator. It holds no records."""

    def get_validator(self) -> RecordValidator | None:
        """Return the validator, unless the setting `validate_records` is off.

        It sees `_sdc_*` columns as the tap described them, so it takes the original schema.
        """
        return RecordValidator(self.original_schema) if self.validate_schema else None

    def check(self, record: dict[str, t.Any]) -> None:
        """Check a mapped record.

        Raises:
            Rejection: If it breaks its schema or lacks a key property.
        """
        if self._validator is not None:
            try:
                self._validator.validate(record)
            except InvalidRecord as error:
                raise Rejection("schema", f"it breaks its schema: {error.error_message}") from None
        for name in self._key_properties:
            if name not in record:
                raise Rejection("missing_key", f"it has no key property '{name}'")

    def process_record(self, record: dict[str, t.Any], context: dict[str, t.Any]) -> None:
        """Do nothing: records go to the router, which knows no sinks."""

    def process_batch(self, context: dict[str, t.Any]) -> None:
        """Do nothing: what the SDK would drain here went to the delivery when it was read."""


class TargetAltcraft(Target):
    """Imports the records of Singer streams as Altcraft profiles and starts a scenario for each.

    Records are gathered into batches within the API's limits, several tasks are kept in flight, and
    STATE is acknowledged once every record before it has been imported.

    ::

        echo "$messages" | target-altcraft --config config.json
    """

    name = "target-altcraft"
    config_jsonschema: t.ClassVar[dict[str, t.Any]] = SCHEMA
    capabilities: t.ClassVar[list[t.Any]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.BATCH,
        PluginCapabilities.STRUCTURED_LOGGING,
        TargetCapabilities.VALIDATE_RECORDS,
    ]
    default_sink_class = AltcraftSink

    def __init__(
        self,
        *,
        config: dict[str, t.Any] | None = None,
        parse_env_config: bool = False,
        validate_config: bool = True,
        setup_mapper: bool = True,
        message_reader: GenericSingerReader[str] | None = None,
    ) -> None:
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        given: dict[str, t.Any] = dict(config or {})
        if parse_env_config:
            given |= settings_module.from_environment(os.environ, schema)
        given = settings_module.coerce(given, schema)
        unread = list(environment.unread(os.environ, given, schema, is_read=parse_env_config))
        if validate_config:
            errors = settings_module.check(given, schema)
            errors += [variable.text for variable in unread if variable.is_brake]
            if errors:
                raise ConfigValidationError("; ".join(errors), errors=errors, schema=schema)
        for warning in names.unknown_names(given, schema):
            self.logger.warning(warning)
        for variable in unread:
            self.logger.warning(variable.text)
        self.reader = message_reader if isinstance(message_reader, LineReader) else LineReader()
        super().__init__(
            config=given,
            validate_config=validate_config,
            setup_mapper=setup_mapper,
            message_reader=self.reader,
        )
        if is_for_a_person(os.environ) and "SINGER_SDK_LOG_CONFIG" not in os.environ:
            # A metric for each batch would push the summary off the screen.
            is_debugging = self.metrics_logger.isEnabledFor(logging.DEBUG)
            self.metrics_logger.setLevel(logging.DEBUG if is_debugging else logging.WARNING)
        self.max_parallelism = 1  # the SDK's own drain has nothing to do but to end the sinks

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, t.Any]) -> None:
        """Add the SDK's settings to ours, save those that mean nothing here."""
        super().append_builtin_config(config_jsonschema)
        for name in _WITHOUT_MEANING_HERE:
            config_jsonschema["properties"].pop(name, None)

    @cached_property
    def settings(self) -> Settings:
        """The settings, resolved once."""
        return settings_module.resolve(self.config)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The run; nothing is opened or started before it is needed."""
        return Pipeline(
            self.settings,
            self.reader,
            handed_over=self._count_batch,
            delivered=self._time_batch,
        )

    # Metrics, in the SDK's own form

    def _count_batch(self, batch: Batch) -> None:
        sink = self.get_sink(batch.stream.name)
        sink.record_counter_metric.increment(len(batch.entries))

    def _time_batch(self, batch: Batch, seconds: float) -> None:
        tags: dict[str, t.Any] = {
            metrics.Tag.STREAM: batch.stream.name,
            metrics.Tag.STATUS: metrics.Status.SUCCEEDED,
            metrics.Tag.PID: os.getpid(),
        }
        point = metrics.Point("timer", metrics.Metric.BATCH_PROCESSING_TIME, seconds, tags)
        metrics.log(self.metrics_logger, point)

    # What the input says: the SDK's callbacks for the types of message

    def _process_schema_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"stream", "schema"})
        if not isinstance(message_dict["schema"], dict):
            raise InvalidInputLine("a SCHEMA message has no schema object")
        super()._process_schema_message(message_dict)
        stream = message_dict["stream"]
        self.pipeline.router.enter(
            stream,
            [
                self._output(stream_map, message_dict)
                for stream_map in self.mapper.stream_maps[stream]
                if not isinstance(stream_map, RemoveRecordTransform)
            ],
        )

    def _output(self, stream_map: StreamMap, message: dict[str, t.Any]) -> Output:
        """Return what a SCHEMA message and a stream map say of an output stream."""
        sink = t.cast("AltcraftSink", self.get_sink(stream_map.stream_alias))
        is_plain = type(stream_map) is SameRecordTransform and not stream_map.flattening_enabled
        return Output(
            name=sink.stream_name,
            transform=None if is_plain else _transform(stream_map),
            check=sink.check,
            schema=sink.schema,
            keys=sink.key_properties,
            source_keys=message.get("key_properties") or [],
            bookmarks=_bookmarks(message),
            definition=None if is_plain else self._definition(message["stream"], sink.stream_name),
        )

    def _definition(self, tap_stream: str, name: str) -> object:
        """Return what the settings say of a stream's map and flattening."""
        maps = self.config.get("stream_maps") or {}
        chosen = {
            key: value
            for key, value in maps.items()
            if key in {tap_stream, name}
            or fnmatch.fnmatchcase(tap_stream, key)
            or (isinstance(value, dict) and value.get("__source__") == tap_stream)
            or key == "__else__"
        }
        others = {key: value for key, value in self.config.items() if key.startswith("flattening_")}
        return [chosen, others, self.config.get("stream_map_config")]

    def _process_record_message(self, message_dict: dict[str, t.Any]) -> None:
        try:
            stream, record = message_dict["stream"], message_dict["record"]
        except KeyError:
            self._assert_line_requires(message_dict, requires={"stream", "record"})
            raise
        try:
            self.pipeline.router.record(stream, record, message_dict)
        except UndeliverableRecord as error:
            raise _sdk_error(error) from None

    def _process_batch_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"stream", "encoding", "manifest"})
        stream = message_dict["stream"]
        files = rows(
            stream,
            message_dict["encoding"],
            message_dict["manifest"],
            self.config.get("batch_config"),
        )
        for number, row in enumerate(files):
            if number % _TICK_ROWS == 0:
                self.pipeline.tick()
            message = {"type": "RECORD", "stream": stream, "record": row}
            try:
                self.pipeline.router.record(stream, row, message, partial(encode_json, message))
            except UndeliverableRecord as error:
                raise _sdk_error(error) from None

    def _process_state_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"value"})
        self.pipeline.router.state(message_dict["value"])

    def _process_activate_version_message(self, message_dict: dict[str, t.Any]) -> None:
        """Ignore it: Altcraft has no versions of a stream, and nothing is ever deleted there."""

    def _handle_max_record_age(self) -> None:
        """Do nothing: the SDK would drain every five minutes; batches have their own age here."""

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note the signal; the main thread unwinds where nothing can be cut in half."""
        self.reader.wakeup.signalled(signum, self.settings.shutdown_seconds)

    def process_endofpipe(self) -> None:
        """Send what is left, wait for every task, and end the sinks."""
        self.pipeline.finish()
        super().process_endofpipe()
        for source in self._unmatched_stream_maps():
            self.logger.warning("stream_maps: no stream came that '%s' is for", source)

    def _unmatched_stream_maps(self) -> list[str]:
        sources = [
            definition.get("__source__", name) if isinstance(definition, dict) else name
            for name, definition in self.config.get("stream_maps", {}).items()
        ]
        seen = self.pipeline.router.tap_streams
        return [s for s in sources if s != "__else__" and not fnmatch.filter(seen, s)]

    # The command line

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """Return the SDK's command with the option `--check`."""
        command = super().get_singer_command()
        command.params.append(
            click.Option(
                ["--check"],
                is_flag=True,
                help="Look at token, scenarios, files and journal, say what was found, and exit "
                "with 0 or 1. Reads no input and sends nothing.",
            )
        )
        for option in command.params:
            if isinstance(option, click.Option) and option.name == "about_format":
                option.help = "Specify output style for --about, or json for --check"
        return command

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> t.Any:  # noqa: ANN401
        """Read the configuration files; one that cannot be read is told with the place."""
        given = super().cb_config(ctx, param, tuple(each for each in value if each == "ENV"))
        try:
            for path in value:
                if path != "ENV":
                    given.config |= read_config_file(path)
        except SettingsError as error:
            raise click.ClickException(str(error)) from None
        return given

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: t.Any = None,  # noqa: ANN401 - the SDK's own type for it is private
        file_input: t.IO[str] | None = None,
        check: bool = False,
    ) -> None:
        """Run the target: the command line's callback."""
        if about:
            cls.print_about(about_format)
            return

        def make() -> TargetAltcraft:
            return cls(
                config=config.config if config else None,
                parse_env_config=config.parse_env if config else False,
            )

        if check:
            sys.exit(check_run(make, for_machines=(about_format or "").lower() == "json"))
        cls.print_version(print_fn=cls.logger.info)
        sys.exit(run(make, file_input))


def _invalid_record(text: str) -> InvalidRecord:
    return InvalidRecord(text, {})


def _sdk_error(error: UndeliverableRecord) -> Exception:
    """Return what the SDK raises for a record that cannot be delivered."""
    return _SDK_ERRORS.get(error.code, TargetError)(str(error))


_SDK_ERRORS: dict[str, Callable[[str], Exception]] = {
    "schema": _invalid_record,
    "missing_key": MissingKeyPropertiesError,
    "stream_map": MapExpressionError,
    "no_schema": RecordsWithoutSchemaException,
    "not_an_object": InvalidInputLine,
}
"""What the SDK raises for a record that cannot be delivered, by the code of its rejection."""


def _bookmarks(message: dict[str, t.Any]) -> Sequence[str]:
    """Return the columns that a SCHEMA message names as its bookmark."""
    names = message.get("bookmark_properties") or []
    return [names] if isinstance(names, str) else names


def _transform(stream_map: StreamMap) -> Callable[[dict[str, t.Any]], dict[str, t.Any] | None]:
    """Return a stream map as a function that raises `Rejection`.

    An expression's own words may hold a value, so they are not shown.
    """

    def transform(record: dict[str, t.Any]) -> dict[str, t.Any] | None:
        try:
            return stream_map.transform(record)
        except MapExpressionError as error:
            why = f"a stream map failed: {str(error).rstrip('.')}"
            raise Rejection("stream_map", why) from None
        except TargetError:
            raise
        except Exception as error:  # noqa: BLE001 - an expression can raise anything
            why = f"a stream-map expression failed ({type(error).__name__})"
            raise Rejection("stream_map", why) from None

    return transform
