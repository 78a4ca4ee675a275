"""The sandbox keeps its word: endpoints, faults, upserts, runs, the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from decimal import Decimal

import pytest
import requests

from target_altcraft.sandbox import Fault, Sandbox, Workflow
from target_altcraft.sandbox.faults import KINDS, FaultError, parse_fault
from target_altcraft.sandbox.server import HostError, loopback_address

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from target_altcraft.sandbox import RequestSeen

Json = dict[str, t.Any]

DEADLINE_SECONDS = 10.0
SUBMIT = "workflows/import_and_start_batch_task"
STATUS = "tasks/status"
LIST = "workflows/list"
PATHS = {"submit": SUBMIT, "status": STATUS, "list": LIST}
BIG = 6_000_000
"""More than the kernel takes in on both sides of a connection on which nobody reads."""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.002)


def ada(**fields: object) -> Json:
    return {"data": {"email": "ada@example.com", **fields}}


def customers(count: int) -> list[Json]:
    return [{"data": {"email": f"c{index}@example.com"}} for index in range(count)]


class Api:
    """A client as plain as can be: one session, no proxy, no redirects, no retries."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False

    def post(self, path: str, payload: object, **options: t.Any) -> requests.Response:
        options.setdefault("headers", {"Content-Type": "application/json"})
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.session.post(
            f"{self.sandbox.url}/api/v1.1/{path}",
            data=body,
            timeout=options.pop("timeout", DEADLINE_SECONDS),
            allow_redirects=False,
            **options,
        )

    def call(self, path: str, **parameters: object) -> Json:
        answer = self.post(path, {"token": self.sandbox.token, **parameters})
        assert answer.status_code == 200
        return t.cast("Json", answer.json())

    def submit(self, *entries: Json, **root: object) -> Json:
        root = {"workflow_id": 1, "matching": "email", **root}
        return self.call(SUBMIT, data=list(entries), **root)

    def task(self, *entries: Json, **root: object) -> str:
        answer = self.submit(*entries, **root)
        assert answer["error"] == 0, answer
        return t.cast("str", answer["task_id"])

    def status(self, task_id: str) -> Json:
        return self.call(STATUS, task_id=task_id)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(port=0) as running:
        yield running


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[Api]:
    client = Api(sandbox)
    with client.session:
        yield client


def fields(sandbox: Sandbox) -> list[Json]:
    return [profile["fields"] for profile in sandbox.profiles]


def last(sandbox: Sandbox) -> RequestSeen:
    return sandbox.requests[-1]


