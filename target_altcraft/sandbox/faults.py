"""Faults: what the sandbox does wrong on purpose, for how many requests or tasks.

As text (command line, control endpoint) a fault is `ENDPOINT:KIND[,OPTION=VALUE]...`, for example
`submit:http,status=503,times=2,retry_after=1` or `task:partial,indexes=0+2,after=1`.
"""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

if t.TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_INTERIM = 102
DEFAULT_REDIRECT = 302
DEFAULT_STATUS = 503
DEFAULT_CODE = 400
DEFAULT_PROFILE_CODE = 422

EARLY_KINDS = frozenset({"reset_before", "reset_mid_body"})
"""These strike before the body was read."""
TRUE_KINDS = frozenset(
    {"slow", "answered_as", "bom", "broken_text", "odd_number", "interim", "nested_id"}
)
"""These leave the call alone: it is done, and the answer is the true one, oddly sent."""

_CALL_KINDS: dict[str, frozenset[str]] = {
    "reset_before": frozenset(),
    "reset_mid_body": frozenset(),
    "reset_after": frozenset({"accept"}),
    "timeout": frozenset({"accept"}),
    "http": frozenset({"accept", "status", "code", "text", "retry_after", "html"}),
    "error": frozenset({"accept", "code", "text"}),
    "html": frozenset({"accept"}),
    "garbage": frozenset({"accept"}),
    "redirect": frozenset({"accept", "status", "location"}),
    "slow": frozenset({"seconds"}),
    "answered_as": frozenset({"status", "retry_after"}),
    "bom": frozenset(),
    "broken_text": frozenset(),
    "odd_number": frozenset(),
    "interim": frozenset({"status"}),
}
_TASK_KINDS: dict[str, frozenset[str]] = {
    "failed": frozenset({"code", "text", "name"}),
    "result_error": frozenset({"code", "text"}),
    "stuck": frozenset(),
    "vanished": frozenset({"seconds"}),
    "unknown_status": frozenset({"name"}),
    "done_as": frozenset({"name"}),
    "partial": frozenset({"indexes", "code", "text"}),
    "no_profile_id": frozenset({"indexes"}),
    "short": frozenset(),
    "long": frozenset(),
    "no_progress": frozenset(),
}
KINDS: dict[str, dict[str, frozenset[str]]] = {
    "submit": {**_CALL_KINDS, "no_task_id": frozenset({"accept"}), "nested_id": frozenset()},
    "status": _CALL_KINDS,
    "list": _CALL_KINDS,
    "task": _TASK_KINDS,
}
"""Per endpoint and kind: the options that mean something there, besides `times` and `after`."""


