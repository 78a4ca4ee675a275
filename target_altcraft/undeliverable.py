"""Why a record ends the run: it cannot be delivered, and nothing sets it aside."""

from __future__ import annotations

import typing as t

from target_altcraft.errors import UndeliverableRecord
from target_altcraft.memory.judgement import Verdict
from target_altcraft.names import visible

if t.TYPE_CHECKING:
    from target_altcraft.errors import Rejection

_WAYS_ON = "Mend it, drop it by a stream map, or set rejects_path to have such records set aside"


def without_schema(tap_stream: t.Any, line_number: int) -> UndeliverableRecord:  # noqa: ANN401 - of the tap
    """Return the error of a record whose stream is not known."""
    if not isinstance(tap_stream, str):
        return UndeliverableRecord(
            "no_stream",
            f"line {line_number} of the input: the stream's name is not a text of one line",
        )
    return UndeliverableRecord(
        "no_schema",
        f"a record of stream '{visible(tap_stream)}' came before its SCHEMA message (line "
        f"{line_number} of the input)",
    )


def not_an_object(tap_stream: str, line_number: int) -> UndeliverableRecord:
    """Return the error of a record that is a list, a text or the like."""
    return UndeliverableRecord(
        "not_an_object",
        f"a record of stream '{tap_stream}' is not an object (line {line_number} of the input)",
    )


def rejected(stream: str, line_number: int, rejection: Rejection) -> UndeliverableRecord:
    """Return the error of a record that would be set aside, if there were a rejects file."""
    return UndeliverableRecord(
        rejection.code,
        f"stream '{stream}': the record in line {line_number} of the input cannot be delivered: "
        f"{rejection.reason}. {_WAYS_ON}",
    )


def rejected_before(stream: str, line_number: int) -> UndeliverableRecord:
    """Return the error of a record that an earlier run set aside, when it still could."""
    return UndeliverableRecord(
        Verdict.REJECTED_BEFORE.value,
        f"stream '{stream}': the record in line {line_number} of the input was rejected by an "
        f"earlier run and has not changed. {_WAYS_ON}",
    )