def head(path: str, length: int) -> bytes:
    return (
        f"POST /api/v1.1/{path} HTTP/1.1\r\nHost: sandbox\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def connect(sandbox: Sandbox) -> socket.socket:
    return socket.create_connection(("127.0.0.1", sandbox.port), timeout=DEADLINE_SECONDS)


# Submits


def test_submit_answers_at_once_with_a_task_that_completes_with_one_profile_per_entry(
    sandbox: Sandbox, api: Api
) -> None:
    answer = api.submit(*customers(3))
    assert answer == {
        "error": 0,
        "error_text": "Successful operation",
        "task_id": sandbox.tasks[0].id,
    }
    status = api.status(answer["task_id"])
    result = status["data"].pop("result")
    assert status == {
        "data": {"status": "completed", "progress": 100},
        "error": 0,
        "error_text": "Successful operation",
    }
    assert (result["error"], result["error_text"]) == (0, "")
    assert result["result"] == [{"profile_id": profile["id"]} for profile in sandbox.profiles]


def test_task_shows_what_was_sent(sandbox: Sandbox, api: Api) -> None:
    entries: list[Json] = [{"data": {"CRM_ID": "15"}}, {"field_value": ["a", "b"], "data": {}}]
    api.task(*entries, matching="custom", field_name="CRM_ID", workflow_id=2, content={"a": 1})
    (task,) = sandbox.tasks
    assert (task.number, task.workflow_id, task.matching) == (1, 2, "custom")
    assert task.field_name == "CRM_ID"
    assert task.keys == ["15", "a,b"]
    assert task.entries == sandbox.entries == entries
    assert task.body_bytes == last(sandbox).bytes
    assert task.envelope == {
        "workflow_id": 2,
        "matching": "custom",
        "field_name": "CRM_ID",
        "content": {"a": 1},
    }


@pytest.mark.parametrize(
    ("root", "entry", "debug"),
    [
        ({"workflow_id": "1"}, ada(), "workflow_id must be an integer"),
        ({"workflow_id": 9}, ada(), "Workflow not found"),
        ({"matching": "name"}, ada(), "matching must be one of"),
        ({"matching": None}, ada(), "matching must be one of"),
        ({"matching": "custom"}, ada(), "needs field_name"),
        ({"skip_triggers": "yes"}, ada(), "skip_triggers is not of type bool"),
        ({"custom_request": {"a": 1}}, ada(), "without matching only"),
        ({"data": {}}, ada(), "data must be an array"),
        ({"data": []}, ada(), "data must be an array"),
        ({"data": [1]}, ada(), "entry 0 is not an object"),
        ({}, {"email": "ada@example.com"}, "entry 0 is not an object with data"),
        ({}, {"data": []}, "data of entry 0 is not of type dict"),
        ({}, {"content": 1, **ada()}, "content of entry 0 is not of type dict"),
        ({}, {"data": {}}, "no value for matching email"),
        ({}, {"data": {"email": " "}}, "no value for matching email"),
        ({"matching": "email_profile"}, {"data": {"phones": "+7"}}, "no value for matching"),
        ({"matching": "phone"}, ada(phones=[]), "no value for matching phone"),
        ({"matching": "profile_id"}, ada(profile_id="1"), "no value for matching profile_id"),
        ({"matching": "custom", "field_name": "ID"}, ada(ID=None), "no value for matching custom"),
    ],
)
def test_submit_is_refused_as_a_whole(
    sandbox: Sandbox, api: Api, root: Json, entry: Json, debug: str
) -> None:
    sent = {"workflow_id": 1, "matching": "email", "data": [entry], **root}
    answer = api.call(SUBMIT, **sent)
    assert answer["error"] == 400
    assert debug in answer["error_debug"]
    assert sandbox.tasks == []
    assert last(sandbox).error == 400
    assert not last(sandbox).accepted
    assert debug in last(sandbox).text


def test_submit_needs_every_entry_to_be_right(sandbox: Sandbox, api: Api) -> None:
    assert "entry 1 " in api.submit(ada(), {"data": {}})["error_debug"]
    assert (last(sandbox).entries, sandbox.tasks) == (2, [])


def test_submit_takes_ten_thousand_entries_and_not_one_more(sandbox: Sandbox, api: Api) -> None:
    assert api.submit(*customers(10_001))["error"] == 400
    assert api.submit(*customers(10_000))["error"] == 0
    assert len(sandbox.profiles) == 10_000


def test_without_matching_every_entry_or_the_root_has_a_custom_request(
    sandbox: Sandbox, api: Api
) -> None:
    api.task(ada(), matching="email")
    without = {"workflow_id": 1, "data": [{"data": {"city": "Perm"}}]}
    assert "custom_request" in api.call(SUBMIT, **without)["error_debug"]
    assert api.call(SUBMIT, **without, custom_request={"email": "ada@example.com"})["error"] == 0
    entry = {"custom_request": {"age": {"$gt": 7}}, "data": {"city": "Omsk"}}
    for _ in range(2):
        assert api.call(SUBMIT, workflow_id=1, data=[entry])["error"] == 0
    assert fields(sandbox) == [
        {"email": "ada@example.com", "city": "Perm"},
        {"city": "Omsk"},
    ]
    assert sandbox.tasks[1].matching == "custom_request"


@pytest.mark.parametrize("path", [SUBMIT, STATUS, LIST])
def test_every_call_checks_type_syntax_and_token(sandbox: Sandbox, api: Api, path: str) -> None:
    text = api.post(path, {"token": "demo-token"}, headers={"Content-Type": "text/plain"})
    assert "Content-Type" in text.json()["error_debug"]
    for body in (b'{"token": ', b"\xff", b"[1]", b"[" * 100_000):
        assert api.post(path, body).json()["error"] == 400
    assert api.post(path, {}).json()["error"] == 401
    wrong = api.post(path, {"token": "other"})
    assert (wrong.status_code, wrong.json()["error"]) == (200, 401)
    assert wrong.json()["error_text"] == "Token required"
    assert {seen.error for seen in sandbox.requests} == {400, 401}


def test_token_may_come_as_a_bearer(sandbox: Sandbox, api: Api) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {sandbox.token}"}
    assert api.post(LIST, {}, headers=headers).json()["error"] == 0
    headers["Authorization"] = "Bearer other"
    assert api.post(LIST, {}, headers=headers).json()["error"] == 401


def test_other_paths_and_methods_are_not_the_api(sandbox: Sandbox, api: Api) -> None:
    assert api.post("workflows/start", {}).status_code == 404
    assert api.session.get(f"{sandbox.url}/api/v1.1/{SUBMIT}", timeout=5).status_code == 405
    assert sandbox.requests == []


def test_body_over_the_limit_is_refused_with_the_platforms_words(
    sandbox: Sandbox, api: Api
) -> None:
    body = json.dumps({"token": "demo-token", "from_id": 1}).encode()
    sandbox.body_limit = len(body)
    assert api.post(LIST, body).json()["error"] == 0
    assert api.post(LIST, body + b" ").json() == {
        "error": 400,
        "error_debug": "http: request body too large",
        "error_text": "Invalid request",
    }
    assert last(sandbox).bytes == len(body) + 1
    assert api.post(LIST, body).json()["error"] == 0
    chunked = api.session.post(
        f"{sandbox.url}/api/v1.1/{LIST}",
        data=iter([body, b" " * 100_000]),
        headers={"Content-Type": "application/json"},
        timeout=5,
    )
    assert chunked.json()["error_debug"] == "http: request body too large"
    assert last(sandbox).bytes == len(body) + 100_000


def test_chunked_body_is_read(sandbox: Sandbox, api: Api) -> None:
    answer = api.session.post(
        f"{sandbox.url}/api/v1.1/{LIST}",
        data=iter([b'{"token":', b'"demo-token"}']),
        headers={"Content-Type": "application/json"},
        timeout=5,
    )
    assert answer.json()["error"] == 0
    assert last(sandbox).bytes == 22


def send_until_cut(connection: socket.socket, path: str, size: int) -> int:
    """Send a body of that size; return how much went out before the connection was cut."""
    part = b" " * 65_536
    sent = 0
    connection.sendall(head(path, size))
    try:
        while sent < size:
            sent += connection.send(part[: size - sent])
    except ConnectionError:
        return sent
    raise AssertionError("the whole body went out")


def test_body_over_the_limit_may_cut_the_connection_in_mid_body(sandbox: Sandbox, api: Api) -> None:
    sandbox.close_on_too_large = True
    sandbox.body_limit = BIG - 1
    with connect(sandbox) as connection:
        send_until_cut(connection, SUBMIT, BIG)
    until(lambda: last(sandbox).done_at is not None)
    seen = last(sandbox)
    assert (seen.status, seen.error, seen.accepted) == (None, None, False)
    assert 0 < seen.bytes < BIG
    assert "too large" in seen.text
    assert api.submit(ada())["error"] == 0


def test_client_that_dies_in_mid_body_is_logged_with_what_arrived(sandbox: Sandbox) -> None:
    with connect(sandbox) as connection:
        connection.sendall(head(SUBMIT, 100) + b"x" * 60)
    until(lambda: bool(sandbox.requests) and last(sandbox).done_at is not None)
    assert (last(sandbox).bytes, last(sandbox).status) == (60, None)
    assert not last(sandbox).accepted


def test_connection_is_kept_and_an_unread_body_is_no_next_request(sandbox: Sandbox) -> None:
    body = json.dumps({"token": "demo-token"}).encode()
    smuggled = head(LIST, len(body)) + body
    with connect(sandbox) as connection:
        connection.sendall(head("nowhere", len(smuggled)) + smuggled)
        answers = connection.makefile("rb")
        assert answers.readline().startswith(b"HTTP/1.1 404")
        connection.sendall(head(LIST, len(body)) + body)
        text = b""
        while b"is_active" not in text:
            text += answers.read1(65_536)
    assert len(sandbox.requests) == 1


def test_entry_that_refuse_where_names_refuses_the_submit(sandbox: Sandbox, api: Api) -> None:
    sandbox.refuse_where = lambda entry: entry["data"].get("age") == 7
    answer = api.submit(ada(), ada(age=7))
    assert (answer["error"], answer["error_text"]) == (400, "Invalid request")
    assert last(sandbox).profiles == ["ada@example.com", "ada@example.com"]
    assert api.submit(ada())["error"] == 0


def test_entry_that_fail_where_names_gets_an_error_in_the_result(
    sandbox: Sandbox, api: Api
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["email"].startswith("c1")
    items = api.status(api.task(*customers(3)))["data"]["result"]["result"]
    assert [item.get("error") for item in items] == [None, 422, None]
    assert "c1@example.com" in items[1]["error_debug"]
    assert len(sandbox.profiles) == 2
    assert sandbox.tasks[0].delivered == 2


# Tasks


def test_progress_rises_evenly_until_the_end(sandbox: Sandbox, api: Api) -> None:
    sandbox.task_seconds = 0.2
    task_id = api.task(ada())
    seen = []

    def completed() -> bool:
        before = sandbox.profiles
        data = api.status(task_id)["data"]
        seen.append(data["progress"])
        if data["status"] == "running":
            assert data == {"status": "running", "progress": data["progress"]}
            assert before == []
        return bool(data["status"] == "completed")

    until(completed)
    (task,) = sandbox.tasks
    assert task.ends_at is not None
    assert task.ends_at == pytest.approx(task.accepted_at + 0.2)
    assert len(task.polls) == len(seen)
    for at, progress in zip(task.polls, seen, strict=True):
        elapsed = (at - task.accepted_at) / (task.ends_at - task.accepted_at)
        assert progress == min(100, int(100 * elapsed))
    assert all(progress < 100 for progress in seen[:-1])
    assert seen[-1] == 100


def test_unknown_task_is_error_400(sandbox: Sandbox, api: Api) -> None:
    answer = api.status("4f39")
    assert (answer["error"], answer["error_text"]) == (400, "no such task")
    assert last(sandbox).task_id == "4f39"


def test_tasks_are_carried_out_in_order_of_their_ends(sandbox: Sandbox, api: Api) -> None:
    sandbox.task_seconds = lambda number, entries: 0.1 if number == 1 else 0.01 * len(entries)
    api.task(ada(city="late"))
    api.task(ada(city="early"))
    assert sandbox.max_tasks_in_flight() == 2
    until(lambda: all(task.outcome == "completed" for task in sandbox.tasks))
    (profile,) = sandbox.profiles
    assert profile["fields"]["city"] == "late"
    cities = [done["entry"]["data"]["city"] for done in profile["history"]]
    assert cities == ["early", "late"]


def test_tasks_that_only_follow_each_other_are_not_in_flight_together(
    sandbox: Sandbox, api: Api
) -> None:
    api.task(ada())
    assert sandbox.max_tasks_in_flight() == 0
    sandbox.task_seconds = 0.01
    for _ in range(2):
        task_id = api.task(ada())
        until(lambda: api.status(task_id)["data"]["status"] == "completed")  # noqa: B023
    assert sandbox.max_tasks_in_flight() == 1


# Profiles


def test_email_is_matched_whatever_its_case_and_null_overwrites(sandbox: Sandbox, api: Api) -> None:
    api.task(ada(_fname="Ada", city="Perm", age=36))
    api.task({"data": {"email": "ADA@example.com", "city": None, "tags": ["a"]}})
    assert fields(sandbox) == [
        {"email": "ADA@example.com", "_fname": "Ada", "city": None, "age": 36, "tags": ["a"]}
    ]


def test_email_at_the_entry_finds_and_the_one_in_data_replaces(sandbox: Sandbox, api: Api) -> None:
    api.task(ada(_fname="Ada"))
    api.task({"email": "Ada@example.com", "data": {"email": "new@example.com"}})
    api.task({"data": {"email": "new@example.com", "city": "Perm"}}, matching="email_profile")
    assert fields(sandbox) == [{"email": "new@example.com", "_fname": "Ada", "city": "Perm"}]
    api.task(ada())
    assert len(sandbox.profiles) == 2
    assert sandbox.tasks[1].keys == ["ada@example.com"]


def test_phone_is_matched_by_any_number_of_the_profile(sandbox: Sandbox, api: Api) -> None:
    api.task({"data": {"phones": ["+71", "+72"]}}, matching="phone")
    api.task({"phone": "+72", "data": {"_fname": "Ada"}}, matching="phone")
    api.task({"data": {"phones": "+71", "city": "Perm"}}, matching="phone")
    api.task({"phone": "+73", "data": {}}, matching="phone")
    assert fields(sandbox) == [
        {"phones": "+71", "_fname": "Ada", "city": "Perm"},
        {"phones": ["+73"]},
    ]


def test_profile_id_is_matched(sandbox: Sandbox, api: Api) -> None:
    api.task(ada())
    (profile,) = sandbox.profiles
    api.task({"profile_id": profile["id"], "data": {"a": 1}}, matching="profile_id")
    api.task({"profile_id": "61e92c", "data": {"a": 2}}, matching="profile_id")
    assert [each["id"] for each in sandbox.profiles] == [profile["id"], "61e92c"]
    assert fields(sandbox) == [{"email": "ada@example.com", "a": 1}, {"a": 2}]


def test_custom_field_is_matched_also_among_profiles_that_came_otherwise(
    sandbox: Sandbox, api: Api
) -> None:
    api.task(ada(CRM_ID=15, tags=["a", "b"]))
    api.task({"data": {"CRM_ID": 15, "n": 1}}, matching="custom", field_name="CRM_ID")
    api.task({"field_value": "a,b", "data": {"n": 2}}, matching="custom", field_name="tags")
    api.task({"data": {"CRM_ID": "16"}}, matching="custom", field_name="CRM_ID")
    assert fields(sandbox) == [
        {"email": "ada@example.com", "CRM_ID": 15, "tags": ["a", "b"], "n": 2},
        {"CRM_ID": "16"},
    ]


def test_every_delivered_entry_is_one_run_of_its_workflow(sandbox: Sandbox, api: Api) -> None:
    api.task(ada(), ada(), workflow_id=1)
    api.task(ada(), workflow_id=2)
    api.task(ada(), workflow_id=3)
    (profile,) = sandbox.profiles
    assert profile["runs"] == {1: 2, 2: 1}
    history = [(done["task_id"], done["workflow_id"]) for done in profile["history"]]
    first, second, third = (task.id for task in sandbox.tasks)
    assert history == [(first, 1), (first, 1), (second, 2), (third, 3)]
    runs = {workflow["id"]: workflow["runs"] for workflow in sandbox.view()["workflows"]}
    assert runs == {1: 2, 2: 1, 3: 0}


def test_numbers_are_kept_as_they_were_written(sandbox: Sandbox, api: Api) -> None:
    body = (
        b'{"token":"demo-token","workflow_id":1,"matching":"email","data":'
        b'[{"data":{"email":"a@b.c","sum":12.10,"big":123456789012345678901234567890}}]}'
    )
    assert api.post(SUBMIT, body).json()["error"] == 0
    assert str(fields(sandbox)[0]["sum"]) == "12.10"
    assert fields(sandbox)[0]["sum"] == Decimal("12.1")
    assert b'"sum":12.10,"big":123456789012345678901234567890' in sandbox.view_json()


# Workflows


def listed(number: int, name: str, *, is_active: bool = True, mode: str = "restart") -> Json:
    """An item of `workflows/list` as the guide shows it."""
    nodes = [{"name": "Start", "type": "start"}, {"name": "Message", "type": "campaign"}]
    return {
        "id": number,
        "name": name,
        "is_active": is_active,
        "list_id": 1,
        "mode": mode,
        "nodes": nodes,
    }


def test_workflows_are_listed_from_an_id_on(api: Api) -> None:
    assert api.call(LIST, from_id=2, limit=1) == {
        "data": [listed(2, "Order follow-up")],
        "error": 0,
        "error_text": "Successful operation",
    }
    assert [each["is_active"] for each in api.call(LIST)["data"]] == [True, True, False]
    assert api.call(LIST, from_id=4)["data"] == []
    assert api.call(LIST, from_id="x")["error"] == 400


def test_list_may_be_forbidden_and_workflows_chosen() -> None:
    with Sandbox(workflows=[Workflow(12, "Mine")], forbid_list=True) as sandbox:
        api = Api(sandbox)
        assert api.call(LIST)["error"] == 403
        sandbox.forbid_list = False
        assert [each["id"] for each in api.call(LIST)["data"]] == [12]
        assert api.submit(ada())["error"] == 400
        assert api.submit(ada(), workflow_id=12)["error"] == 0


# Faults of calls


def request_of(endpoint: str, api: Api) -> Json:
    """A good request for an endpoint."""
    request: Json = {"token": "demo-token"}
    if endpoint == "submit":
        request |= {"workflow_id": 1, "matching": "email", "data": [ada()]}
    elif endpoint == "status":
        request["task_id"] = api.task(ada())
    return request


@pytest.mark.parametrize("endpoint", ["submit", "status", "list"])
@pytest.mark.parametrize("kind", ["reset_before", "reset_mid_body", "reset_after", "timeout"])
def test_fault_without_an_answer(sandbox: Sandbox, api: Api, endpoint: str, kind: str) -> None:
    request = request_of(endpoint, api)
    tasks = len(sandbox.tasks)
    sandbox.add_fault(endpoint, kind)
    body = json.dumps(request).encode()
    with pytest.raises(requests.RequestException) as lost:
        api.post(PATHS[endpoint], body, timeout=0.05 if kind == "timeout" else DEADLINE_SECONDS)
    assert isinstance(lost.value, requests.ReadTimeout) is (kind == "timeout")
    until(lambda: last(sandbox).done_at is not None)
    seen = last(sandbox)
    assert (seen.fault, seen.status, seen.error, seen.accepted) == (kind, None, None, False)
    if kind == "reset_before":
        assert seen.bytes == 0
    elif kind == "reset_mid_body":
        assert 0 < seen.bytes < len(body)
    else:
        assert seen.bytes == len(body)
    assert len(sandbox.tasks) == tasks
    assert api.post(PATHS[endpoint], body).json()["error"] == 0


@pytest.mark.parametrize("kind", ["reset_after", "timeout"])
def test_unanswered_submit_may_have_been_accepted(sandbox: Sandbox, api: Api, kind: str) -> None:
    sandbox.add_fault("submit", kind, accept=True)
    with pytest.raises(requests.RequestException):
        api.post(SUBMIT, request_of("submit", api), timeout=0.05)
    until(lambda: last(sandbox).done_at is not None)
    assert last(sandbox).accepted
    assert last(sandbox).task_id == sandbox.tasks[0].id
    assert last(sandbox).profiles == ["ada@example.com"]
    assert len(sandbox.profiles) == 1


@pytest.mark.parametrize("kind", ["reset_before", "reset_mid_body"])
def test_reset_of_a_large_body_is_noticed_in_mid_body(sandbox: Sandbox, kind: str) -> None:
    sandbox.add_fault("submit", kind)
    with connect(sandbox) as connection:
        send_until_cut(connection, SUBMIT, BIG)


def test_reset_on_a_kept_connection_is_noticed_in_mid_body(sandbox: Sandbox) -> None:
    sandbox.add_fault("list", "reset_mid_body", after=3)
    with connect(sandbox) as connection:
        answers = connection.makefile("rb")
        body = b" " * 9_000_000
        for _ in range(3):
            connection.sendall(head(LIST, len(body)) + body)
            while answers.readline() != b"\r\n":
                pass
            answers.read(json_length(sandbox))
        send_until_cut(connection, LIST, len(body))


def json_length(sandbox: Sandbox) -> int:
    """Return the length of the answer to a body of blanks."""
    debug = last(sandbox).text.removeprefix("Invalid request: ")
    answer = {"error": 400, "error_text": "Invalid request", "error_debug": debug}
    return len(json.dumps(answer, separators=(",", ":")))


class Expected(t.NamedTuple):
    status: int
    error: int | None
    text: str


@pytest.mark.parametrize(
    ("endpoint", "accept"),
    [("submit", False), ("submit", True), ("status", False), ("list", False)],
)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "http"}, Expected(503, 503, "Service Unavailable")),
        (
            {"kind": "http", "status": 429, "retry_after": "7", "text": "slow"},
            Expected(429, 429, "slow"),
        ),
        ({"kind": "http", "status": 400, "code": 17}, Expected(400, 17, "Bad Request")),
        (
            {"kind": "http", "status": 502, "html": True},
            Expected(502, None, "<h1>502 Bad Gateway</h1>"),
        ),
        ({"kind": "error", "code": 402, "text": "Tariff"}, Expected(200, 402, "Tariff")),
        ({"kind": "html"}, Expected(200, None, "<h1>Sign in")),
        ({"kind": "garbage"}, Expected(200, None, '"error_text": "Succ')),
        ({"kind": "redirect"}, Expected(302, None, "Moved")),
        (
            {"kind": "redirect", "status": 307, "location": "/x"},
            Expected(307, None, "Moved"),
        ),
        ({"kind": "error", "code": 440}, Expected(200, 440, "Invalid request")),
    ],
)
def test_fault_with_a_false_answer(
    api: Api, endpoint: str, *, accept: bool, options: Json, expected: Expected
) -> None:
    sandbox = api.sandbox
    kind = options["kind"]
    request = request_of(endpoint, api)
    tasks = len(sandbox.tasks)
    sandbox.add_fault(Fault(endpoint, accept=accept, **options))
    answer = api.post(PATHS[endpoint], request)
    assert answer.status_code == expected.status
    assert expected.text in answer.text
    assert answer.headers.get("Retry-After") == options.get("retry_after")
    if kind == "redirect":
        assert answer.headers["Location"] == options.get("location", "/elsewhere")
    if expected.error is not None:
        assert answer.json()["error"] == expected.error
    if kind == "garbage":
        with pytest.raises(ValueError, match="Unterminated"):
            answer.json()
    seen = last(sandbox)
    assert (seen.fault, seen.status, seen.error) == (kind, expected.status, expected.error)
    assert seen.accepted is accept
    assert len(sandbox.tasks) == tasks + accept
    assert api.post(PATHS[endpoint], request).json()["error"] == 0


