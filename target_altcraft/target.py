"""Singer in, STATE out, and the wiring between them."""

from __future__ import annotations

import fnmatch
import gzip
import logging
import os
import signal
import sys
import typing as t
from functools import cached_property

import click
from singer_sdk import Target, metrics
from singer_sdk.exceptions import (
    ConfigValidationError,
    InvalidRecord,
    MapExpressionError,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)
from singer_sdk.helpers._batch import BatchConfig, StorageTarget
from singer_sdk.helpers.capabilities import PluginCapabilities, TargetCapabilities
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_altcraft import settings as settings_module
from target_altcraft.batch import OpenBatches
from target_altcraft.boundary import Boundary, bookmark_property
from target_altcraft.checkpoint import Checkpoints
from target_altcraft.codec import decode_json, encode_json
from target_altcraft.delivery import Delivery
from target_altcraft.errors import InputError, OutputError, Rejection, TargetError
from target_altcraft.limit import SizeLimit
from target_altcraft.outcomes import Outcomes
from target_altcraft.profile import NO_ROW, Row
from target_altcraft.progress import Progress
from target_altcraft.reader import LineReader
from target_altcraft.rehearsal import Rehearsal
from target_altcraft.rejects import rejecting_stream
from target_altcraft.run import run
from target_altcraft.sink import AltcraftSink

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from singer_sdk.mapper import StreamMap
    from singer_sdk.singerlib.encoding.base import GenericSingerReader

    from target_altcraft.batch import Batch
    from target_altcraft.profile import Entry
    from target_altcraft.settings import Settings
    from target_altcraft.summary import Summary

logger = logging.getLogger(__name__)

_NOT_OURS = ("add_record_metadata", "load_method")
_ALARM_SLACK_SECONDS = 5.0
_TICK_ROWS = 1000


class _Route(t.NamedTuple):
    """The way from a stream of the input to one output stream."""

    name: str
    sink: AltcraftSink
    stream_map: StreamMap
    is_plain: bool
    """Whether the stream map changes nothing."""
    boundary: Boundary | None


