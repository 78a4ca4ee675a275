"""Verdicts on single profiles: which entries of a submit are not imported, and how that reads."""

from __future__ import annotations

import typing as t

from target_altcraft.sandbox.faults import DEFAULT_PROFILE_CODE
from target_altcraft.sandbox.submission import email_of
from target_altcraft.sandbox.subscriptions import read_subscriptions

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.scenarios import Resource
    from target_altcraft.sandbox.submission import Json, Submission


def failures_of(
    submission: Submission,
    resources: Mapping[int, Resource],
    fail_where: Callable[[Json], bool] | None,
) -> dict[int, Json]:
    """Return the items of the entries that are not imported, by index.

    Args:
        submission: What was sent.
        resources: What there is to subscribe to. A subscription that is wrong fails its entry,
            unless the submit has `skip_invalid_subscriptions`.
        fail_where: An entry of which this is true is not imported either.
    """
    failures: dict[int, Json] = {}
    lenient = submission.envelope.get("skip_invalid_subscriptions", False)
    for index, entry in enumerate(submission.entries):
        if fail_where is not None and fail_where(entry):
            failures[index] = profile_error(submission, index)
        elif not lenient:
            _, wrong = read_subscriptions(entry["data"], resources)
            if wrong:
                failures[index] = _subscription_error(submission, index, wrong[0])
    return failures


def profile_error(submission: Submission, index: int, fault: Fault | None = None) -> Json:
    """Return the item of a profile that was not imported; as platforms do, it quotes it."""
    who = email_of(submission.entries[index]) or submission.identities[index].key
    code = fault.code if fault else None
    return {
        "error": DEFAULT_PROFILE_CODE if code is None else code,
        "error_text": (fault.text if fault else "") or "Invalid profile",
        "error_debug": f"profile {who} was not imported",
    }


def _subscription_error(submission: Submission, index: int, reason: str) -> Json:
    item = profile_error(submission, index)
    debug = f"{item['error_debug']}: {reason}"
    return {**item, "error_text": "Invalid subscription", "error_debug": debug}
