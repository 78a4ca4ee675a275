"""Words and forms that several messages share."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from target_altcraft.settings import Settings

TWICE = "may enter the scenario twice"
SENT_AGAIN = f"They are sent again, and {TWICE}"


def rerun(settings: Settings) -> str:
    """Return what a rerun will do after a failure that leaves nothing of the batch in doubt."""
    stays = "STATE stays before this batch"
    if settings.journal_path is None:
        return f"{stays}: a rerun sends it, and what came after it, again"
    return f"{stays}: by the journal, a rerun sends again only what was not accepted"


def rerun_in_doubt(settings: Settings) -> str:
    """Return what a rerun will do with profiles of which nobody knows if they were imported."""
    if settings.journal_path is None:
        return f"STATE stays before this batch: a rerun sends them again, and they {TWICE}"
    return {
        "resend": f"A rerun sends them again, with a warning, and they {TWICE}; set "
        "on_ambiguous_submit to skip if they were imported, to fail to decide later",
        "fail": "A rerun stops at them; set on_ambiguous_submit to resend to send them again, to "
        "skip if they were imported",
        "skip": "A rerun takes them as delivered, because on_ambiguous_submit is 'skip'",
    }[settings.on_ambiguous_submit]


def rerun_unfinished(settings: Settings) -> str:
    """Return what a rerun will do with an accepted task whose outcome this run does not know."""
    if settings.journal_path is None:
        return rerun_in_doubt(settings)
    return "STATE stays before this batch: by the journal, a rerun asks about its task again"


def rerun_unwritten(settings: Settings) -> str:
    """Return what a rerun will do after something could not be written."""
    if settings.journal_path is None:
        return "What was delivered after the last written STATE will be sent again by a rerun"
    return "By the journal, a rerun sends again only what is not known to be delivered"


def unknown(count: int) -> str:
    """Return the words for an outcome that nobody knows."""
    return f"it is unknown whether its {count} profiles were accepted"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose cells stand one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
