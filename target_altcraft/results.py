"""The results of a task for single profiles, and which of them were not imported.

The developer guide gives them by position in `data.result.result`; the shape of a failed one is not
documented, so its reading is defensive.
"""

from __future__ import annotations

import logging
import typing as t
from collections import Counter

from target_altcraft.errors import Unattributable

if t.TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)


class Fault(t.NamedTuple):
    """Why one profile of a completed task was not imported; `text` is for the rejects file only."""

    position: int
    kind: str
    text: str


def item_fault(item: object) -> tuple[str, str] | None:
    """Return what is wrong with one profile's result, None if nothing is; its shape is a guess.

    Returns:
        The kind of fault, a few fixed words and a code, and what the server said of it.
    """
    if not isinstance(item, dict):
        return "no result object", ""
    error = item.get("error")
    text = f"{item.get('error_text', '')} {item.get('error_debug', '')}".strip()
    if error not in (None, 0, "", "0"):
        return (f"error {error}" if isinstance(error, int) else "error"), text
    return None if item.get("profile_id") else ("no profile_id", text or "its result names none")


def faults_of(items: Sequence[t.Any]) -> list[Fault]:
    """Return the faults among a task's results, by position."""
    return [
        Fault(position, *fault)
        for position, item in enumerate(items)
        if not (isinstance(item, dict) and item.get("profile_id") and not item.get("error"))
        and (fault := item_fault(item)) is not None
    ]


def attributed(
    name: str, items: list[t.Any], number: int
) -> tuple[list[t.Any] | None, list[Fault]]:
    """Return a task's results and the faults among them, where they can be attributed.

    Args:
        name: What to call the request in a message.
        items: The results.
        number: How many profiles the request had.

    Returns:
        None for the results if there are more or fewer than profiles.

    Raises:
        Unattributable: If there are faults among results that cannot be attributed.
    """
    faults = faults_of(items)
    if len(items) == number:
        return items, faults
    numbers = f"{len(items)} results for {number} profiles"
    if faults:
        raise Unattributable(
            f"{name}: {numbers}, with faults among them ({kinds_of(faults)}), which cannot be "
            "attributed"
        )
    logger.warning("%s: %s; the batch counts as delivered, without receipts", name, numbers)
    return None, []


def not_imported(items: Sequence[t.Any] | None, number: int) -> tuple[int, ...]:
    """Return the positions of which a failed task's results say that they were not imported."""
    if items is None or len(items) != number:
        return ()
    return tuple(
        position
        for position, item in enumerate(items)
        if isinstance(item, dict)
        and item.get("error") not in (None, 0, "", "0")
        and not item.get("profile_id")
    )


def kinds_of(faults: Sequence[Fault]) -> str:
    """Return the kinds of faults with their numbers, for a message."""
    counts = Counter(fault.kind for fault in faults)
    return ", ".join(f"{kind}: {number}" for kind, number in counts.items())
