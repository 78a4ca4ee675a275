"""Singer in, STATE out, and the wiring between them."""

from __future__ import annotations

import gzip
import logging
import os
import signal
import sys
import time
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
from singer_sdk.mapper import RemoveRecordTransform
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_altcraft import settings as settings_module
from target_altcraft.batch import OpenBatches
from target_altcraft.checkpoint import Checkpoints
from target_altcraft.delivery import Delivery
from target_altcraft.errors import InputError, OutputError, Rejection, TargetError
from target_altcraft.limit import SizeLimit
from target_altcraft.profile import encode_json
from target_altcraft.reader import LineReader, decode_json
from target_altcraft.run import run
from target_altcraft.sink import AltcraftSink
from target_altcraft.summary import Summary

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from singer_sdk.singerlib.encoding.base import GenericSingerReader

    from target_altcraft.batch import Batch
    from target_altcraft.settings import Settings

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 30.0
_NOT_OURS = ("add_record_metadata", "load_method")
_ALARM_SLACK_SECONDS = 5.0
_TICK_ROWS = 1000


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
        self._started = self._progressed = time.monotonic()
        self._streams_seen: set[str] = set()

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
    def summary(self) -> Summary:
        """What became of the records."""
        return Summary()

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Which STATE may go out."""
        return Checkpoints(self._write_line)

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
            delivered=self._delivered,
            settled=lambda batch: self.checkpoints.settle(batch.number),
            tick=self._log_progress,
        )

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
        self.delivery.offer(batch)

    def _delivered(self, batch: Batch, number: int, seconds: float) -> None:
        self.summary.add(batch.stream.name, "delivered", number)
        tags: dict[str, t.Any] = {
            metrics.Tag.STREAM: batch.stream.name,
            metrics.Tag.STATUS: metrics.Status.SUCCEEDED,
            metrics.Tag.PID: os.getpid(),
        }
        point = metrics.Point("timer", metrics.Metric.BATCH_PROCESSING_TIME, seconds, tags)
        metrics.log(self.metrics_logger, point)

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
        for stream_map in self.mapper.stream_maps[message_dict["stream"]]:
            if not isinstance(stream_map, RemoveRecordTransform):
                sink = t.cast("AltcraftSink", self.get_sink(stream_map.stream_alias))
                _ = sink.settings  # complains about what is missing before a record is read
                self._streams_seen.add(stream_map.stream_alias)

    def _process_record_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"stream", "record"})
        self._take(message_dict["stream"], message_dict["record"])

    def _process_batch_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"stream", "encoding", "manifest"})
        for number, row in enumerate(self._batch_rows(message_dict)):
            if number % _TICK_ROWS == 0:
                self._tick()
            self._take(message_dict["stream"], row)

    def _process_state_message(self, message_dict: dict[str, t.Any]) -> None:
        self._assert_line_requires(message_dict, requires={"value"})
        self.checkpoints.add(message_dict["value"])

    def _process_activate_version_message(self, message_dict: dict[str, t.Any]) -> None:
        """Ignore it: Altcraft has no versions of a stream, and nothing is ever deleted there."""

    def _handle_max_record_age(self) -> None:
        """Do nothing: the SDK would drain every five minutes; batches have their own age here."""

    def _take(self, stream: str, record: t.Any) -> None:  # noqa: ANN401 - as the tap sent it
        """Bring one record of the input on its way, once for each stream it is mapped to."""
        stream_maps = self.mapper.stream_maps.get(stream)
        if stream_maps is None:
            raise RecordsWithoutSchemaException(
                f"a record of stream '{stream}' came before its SCHEMA message (line "
                f"{self._reader.line_number} of the input)"
            )
        if not isinstance(record, dict):
            raise InvalidInputLine(f"a record of stream '{stream}' is not an object")
        deleted = record.get("_sdc_deleted_at") is not None
        for stream_map in stream_maps:
            if isinstance(stream_map, RemoveRecordTransform):
                continue
            name = stream_map.stream_alias
            self.summary.add(name, "read")
            if deleted:
                self.summary.skip(name, "deleted at the source")
                continue
            try:
                mapped = _mapped(stream_map, record)
                if mapped is None:
                    self.summary.skip(name, "dropped by the stream map")
                    continue
                self.get_sink(name).process_record(mapped, {})
            except Rejection as rejection:
                self._reject(name, rejection)

    def _reject(self, stream: str, rejection: Rejection) -> t.NoReturn:
        kinds: dict[str, t.Callable[[str], Exception]] = {
            "schema": lambda text: InvalidRecord(text, {}),
            "missing_key": MissingKeyPropertiesError,
            "stream_map": MapExpressionError,
        }
        raise kinds.get(rejection.code, InputError)(
            f"stream '{stream}': the record in line {self._reader.line_number} of the input cannot "
            f"be delivered: {rejection.reason}. Mend it, or drop it by a stream map"
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
        self._log_progress()

    def _log_progress(self) -> None:
        now = time.monotonic()
        if now - self._progressed < PROGRESS_SECONDS:
            return
        self._progressed = now
        delivered = self.summary.total("delivered")
        in_flight = self.delivery.in_flight()
        logger.info(
            "%d records read, %d profiles delivered (%.0f/s), %d tasks in flight%s",
            self.summary.total("read"),
            delivered,
            delivered / (now - self._started),
            len(in_flight),
            f": {', '.join(in_flight)}" if in_flight else "",
        )

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

    def process_endofpipe(self) -> None:
        """Send what is left, wait for every task, and end the sinks."""
        self.batches.close_all()
        self.delivery.drain()
        self.delivery.check()
        self.delivery.close()
        super().process_endofpipe()
        for name in self.settings.streams:
            if name not in self._streams_seen:
                hint = settings_module.nearest(name, self._streams_seen)
                logger.warning("streams.%s: no such stream came%s", name, hint)
        self._log_summary()

    def wind_down(self) -> None:
        """Await what is in flight after a failure, and say what had to be abandoned."""
        self.delivery.drain()
        for flight in self.delivery.close():
            logger.error(
                "abandoned: %s; Altcraft may still complete it, and a rerun without journal_path "
                "sends these again",
                flight,
            )
        self._log_summary()

    def _log_summary(self) -> None:
        for line in self.summary.lines():
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


def _mapped(stream_map: t.Any, record: dict[str, t.Any]) -> dict[str, t.Any] | None:  # noqa: ANN401
    """Return the record after its stream map, None if that drops it.

    Raises:
        Rejection: If an expression fails; its own words may hold a value, so they are not shown.
    """
    try:
        return t.cast("dict[str, t.Any] | None", stream_map.transform(record))
    except MapExpressionError as error:
        raise Rejection("stream_map", f"a stream map failed: {error}") from None
    except TargetError:
        raise
    except Exception as error:  # noqa: BLE001 - an expression can raise anything
        raise Rejection(
            "stream_map", f"a stream-map expression failed ({type(error).__name__})"
        ) from None
