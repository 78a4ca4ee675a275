"""What is wrong with stream maps and other settings is said before anything is read or sent."""

from __future__ import annotations

import typing as t

import pytest
from harness import customer, schema, state

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]

REFUSED: list[tuple[t.Any, str]] = [
    (
        {"customers": {"__fliter__": "email"}},
        "stream_maps.customers.__fliter__ is no key of a stream map (did you mean '__filter__'?)",
    ),
    (
        {"customers": {"__filter__": "email = 'nobody@example.com'"}},
        (
            "stream_maps.customers.__filter__ is no expression that has a value; to compare, write "
            "== and not ="
        ),
    ),
    ({"customers": {"x": "email if"}}, "stream_maps.customers.x is no expression"),
    (
        {"customers": {"x": " "}},
        "stream_maps.customers.x must not be empty; to remove the column, give null",
    ),
    (
        {"customers": {"x": 5, "y": True}},
        (
            "stream_maps.customers.x must be an expression in quotes, or null; "
            "stream_maps.customers.y must be an expression in quotes, or null"
        ),
    ),
    ({"customers": {"__alias__": None}}, "stream_maps.customers.__alias__ must be a name"),
    ({"customers": {"__source__": ""}}, "stream_maps.customers.__source__ must be a name"),
    (
        {"customers": {"__key_properties__": "id"}},
        "stream_maps.customers.__key_properties__ must be an array of columns",
    ),
    ({"customers": {"__else__": "x"}}, "stream_maps.customers.__else__ must be null or __NULL__"),
    (
        {"customers": "x"},
        "stream_maps.customers must be an object of columns and their expressions, or null",
    ),
]


@pytest.mark.parametrize(("stream_maps", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_stream_map_that_cannot_mean_what_was_meant_is_refused(
    sandbox: Sandbox, deliver: Deliver, stream_maps: t.Any, said: str
) -> None:
    result = deliver([schema(), customer(1), state(1)], {"stream_maps": stream_maps})
    assert (result.status, result.states, sandbox.requests) == (1, [], [])
    assert result.error == f"settings: {said}"


def test_stream_maps_as_people_write_them_are_taken(sandbox: Sandbox, deliver: Deliver) -> None:
    rules = {
        "__filter__": "email == 'c1@example.com' or True",
        "__key_properties__": ["id"],
        "__else__": None,
        "id": "id",
        "email": "email ",
        "x": "'=' + str(id)",
        "y": None,
        "z": "__NULL__",
    }
    maps = {"customers": rules, "others": None, "more": "__NULL__"}
    result = deliver([schema(), customer(1), state(1)], {"stream_maps": maps})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert sandbox.entries[0]["data"]["x"] == "=1"


@pytest.mark.parametrize("token", [" ", "demo-token\n", " demo-token"])
def test_a_token_with_blanks_around_it_is_refused(
    sandbox: Sandbox, deliver: Deliver, token: str
) -> None:
    result = deliver([schema(), customer(1)], {"token": token})
    assert (result.status, sandbox.requests) == (1, [])
    assert result.error == (
        "settings: token must not be blank, nor begin or end with a blank or a line end"
    )


def test_what_is_wrong_is_said_at_once_whatever_finds_it(deliver: Deliver) -> None:
    wrong = {"token": "", "api_url": "x", "max_profiles": 0, "stream_maps": {"a": {"b": 1}}}
    result = deliver([schema()], wrong)
    for name in wrong:
        assert name in result.error


@pytest.mark.parametrize("name", ["rejects_path", "receipts_path", "journal_path", "report_path"])
@pytest.mark.parametrize("path", ["a\0.html", "\ud83d.html"], ids=["null byte", "half a character"])
def test_a_path_that_no_system_takes_is_named(
    sandbox: Sandbox, deliver: Deliver, name: str, path: str
) -> None:
    result = deliver([schema(), customer(1)], {name: path})
    assert (result.status, sandbox.requests) == (1, [])
    assert result.error == f"{name}: {path!r} is no path that the system takes"
