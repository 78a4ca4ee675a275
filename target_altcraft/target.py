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
    InvalidJSONSchema,
    InvalidRecord,
    MapExpressionError,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
    SingerSDKError,
)
from singer_sdk.helpers.capabilities import PluginCapabilities, TargetCapabilities
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_altcraft import environment, misspelt
from target_altcraft import settings as settings_module
from target_altcraft.batch_files import rows
from target_altcraft.cli import check as check_run
from target_altcraft.cli import run
from target_altcraft.codec import as_written, encode_json, is_text
from target_altcraft.config_file import read_config_file
from target_altcraft.errors import InputError, SettingsError, TargetError, UndeliverableRecord
from target_altcraft.names import near, visible
from target_altcraft.pipeline import Pipeline
from target_altcraft.progress import is_for_a_person
from target_altcraft.reader import LineReader
from target_altcraft.route import Output
from target_altcraft.schemas import mended, prepared
from target_altcraft.settings_schema import SCHEMA
from target_altcraft.sink import AltcraftSink, mapping_of
from target_altcraft.usage import dressed

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from singer_sdk.mapper import StreamMap
    from singer_sdk.singerlib.encoding.base import GenericSingerReader

    from target_altcraft.batch import Batch
    from target_altcraft.settings import Settings

_WITHOUT_MEANING_HERE = ("add_record_metadata", "load_method")
_TICK_ROWS = 1000
_NO_COLUMNS: dict[str, t.Any] = {"type": "object", "properties": {}}