@pytest.mark.parametrize("accept", [False, True])
def test_fault_no_task_id(sandbox: Sandbox, api: Api, *, accept: bool) -> None:
    sandbox.add_fault("submit", "no_task_id", accept=accept)
    assert api.submit(ada()) == {"error": 0, "error_text": "Successful operation"}
    assert len(sandbox.tasks) == int(accept)


def raw_answer(sandbox: Sandbox, path: str, request: Json) -> bytes:
    """Return every byte that comes back, interim answers included."""
    body = json.dumps(request).encode()
    with connect(sandbox) as connection:
        connection.sendall(
            head(path, len(body)).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body
        )
        return connection.makefile("rb").read()


def test_fault_nested_id_puts_the_task_id_in_data(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("submit", "nested_id", times=2)
    assert api.submit(ada()) == {
        "data": {"task_id": sandbox.tasks[0].id},
        "error": 0,
        "error_text": "Successful operation",
    }
    assert last(sandbox).accepted
    assert api.submit({"data": {}})["error"] == 400


@pytest.mark.parametrize("endpoint", ["submit", "status", "list"])
def test_fault_answered_as_is_the_true_answer_under_another_http_status(
    sandbox: Sandbox, api: Api, endpoint: str
) -> None:
    request = request_of(endpoint, api)
    sandbox.add_fault(endpoint, "answered_as", status=503, retry_after="1")
    answer = api.post(PATHS[endpoint], request)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["error"] == 0
    if endpoint == "submit":
        assert answer.json()["task_id"] == sandbox.tasks[0].id
    assert (last(sandbox).status, last(sandbox).error) == (503, 0)


@pytest.mark.parametrize("endpoint", ["submit", "status", "list"])
@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("bom", b"\xef\xbb\xbf{"),
        ("broken_text", b'"error_text":"\xd0\xff Successful operation"'),
        ("odd_number", b',"took":1e999}'),
    ],
)
def test_fault_leaves_the_true_answer_hard_to_read(
    sandbox: Sandbox, api: Api, endpoint: str, kind: str, mark: bytes
) -> None:
    request = request_of(endpoint, api)
    tasks = len(sandbox.tasks)
    sandbox.add_fault(endpoint, kind)
    answer = api.post(PATHS[endpoint], request)
    assert mark in answer.content
    assert answer.headers["Content-Length"] == str(len(answer.content))
    text = answer.content.decode("utf-8-sig", "replace")
    assert json.loads(text)["error"] == 0
    assert len(sandbox.tasks) == tasks + (endpoint == "submit")
    assert (last(sandbox).fault, last(sandbox).status, last(sandbox).error) == (kind, 200, 0)
    assert sandbox.view()["totals"]["refused_requests"] == 0