class TargetAltcraft(Target):
    """Imports the records of Singer streams as Altcraft profiles and starts a scenario for each.

    Records are gathered into batches within the API's limits, several tasks are kept in flight, and
    STATE is acknowledged once every record before it has been imported.
    """

    name = "target-altcraft"
    config_jsonschema: t.ClassVar[dict[str, t.Any]] = settings_module.SCHEMA
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
        errors = settings_module.check(given, schema) if validate_config else []
        if errors:
            raise ConfigValidationError("; ".join(errors), errors=errors, schema=schema)
        for warning in settings_module.unknown_names(given, schema):
            self.logger.warning(warning)
        self._reader = message_reader if isinstance(message_reader, LineReader) else LineReader()
        super().__init__(
            config=given,
            validate_config=validate_config,
            setup_mapper=setup_mapper,
            message_reader=self._reader,
        )
        self.max_parallelism = 1  # the SDK's own drain has nothing to do but to end the sinks
        self._reader.tick = self._tick
        self._routes: dict[str, list[_Route]] = {}
        self._boundaries: dict[str, Boundary] = {}
        self._streams_seen: set[str] = set()
        self._streams_checked: set[str] = set()
        self._batch_stream: str | None = None  # while the rows of a BATCH message are taken
        self._rehearsal = Rehearsal()
        self._state_was_emitted = False

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, t.Any]) -> None:
        """Add the SDK's settings to ours, save those that mean nothing here."""
        super().append_builtin_config(config_jsonschema)
        for name in _NOT_OURS:
            config_jsonschema["properties"].pop(name, None)

    # What a run is made of; nothing is opened or started before it is needed.

    @cached_property
    def settings(self) -> Settings:
        """The settings, resolved once."""
        return settings_module.resolve(self.config)

    @cached_property
    def outcomes(self) -> Outcomes:
        """What becomes of the records; opens the files that settings name."""
        return Outcomes(self.settings)

    @cached_property
    def summary(self) -> Summary:
        """The counts."""
        return self.outcomes.summary

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Which STATE may go out."""
        return Checkpoints(self._write_state)

    @cached_property
    def _limit(self) -> SizeLimit:
        return SizeLimit(self.settings.batch_size_bytes)

    @cached_property
    def delivery(self) -> Delivery:
        """The window of tasks."""
        return Delivery(
            self.settings,
            self._limit,
            self._reader.wakeup,
            self.outcomes,
            delivered=self._delivered,
            settled=lambda batch: self.checkpoints.settle(batch.number),
            tick=self._say_progress,
        )

    @cached_property
    def _progress(self) -> Progress:
        return Progress(self.summary, self.delivery)

    def _say_progress(self) -> None:
        self._progress.tick()

    @cached_property
    def batches(self) -> OpenBatches:
        """The batches being filled."""
        return OpenBatches(
            max_rows=self.settings.batch_size_rows,
            limit=self._limit,
            token=self.settings.token,
            next_number=self.checkpoints.open_batch,
            hand_over=self._hand_over,
        )

    def _hand_over(self, batch: Batch) -> None:
        self.get_sink(batch.stream.name).record_counter_metric.increment(len(batch.entries))
        if self.settings.dry_run:
            self.delivery.count(batch)
            self._rehearsal.add(batch)
        else:
            self.delivery.offer(batch)

    def _delivered(self, batch: Batch, seconds: float) -> None:
        tags: dict[str, t.Any] = {
            metrics.Tag.STREAM: batch.stream.name,
            metrics.Tag.STATUS: metrics.Status.SUCCEEDED,
            metrics.Tag.PID: os.getpid(),
        }
        point = metrics.Point("timer", metrics.Metric.BATCH_PROCESSING_TIME, seconds, tags)
        metrics.log(self.metrics_logger, point)

    def _write_state(self, state: t.Any, covered: int) -> None:  # noqa: ANN401
        """Emit a STATE that covers all batches up to a number."""
        self._write_line(state)
        self._state_was_emitted = True
        if self.outcomes.journal is not None:
            self.outcomes.journal.cover(covered)

    @staticmethod
    def _write_line(state: t.Any) -> None:  # noqa: ANN401 - whatever the tap says
        """Write a STATE to stdout, a whole line, flushed.

        Raises:
            OutputError: If that is not possible.
        """
        try:
            sys.stdout.buffer.write(encode_json(state) + b"\n")
            sys.stdout.buffer.flush()
        except (OSError, ValueError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is closed"
            raise OutputError(
                f"STATE cannot be written to stdout: {why}. What was delivered after the last "
                "written STATE will be sent again by a rerun"
            ) from None

    # What the input says: the SDK's callbacks for the types of message.

    def _process_schema_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"stream", "schema"})
        if not isinstance(message_dict["schema"], dict):
            raise InvalidInputLine("a SCHEMA message has no schema object")
        super()._process_schema_message(message_dict)
        stream = message_dict["stream"]
        self._routes[stream] = [
            self._route(stream_map, message_dict)
            for stream_map in self.mapper.stream_maps[stream]
            if not isinstance(stream_map, RemoveRecordTransform)
        ]
        if self.outcomes.rejects is not None:
            self.outcomes.rejects.schema(stream, self._reader.line)

    def _route(self, stream_map: StreamMap, message: dict[str, t.Any]) -> _Route:
        """Return the way that the records of a SCHEMA message take through a stream map.

        Raises:
            SettingsError: If the stream's settings are not complete.
        """
        sink = t.cast("AltcraftSink", self.get_sink(stream_map.stream_alias))
        name = sink.settings.name
        self._streams_seen.add(name)
        journal, column = self.outcomes.journal, bookmark_property(message)
        if journal is None or column is None:
            self._boundaries.pop(name, None)
        elif name not in self._boundaries or self._boundaries[name].column != column:
            schema = message["schema"]["properties"].get(column, {})
            boundary = Boundary(sink.settings, column, schema, journal.boundary(name))
            journal.remember_greatest(name, boundary.remembered)
            self._boundaries[name] = boundary
        is_plain = type(stream_map) is SameRecordTransform and not stream_map.flattening_enabled
        return _Route(name, sink, stream_map, is_plain, self._boundaries.get(name))

    def _process_record_message(self, message_dict: dict[str, t.Any]) -> None:
        try:
            stream, record = message_dict["stream"], message_dict["record"]
        except KeyError:
            self._assert_line_requires(message_dict, requires={"stream", "record"})
            raise
        only = rejecting_stream(message_dict) if "rejection" in message_dict else None
        self._take(stream, record, only)

    def _process_batch_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"stream", "encoding", "manifest"})
        self._batch_stream = message_dict["stream"]
        for number, row in enumerate(self._batch_rows(message_dict)):
            if number % _TICK_ROWS == 0:
                self._tick()
            self._take(self._batch_stream, row, None)
        self._batch_stream = None

    def _process_state_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"value"})
        if not self.settings.dry_run:
            self.checkpoints.add(message_dict["value"])

    def _process_activate_version_message(self, message_dict: dict[str, t.Any]) -> None:
        """Ignore it: Altcraft has no versions of a stream, and nothing is ever deleted there."""

    def _handle_max_record_age(self) -> None:
        """Do nothing: the SDK would drain every five minutes; batches have their own age here."""

    def _take(self, stream: str, record: t.Any, only: str | None) -> None:  # noqa: ANN401
        """Bring one record of the input on its way, once for each stream it is mapped to.

        Args:
            stream: The tap's name of the stream.
            record: As the tap sent it.
            only: The one output stream that it is for, if it is a reject that is replayed.
        """
        try:
            routes = self._routes[stream]
        except (KeyError, TypeError):
            raise RecordsWithoutSchemaException(
                f"a record of stream '{stream}' came before its SCHEMA message (line "
                f"{self._reader.line_number} of the input)"
            ) from None
        if not isinstance(record, dict):
            raise InvalidInputLine(f"a record of stream '{stream}' is not an object")
        deleted = record.get("_sdc_deleted_at") is not None
        for route in routes:
            if only is not None and route.name != only:
                continue
            self.summary.read[route.name] += 1
            if deleted:
                self.summary.skip(route.name, "deleted at the source")
                continue
            try:
                self._send(route, record)
            except Rejection as rejection:
                self._reject(route.sink, record, rejection)

    def _send(self, route: _Route, record: dict[str, t.Any]) -> None:
        """Put one record into its stream's batch, unless there is a reason not to send it.

        Raises:
            Rejection: If it cannot be delivered.
        """
        mark = route.boundary.mark(record) if route.boundary is not None else None
        if mark is not None and route.boundary and route.boundary.repeats(mark):
            self.summary.skip(route.name, "repeated at the bookmark, not sent")
            return
        mapped = record if route.is_plain else _mapped(route.stream_map, record)
        if mapped is None:
            self.summary.skip(route.name, "dropped by the stream map")
            return
        sink = route.sink
        entry = sink.entry(mapped)
        row = NO_ROW
        if self._keeps_rows:
            row = self._row(sink, record, mapped, entry)._replace(mark=mark)
            if row.digest and self.outcomes.settled_before(sink.settings, row):
                return
        if route.name not in self._streams_checked:
            self._streams_checked.add(route.name)
            if self.settings.check_workflow:
                self.delivery.check_workflow(sink.settings.workflow_id, route.name)
        self.batches.add(sink.settings, entry, row)

    @cached_property
    def _keeps_rows(self) -> bool:
        """Whether any setting wants something kept beside an entry."""
        outcomes = self.outcomes
        return any((outcomes.rejects, outcomes.receipts, outcomes.journal))

    def _row(
        self, sink: AltcraftSink, record: dict[str, t.Any], mapped: dict[str, t.Any], entry: Entry
    ) -> Row:
        """Return what is kept beside an entry: only what the settings ask for."""
        outcomes = self.outcomes
        return Row(
            message=self._original(record) if outcomes.rejects is not None else b"",
            key=sink.key(mapped) if outcomes.receipts is not None else None,
            digest=sink.entry_digest(entry) if outcomes.journal is not None else b"",
        )

    def _original(self, record: dict[str, t.Any]) -> bytes:
        """Return the RECORD message as the tap sent it; a BATCH file's row becomes one."""
        if self._batch_stream is None:
            return self._reader.line
        return encode_json({"type": "RECORD", "stream": self._batch_stream, "record": record})

    def _reject(self, sink: AltcraftSink, record: dict[str, t.Any], rejection: Rejection) -> None:
        stream = sink.stream_name
        if self.settings.rejects_path is not None:
            if self.outcomes.rejects is None:  # a dry run
                self.summary.reject(stream, rejection.code)
                self._rehearsal.reject(self.settings.max_rejects)
                return
            row = Row(message=self._original(record))
            self.outcomes.reject(sink.settings, row, rejection)
            return
        kinds: dict[str, t.Callable[[str], Exception]] = {
            "schema": lambda text: InvalidRecord(text, {}),
            "missing_key": MissingKeyPropertiesError,
            "stream_map": MapExpressionError,
        }
        raise kinds.get(rejection.code, InputError)(
            f"stream '{stream}': the record in line {self._reader.line_number} of the input cannot "
            f"be delivered: {rejection.reason}. Mend it, drop it by a stream map, or set "
            "rejects_path to have such records set aside"
        )

    def _batch_rows(self, message: Mapping[str, t.Any]) -> Iterator[t.Any]:
        """Yield the rows of a BATCH message's files, one at a time.

        Raises:
            InputError: If a file cannot be read or is of another format.
        """
        encoding, stream = message["encoding"], message["stream"]
        if encoding.get("format") != "jsonl" or encoding.get("compression") not in {None, "gzip"}:
            raise InputError(
                f"stream '{stream}': BATCH files of format '{encoding.get('format')}' with "
                f"compression '{encoding.get('compression')}' cannot be read; let the tap write "
                "jsonl, plain or gzip"
            )
        given = self.config.get("batch_config")
        for url in message["manifest"]:
            head, name = StorageTarget.split_url(url)
            storage = (
                BatchConfig.from_dict(given).storage if given else StorageTarget.from_url(head)
            )
            rows = 0
            try:
                with storage.open(name) as file:
                    lines = gzip.GzipFile(fileobj=file) if encoding.get("compression") else file
                    for line in lines:
                        rows += 1
                        yield decode_json(line)
            except (OSError, EOFError) as error:
                why = getattr(error, "strerror", None) or type(error).__name__
                raise InputError(
                    f"stream '{stream}': BATCH file {url} cannot be read: {why}"
                ) from None
            except (ValueError, RecursionError):
                raise InputError(
                    f"stream '{stream}': row {rows} of BATCH file {url} is not valid JSON"
                ) from None

    # Time and signals

    def _tick(self) -> None:
        """Do what is due while the input is read."""
        self.delivery.check()
        self.batches.close_aged()
        self._progress.tick()

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note the signal; the main thread unwinds where nothing can be cut in half.

        A second signal ends the process at once. Should the main thread be stuck in a write to a
        stdout that nobody reads, an alarm ends it.
        """
        if self._reader.wakeup.signum is not None:
            os._exit(128 + signum)
        self._reader.wakeup.signum = signum
        self._reader.wakeup.ring()
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + signum))
        patience = self.settings.shutdown_seconds + _ALARM_SLACK_SECONDS
        signal.setitimer(signal.ITIMER_REAL, patience)

    # The end

    def prepare(self) -> None:
        """Open the files, and await what an earlier run left, before a byte is read.

        Raises:
            TargetError: If a file cannot be opened, or a task of an earlier run failed.
        """
        self._reader.wakeup.listen_to_signals()
        if self.settings.dry_run:
            logger.warning("dry run: nothing is sent, no STATE is emitted, no file is written")
        self.delivery.resume(self.outcomes.leftovers)
        self.outcomes.resumed()

    def process_endofpipe(self) -> None:
        """Send what is left, wait for every task, and end the sinks."""
        self.batches.close_all()
        self.delivery.drain()
        self.delivery.check()
        self.delivery.close()
        super().process_endofpipe()
        self.outcomes.finish(self._streams_seen, state_was_emitted=self._state_was_emitted)
        for source in self._unmatched_stream_maps():
            logger.warning("stream_maps: no stream came that '%s' is for", source)
        for name in self.settings.streams:
            if name not in self._streams_seen:
                hint = settings_module.nearest(name, self._streams_seen)
                logger.warning("streams.%s: no such stream came%s", name, hint)
        self._log_summary()

    def _unmatched_stream_maps(self) -> list[str]:
        sources = [
            definition.get("__source__", name) if isinstance(definition, dict) else name
            for name, definition in self.config.get("stream_maps", {}).items()
        ]
        return [s for s in sources if s != "__else__" and not fnmatch.filter(self._routes, s)]

    def wind_down(self, error: BaseException) -> None:
        """Await what is in flight after a failure, and say what else failed or was abandoned."""
        self.delivery.drain()
        self.delivery.say_unraised(error)
        again = "a rerun without journal_path sends these again"
        if self.settings.journal_path is not None:
            again = "by the journal, a rerun asks about it first"
        for flight in self.delivery.close():
            logger.error("abandoned: %s; Altcraft may still complete it, and %s", flight, again)
        self._log_summary()

    def _log_summary(self) -> None:
        self._progress.close()
        for line in self.summary.lines():
            logger.info(line)
        if self.settings.dry_run:
            for line in self._rehearsal.table(self.summary):
                logger.info(line)

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> t.Any:  # noqa: ANN401
        """Read the configuration files, with one message for a file that cannot be read."""
        try:
            return super().cb_config(ctx, param, value)
        except OSError as error:
            why = error.strerror or str(error)
            raise click.ClickException(f"the configuration file cannot be read: {why}") from None
        except (ValueError, TypeError):
            raise click.ClickException(
                f"the configuration file is not a JSON object: {', '.join(value)}"
            ) from None

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: t.Any = None,  # noqa: ANN401 - the SDK's own type for it is private
        file_input: t.IO[str] | None = None,
    ) -> None:
        """Run the target: the command line's callback."""
        if about:
            cls.print_about(about_format)
            return
        cls.print_version(print_fn=cls.logger.info)
        sys.exit(run(cls, config, file_input))


def _mapped(stream_map: StreamMap, record: dict[str, t.Any]) -> dict[str, t.Any] | None:
    """Return the record after its stream map, None if that drops it.

    Raises:
        Rejection: If an expression fails; its own words may hold a value, so they are not shown.
    """
    try:
        return stream_map.transform(record)
    except MapExpressionError as error:
        raise Rejection("stream_map", f"a stream map failed: {str(error).rstrip('.')}") from None
    except TargetError:
        raise
    except Exception as error:  # noqa: BLE001 - an expression can raise anything
        raise Rejection(
            "stream_map", f"a stream-map expression failed ({type(error).__name__})"
        ) from None