class FaultError(ValueError):
    """A fault that means nothing; the message says what would."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to do wrong.

    Of the kinds whose name does not say it: `answered_as` is the true answer under another HTTP
    status, `bom` has a byte order mark before it, `broken_text` an `error_text` that is no UTF-8,
    `odd_number` a key with a number that no double holds, `interim` a 1xx answer before it, and
    `nested_id` its task id in `data`. A `done_as` task ends well under another status.

    Attributes:
        endpoint: "submit", "status", "list", or "task" for the task an accepted submit makes.
        kind: One of `KINDS[endpoint]`.
        times: How many requests (tasks) it strikes; None: all from there on.
        after: How many requests (tasks) it lets pass first, those struck by another fault included.
        accept: Make the task all the same; only the answer suffers. Submits only.
        status: HTTP status of `http` and `answered_as` (503 by default), `redirect` (302) and
            `interim` (102).
        code: `error` of the answer, the task or the profile.
        text: `error_text` beside it.
        html: `http` answers with a page, as a proxy would, instead of JSON.
        retry_after: The header's value.
        seconds: How late `slow` answers; how long after its acceptance a task has `vanished`.
        name: The status a `failed`, `unknown_status` or `done_as` task reports ("failed",
            "pondering", "success" by default).
        indexes: Which entries a `partial` or `no_profile_id` task leaves out.
        location: Where `redirect` points; it need not be a URL.
        where: Strike only bodies that contain this text. Impossible before the body is read.
    """

    endpoint: str
    kind: str
    times: int | None = 1
    after: int = 0
    accept: bool = False
    status: int | None = None
    code: int | None = None
    text: str = ""
    html: bool = False
    retry_after: str | None = None
    seconds: float = 0.0
    name: str | None = None
    indexes: tuple[int, ...] = (0,)
    location: str = "/elsewhere"
    where: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not strike.

        Raises:
            FaultError: Unknown endpoint or kind, or an option without meaning there.
        """
        if self.endpoint not in KINDS:
            raise FaultError(f"no endpoint {self.endpoint!r}: choose from {', '.join(KINDS)}")
        kinds = KINDS[self.endpoint]
        if self.kind not in kinds:
            raise FaultError(
                f"no fault {self.kind!r} for {self.endpoint}: choose from {', '.join(kinds)}"
            )
        allowed = kinds[self.kind] | {"times", "after"}
        if self.kind not in EARLY_KINDS:
            allowed |= {"where"}
        if self.endpoint != "submit":
            allowed -= {"accept"}
        for option in dataclasses.fields(self)[2:]:
            if option.name not in allowed and getattr(self, option.name) != option.default:
                raise FaultError(
                    f"{option.name!r} means nothing to {self.endpoint}:{self.kind}, which takes "
                    + ", ".join(sorted(allowed))
                )
        if self.after < 0 or (self.times is not None and self.times < 1):
            raise FaultError("'after' is at least 0 and 'times' at least 1")
        if self.kind == "interim" and not 100 <= (self.status or DEFAULT_INTERIM) <= 199:  # noqa: PLR2004
            raise FaultError("'status' of interim is between 100 and 199")


def make_fault(endpoint: str, kind: str, options: Mapping[str, object]) -> Fault:
    """Return the fault with these options.

    Raises:
        FaultError: An option that no fault has, or see `Fault`.
    """
    unknown = options.keys() - _PARSERS.keys()
    if unknown:
        raise FaultError(f"no option {min(unknown)!r}: choose from {', '.join(sorted(_PARSERS))}")
    return Fault(endpoint, kind, **t.cast("dict[str, t.Any]", options))


def parse_fault(spec: str) -> Fault:
    """Return the fault that a text like `submit:http,status=503,times=2` means.

    `times=always` strikes for ever, `indexes` are joined by `+`, a bare `accept` is `accept=yes`.

    Raises:
        FaultError: What is wrong with it, and what is allowed.
    """
    head, *parts = spec.split(",")
    endpoint, colon, kind = (piece.strip() for piece in head.partition(":"))
    if not colon:
        raise FaultError(f"{spec!r} is not ENDPOINT:KIND[,OPTION=VALUE]...")
    options: dict[str, object] = {}
    for part in parts:
        name, equals, text = (piece.strip() for piece in part.partition("="))
        try:
            options[name] = _PARSERS[name](text if equals else "yes")
        except KeyError:
            raise FaultError(
                f"no option {name!r} in {spec!r}: choose from {', '.join(sorted(_PARSERS))}"
            ) from None
        except ValueError:
            raise FaultError(f"{text!r} is no value for {name!r} in {spec!r}") from None
    return make_fault(endpoint, kind, options)


def _parse_times(text: str) -> int | None:
    return None if text == "always" else int(text)


def _parse_flag(text: str) -> bool:
    if text not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text]


def _parse_indexes(text: str) -> tuple[int, ...]:
    return tuple(int(index) for index in text.split("+"))


_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_PARSERS: dict[str, t.Callable[[str], object]] = {
    "times": _parse_times,
    "after": int,
    "accept": _parse_flag,
    "status": int,
    "code": int,
    "text": str,
    "html": _parse_flag,
    "retry_after": str,
    "seconds": float,
    "name": str,
    "indexes": _parse_indexes,
    "location": str,
    "where": str,
}


@dataclass(slots=True)
class ArmedFault:
    """A fault with what it has seen so far."""

    fault: Fault
    seen: int = 0
    struck: int = 0


class FaultPlan:
    """The armed faults, in the order in which they were added. Guarded by its owner's lock."""

    def __init__(self) -> None:
        self.armed: list[ArmedFault] = []

    def add(self, fault: Fault) -> None:
        """Arm one more."""
        self.armed.append(ArmedFault(fault))

    def claim(self, endpoint: str, body: bytes | None = None) -> Fault | None:
        """Return the fault that strikes this request or task, if any, and count it.

        Args:
            endpoint: As in `Fault`.
            body: None: faults without `where` are asked; else those whose `where` it contains.
        """
        striking: Fault | None = None
        for armed in self.armed:
            fault = armed.fault
            if fault.endpoint != endpoint or bool(fault.where) is (body is None):
                continue
            if body is not None and fault.where.encode() not in body:
                continue
            armed.seen += 1
            spent = fault.times is not None and armed.struck >= fault.times
            if striking is None and armed.seen > fault.after and not spent:
                armed.struck += 1
                striking = fault
        return striking