class TargetAltcraft(Target):
    """Imports the records of Singer streams as Altcraft profiles and starts a scenario for each."""

    # One line: `--about` shows it, and the SDK's layout of that takes no more.

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
        for warning in misspelt.unknown_names(given, schema):
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
        self._known_schemas: dict[str, tuple[dict[str, t.Any], list[str]]] = {}
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
        stream = self._stream_of(message_dict)
        keys = self._names(message_dict, "key_properties")
        bookmarks = self._names(message_dict, "bookmark_properties")
        schema = message_dict["schema"]
        if not isinstance(schema, dict):
            raise InvalidInputLine(self._at_line("a SCHEMA message has no schema object"))
        if self._known_schemas.get(stream) != (schema, keys):
            try:
                self._register(stream, schema, keys)
            except InputError as error:
                self.pipeline.send_what_was_read()
                where = f"stream '{stream}': its SCHEMA (line {self.reader.line_number} of the"
                raise InputError(f"{where} input) {error}") from None
            self._known_schemas[stream] = schema, keys
            self._check_columns(stream, schema)
        outputs = [self._output(stream, each, keys, bookmarks) for each in self._maps(stream)]
        self.pipeline.router.enter(stream, outputs)

    def _register(self, stream: str, schema: dict[str, t.Any], keys: list[str]) -> None:
        """Tell the SDK of a stream: its stream maps, and a sink for each.

        A schema that cannot be used is no fault of a stream that every map leaves out.

        Raises:
            InputError: If the schema cannot be used; the message does not say whose it is.
        """
        options = self.mapper.flattening_options
        ready, fault = _NO_COLUMNS, None
        try:
            ready = prepared(schema, flattened_to=options.max_level if options.enabled else 0)
        except RecursionError:
            fault = InputError("is nested too deeply")
        except InputError as error:
            fault = error
        try:
            self.mapper.register_raw_stream_schema(stream, ready, keys)
            for each in self._maps(stream) if fault is None else []:
                self.get_sink(
                    each.stream_alias,
                    schema=mended(each.transformed_schema),
                    key_properties=each.transformed_key_properties,
                )
        except InvalidJSONSchema:
            raise InputError("is no valid JSON schema; mend the tap's catalog") from None
        except SingerSDKError:
            if fault is None:
                raise
        except Exception as error:  # noqa: BLE001 - a schema can be wrong in any way
            why = f"cannot be used ({type(error).__name__}); mend the tap's catalog"
            raise fault or InputError(why) from None
        if fault is not None and self._maps(stream):
            raise fault

    def _check_columns(self, stream: str, schema: dict[str, t.Any]) -> None:
        """Warn of columns in the settings that the tap does not know: they would tell nothing."""
        columns = schema.get("properties", {})
        has_journal = self.settings.journal_path is not None
        for name in {each.stream_alias for each in self._maps(stream)}:
            settings = self.settings.stream(name)
            named = {"deleted_column": (settings.deleted_column, "deleted records")}
            if has_journal:
                versions = "the versions of a record"
                named["bookmark_column"] = (settings.bookmark_column, versions)
            for setting, (column, what) in named.items():
                if column is not None and column not in columns:
                    self.logger.warning(
                        "stream '%s': its SCHEMA names no column '%s', by which %s would tell %s%s",
                        name,
                        visible(column),
                        setting,
                        what,
                        near(column, columns),
                    )

    def _at_line(self, fault: str) -> str:
        return f"line {self.reader.line_number} of the input: {fault}"

    def _assert_line_requires(self, message_dict: dict[str, t.Any], requires: set[str]) -> None:
        try:
            super()._assert_line_requires(message_dict, requires)
        except InvalidInputLine as error:
            raise InvalidInputLine(self._at_line(str(error))) from None

    def _maps(self, stream: str) -> list[StreamMap]:
        """Return the stream maps of a stream, save those that leave it out."""
        maps = self.mapper.stream_maps[stream]
        return [each for each in maps if not isinstance(each, RemoveRecordTransform)]

    def _stream_of(self, message: dict[str, t.Any]) -> str:
        """Return the name of a message's stream.

        Raises:
            InvalidInputLine: If it is no text, or one that would tear a line of the log.
        """
        stream = message["stream"]
        if not isinstance(stream, str) or not is_text(stream) or _tears_a_line(stream):
            raise InvalidInputLine(self._at_line("the stream's name is not a text of one line"))
        return stream

    def _names(self, message: dict[str, t.Any], key: str) -> list[str]:
        """Return the columns that a SCHEMA message names; some taps name one as a text, or null.

        Raises:
            InvalidInputLine: If they are no names.
        """
        names = message.get(key) or []
        listed = [names] if isinstance(names, str) else names
        if not isinstance(listed, list) or not all(isinstance(n, str) for n in listed if n):
            raise InvalidInputLine(self._at_line(f"{key} is not an array of names"))
        return [name for name in listed if name]

    def _output(
        self, tap_stream: str, stream_map: StreamMap, keys: list[str], bookmarks: list[str]
    ) -> Output:
        """Return what a SCHEMA message and a stream map say of an output stream."""
        sink = t.cast("AltcraftSink", self.get_sink(stream_map.stream_alias))
        is_plain = type(stream_map) is SameRecordTransform and not stream_map.flattening_enabled
        return Output(
            name=sink.stream_name,
            transform=None if is_plain else mapping_of(stream_map),
            check=sink.check,
            schema=sink.schema,
            keys=sink.key_properties,
            source_keys=keys,
            bookmarks=bookmarks,
            definition=None if is_plain else self._definition(tap_stream, sink.stream_name),
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
        stream = self._stream_of(message_dict)
        files = rows(
            stream,
            message_dict["encoding"],
            message_dict["manifest"],
            self.config.get("batch_config"),
        )
        start = b'{"type":"RECORD","stream":' + encode_json(stream) + b',"record":'
        for number, (row, line) in enumerate(files):
            if number % _TICK_ROWS == 0:
                self.pipeline.tick()
            message = {"type": "RECORD", "stream": stream, "record": row}
            try:
                self.pipeline.router.record(stream, row, message, partial(_joined, start, line))
            except UndeliverableRecord as error:
                raise _sdk_error(error) from None

    def _process_state_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"value"})
        value = message_dict["value"]
        try:
            self.pipeline.router.state(value, as_written(value, self.reader.line))
        except RecursionError:
            raise InvalidInputLine(
                f"line {self.reader.line_number} of the input is nested too deeply"
            ) from None

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
        """Return the SDK's command with `--check`, `-h` and examples."""
        return dressed(super().get_singer_command())

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


def _tears_a_line(name: str) -> bool:
    return len(f"{name}.".splitlines()) > 1


def _joined(start: bytes, row: bytes) -> bytes:
    """Return the RECORD message of a BATCH file's row, which is kept as the tap wrote it."""
    return start + row.strip(b" \t\r\n\xef\xbb\xbf") + b"}"


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
