"""Records that a tap repeats because its bookmark is inclusive.

A tap asks for `updated_at >= bookmark`, so the last record of a run comes again in the next one,
and its customer would be messaged every night. Exact repeats at the greatest acknowledged bookmark
are recognised here.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

from target_altcraft.codec import decode_json, encode_json, encode_sorted, is_date_like, to_utc
from target_altcraft.journal import Greatest, digest

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from target_altcraft.settings import StreamSettings


class Mark(t.NamedTuple):
    """What a record's bookmark comes to."""

    order: t.Any
    """The value in a form that compares as its schema's type does."""
    value: str
    """The value as JSON, in one spelling."""
    digest: bytes
    """Of the record, without `_sdc_*` columns."""


def bookmark_property(message: Mapping[str, t.Any]) -> str | None:
    """Return the column that a SCHEMA message names as its bookmark; None unless it is just one."""
    names = message.get("bookmark_properties") or []
    names = [names] if isinstance(names, str) else names
    return names[0] if len(names) == 1 else None


class Boundary:
    """The greatest acknowledged bookmark of one stream, and what was delivered at it.

    Used by the reader's thread alone.

    Args:
        stream: The stream's settings.
        column: The bookmark's column in the tap's record.
        schema: The column's schema.
        remembered: Bookmark (JSON) and digests that an earlier run left.
    """

    def __init__(
        self,
        stream: StreamSettings,
        column: str,
        schema: Mapping[str, t.Any],
        remembered: tuple[str, set[bytes]] | None,
    ) -> None:
        self.column = column
        self._is_date = is_date_like(schema)
        self._scope = encode_json(
            [stream.name, stream.workflow_id, stream.matching, stream.field_name]
        )
        value, self._digests = remembered or ("null", set())
        self.remembered = self._order(decode_json(value.encode()))
        self._skipping = self.remembered is not None

    def mark(self, record: Mapping[str, t.Any]) -> Mark | None:
        """Return a record's mark; None if it has no usable bookmark."""
        value = record.get(self.column)
        order = self._order(value)
        if order is None:
            return None
        kept = {k: v for k, v in record.items() if not k.startswith("_sdc_")}
        try:
            body = encode_sorted(kept)
        except (UnicodeEncodeError, TypeError, ValueError):
            return None
        return Mark(order, encode_json(value).decode(), digest(self._scope, body))

    def repeats(self, mark: Mark) -> bool:
        """Tell whether a record was delivered by an earlier run, just as it is.

        After a record below the remembered bookmark, the tap is reading all over again, and nothing
        more of the stream is skipped.
        """
        if not self._skipping:
            return False
        try:
            if mark.order < self.remembered:
                self._skipping = False
                return False
        except TypeError:  # the column has changed its type
            self._skipping = False
            return False
        return bool(mark.order == self.remembered and mark.digest in self._digests)

    def _order(self, value: t.Any) -> t.Any:  # noqa: ANN401 - of the column's type
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, str) and self._is_date:
            try:
                moment, _, fraction = to_utc(value).rstrip("Z").partition(".")
            except (ValueError, OverflowError):
                return None
            return dt.datetime.fromisoformat(moment), Decimal(f"0.{fraction or 0}")
        return value if isinstance(value, (str, int, float, Decimal)) else None


def greatest(marks: Iterable[Mark]) -> Greatest | None:
    """Return the greatest bookmark among the marks; None if there is no mark."""
    found: Greatest | None = None
    for mark in marks:
        if found is None or mark.order > found.order:
            found = Greatest(mark.order, mark.value, {mark.digest})
        elif mark.order == found.order:
            found.digests.add(mark.digest)
    return found
