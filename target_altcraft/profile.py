"""Record in, entry out: how one row of a stream becomes one profile of a batch.

An `EntryPlan` holds everything that follows from a stream's settings and schema, so that a record
costs no more than its own columns. The record is serialised here, once; from here on it is bytes.
"""

from __future__ import annotations

import datetime as dt
import re
import typing as t

import msgspec

from target_altcraft.codec import encode_json, holds_no_number, to_text, to_utc
from target_altcraft.errors import Rejection
from target_altcraft.names import near, visible
from target_altcraft.schemas import date_kind
from target_altcraft.subscriptions import SubscriptionPlan

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from target_altcraft.settings import StreamSettings

_METADATA = "_sdc_"
_DATE_TYPES = (str, dt.date)
_find_null = re.compile(b"null").search  # faster than `in`
_DEFAULT_MATCH_COLUMN = {
    "email": "email",
    "email_profile": "email",
    "phone": "phone",
    "profile_id": "profile_id",
    "custom_request": "",
}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One profile of a batch, ready to be sent."""

    body: bytes
    """The entry as JSON."""
    identity: str
    """The match value as the API compares it; empty where only Altcraft knows who is meant."""
    subscribed: bool = False
    """Whether the profile carries any subscription."""


NO_JSON = (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError)
"""What is raised for a value that cannot be written as JSON."""


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _first(phones: t.Any) -> t.Any:  # noqa: ANN401
    """Return the first of the phones that is not blank, or what stands there instead of them."""
    if isinstance(phones, list):
        return next((phone for phone in phones if not _is_blank(phone)), None)
    return phones


def without_json(record: Mapping[str, t.Any]) -> Rejection:
    """Return the rejection of a record that JSON cannot hold, naming the column to blame."""
    for name, value in record.items():
        column = f"column '{visible(name)}'"
        try:
            if holds_no_number(value):
                return Rejection(
                    "not_json", f"{column} holds NaN, Infinity or a number beyond all bounds"
                )
            encode_json({name: value})
        except UnicodeEncodeError:
            return Rejection("not_json", f"{column} holds half a surrogate pair")
        except RecursionError:
            return Rejection("not_json", f"{column} is nested too deeply")
        except NO_JSON as error:
            return Rejection(
                "not_json", f"{column} cannot be written as JSON ({type(error).__name__})"
            )
    return Rejection("not_json", "it cannot be written as JSON")


class EntryPlan:
    """How the records of one stream and schema become entries.

    Args:
        stream: The stream's settings.
        schema: JSON schema of the records, after stream maps.
    """

    def __init__(self, stream: StreamSettings, schema: Mapping[str, t.Any]) -> None:
        self._stream = stream
        default = _DEFAULT_MATCH_COLUMN.get(stream.matching, stream.field_name or "")
        self._column = stream.match_column or default
        self._columns = frozenset(
            name for name in schema.get("properties", {}) if not name.startswith(_METADATA)
        )
        self._omits_nulls = stream.nulls == "omit"
        self._drops_nulls = False  # until a null comes: looking for nulls costs more than a copy
        kinds = {name: date_kind(c) for name, c in schema.get("properties", {}).items()}
        self._dates = tuple(name for name, kind in kinds.items() if kind is not None)
        self._may_be_text = frozenset(n for n, kind in kinds.items() if kind == "date or text")
        self._moves = tuple(
            (key, columns)
            for key, columns in (
                ("content", stream.content_columns),
                ("custom_data", stream.custom_data_columns),
            )
            if columns
        )
        self._moves_columns = bool(
            self._moves or stream.attach_column or stream.custom_request_column
        )
        target = (stream.field_name or "",) if stream.matching == "custom" else ()
        self._subscriptions = (
            SubscriptionPlan(stream.subscriptions, stays=target) if stream.subscriptions else None
        )
        self._may_subscribe = stream.subscriptions != () or "subscriptions" in self._columns
        self._place = {
            "email": self._place_email,
            "email_profile": self._place_email,
            "phone": self._place_phone,
            "profile_id": self._place_profile_id,
            "custom": self._place_custom,
            "custom_request": self._place_custom_request,
        }[stream.matching]

    def columns(self) -> list[tuple[str, bool | str]]:
        """Return the columns that the schema names, sorted, and whether each is a date.

        With the stream's settings, this is all that tells how a record becomes an entry.
        """
        return [
            (name, "or text" if name in self._may_be_text else name in self._dates)
            for name in sorted(self._columns)
        ]

    def entry(self, record: Mapping[str, t.Any]) -> Entry:
        """Return the entry of a record.

        The form of an entry is inferred from the single-profile call (developer guide, "Task for
        batch import and engaging profiles in the scenario"); of what stands beside its `data`,
        the guide documents `custom_data` alone.

        Args:
            record: The record after stream maps; it is left as it is.

        Raises:
            Rejection: If it has no usable match value, or a value that cannot be sent.
        """
        profile = (
            {name: value for name, value in record.items() if value is not None}
            if self._drops_nulls
            else dict(record)
        )
        if not self._columns.issuperset(profile):  # much faster than looking at each name
            profile = {k: v for k, v in profile.items() if not k.startswith(_METADATA)}
            self._may_subscribe |= "subscriptions" in profile
        for name in self._dates:
            value = profile.get(name)
            if isinstance(value, _DATE_TYPES):
                try:
                    profile[name] = to_utc(value)
                except (ValueError, OverflowError):
                    self._keep_text(profile, name)
        entry: dict[str, t.Any] = {"data": profile}
        match = profile.get(self._column)
        if self._moves_columns:
            self._move_columns(profile, entry)
        try:
            identity = self._place(profile, entry, match)
        except Rejection as fault:
            raise self._with_hint(fault, record) from None
        subscribed = self._may_subscribe and self._subscribe(profile, record)
        try:
            body = encode_json(entry)
        except NO_JSON:
            raise without_json({**profile, **entry}) from None
        if _find_null(body) and self._is_first_null(entry):
            return self.entry(record)  # without its null columns
        return Entry(body, identity, subscribed)

    def _keep_text(self, profile: dict[str, t.Any], name: str) -> None:
        """Let a text that is no date be what it is: a text, or, if it is blank, null.

        Raises:
            Rejection: If the column's schema lets no other text pass than a date.
        """
        if name in self._may_be_text:
            return
        if not _is_blank(profile[name]):
            raise Rejection("bad_date", f"column '{visible(name)}' is not a date") from None
        if self._omits_nulls:
            del profile[name]
        else:
            profile[name] = None

    def _subscribe(self, profile: dict[str, t.Any], record: Mapping[str, t.Any]) -> bool:
        """Add the setting's subscriptions to the profile; tell whether it has any at all."""
        if self._subscriptions is None:
            return bool(profile.get("subscriptions"))
        return self._subscriptions.add(profile, record)

    def _is_first_null(self, entry: dict[str, t.Any]) -> bool:
        """Tell whether this is the stream's first null, from which on null columns are dropped.

        Raises:
            Rejection: If the null in the entry's JSON stands for a number that JSON does not have.
        """
        if self._omits_nulls and not self._drops_nulls:
            self._drops_nulls = True
            return True
        if holds_no_number(entry):
            raise without_json({**entry["data"], **entry})
        return False

    def _move_columns(self, profile: dict[str, t.Any], entry: dict[str, t.Any]) -> None:
        for key, columns in self._moves:
            moved = {name: profile.pop(name) for name in columns if name in profile}
            if moved:
                entry[key] = moved
        if attach := self._stream.attach_column:
            self._move(profile, attach, entry, "attach", list)
        if request := self._stream.custom_request_column:
            self._move(profile, request, entry, "custom_request", dict)

    @staticmethod
    def _move(
        profile: dict[str, t.Any],
        column: str,
        entry: dict[str, t.Any],
        key: str,
        kind: type,
    ) -> None:
        value = profile.pop(column, None)
        if value is None:
            return
        if not isinstance(value, kind) or (
            isinstance(value, list) and not all(isinstance(item, dict) for item in value)
        ):
            wanted = "an array of objects" if kind is list else "an object"
            raise Rejection(f"bad_{key}", f"column '{column}' is not {wanted}")
        entry[key] = value

    def _place_email(self, profile: dict[str, t.Any], entry: dict[str, t.Any], match: t.Any) -> str:  # noqa: ANN401
        email = match if isinstance(match, str) and match.strip() else self._text(match)
        if self._column != "email":
            profile.pop(self._column, None)
            own = profile.get("email")
            if own != email and not _is_blank(own):
                entry["email"] = email
                return email.casefold()
        profile["email"] = email
        return email.casefold()

    def _place_phone(self, profile: dict[str, t.Any], entry: dict[str, t.Any], match: t.Any) -> str:  # noqa: ANN401
        if self._column != "phones":
            profile.pop(self._column, None)
        phones = profile.get("phones")
        first = _first(phones)
        if self._column == "phones" or (_is_blank(match) and self._stream.match_column is None):
            match = first
        phone = entry["phone"] = self._text(match)
        if _is_blank(first) or not phones:
            profile["phones"] = [phone]
        return phone

    def _place_profile_id(
        self,
        profile: dict[str, t.Any],
        entry: dict[str, t.Any],
        match: t.Any,  # noqa: ANN401
    ) -> str:
        profile.pop(self._column, None)
        profile_id = entry["profile_id"] = self._text(match)
        return profile_id

    def _place_custom(
        self,
        profile: dict[str, t.Any],
        entry: dict[str, t.Any],
        match: t.Any,  # noqa: ANN401
    ) -> str:
        field_name = t.cast("str", self._stream.field_name)
        if isinstance(match, list):
            if not match or not all(isinstance(tag, str) and tag.strip() for tag in match):
                raise self._no_match("is not an array of texts")
            identity = entry["field_value"] = ", ".join(match)
        else:
            identity = self._text(match)
        if self._column != field_name:
            profile.pop(self._column, None)
        profile[field_name] = match
        return identity

    def _place_custom_request(
        self,
        profile: dict[str, t.Any],  # noqa: ARG002
        entry: dict[str, t.Any],
        match: t.Any,  # noqa: ANN401, ARG002
    ) -> str:
        if not entry.get("custom_request"):  # an empty query would find every profile there is
            raise Rejection(
                "no_match_value",
                f"no match value in column '{self._stream.custom_request_column}'",
            )
        return ""

    def _text(self, match: t.Any) -> str:  # noqa: ANN401
        """Return a match value as text, however the source typed it."""
        if isinstance(match, str) and match.strip():
            return match  # the usual case, without another call
        try:
            text = to_text(match)
        except TypeError:
            raise self._no_match("is neither text nor a number") from None
        except OverflowError:
            raise self._no_match("is a number beyond all bounds") from None
        if text is None:
            raise Rejection("no_match_value", f"no match value in column '{self._column}'")
        return text

    def _with_hint(self, fault: Rejection, record: Mapping[str, t.Any]) -> Rejection:
        """Return a fault that also names the column that may have been meant."""
        if fault.code != "no_match_value":
            return fault
        wanted = [self._column or self._stream.custom_request_column or ""]
        if self._place == self._place_phone and self._stream.match_column is None:
            wanted.append("phones")
        if not record.keys().isdisjoint(wanted):
            return fault
        hint = next(filter(None, (near(name, record) for name in wanted)), "")
        return Rejection(fault.code, f"{fault.reason}{hint}")

    def _no_match(self, why: str) -> Rejection:
        return Rejection("bad_match_value", f"the match value in column '{self._column}' {why}")