@pytest.mark.parametrize("endpoint", ["submit", "status", "list"])
@pytest.mark.parametrize(
    ("options", "line"),
    [({}, b"HTTP/1.1 102 Processing"), ({"status": 103}, b"HTTP/1.1 103 Early Hints")],
)
def test_fault_interim_answers_twice_the_second_time_truly(
    sandbox: Sandbox, api: Api, endpoint: str, options: Json, line: bytes
) -> None:
    request = request_of(endpoint, api)
    sandbox.add_fault(endpoint, "interim", **options)
    interim, heads, body = raw_answer(sandbox, PATHS[endpoint], request).split(b"\r\n\r\n")
    assert interim == line
    assert heads.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body)["error"] == 0


@pytest.mark.parametrize("location", ["http://[", "no URL at all", "http://host:port/", "//[кот"])
def test_redirect_may_point_at_what_is_no_url(sandbox: Sandbox, api: Api, location: str) -> None:
    sandbox.add_fault(f"submit:redirect,location={location}")
    heads, _ = raw_answer(sandbox, SUBMIT, request_of("submit", api)).split(b"\r\n\r\n")
    assert heads.startswith(b"HTTP/1.1 302 FOUND\r\n")
    assert f"Location: {location}" in heads.decode().splitlines()
    assert sandbox.tasks == []


