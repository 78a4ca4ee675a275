"""From the command line to an exit status: one run, its end, and what it says of it."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import typing as t
from pathlib import Path

from singer_sdk.exceptions import ConfigValidationError, InvalidJSONSchema, SingerSDKError
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_altcraft.errors import OutputError, SettingsError, Stopped, TargetError
from target_altcraft.hang_up import SCROLL_PAST, hang_up
from target_altcraft.log import mask_token, silence_libraries
from target_altcraft.log_handler import write_together
from target_altcraft.messages import rerun_unwritten
from target_altcraft.settings import check_report_folder, reportable
from target_altcraft.wakeup import Wakeup

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from target_altcraft.pipeline import Pipeline
    from target_altcraft.reader import LineReader
    from target_altcraft.settings import Settings

logger = logging.getLogger(__name__)

FAILED = 1
_SIGNAL_EXIT = 128


class Runnable(t.Protocol):
    """A target, as far as a run needs it."""

    reader: LineReader

    @property
    def config(self) -> t.Mapping[str, t.Any]:
        """The settings as they were given, in their own types."""

    @property
    def settings(self) -> Settings:
        """The settings, resolved."""

    @property
    def pipeline(self) -> Pipeline:
        """The run."""

    def listen(self, file_input: t.IO[str] | None = None) -> None:
        """Read the input to its end."""


def run(make: Callable[[], Runnable], file_input: t.IO[str] | None) -> int:
    """Run a target to its end.

    Every failure is one message. STATE goes out for what was delivered before it, and the threads
    are joined on every way out.

    Args:
        make: Makes the target.
        file_input: Where to read; stdin if None.

    Returns:
        The exit status: 0, 1 after a failure, 128 + signal after a signal.
    """
    silence_libraries()
    write_together()
    source = file_input or sys.stdin
    try:
        target = make()
        mask_token(target.settings.token)
        check_report_folder(target.settings)
        refuse_own_rejects(target.settings, source)
        pipeline = target.pipeline
    except Exception as error:  # noqa: BLE001 - one message, whatever it was
        wakeup = Wakeup()
        was_cut = hang_up(source, wakeup)
        wakeup.close()
        _say(error, was_cut=was_cut)
        return FAILED
    status, failure, was_cut = 0, None, False
    try:
        pipeline.prepare()
        target.listen(file_input)
    except BaseException as error:  # noqa: BLE001 - every way out is wound down
        failure = error
        status = _SIGNAL_EXIT + error.signum if isinstance(error, Stopped) else FAILED
        pipeline.fail(error)
        was_cut = hang_up(source, target.reader.wakeup)
    pipeline.say_what_became()
    then = rerun_unwritten(target.settings) if isinstance(failure, OutputError) else ""
    if failure is not None:
        _say(failure, then, was_cut=was_cut)
    _write_report(target, status, None if failure is None else message(failure, then))
    if isinstance(failure, OutputError) or pipeline.has_threads():
        # Leaving in the usual way would flush a stdout that cannot be written, or wait on a lock
        # that a thread in an unfinished request holds.
        logging.shutdown()
        sys.stderr.flush()
        os._exit(status)
    try:
        pipeline.outcomes.close()
    except TargetError as error:
        logger.error("%s", error)  # noqa: TRY400
        status = status or FAILED
    target.reader.wakeup.close()
    return status


def check(make: Callable[[], Runnable], *, for_machines: bool) -> int:
    """Look at what a run would need, and write what was found to stdout; nothing is sent.

    Args:
        make: Makes the target.
        for_machines: Whether JSON is wanted instead of a table.

    Returns:
        The exit status: 0, or 1 if there is a fault.
    """
    from target_altcraft.check import (  # noqa: PLC0415 - a run has no use for it
        as_json,
        as_table,
        exit_status,
        look,
        settings_findings,
    )

    silence_libraries()
    try:
        settings = make().settings
        mask_token(settings.token)
        findings = look(settings)
    except ConfigValidationError as error:
        findings = settings_findings(error.errors)
    except Exception as error:  # noqa: BLE001 - one message, whatever it was
        _say(error)
        return FAILED
    sys.stdout.write((as_json if for_machines else as_table)(findings))
    sys.stdout.flush()
    return exit_status(findings)


def refuse_own_rejects(settings: Settings, source: t.IO[str]) -> None:
    """Refuse to read the file that rejects are appended to.

    Raises:
        SettingsError: If both are the same file.
    """
    if settings.rejects_path is None:
        return
    try:
        rejects = Path(settings.rejects_path).stat()
        is_same = os.path.samestat(os.fstat(source.fileno()), rejects)
    except (AttributeError, OSError, ValueError):  # it is not there, or the input is no file
        return
    if is_same:
        raise SettingsError(
            "rejects_path names the input itself; rename the file before it is replayed"
        )


def _say(error: BaseException, then: str = "", *, was_cut: bool = False) -> None:
    if was_cut:
        logger.warning(SCROLL_PAST)
    logger.error("%s", message(error, then))
    for line in traceback.format_tb(error.__traceback__):
        logger.debug("%s", line.rstrip())  # frames only: an exception's text may hold a value


def _write_report(target: Runnable, status: int, said: str | None) -> None:
    outcomes, settings = target.pipeline.outcomes, reportable(target.config)
    read = target.pipeline.router.place
    try:
        outcomes.report.write(outcomes.summary, settings, status, said, records=read)
    except OSError as error:
        path = target.settings.report_path
        logger.warning("report_path: %r cannot be written: %s", path, error.strerror)


def message(error: BaseException, then: str = "") -> str:
    """Return the one line that tells the user what ended the run.

    Args:
        error: What ended it.
        then: What a rerun will do, if the error does not say it.
    """
    if then:
        return f"{message(error)}. {then}"
    if isinstance(error, InvalidJSONSchema):
        return "a SCHEMA message holds no valid JSON schema; mend the tap's catalog"
    if isinstance(error, ConfigValidationError):
        return f"settings: {'; '.join(error.errors)}"
    if isinstance(error, (TargetError, SingerSDKError, InvalidInputLine)):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; lower batch_size_bytes or max_in_flight"
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"internal error, {type(error).__name__} at {where}; please report it"
