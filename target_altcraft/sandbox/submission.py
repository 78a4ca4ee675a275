"""What a submit must hold: the checks of `workflows/import_and_start_batch_task`.

Stricter than the platform is known to be, so that a sender's slip shows in a rehearsal.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

Json = dict[str, t.Any]

MAX_ENTRIES = 10_000
MATCHINGS = ("email", "email_profile", "phone", "profile_id", "custom")

_INVALID = "Invalid request"
_ROOT_TYPES: dict[str, type] = {
    "skip_triggers": bool,
    "skip_invalid_subscriptions": bool,
    "detect_geo": bool,
    "content": dict,
    "custom_data": dict,
    "attach": list,
    "custom_request": dict,
}
_ENTRY_TYPES = (("data", dict), ("content", dict), ("custom_data", dict), ("attach", list))

# Decimals keep a number as it was written: 12.10 stays 12.10 in what the sandbox shows.
_decoder = msgspec.json.Decoder(float_hook=Decimal)


class Refusal(Exception):
    """The request is answered with `error`, `error_text` and `error_debug`."""

    def __init__(self, code: int, text: str = _INVALID, debug: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.debug = debug or text


class Identity(t.NamedTuple):
    """How an entry's profile is found: in the index of `kind`, under `key`.

    A `value` of None stands for a query, which gives a new profile no field.
    """

    kind: str
    key: str
    value: t.Any


@dataclass(slots=True)
class Submission:
    """A well-formed submit: what it asks for, and whose profile each entry means."""

    workflow_id: int
    matching: str
    field_name: str | None
    envelope: Json
    entries: list[Json]
    identities: list[Identity] = field(default_factory=list)


def parse(body: bytes) -> Json:
    """Return the JSON object a body holds.

    Raises:
        Refusal: It holds none.
    """
    try:
        root = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, debug=f"invalid JSON: {error}") from None
    if not isinstance(root, dict):
        raise Refusal(400, debug="the body is not a JSON object")
    return root


def read_submission(root: Json) -> Submission:
    """Return what a submit's body asks for.

    Raises:
        Refusal: Something is missing, of the wrong type, or too much.
    """
    _check_root(root)
    submission = Submission(
        workflow_id=root["workflow_id"],
        matching=root.get("matching", "custom_request"),
        field_name=root.get("field_name"),
        envelope={name: root[name] for name in root if name not in ("token", "data")},
        entries=root["data"],
    )
    identify = _IDENTIFY[submission.matching]
    for index, entry in enumerate(submission.entries):
        _check_entry(index, entry)
        identity = identify(entry, submission)
        if identity is None:
            raise Refusal(
                400, debug=f"entry {index} has no value for matching {submission.matching}"
            )
        submission.identities.append(identity)
    return submission


def as_text(value: object) -> str:
    """Return a field's value as the text it is compared by; an array is joined by commas."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(as_text(item) for item in value)
    return msgspec.json.encode(value).decode().strip('"')


def fold(email: str) -> str:
    """Return the form in which e-mail addresses are compared."""
    return email.strip().casefold()


def phones_of(value: object) -> list[str]:
    """Return the numbers in a `phones` value: an array of strings, or one string."""
    numbers = value if isinstance(value, list) else [value]
    return [number.strip() for number in numbers if isinstance(number, str) and number.strip()]


def email_of(entry: Json) -> str | None:
    """Return the address that an entry's result would quote."""
    for email in (entry.get("email"), entry["data"].get("email")):
        if isinstance(email, str):
            return email
    return None


def _check_root(root: Json) -> None:
    workflow_id = root.get("workflow_id")
    if not isinstance(workflow_id, int) or isinstance(workflow_id, bool):
        raise Refusal(400, debug="workflow_id must be an integer")
    if "matching" in root and root["matching"] not in MATCHINGS:
        raise Refusal(400, debug=f"matching must be one of {', '.join(MATCHINGS)}")
    field_name = root.get("field_name")
    if root.get("matching") == "custom" and not (isinstance(field_name, str) and field_name):
        raise Refusal(400, debug="matching custom needs field_name")
    for name, kind in _ROOT_TYPES.items():
        if name in root and not isinstance(root[name], kind):
            raise Refusal(400, debug=f"{name} is not of type {kind.__name__}")
    if "matching" in root and "custom_request" in root:
        raise Refusal(400, debug="custom_request goes without matching only")
    entries = root.get("data")
    if not isinstance(entries, list) or not entries:
        raise Refusal(400, debug="data must be an array of at least one entry")
    if len(entries) > MAX_ENTRIES:
        raise Refusal(400, debug=f"data has {len(entries)} entries, {MAX_ENTRIES} is the most")


def _check_entry(index: int, entry: object) -> None:
    if not isinstance(entry, dict) or "data" not in entry:
        raise Refusal(400, debug=f"entry {index} is not an object with data")
    for name, kind in _ENTRY_TYPES:
        if name in entry and not isinstance(entry[name], kind):
            raise Refusal(400, debug=f"{name} of entry {index} is not of type {kind.__name__}")


def _by_email(entry: Json, _: Submission) -> Identity | None:
    email = email_of(entry)
    return Identity("email", fold(email), email) if email and email.strip() else None


def _by_phone(entry: Json, _: Submission) -> Identity | None:
    phones = phones_of(entry.get("phone")) or phones_of(entry["data"].get("phones"))
    return Identity("phone", phones[0], phones[0]) if phones else None


def _by_profile_id(entry: Json, _: Submission) -> Identity | None:
    value = entry.get("profile_id")
    if not isinstance(value, str) or not value.strip():
        return None
    return Identity("profile_id", value.strip(), value.strip())


def _by_custom(entry: Json, submission: Submission) -> Identity | None:
    name = submission.field_name or ""
    value = entry.get("field_value")
    if value is None:
        value = entry["data"].get(name)
    return _custom(name, value)


def _custom(name: str, value: object) -> Identity | None:
    if value is None or isinstance(value, dict):
        return None
    key = as_text(value)
    return Identity(f"custom:{name}", key, value) if key.strip() else None


def _by_query(entry: Json, submission: Submission) -> Identity | None:
    """Find by a MongoDB query, as far as a stand-in goes.

    A query for one field's plain value finds by that field; any other is compared by its text.
    """
    query = entry.get("custom_request", submission.envelope.get("custom_request"))
    if not isinstance(query, dict) or not query:
        return None
    if len(query) == 1:
        ((name, value),) = query.items()
        if name == "email" and isinstance(value, str):
            return Identity("email", fold(value), value)
        if name == "phones" and isinstance(value, str):
            return Identity("phone", value.strip(), value.strip())
        if not name.startswith("$") and isinstance(value, str | int | Decimal):
            return _custom(name, value)
    return Identity("query", json.dumps(query, sort_keys=True, default=str), None)


_IDENTIFY: dict[str, t.Callable[[Json, Submission], Identity | None]] = {
    "email": _by_email,
    "email_profile": _by_email,
    "phone": _by_phone,
    "profile_id": _by_profile_id,
    "custom": _by_custom,
    "custom_request": _by_query,
}