def test_interim_answer_is_of_the_1xx_class() -> None:
    assert parse_fault("submit:interim,status=199").status == 199
    with pytest.raises(FaultError, match="between 100 and 199"):
        parse_fault("submit:interim,status=200")


@pytest.mark.parametrize("name", [None, "finished"])
def test_task_may_be_done_under_another_name(sandbox: Sandbox, api: Api, name: str | None) -> None:
    sandbox.add_fault("task", "done_as", name=name)
    data = api.status(api.task(ada()))["data"]
    assert (data["status"], data["progress"]) == (name or "success", 100)
    assert data["result"]["result"] == [{"profile_id": sandbox.profiles[0]["id"]}]
    assert (sandbox.tasks[0].outcome, sandbox.tasks[0].delivered) == ("completed", 1)


def test_task_that_is_done_under_another_name_runs_under_the_usual_one(
    sandbox: Sandbox, api: Api
) -> None:
    sandbox.task_seconds = 60
    sandbox.add_fault("task:done_as")
    assert api.status(api.task(ada()))["data"]["status"] == "running"


def test_fault_slow_answers_late(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("submit", "slow", seconds=0.1)
    assert api.submit(ada())["error"] == 0
    seen = last(sandbox)
    assert seen.accepted
    assert seen.done_at is not None
    assert seen.done_at - seen.at >= 0.1


def test_fault_slow_ends_with_its_client(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("list", "slow", seconds=60)
    with pytest.raises(requests.ReadTimeout):
        api.post(LIST, {"token": "demo-token"}, timeout=0.05)
    until(lambda: last(sandbox).done_at is not None)
    assert last(sandbox).status is None


def test_accepting_fault_does_not_accept_what_is_wrong(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("submit", "http", accept=True)
    assert api.post(SUBMIT, {"token": "demo-token", "workflow_id": 9}).status_code == 503
    assert sandbox.tasks == []


def test_fault_strikes_after_and_times(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("list", "http", status=500, after=1, times=2)
    sandbox.add_fault("list", "http", status=501, times=None)
    statuses = [api.post(LIST, {"token": "demo-token"}).status_code for _ in range(5)]
    assert statuses == [501, 500, 500, 501, 501]
    sandbox.clear_faults()
    assert api.call(LIST)["error"] == 0


def test_fault_may_be_kept_for_bodies_with_a_text(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("submit", "http", where="c1@example.com", times=None)
    assert api.submit(ada())["error"] == 0
    assert api.post(SUBMIT, {"data": customers(2)}).status_code == 503
    sandbox.add_fault("task", "failed", where="bob@")
    first = api.task(ada())
    second = api.task({"data": {"email": "bob@example.com"}})
    assert api.status(first)["data"]["status"] == "completed"
    assert api.status(second)["data"]["status"] == "failed"


# Faults of tasks


def test_task_fault_strikes_the_nth_accepted_submit(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task", "failed", after=1)
    api.submit({"data": {}})
    ids = [api.task(ada()) for _ in range(3)]
    assert [api.status(task_id)["data"]["status"] for task_id in ids] == [
        "completed",
        "failed",
        "completed",
    ]
    assert [task.outcome for task in sandbox.tasks] == ["completed", "failed", "completed"]


@pytest.mark.parametrize("name", [None, "error", "canceled", "cancelled", "aborted", "stopped"])
def test_failed_task_delivers_nobody(sandbox: Sandbox, api: Api, name: str | None) -> None:
    sandbox.add_fault("task", "failed", code=500, text="out of memory", name=name)
    assert api.status(api.task(ada()))["data"] == {
        "status": name or "failed",
        "progress": 100,
        "result": {"error": 500, "error_text": "out of memory", "result": []},
    }
    assert (sandbox.profiles, sandbox.tasks[0].delivered) == ([], 0)
    assert sandbox.tasks[0].outcome == (name or "failed")


def test_completed_task_may_hold_an_error(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task", "result_error", code=402)
    data = api.status(api.task(ada()))["data"]
    assert (data["status"], data["result"]["error"]) == ("completed", 402)
    assert sandbox.profiles == []


def test_stuck_task_never_ends(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task", "stuck")
    assert api.status(api.task(ada()))["data"] == {"status": "running", "progress": 40}
    api.task(ada())
    assert [(task.outcome, task.delivered) for task in sandbox.tasks] == [
        ("stuck", 0),
        ("completed", 1),
    ]
    assert sandbox.tasks[0].ends_at is None
    assert sandbox.max_tasks_in_flight() == 1


def test_vanished_task_is_unknown_at_once_and_delivers_nobody(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task", "vanished")
    assert api.status(api.task(ada()))["error_text"] == "no such task"
    assert (sandbox.tasks[0].outcome, sandbox.profiles) == ("vanished", [])
    assert len(sandbox.tasks[0].polls) == 1


def test_task_may_vanish_later(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task", "vanished", seconds=0.1)
    sandbox.task_seconds = 0.02
    task_id = api.task(ada())
    assert api.status(task_id)["error"] == 0
    until(lambda: api.status(task_id)["error"] == 400)
    assert (sandbox.tasks[0].outcome, len(sandbox.profiles)) == ("completed", 1)


def test_running_task_may_have_a_status_nobody_knows(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task", "unknown_status", times=2)
    sandbox.task_seconds = 0.05
    task_id = api.task(ada())
    assert api.status(task_id)["data"]["status"] == "pondering"
    until(lambda: api.status(task_id)["data"]["status"] == "completed")
    assert len(sandbox.profiles) == 1


def test_partial_task_delivers_everyone_else(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task", "partial", indexes=(0, 2, 9))
    items = api.status(api.task(*customers(4)))["data"]["result"]["result"]
    assert [item.get("error") for item in items] == [422, None, 422, None]
    assert "c2@example.com" in items[2]["error_debug"]
    assert items[0]["error_text"] == "Invalid profile"
    emails = [each["email"] for each in fields(sandbox)]
    assert emails == ["c1@example.com", "c3@example.com"]


@pytest.mark.parametrize(
    ("kind", "length"), [("no_profile_id", 3), ("short", 2), ("long", 4), ("no_progress", 3)]
)
def test_result_of_another_shape(sandbox: Sandbox, api: Api, kind: str, length: int) -> None:
    sandbox.add_fault("task", kind)
    data = api.status(api.task(*customers(3)))["data"]
    items = data["result"]["result"]
    assert len(items) == length
    assert (items[0] == {}) is (kind == "no_profile_id")
    assert ("progress" in data) is (kind != "no_progress")
    assert len(sandbox.profiles) == (2 if kind == "no_profile_id" else 3)


# Fault texts and the control endpoint


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("submit:timeout", Fault("submit", "timeout")),
        (
            "submit:http,status=503,times=2,retry_after=1",
            Fault("submit", "http", status=503, times=2, retry_after="1"),
        ),
        ("task:failed,after=1", Fault("task", "failed", after=1)),
        ("task:partial,indexes=0+2", Fault("task", "partial", indexes=(0, 2))),
        (
            "list: http, html, times=always, text=try later",
            Fault("list", "http", html=True, times=None, text="try later"),
        ),
        ("submit:error,code=17,accept=no", Fault("submit", "error", code=17)),
        ("task:vanished,seconds=0.5", Fault("task", "vanished", seconds=0.5)),
    ],
)
def test_fault_is_read_from_text(spec: str, fault: Fault) -> None:
    assert parse_fault(spec) == fault


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "is not ENDPOINT:KIND"),
        ("submit", "is not ENDPOINT:KIND"),
        ("import:http", "no endpoint 'import': choose from submit"),
        ("submit:https", "no fault 'https' for submit: choose from reset_before"),
        ("submit:http,state=503", "no option 'state'"),
        ("submit:http,status=x", "'x' is no value for 'status'"),
        ("submit:http,html=maybe", "'maybe' is no value for 'html'"),
        ("submit:timeout,status=503", "'status' means nothing to submit:timeout"),
        ("status:http,accept", "'accept' means nothing to status:http"),
        ("submit:reset_before,where=x", "'where' means nothing to submit:reset_before"),
        ("submit:http,times=0", "'times' at least 1"),
    ],
)
def test_wrong_fault_is_told_with_what_is_allowed(spec: str, message: str) -> None:
    with pytest.raises(FaultError) as wrong:
        parse_fault(spec)
    assert message in str(wrong.value)


def test_option_that_no_fault_has_is_told(sandbox: Sandbox) -> None:
    with pytest.raises(FaultError, match="no option 'state'"):
        sandbox.add_fault("submit", "http", state=503)


@pytest.mark.parametrize(
    ("endpoint", "kind"), [(endpoint, kind) for endpoint in KINDS for kind in KINDS[endpoint]]
)
def test_every_kind_can_be_written_as_text(endpoint: str, kind: str) -> None:
    assert parse_fault(f"{endpoint}:{kind}") == Fault(endpoint, kind)


def test_faults_are_armed_and_disarmed_over_http(sandbox: Sandbox, api: Api) -> None:
    url = f"{sandbox.url}/_sandbox/faults"
    armed = api.session.post(url, json={"fault": "list:http,times=always"}, timeout=5).json()
    assert [each["fault"]["kind"] for each in armed["faults"]] == ["http"]
    assert api.post(LIST, {"token": "demo-token"}).status_code == 503
    wrong = api.session.post(url, json={"fault": "list:nothing"}, timeout=5)
    assert wrong.status_code == 400
    assert "no fault 'nothing'" in wrong.json()["error"]
    for body in (b"", b"[]", b'{"fault": 1}'):
        assert api.session.post(url, data=body, timeout=5).status_code == 400
    assert api.session.delete(url, timeout=5).json() == {"faults": []}
    assert api.call(LIST)["error"] == 0


# The view


def test_view_shows_everything_that_happened(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task", "partial", after=1)
    api.task(ada(age=36))
    api.task(*customers(3), workflow_id=2)
    api.submit({"data": {}})
    view = sandbox.view()
    shown = api.session.get(f"{sandbox.url}/_sandbox/state", timeout=5).json()
    assert shown.pop("now") >= view.pop("now")
    assert shown == view
    assert view["totals"] == {
        "profiles": 3,
        "runs": 3,
        "messages": 0,
        "messages_by_channel": {},
        "tasks": 2,
        "accepted_entries": 4,
        "delivered_entries": 3,
        "requests": 3,
        "refused_requests": 1,
        "unanswered_requests": 0,
    }
    assert view["workflows"][0] == {
        "id": 1,
        "name": "Welcome series",
        "is_active": True,
        "resource_id": 7,
        "channel": "email",
        "mode": "restart",
        "list_id": 1,
        "runs": 1,
        "messaged": 0,
        "ignored": 0,
    }
    assert view["resources"] == [
        {"id": 7, "name": "Newsletter", "channels": ["email", "sms"]},
        {"id": 8, "name": "Bot", "channels": ["telegram_bot", "push"]},
    ]
    second = view["tasks"][1]
    assert (second["entries"], second["delivered"], second["failures"]) == (3, 2, 1)
    assert (second["outcome"], second["progress"], second["fault"]) == ("completed", 100, "partial")
    (profile,) = (each for each in view["profiles"] if each["fields"].get("age"))
    assert profile["runs"] == {"1": 1}
    assert profile["history"][0]["entry"] == ada(age=36)
    assert "no value for matching" in view["requests"][2]["text"]
    assert view["faults"][0]["struck"] == 1
    assert "T" in view["started"]["wall"]
    assert sandbox.token not in json.dumps(view)


def test_count_only_keeps_counters_and_tasks(api: Api) -> None:
    with Sandbox(remember=False) as sandbox:
        api = Api(sandbox)
        sandbox.add_fault("task", "partial")
        answer = api.status(api.task(*customers(3)))
        items = answer["data"]["result"]["result"]
        assert [item.get("error") for item in items] == [422, None, None]
        assert len({item.get("profile_id") for item in items}) == 3
        assert (sandbox.profiles, sandbox.requests, sandbox.entries) == ([], [], [])
        (task,) = sandbox.tasks
        assert (task.size, task.delivered, task.keys) == (3, 2, [])
        totals = sandbox.view()["totals"]
        assert (totals["accepted_entries"], totals["runs"], totals["requests"]) == (3, 2, 2)


# Start and stop


def test_stopped_sandbox_refuses_connections_and_remembers(sandbox: Sandbox, api: Api) -> None:
    url = sandbox.url
    task_id = api.task(ada())
    sandbox.stop()
    with pytest.raises(requests.ConnectionError, match="refused"):
        api.call(LIST)
    sandbox.start()
    assert sandbox.url == url
    assert api.status(task_id)["data"]["status"] == "completed"


def test_stop_ends_requests_that_wait_and_every_thread(sandbox: Sandbox) -> None:

    def servers() -> int:
        return sum("sandbox" in thread.name for thread in threading.enumerate())

    before = set(threading.enumerate())
    others = servers() - 1  # another test's sandbox may be running
    sandbox.add_fault("list", "timeout")
    body = json.dumps({"token": "demo-token"}).encode()
    with connect(sandbox) as idle, connect(sandbox) as waiting:
        waiting.sendall(head(LIST, len(body)) + body)
        until(lambda: bool(sandbox.requests) and last(sandbox).bytes == len(body))
        started = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - started < 2
        assert set(threading.enumerate()) <= before
        assert servers() == others
        assert idle.recv(1) == b""
    assert (last(sandbox).status, last(sandbox).done_at is None) == (None, False)


def test_no_fault_leaves_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with Sandbox() as sandbox:
        api = Api(sandbox)
        for kind in ("reset_before", "reset_mid_body", "reset_after", "timeout"):
            sandbox.add_fault("list", kind)
            with pytest.raises(requests.RequestException):
                api.post(LIST, {"token": "demo-token"}, timeout=0.05)
        with connect(sandbox) as connection:
            connection.sendall(head(LIST, 10))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "no-such-host.invalid"])  # noqa: S104
def test_host_must_be_loopback(host: str) -> None:
    with pytest.raises(HostError, match=r"is not a loopback address|does not resolve"):
        Sandbox(host=host)


def test_loopback_has_several_names() -> None:
    assert loopback_address("localhost")[1] in ("127.0.0.1", "::1")
    assert loopback_address("127.8.0.1") == (socket.AF_INET, "127.8.0.1")
    assert loopback_address("::1") == (socket.AF_INET6, "::1")
    assert Sandbox(host="::1", port=80).url == "http://[::1]:80"


# The command


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "target_altcraft.sandbox", *arguments]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_command_serves_until_a_signal(ending: signal.Signals) -> None:
    process = subprocess.Popen(
        command(
            "--port=0",
            "--token=secret",
            "--task-seconds=0",
            "--workflow=7:Seven: the film:inactive",
            "--workflow=8:Eight:mode=skip:channel=sms",
            "--resource=5:email+sms:News: all",
            "--fault=list:http,status=429",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:3] == ["Altcraft", "sandbox", "on"]
        assert words[4:] == ["(token:", "secret)"]
        url = f"{words[3]}/api/v1.1/{LIST}"
        assert requests.post(url, json={"token": "secret"}, timeout=5).status_code == 429
        assert requests.post(url, json={"token": "secret"}, timeout=5).json()["data"] == [
            listed(7, "Seven: the film", is_active=False),
            listed(8, "Eight", mode="skip"),
        ]
        os.kill(process.pid, ending)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert errors.splitlines() == ["list, HTTP 429, error 429, fault http", "list, HTTP 200"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault=submit:nothing"], "no fault 'nothing' for submit"),
        (["--host=192.0.2.1"], "'192.0.2.1' is not a loopback address"),
        (["--workflow=seven"], "'seven' is not ID:NAME[:inactive]"),
        (["--port=70000"], "'70000' is not between 0 and 65535"),
        (["--port=any"], "'any' is not between 0 and 65535"),
        (["--task-seconds=-1"], "'-1' is not a number of seconds"),
        (["--task-seconds=soon"], "'soon' is not a number of seconds"),
        (["--body-limit=-5"], "'-5' is not a number of bytes"),
        (["--body-limit=0"], "'0' is not a number of bytes"),
    ],
)
def test_wrong_argument_is_one_message_and_exit_2(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_port_in_use_is_one_message_and_exit_1(sandbox: Sandbox) -> None:
    done = subprocess.run(
        command(f"--port={sandbox.port}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"altcraft-sandbox: port {sandbox.port} is in use: choose another with --port\n"
    )
