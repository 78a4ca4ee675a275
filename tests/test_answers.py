from __future__ import annotations

import gzip
import json
import typing as t

import pytest

from target_altcraft import answers
from target_altcraft.answers import (
    LIST,
    NO_SUCH_TASK,
    STATUS,
    SUBMIT,
    TOKEN_REFUSED,
    read,
    task_id,
    task_status,
    whole_number,
)
from target_altcraft.errors import (
    ApiError,
    Fatal,
    NotAccepted,
    OutcomeUnknown,
    Refused,
    TooLarge,
)

if t.TYPE_CHECKING:
    from target_altcraft.answers import (
        TaskStatus,
    )

TOKEN = "tok-3f9a"
NO_HEADERS: dict[str, str] = {}


def answer_of(body: object, status: int = 200, endpoint: str = SUBMIT) -> dict[str, t.Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(endpoint, status, NO_HEADERS, content, TOKEN)


def test_module_knows_no_network() -> None:
    names = {getattr(value, "__name__", "") for value in vars(answers).values()}
    assert not names & {"requests", "urllib3", "socket", "http.client", "target_altcraft.client"}


# Success


@pytest.mark.parametrize("endpoint", [SUBMIT, STATUS, LIST])
@pytest.mark.parametrize("error", [0, "0", 0.0, " 0 ", "0.0"])
def test_success_is_error_zero(endpoint: str, error: object) -> None:
    body = {"error": error, "data": [1]}
    assert answer_of(body, 201, endpoint) == body


@pytest.mark.parametrize("status", [100, 302, 400, 401, 413, 429, 500, 503])
def test_only_a_submit_is_accepted_whatever_the_status(status: int) -> None:
    body = {"error": 0, "task_id": "3042"}
    assert answer_of(body, status) == body
    with pytest.raises(ApiError):
        answer_of(body, status, STATUS)


def test_packed_answer_is_unpacked() -> None:
    content = gzip.compress(b'{"error": 0}')
    for name, coding in (("Content-Encoding", "gzip"), ("content-encoding", " GZIP")):
        assert read(STATUS, 200, {name: coding}, content, TOKEN) == {"error": 0}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"task_id": "30421978-7f6d"}, "30421978-7f6d"),
        ({"task_id": " 3042"}, " 3042"),
        ({"data": {"task_id": "task_3042"}}, "task_3042"),
        ({"task_id": "", "data": {"task_id": "task_3042"}}, "task_3042"),
        ({"task_id": "root", "data": {"task_id": "data"}}, "root"),
        ({"task_id": 0}, "0"),
        ({"task_id": 2**200}, str(2**200)),
        ({}, None),
        ({"task_id": False}, None),
        ({"task_id": 1.0}, None),
        ({"task_id": "\n"}, None),
        ({"data": [{"task_id": "3042"}]}, None),
        ({"data": "task_id"}, None),
    ],
)
def test_task_id(answer: dict[str, t.Any], expected: str | None) -> None:
    assert task_id(answer) == expected


# Errors


@pytest.mark.parametrize(
    ("body", "status", "kind", "code", "text"),
    [
        ({"error": 400, "error_text": "Bad"}, 200, Refused, 400, "error 400, Bad"),
        ({"error": "400"}, 200, Refused, 400, "error 400"),
        ({"error": 440, "error text": "Token"}, 200, Fatal, 440, "error 440, Token"),
        ({"error": 429}, 200, NotAccepted, 429, "error 429"),
        ({"error": 401}, 400, Fatal, 401, "HTTP 400, error 401"),
        ({"error": 400}, 401, Fatal, 401, "HTTP 401, error 400"),
        ({"error": 400}, 400, Refused, 400, "HTTP 400, error 400"),
        ({"error": 7}, 503, NotAccepted, 503, "HTTP 503, error 7"),
        ({"error": 7}, 200, OutcomeUnknown, 7, "error 7"),
        ({"error": 79001234567}, 200, OutcomeUnknown, 79001234567, "error ***"),
        (b"<html>", 502, OutcomeUnknown, 502, "HTTP 502"),
        (b"<html>", 200, OutcomeUnknown, 200, "the answer (HTTP 200) is not Altcraft's JSON"),
        (b"", 413, TooLarge, 413, "HTTP 413"),
        (b"http: request body too large", 500, TooLarge, 500, "HTTP 500"),
        (b"x" * 5_000 + b"request body too large", 500, OutcomeUnknown, 500, "HTTP 500"),
    ],
)
def test_error_has_a_kind_a_code_and_a_text(
    body: object, status: int, kind: type[ApiError], code: int, text: str
) -> None:
    with pytest.raises(ApiError) as caught:
        answer_of(body, status)
    assert type(caught.value) is kind
    assert caught.value.endpoint == SUBMIT
    assert caught.value.code == code
    assert caught.value.text == text


