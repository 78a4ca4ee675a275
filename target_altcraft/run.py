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

if t.TYPE_CHECKING:
    from target_altcraft.settings import Settings
    from target_altcraft.target import TargetAltcraft

logger = logging.getLogger(__name__)

FAILED = 1
_SIGNAL_EXIT = 128
_TALKATIVE = ("asyncio", "backoff", "fsspec", "simpleeval", "singer_sdk", "urllib3")
"""Libraries whose DEBUG lines hold values of records, of STATE, or of requests."""


def mask(token: str) -> None:
    """Mask the token in whatever is logged from here on, should it ever get there."""
    make = logging.getLogRecordFactory()

    def masked(*args: t.Any, **kwargs: t.Any) -> logging.LogRecord:  # noqa: ANN401
        record = make(*args, **kwargs)
        text = record.getMessage()
        if token in text:
            record.msg, record.args = text.replace(token, "***"), ()
        return record

    logging.setLogRecordFactory(masked)


def run(
    target_class: type[TargetAltcraft],
    config: t.Any,  # noqa: ANN401 - the SDK's own type for it is private
    file_input: t.IO[str] | None,
) -> int:
    """Run a target to its end.

    Every failure is one message. STATE goes out for what was delivered before it, and the threads
    are joined on every way out.

    Args:
        target_class: The target.
        config: What the command line says of the configuration, None if nothing.
        file_input: Where to read; stdin if None.

    Returns:
        The exit status: 0, 1 after a failure, 128 + signal after a signal.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        target = target_class(
            config=config.config if config else None,
            parse_env_config=config.parse_env if config else False,
        )
    except ConfigValidationError as error:
        logger.error("settings: %s", "; ".join(error.errors))  # noqa: TRY400
        return FAILED
    except Exception as error:  # noqa: BLE001 - one message, whatever it was
        logger.error("%s", message(error))  # noqa: TRY400
        return FAILED
    mask(target.settings.token)
    try:
        refuse_own_rejects(target.settings, file_input or sys.stdin)
        target.prepare()
        target.listen(file_input)
    except BaseException as error:  # noqa: BLE001 - every way out is wound down
        return _failed(target, error)
    _write_report(target, 0, None)
    target.outcomes.close()
    return 0


def refuse_own_rejects(settings: Settings, source: t.IO[str]) -> None:
    """Refuse to read the file that rejects are appended to.

    Raises:
        SettingsError: If both are the same file.
    """
    path = Path(settings.rejects_path or "")
    if settings.rejects_path and path.exists():
        try:
            same = os.path.samestat(os.fstat(source.fileno()), path.stat())
        except (AttributeError, OSError, ValueError):  # not a file at all
            return
        if same:
            raise SettingsError(
                "rejects_path names the input itself; rename the file before it is replayed"
            )


def _failed(target: TargetAltcraft, error: BaseException) -> int:
    """Wind a failed run down, say what happened, and return its exit status."""
    opened = "outcomes" in vars(target)
    if opened:
        target.wind_down(error)
    said = message(error)
    logger.error("%s", said)
    for line in traceback.format_tb(error.__traceback__):
        logger.debug("%s", line.rstrip())  # frames only: an exception's text may hold a value
    status = _SIGNAL_EXIT + error.signum if isinstance(error, Stopped) else FAILED
    if opened:
        _write_report(target, status, said)
        try:
            target.outcomes.forget_failed()  # now that it was said
        except OutputError as another:
            logger.error("%s", another)  # noqa: TRY400
    if isinstance(error, OutputError) or (opened and target.delivery.has_threads()):
        # Leaving in the usual way would flush a stdout that cannot be written, or wait on a lock
        # that a thread in an unfinished request holds.
        logging.shutdown()
        sys.stderr.flush()
        os._exit(status)
    if opened:
        target.outcomes.close()
    return status


def _write_report(target: TargetAltcraft, status: int, said: str | None) -> None:
    outcomes = target.outcomes
    try:
        outcomes.report.write(outcomes.summary, target.config, status, said)
    except OSError as error:
        path = target.settings.report_path
        logger.warning("report_path: %s cannot be written: %s", path, error.strerror)


def message(error: BaseException) -> str:
    """Return the one line that tells the user what ended the run."""
    if isinstance(error, InvalidJSONSchema):
        return "a SCHEMA message holds no valid JSON schema; mend the tap's catalog"
    if isinstance(error, (TargetError, SingerSDKError, InvalidInputLine)):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; lower batch_size_bytes or max_in_flight"
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"internal error, {type(error).__name__} at {where}; please report it"
