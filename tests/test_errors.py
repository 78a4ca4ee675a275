from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_altcraft import errors
from target_altcraft.errors import (
    Abandoned,
    AcceptedWithoutId,
    ApiError,
    Fatal,
    Halted,
    InputError,
    LostInBody,
    NotAccepted,
    OutcomeUnknown,
    OutputError,
    Refused,
    Rejection,
    SettingsError,
    Stopped,
    TargetError,
    TaskError,
    TaskFailed,
    TaskVanished,
    TooLarge,
    shown,
)

TOKEN = "tok-3f9a"


# The hierarchy


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (SettingsError, TargetError),
        (InputError, TargetError),
        (OutputError, TargetError),
        (Stopped, TargetError),
        (TaskError, TargetError),
        (TaskFailed, TaskError),
        (TaskVanished, TaskError),
        (ApiError, TargetError),
        (NotAccepted, ApiError),
        (LostInBody, ApiError),
        (OutcomeUnknown, ApiError),
        (Refused, ApiError),
        (TooLarge, Refused),
        (Fatal, ApiError),
        (AcceptedWithoutId, ApiError),
        (Halted, Exception),
        (Abandoned, Exception),
        (Rejection, Exception),
    ],
)
def test_error_is_caught_by_what_the_caller_should_do(
    kind: type[Exception], parent: type[Exception]
) -> None:
    assert kind.__base__ is parent


def test_docstring_draws_every_error_of_the_module() -> None:
    kinds = [
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    ]
    drawn = re.findall(r"^[│├└─ ]*([A-Z]\w+)  ", errors.__doc__, re.MULTILINE)
    assert sorted(drawn) == sorted(kinds)


def test_rejection_does_not_end_a_run() -> None:
    assert not issubclass(Rejection, TargetError)


def test_api_error_tells_endpoint_code_text_and_patience() -> None:
    error = NotAccepted("tasks/status", "HTTP 503, busy", code=503, retry_after=2.5)
    assert str(error) == "tasks/status: HTTP 503, busy"
    assert (error.endpoint, error.text, error.code, error.retry_after) == (
        "tasks/status",
        "HTTP 503, busy",
        503,
        2.5,
    )


def test_api_error_without_an_answer_has_no_code() -> None:
    error = Fatal("tasks/status", "the connection was refused")
    assert error.code is None
    assert error.retry_after is None


def test_stopped_knows_its_signal() -> None:
    assert Stopped(15, "stopped by signal 15").signum == 15


def test_rejection_has_a_code_for_counting_and_a_reason_for_people() -> None:
    rejection = Rejection("no_match_value", "no match value in column 'email'")
    assert rejection.code == "no_match_value"
    assert rejection.reason == str(rejection) == "no match value in column 'email'"


# What may be shown of the server's words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Invalid request", "Invalid request"),
        ("Неверный запрос", "Неверный запрос"),
        ("limit is 10 of 100000", "limit is 10 of 100000"),
        ("two\nlines\tand \u2028 more  ", "two lines and more"),
        (None, "None"),
        (400, "400"),
        ({"a": "b"}, "{'a': 'b'}"),
        ("profile ada@b.example is bad", "profile *** is bad"),
        ("profile <Ada.Lovelace+x@sub.b.example>", "profile <***>"),
        ('"ада@пример.рф", "b@c"', '"***", "***"'),
        ("ada@b.example bob@c.example", "*** ***"),
        ("phone +79001234567 is bad", "phone *** is bad"),
        ("phone 8 (900) 123-45-67.", "phone ***."),
        ("card 4111 1111 1111 1111", "card ***"),
        ("id 1234567", "id ***"),
        ("id 123456", "id 123456"),
        (f"token {TOKEN} is wrong", "token *** is wrong"),
        (f"{TOKEN}{TOKEN}", "******"),
    ],
)
def test_words_of_the_server_are_masked_on_one_line(text: object, expected: str) -> None:
    assert shown(text, TOKEN) == expected


def test_token_of_digits_is_masked_too() -> None:
    assert shown("token 42 is wrong", "42") == "token *** is wrong"


def test_characters_that_act_on_a_terminal_are_not_shown() -> None:
    assert shown("a\x1b[31mb\x00c\u202ed\ud800e") == "a?[31mb?c?d?e"


def test_words_nested_beyond_reason_are_left_out() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == ""
    assert shown(10**5000) == ""


def test_no_token_masks_nothing() -> None:
    assert shown("fine") == "fine"


def test_long_words_are_cut_at_200_characters() -> None:
    assert shown("x" * 200) == "x" * 200
    cut = shown("x" * 201)
    assert len(cut) == 200
    assert cut == "x" * 199 + "…"


def test_token_at_the_cut_does_not_show_in_part() -> None:
    assert "tok" not in shown("x" * 196 + TOKEN, TOKEN)


@settings(deadline=None)
@given(st.text(), st.text(), st.integers(min_value=10**7, max_value=10**20), st.text())
def test_no_token_address_or_number_ever_passes(
    before: str, between: str, number: int, after: str
) -> None:
    address = "ada.lovelace@b.example"
    text = f"{before} {TOKEN} {between} {address} {number} {after}"
    result = shown(text, TOKEN)
    assert len(result) <= 200
    assert len(result.splitlines()) <= 1
    assert TOKEN not in result
    assert address not in result
    assert str(number) not in result