def test_refused_token_is_fatal() -> None:
    for code in TOKEN_REFUSED:
        with pytest.raises(Fatal) as caught:
            answer_of({"error": code}, 200, STATUS)
        assert caught.value.code == code


def test_unknown_task_has_its_codes() -> None:
    for code in NO_SUCH_TASK:
        with pytest.raises((Fatal, Refused)) as caught:
            answer_of({"error": code}, 200, STATUS)
        assert caught.value.code in NO_SUCH_TASK


def test_words_of_the_server_are_masked() -> None:
    said = {"error": 400, "error_text": {"x": f"{TOKEN} of ada@b.example"}}
    with pytest.raises(Refused) as caught:
        answer_of(said)
    assert caught.value.text == "error 400, {'x': '*** of ***'}"


def test_retry_after_is_read_whatever_its_case() -> None:
    with pytest.raises(NotAccepted) as caught:
        read(STATUS, 503, {"RETRY-AFTER": "12"}, b"", TOKEN)
    assert caught.value.retry_after == 12


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5),
        (5.0, 5),
        ("5", 5),
        ("-5", -5),
        (2**60 + 1, 2**60 + 1),
        (True, 1),
        (5.5, None),
        ("5.5", None),
        ("", None),
        ("five", None),
        (None, None),
        ([], None),
        (float("nan"), None),
        (float("inf"), None),
        ("1e999", None),
        ("9" * 5_000, None),
    ],
)
def test_whole_number(value: object, number: int | None) -> None:
    assert whole_number(value) == number


# The status of a task


def status_of(state: object, progress: object = 100, **result: object) -> TaskStatus:
    data = {"status": state, "progress": progress, "result": result}
    return task_status({"error": 0, "data": data}, TOKEN)


@pytest.mark.parametrize("state", ["completed", "success", " Success\n", "COMPLETED"])
def test_both_names_of_the_end_are_known(state: str) -> None:
    status = status_of(state, error=0)
    assert status.completed
    assert not status.failed
    assert status_of(state, error=7).failed


@pytest.mark.parametrize(
    ("status", "done"),
    [
        (status_of("done", 100, error=0, result=[{}, {}]), True),
        (status_of("finished", 100.0, error="0", result=[{}, {}]), True),
        (status_of("", 100, result=[{}, {}]), True),
        (status_of("done", 99, error=0, result=[{}, {}]), False),
        (status_of("done", None, error=0, result=[{}, {}]), False),
        (status_of("done", "100", error=0, result=[{}, {}]), False),
        (status_of("done", 100, error=7, result=[{}, {}]), False),
        (status_of("done", 100, error="no", result=[{}, {}]), False),
        (status_of("done", 100, error=0, result=[{}]), False),
        (status_of("done", 100, error=0, result=[{}, {}, {}]), False),
        (status_of("done", 100, error=0, result={"0": 1, "1": 2}), False),
        (status_of("done", 100, error=0), False),
        (status_of("running", 100, error=0, result=[{}, {}]), False),
        (status_of("failed", 100, error=0, result=[{}, {}]), False),
        (status_of("completed", 100, error=0, result=[{}, {}]), False),
    ],
)
def test_unknown_state_is_evidently_done_by_all_three_signs(
    status: TaskStatus, *, done: bool
) -> None:
    assert status.evidently_done(2) is done


def test_what_a_task_says_may_be_shown() -> None:
    status = status_of(f"X {TOKEN}", error=f"of {TOKEN}", error_text=f"ada@b.example {TOKEN}")
    assert status.state == "x ***"
    assert status.error == "of ***"
    assert status.text == "*** ***"


@pytest.mark.parametrize("progress", [-1, 100.5, float("nan"), float("inf"), True, "5", 10**400])
def test_progress_that_is_no_percentage_is_none(progress: object) -> None:
    assert status_of("running", progress).progress is None
