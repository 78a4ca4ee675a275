from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import typing as t
from dataclasses import dataclass
from importlib.metadata import version

import pytest
import requests
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import (
    ACCEPTED,
    ENTRIES,
    MEGABYTE,
    PROFILE,
    TOKEN,
    Exchange,
    Halt,
    Server,
    answers,
    body_of,
    client_of,
    failed,
    many,
    never_answers,
    repeated,
    resets_after,
    run_settings,
    shows_nothing,
    status_error,
    submitted,
)

from target_altcraft.answers import LIST, STATUS, SUBMIT, TaskStatus, meaning
from target_altcraft.client import USER_AGENT, Body, Client
from target_altcraft.delivery.retry import retry
from target_altcraft.errors import (
    AcceptedWithoutId,
    ApiError,
    Fatal,
    Halted,
    LostInBody,
    NotAccepted,
    OutcomeUnknown,
    Refused,
    TooLarge,
)

if t.TYPE_CHECKING:
    from pathlib import Path

    from wire import Clock, Step


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


# The body


def test_body_is_the_envelope_around_the_entries() -> None:
    body = Body(b"<", b">", [b"one", b"two", b"three"], lambda: None)
    assert b"".join(body) == b"<one,two,three>"
    assert len(body) == 15


@settings(deadline=None)
@given(
    st.binary(max_size=30),
    st.binary(max_size=30),
    st.lists(st.binary(max_size=20), max_size=20),
    st.integers(min_value=1, max_value=60),
)
def test_any_body_has_the_length_it_says(
    start: bytes, end: bytes, entries: list[bytes], chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("target_altcraft.client._CHUNK_BYTES", chunk)
        body = Body(start, end, entries, lambda: None)
        for _ in range(2):
            body.rewind()
            joined = b"".join(body)
            assert joined == start + b",".join(entries) + end
            assert len(body) == len(joined)
            assert body.handed_over


def test_body_is_joined_in_chunks_while_it_is_sent() -> None:
    chunks = list(body_of(many(10 * MEGABYTE)))
    assert len(chunks) > 10
    assert max(map(len, chunks)) < MEGABYTE


def test_body_knows_how_far_it_got() -> None:
    body = body_of(many(MEGABYTE))

    def far() -> tuple[bool, bool]:
        return body.begun, body.handed_over

    chunks = iter(body)
    assert far() == (False, False)
    taken = [next(chunks)]
    assert far() == (True, False)
    while sum(map(len, taken)) < len(body):
        taken.append(next(chunks))
    assert far() == (True, False)  # it is not known yet whether the last chunk was taken
    assert next(chunks, None) is None
    assert far() == (True, True)
    body.rewind()
    assert far() == (False, False)


# A request, as it stands on the wire


def test_submit_posts_the_body_and_returns_the_task_id() -> None:
    with Server(answers(ACCEPTED)) as server:
        assert submitted(server) == "30421978-7f6d"
    (exchange,) = server.exchanges
    assert (exchange.method, exchange.path) == ("POST", f"/api/v1.1/{SUBMIT}")
    assert exchange.body == b"".join(body_of())
    assert exchange.headers["content-type"] == "application/json"
    assert exchange.headers["content-length"] == str(len(exchange.body))
    assert exchange.headers["user-agent"] == USER_AGENT
    assert "transfer-encoding" not in exchange.headers
    assert "authorization" not in exchange.headers


def test_requests_carry_the_cookies_of_their_time_and_their_own_length() -> None:
    done = {"error": 0, "data": {"status": "completed"}}
    steps = [
        answers(body, headers={"Set-Cookie": f"node={node}; Path=/"})
        for node, body in (("a", ACCEPTED), ("b", done), ("c", done), ("d", ACCEPTED))
    ]
    with Server(*steps) as server, client_of(server.url) as client:
        client.submit(body_of())
        client.status("1", 5)
        client.status("23", 5)
        client.submit(body_of(ENTRIES[:1]))
    assert [exchange.headers.get("cookie") for exchange in server.exchanges] == [
        None,
        "node=a",
        "node=b",
        "node=c",
    ]
    assert [exchange.body for exchange in server.exchanges[::3]] == [
        b"".join(body_of()),
        b"".join(body_of(ENTRIES[:1])),
    ]
    for exchange in server.exchanges:
        assert exchange.headers["content-length"] == str(len(exchange.body))


def test_user_agent_names_the_installed_version() -> None:
    assert f"target-altcraft/{version('target-altcraft')}" == USER_AGENT


def test_large_body_arrives_whole() -> None:
    entries = many(10 * MEGABYTE)
    with Server(answers(ACCEPTED)) as server:
        submitted(server, entries=entries)
    assert server.exchanges[0].body == b"".join(body_of(entries))


def test_status_posts_token_and_task_in_the_body() -> None:
    answer = {"error": 0, "data": {"status": "completed"}}
    with Server(answers(answer)) as server, client_of(server.url) as client:
        client.status("task_3042/ы", 5)
    (exchange,) = server.exchanges
    assert exchange.path == f"/api/v1.1/{STATUS}"
    assert json.loads(exchange.body) == {"token": TOKEN, "task_id": "task_3042/ы"}
    assert exchange.headers["content-type"] == "application/json"


def test_methods_of_the_api_are_those_of_the_guide() -> None:
    assert SUBMIT == "workflows/import_and_start_batch_task"
    assert STATUS == "tasks/status"
    assert LIST == "workflows/list"


def test_connection_that_was_just_used_is_kept(clock: Clock) -> None:
    with Server(*[answers(ACCEPTED)] * 3) as server, client_of(server.url) as client:
        for _ in range(3):
            client.submit(body_of())
            clock.now += 0.5
    assert server.connections == 1


def test_idle_connection_is_not_reused_for_a_submit(clock: Clock) -> None:
    with Server(*[answers(ACCEPTED)] * 2) as server, client_of(server.url) as client:
        for _ in range(2):
            client.submit(body_of())
            clock.now += 2
    assert server.connections == 2


# What the environment may and may not do


def test_netrc_is_never_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ada password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with Server(answers(ACCEPTED)) as server:
        submitted(server)
    assert "authorization" not in server.exchanges[0].headers


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_loopback_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with Server() as proxy, Server(answers(ACCEPTED)) as server:
        monkeypatch.setenv(name, proxy.url)
        assert submitted(server)
    assert proxy.connections == 0


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_another_host_is_reached_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.answer(b"", 403)

    with Server(refuse) as proxy:
        monkeypatch.setenv(name, proxy.url)
        with (
            client_of("https://altcraft.invalid") as client,
            pytest.raises(NotAccepted) as caught,
        ):
            client.submit(body_of())
    shows_nothing(caught.value, NotAccepted)
    assert proxy.exchanges[0].method == "CONNECT"
    assert proxy.exchanges[0].path == "altcraft.invalid:443"
    assert "the proxy did not connect" in str(caught.value)


def test_no_proxy_of_the_environment_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> t.NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with Server() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "altcraft.invalid")
        monkeypatch.setattr(socket, "getaddrinfo", nowhere)
        with (
            client_of("https://altcraft.invalid") as client,
            pytest.raises(NotAccepted, match="the host's name was not found"),
        ):
            client.submit(body_of())
    assert proxy.connections == 0


@dataclass
class Certificate:
    """A certificate for 127.0.0.1 and altcraft.invalid that nobody but itself has signed."""

    path: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is needed to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:altcraft.invalid "
        "-keyout"
    )
    subprocess.run([*command.split(), key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return Certificate(cert, context)


def test_certificate_that_nobody_vouches_for_is_fatal_at_once(certificate: Certificate) -> None:
    halt = Halt()
    with Server(context=certificate.context) as server, pytest.raises(Fatal) as caught:
        submitted(server, halt=halt)
    assert "the server's certificate was refused: self" in str(caught.value)
    shows_nothing(caught.value, Fatal)
    assert server.exchanges == []
    assert halt.waits == []


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_bundle_of_the_environment_vouches_for_a_certificate(
    monkeypatch: pytest.MonkeyPatch, certificate: Certificate, name: str
) -> None:
    monkeypatch.setenv(name, str(certificate.path))
    with Server(answers(ACCEPTED), context=certificate.context) as server:
        assert submitted(server) == "30421978-7f6d"


def test_requests_go_through_the_tunnel_of_a_proxy(
    monkeypatch: pytest.MonkeyPatch, certificate: Certificate, clock: Clock
) -> None:
    def tunnel(exchange: Exchange) -> None:
        exchange.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        host.converse(exchange.connection)

    steps = [answers(ACCEPTED)] * 3
    with Server(*steps, context=certificate.context) as host, Server(tunnel, tunnel) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
        with client_of("https://altcraft.invalid") as client:
            for idle in (0, 0.5, 2):
                clock.now += idle
                client.submit(body_of())
    assert [exchange.method for exchange in proxy.exchanges] == ["CONNECT"] * 2
    assert [exchange.body for exchange in host.exchanges] == [b"".join(body_of())] * 3


def test_missing_bundle_is_fatal_at_once_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    halt = Halt(clock)
    with (
        Server() as server,
        client_of(f"https://127.0.0.1:{server.port}", halt) as client,
        pytest.raises(Fatal) as caught,
    ):
        client.submit(body_of())
    assert halt.waits == []
    assert "CA" in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "hello", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"]
)
def test_bundle_that_holds_no_certificate_is_fatal_at_once_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with (
        Server() as server,
        client_of(f"https://127.0.0.1:{server.port}") as client,
        pytest.raises(Fatal, match="the CA bundle of REQUESTS_CA_BUNDLE"),
    ):
        client.submit(body_of())


@pytest.mark.parametrize(
    "proxy",
    ["http://[bad", "http://", "x://y", "::::", "http://127.0.0.1:99999",
     f"http://{'a' * 70}.b:80", "http://.:80", "http://\u2603..com"],
)  # fmt: skip
def test_proxy_that_is_no_address_is_fatal_at_once(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with client_of("https://altcraft.invalid") as client, pytest.raises(Fatal) as caught:
        client.submit(body_of())
    assert caught.value.text == "api_url, or the proxy of the environment, is no usable address"


@pytest.mark.parametrize("host", ["a" * 70 + ".invalid", ".invalid", "a..b", "*x", "x:99999"])
def test_api_url_that_is_no_address_is_fatal_at_once(host: str) -> None:
    values = dataclasses.replace(
        run_settings("https://altcraft.invalid"), api_url=f"https://{host}"
    )
    client = Client(values, Halt())
    with pytest.raises(Fatal):
        client.submit(body_of())


def test_server_that_does_not_speak_tls_is_not_accepted_in_time() -> None:
    with (
        Server(never_answers) as server,
        client_of(server.url.replace("http", "https"), request_timeout_seconds=0.2) as client,
        pytest.raises(NotAccepted, match=r"no connection within 0\.2 seconds"),
    ):
        client.submit(body_of())


# What an answer means


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (429, NotAccepted),
        (503, NotAccepted),
        (413, TooLarge),
        (400, Refused),
        (301, Fatal),
        (302, Fatal),
        (308, Fatal),
        (401, Fatal),
        (402, Fatal),
        (403, Fatal),
        (404, Fatal),
        (405, Fatal),
        (409, Fatal),
        (418, Fatal),
        (422, Fatal),
        (451, Fatal),
        (499, Fatal),
        (500, OutcomeUnknown),
        (501, OutcomeUnknown),
        (502, OutcomeUnknown),
        (504, OutcomeUnknown),
        (599, OutcomeUnknown),
        (1, OutcomeUnknown),
        (-1, OutcomeUnknown),
        (100, OutcomeUnknown),
        (299, OutcomeUnknown),
        (600, OutcomeUnknown),
        (10_001, OutcomeUnknown),
    ],
)
def test_code_means_one_kind_of_error(code: int, kind: type[ApiError]) -> None:
    assert meaning(code, http=True) is kind
    assert meaning(code, too_large=True) is TooLarge


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, NotAccepted),
        (503, NotAccepted),
        (413, TooLarge),
        (400, Refused),
        (304, Fatal),
        (401, Fatal),
        (403, Fatal),
        (404, Fatal),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (504, OutcomeUnknown),
    ],
)
@pytest.mark.parametrize("body", [b"<html>busy</html>", b"", {"error": 0}, [1], {"error": "x"}])
def test_http_status_means_its_kind_whatever_the_body(
    status: int, kind: type[ApiError], body: object
) -> None:
    content = b"" if status == 304 else body
    error = status_error(kind, answers(content, status))
    assert error.code == status
    assert f"HTTP {status}" in error.text
    assert error.endpoint == STATUS


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (429, NotAccepted),
        (503, NotAccepted),
        (413, TooLarge),
        (400, Refused),
        (401, Fatal),
        (402, Fatal),
        (403, Fatal),
        (404, Fatal),
        (450, Fatal),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (7, OutcomeUnknown),
        ("401", Fatal),
    ],
)
def test_error_in_a_200_means_its_kind(code: int | str, kind: type[ApiError]) -> None:
    error = status_error(kind, answers({"error": code, "error_text": "So it is"}))
    assert error.code == int(code)
    assert error.text == f"error {code}, So it is"


@pytest.mark.parametrize("status", [200, 400, 413, 500])
def test_too_large_a_body_is_known_by_its_words(status: int) -> None:
    answer = {
        "error": 400,
        "error_debug": "http: request body too large",
        "error_text": "Invalid request",
    }
    assert failed(TooLarge, answers(answer, status)).text.endswith("Invalid request")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, 401, Fatal),
        (400, 402, Fatal),
        (400, 403, Fatal),
        (400, 429, NotAccepted),
        (400, 503, NotAccepted),
        (500, 429, NotAccepted),
        (500, 401, Fatal),
    ],
)
def test_code_of_the_body_counts_beside_an_http_status_that_says_less(
    status: int, code: int, kind: type[ApiError]
) -> None:
    status_error(kind, answers({"error": code, "error_text": "So it is"}, status))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, NotAccepted),
        (503, NotAccepted),
        (307, Fatal),
        (401, Fatal),
        (403, Fatal),
        (404, Fatal),
        (413, TooLarge),
    ],
)
def test_http_status_counts_beside_a_code_of_the_body_that_says_less(
    status: int, kind: type[ApiError]
) -> None:
    status_error(kind, answers({"error": 400, "error_text": "Invalid request"}, status))


def test_code_of_the_body_in_the_three_hundreds_leaves_the_outcome_open() -> None:
    status_error(OutcomeUnknown, answers({"error": 350}))


UNREADABLE: list[object] = [
    b"",
    b"<html><body>Welcome</body></html>",
    b"garbage \xff\xfe",
    b'{"error": 0, "task_id": "3042',
    b"null",
    b"[]",
    b"[" * 50_000,
    b'"0"',
    {},
    {"task_id": "3042"},
    {"error": None, "task_id": "3042"},
    {"error": "", "task_id": "3042"},
    {"error": "oops", "task_id": "3042"},
    {"error": [0], "task_id": "3042"},
]


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: repr(body)[:30])
def test_unreadable_200_leaves_the_outcome_open(body: object) -> None:
    error = failed(OutcomeUnknown, answers(body))
    assert "is not Altcraft's JSON" in error.text


@pytest.mark.parametrize(
    "answer",
    [
        {"error": 0},
        {"error": 0, "data": {}},
        {"error": 0, "data": {"task_id": ""}},
        {"error": 0, "task_id": None},
        {"error": 0, "task_id": ""},
        {"error": 0, "task_id": " "},
        {"error": 0, "task_id": ["3042"]},
        {"error": 0, "task_id": {}},
        {"error": 0, "task_id": True},
        {"error": 0, "task_id": 1.5},
    ],
)
def test_success_without_a_task_id_is_accepted_but_cannot_be_followed(
    answer: dict[str, t.Any],
) -> None:
    error = failed(AcceptedWithoutId, answers(answer))
    assert error.text == "accepted, but the answer names no task"
    assert error.code == 0


@pytest.mark.parametrize(
    ("answer", "task_id"),
    [
        ({"error": 0, "task_id": "task_3042/ы"}, "task_3042/ы"),
        ({"error": 0, "data": {"task_id": "3042"}}, "3042"),
        ({"error": 0, "task_id": None, "data": {"task_id": "3042"}}, "3042"),
        ({"error": 0, "task_id": 3042}, "3042"),
        ({"error": 0, "data": {"task_id": 2**70}}, str(2**70)),
    ],
)
def test_task_id_is_found_in_both_places(answer: dict[str, t.Any], task_id: str) -> None:
    with Server(answers(answer)) as server:
        assert submitted(server) == task_id


@pytest.mark.parametrize("status", [200, 302, 304, 400, 401, 413, 429, 500, 502, 503, 999])
def test_answer_that_names_a_task_is_an_acceptance_whatever_its_status(status: int) -> None:
    def step(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.answer(ACCEPTED, status)

    with Server(step) as server, client_of(server.url) as client:
        if status == 304:  # an answer that has no body
            with pytest.raises(Fatal):
                client.submit(body_of())
        else:
            assert client.submit(body_of()) == "30421978-7f6d"


def test_success_may_be_told_by_a_text() -> None:
    with Server(answers({"error": "0", "task_id": "3042"}, 201)) as server:
        assert submitted(server) == "3042"


def test_server_may_say_what_it_likes_and_token_and_profile_are_masked() -> None:
    said = f"token {TOKEN} of {PROFILE}, +7 (900) 123-45-67, is wrong " + "x" * 500
    error = failed(Fatal, answers({"error": 401, "error_text": said, "error_debug": PROFILE}))
    assert error.text.startswith("error 401, token *** of *** ***, is wrong xxx")
    assert "900" not in str(error)
    assert len(error.text) < 230


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(status: int) -> None:
    with Server() as elsewhere:
        halt = Halt()
        target = {"Location": f"{elsewhere.url}/{TOKEN}"}
        error = failed(Fatal, answers(b"", status, target), halt=halt)
    assert elsewhere.connections == 0
    assert halt.waits == []
    assert error.code == status
    assert "redirects are not followed; api_url must name the API itself" in str(error)


# Broken connections, by how far the body got


def test_nobody_listening_is_not_accepted(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    halt = Halt(clock)
    with (
        client_of(f"http://127.0.0.1:{port}", halt) as client,
        pytest.raises(Fatal) as caught,
    ):
        repeated(client, body_of(), halt, patience=20)
    error = shows_nothing(caught.value, Fatal)
    assert error.text == ("the connection was refused; not accepted within retry_max_seconds (20)")
    assert error.code is None
    assert len(halt.waits) > 1


def test_unknown_host_is_not_accepted(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    def nowhere(*_: object, **__: object) -> t.NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    halt = Halt(clock)
    with (
        client_of("https://altcraft.invalid", halt) as client,
        pytest.raises(Fatal, match="the host's name was not found; not accepted within"),
    ):
        repeated(client, body_of(), halt, patience=20)
    assert len(halt.waits) > 1


def test_connection_that_takes_too_long_is_not_accepted(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    def slow(*_: object, **__: object) -> t.NoReturn:
        raise TimeoutError

    monkeypatch.setattr("urllib3.util.connection.create_connection", slow)
    halt = Halt(clock)
    with (
        client_of("https://altcraft.invalid", halt) as client,
        pytest.raises(Fatal, match="no connection within 30 seconds; not accepted within"),
    ):
        repeated(client, body_of(), halt, patience=20)
    assert len(halt.waits) > 1


@pytest.mark.parametrize("size", [0, 300_000])
def test_connection_lost_in_the_body_is_told_to_who_could_send_it_in_parts(size: int) -> None:
    halt = Halt()
    error = failed(LostInBody, resets_after(size), entries=many(20 * MEGABYTE), halt=halt)
    assert error.text == "the connection was lost while sending"
    assert halt.waits == []


def test_connection_lost_in_the_body_of_a_single_record_is_made_again() -> None:
    entries = [b"x" * 20 * MEGABYTE]
    with Server(resets_after(0), resets_after(100_000), answers(ACCEPTED)) as server:
        halt = Halt()
        assert submitted(server, entries=entries, divisible=False, halt=halt) == "30421978-7f6d"
    assert len(halt.waits) == 2
    assert server.exchanges[-1].body == b"".join(body_of(entries))


def test_server_that_stops_reading_the_body_has_not_accepted_it() -> None:
    gone = threading.Event()

    def stall(_: Exchange) -> None:
        assert gone.wait(30)

    with Server(stall) as server:
        try:
            with pytest.raises(LostInBody):
                submitted(server, entries=many(20 * MEGABYTE), request_timeout_seconds=0.2)
        finally:
            gone.set()


def test_connection_lost_after_the_body_leaves_the_outcome_open() -> None:
    error = failed(OutcomeUnknown, resets_after(None))
    assert error.text == "the connection was lost before the answer"
    assert error.code is None


def test_connection_closed_after_the_body_leaves_the_outcome_open() -> None:
    def close(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.connection.shutdown(socket.SHUT_RDWR)

    failed(OutcomeUnknown, close)


def test_answer_that_comes_by_drops_is_not_awaited_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("target_altcraft.connection._TIMEOUTS_OF_AN_ANSWER", 0.5)
    gone, drops, most = threading.Event(), list[bytes](), 500

    def drip(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.connection.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 5000\r\n\r\n")
        with contextlib.suppress(OSError):
            while len(drops) < most and not gone.wait(0.02):
                exchange.connection.sendall(b" ")
                drops.append(b" ")

    with Server(drip) as server:
        try:
            with pytest.raises(OutcomeUnknown, match="the answer broke off"):
                submitted(server, request_timeout_seconds=2)
            assert 0 < len(drops) < most
        finally:
            gone.set()


def breaks_off(content: bytes, status: int = 200) -> Step:
    """Promise more of an answer than comes."""

    def step(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.answer(content, status, {"Content-Length": "5000"})
        exchange.connection.shutdown(socket.SHUT_RDWR)

    return step


def stalls(content: bytes) -> Step:
    """Promise more of an answer than comes, and keep the connection open."""

    def step(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.answer(content, headers={"Content-Length": "5000"})
        exchange.connection.settimeout(30)
        exchange.connection.recv(1)

    return step


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_answer_that_breaks_off_leaves_the_outcome_open(length: int) -> None:
    content = json.dumps(ACCEPTED).encode()[:length]
    error = failed(OutcomeUnknown, breaks_off(content))
    assert error.text == "the answer (HTTP 200) is not Altcraft's JSON; the answer broke off"


def test_answer_that_stalls_leaves_the_outcome_open() -> None:
    failed(OutcomeUnknown, stalls(b'{"error": 0'), request_timeout_seconds=0.2)


@pytest.mark.parametrize("step", [breaks_off, stalls])
def test_acceptance_is_heard_though_its_answer_does_not_end(
    step: t.Callable[[bytes], Step],
) -> None:
    with Server(step(json.dumps(ACCEPTED).encode())) as server:
        assert submitted(server, request_timeout_seconds=0.2) == "30421978-7f6d"


@pytest.mark.parametrize(("status", "kind"), [(503, NotAccepted), (413, TooLarge), (401, Fatal)])
def test_status_of_an_answer_that_breaks_off_counts(status: int, kind: type[ApiError]) -> None:
    with (
        Server(breaks_off(b"<html>", status)) as server,
        client_of(server.url) as client,
        pytest.raises(kind),
    ):
        client.submit(body_of())


def test_answer_that_is_no_http_leaves_the_outcome_open() -> None:
    def babble(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.connection.sendall(b"\x15\x03\x03 hello\r\n\r\n")
        exchange.connection.shutdown(socket.SHUT_RDWR)

    failed(OutcomeUnknown, babble)


def test_odd_error_after_the_body_leaves_the_outcome_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(_: object, request: requests.PreparedRequest, **__: object) -> t.NoReturn:
        list(t.cast("Body", request.body))
        raise OSError("out of the blue")

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    with client_of("https://altcraft.invalid") as client, pytest.raises(OutcomeUnknown):
        client.submit(body_of())


def test_no_answer_in_time_leaves_the_outcome_open() -> None:
    error = failed(OutcomeUnknown, never_answers, request_timeout_seconds=0.1)
    assert error.text == "no answer within 0.1 seconds"


TOO_LARGE = {"error": 400, "error_debug": "http: request body too large"}


def answers_early(
    body: object, status: int, end: t.Callable[[Exchange], object] = lambda _: None
) -> Step:
    """Answer after a part of the body, then end the connection."""

    def step(exchange: Exchange) -> None:
        exchange.read_body(300_000)
        exchange.answer(body, status, {"Connection": "close"})
        end(exchange)
        exchange.connection.close()

    return step


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    "end", [lambda _: None, Exchange.reset, lambda e: e.connection.shutdown(socket.SHUT_WR)]
)
def test_refusal_before_the_whole_body_was_sent_is_heard(
    monkeypatch: pytest.MonkeyPatch,
    certificate: Certificate,
    end: t.Callable[[Exchange], object],
    *,
    secure: bool,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
    step = answers_early(TOO_LARGE, 400, end)
    with Server(step, context=certificate.context if secure else None) as server:
        started = time.monotonic()
        with pytest.raises(TooLarge):
            submitted(server, entries=many(20 * MEGABYTE))
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("secure", [False, True])
def test_refusal_of_a_host_that_stops_reading_is_heard_after_the_time_out(
    monkeypatch: pytest.MonkeyPatch, certificate: Certificate, *, secure: bool
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
    heard = threading.Event()
    step = answers_early(TOO_LARGE, 400, lambda _: heard.wait(30))
    with Server(step, context=certificate.context if secure else None) as server:
        try:
            with pytest.raises(TooLarge):
                submitted(server, entries=many(20 * MEGABYTE), request_timeout_seconds=0.3)
        finally:
            heard.set()


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"error": 503}, 200, NotAccepted),
        (b"", 413, TooLarge),
        ({"error": 400}, 400, Refused),
        ({"error": 401}, 401, Fatal),
        (b"<html>", 200, LostInBody),
        (b"<html>", 500, LostInBody),
        ({"error": 7}, 200, LostInBody),
    ],
)
def test_body_that_was_answered_before_its_end_was_not_accepted(
    body: object, status: int, kind: type[ApiError]
) -> None:
    with (
        Server(answers_early(body, status)) as server,
        client_of(server.url) as client,
        pytest.raises(kind) as caught,
    ):
        client.submit(body_of(many(20 * MEGABYTE)))
    error = shows_nothing(caught.value, kind)
    assert error.text.endswith(", before the whole body was sent") == (kind is LostInBody)


def test_each_attempt_is_judged_by_its_own_body() -> None:
    # The first attempt hands the whole body over; the second loses it on the way.
    busy = answers(b"", 503, {"Retry-After": "0"})
    entries = many(20 * MEGABYTE)
    failed(LostInBody, busy, resets_after(100_000), entries=entries)


# What is told when a body begins to be sent


@pytest.mark.parametrize(
    ("steps", "kind", "notes"),
    [
        ([answers(ACCEPTED)], None, 1),
        ([answers(b"", 503), answers(ACCEPTED)], None, 2),
        ([answers({"error": 400})], Refused, 1),
        ([answers(b"", 307)], Fatal, 1),
        ([resets_after(0)], LostInBody, 1),
        ([resets_after(None)], OutcomeUnknown, 1),
    ],
)
def test_each_attempt_that_begins_to_send_is_told(
    steps: list[Step], kind: type[ApiError] | None, notes: int
) -> None:
    told: list[str] = []
    entries = many(20 * MEGABYTE) if kind is LostInBody else ENTRIES
    body = body_of(entries, lambda: told.append("started"))
    with Server(*steps) as server, client_of(server.url) as client:
        if kind is None:
            repeated(client, body, Halt())
        else:
            with pytest.raises(kind):
                client.submit(body)
    assert len(told) == notes


def test_start_is_told_before_the_first_byte_of_the_body_leaves() -> None:
    told: list[str] = []
    chunks = iter(body_of(ENTRIES, lambda: told.append("started")))
    assert told == []
    next(chunks)
    assert told == ["started"]


def test_start_is_not_told_of_a_body_that_never_went_on_the_wire(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told: list[str] = []
    halt = Halt(clock)
    body = body_of(ENTRIES, lambda: told.append("started"))
    with client_of(f"http://127.0.0.1:{port}", halt) as client, pytest.raises(Fatal):
        repeated(client, body, halt, patience=20)
    assert told == []
    assert halt.waits, "there was more than one attempt"


@pytest.mark.parametrize(
    "kind",
    [
        BrokenPipeError,
        ConnectionResetError,
        TimeoutError,
        OSError,
        ValueError,
        KeyboardInterrupt,
        http.client.HTTPException,
        requests.ConnectionError,
        urllib3.exceptions.ProtocolError,
        OutcomeUnknown,
    ],
)
def test_error_of_who_is_told_comes_out_as_it_is(kind: type[BaseException]) -> None:
    cause = RuntimeError("disk full")
    raised = OutcomeUnknown("x", "y") if kind is OutcomeUnknown else kind("mine")
    raised.__cause__ = cause

    def fail() -> None:
        raise raised

    def read_all(exchange: Exchange) -> None:
        exchange.read_body()

    body = body_of(ENTRIES, fail)
    with (
        Server(read_all) as server,
        client_of(server.url) as client,
        pytest.raises(kind) as caught,
    ):
        client.submit(body)
    assert caught.value is raised
    assert caught.value.__cause__ is cause
    assert not any(exchange.body for exchange in server.exchanges)
    assert not body.handed_over


# The list of scenarios


ASKED_AGAIN = (NotAccepted, LostInBody, OutcomeUnknown)


def test_scenario_is_found_in_the_list() -> None:
    scenarios = [{"id": 11, "is_active": True}, {"id": 12, "name": "Welcome", "is_active": False}]
    answer = {"error": 0, "data": scenarios}
    with Server(answers(answer)) as server, client_of(server.url) as client:
        assert client.workflow(12) == scenarios[1]
    (exchange,) = server.exchanges
    assert exchange.path == f"/api/v1.1/{LIST}"
    assert json.loads(exchange.body) == {"token": TOKEN, "from_id": 12, "limit": 1}


@pytest.mark.parametrize(
    "data", [None, [], {}, "x", [None, "x", 12], [{"id": 13}], [{"name": "no id"}], [{"id": None}]]
)
def test_scenario_that_is_not_in_the_list_is_none(data: object) -> None:
    with Server(answers({"error": 0, "data": data})) as server, client_of(server.url) as client:
        assert client.workflow(12) is None


def test_id_of_a_scenario_may_be_a_text() -> None:
    answer = {"error": 0, "data": [{"id": "12"}]}
    with Server(answers(answer)) as server, client_of(server.url) as client:
        assert client.workflow(12) == {"id": "12"}


@pytest.mark.parametrize(
    "step",
    [answers(b"", 503), answers(b"", 500), answers(b"<html>"), answers({"error": 429})],
)
def test_list_is_asked_again_since_that_changes_nothing(step: Step) -> None:
    halt = Halt()
    answer = {"error": 0, "data": [{"id": 12}]}
    with Server(step, answers(answer)) as server, client_of(server.url, halt) as client:
        assert retry(lambda: client.workflow(12), ASKED_AGAIN, 300, halt) == {"id": 12}
    assert len(halt.waits) == 1


@pytest.mark.parametrize(
    ("code", "kind"), [(400, Refused), (401, Fatal), (403, Fatal), (404, Fatal)]
)
def test_list_that_is_refused_is_not_asked_again(code: int, kind: type[ApiError]) -> None:
    halt = Halt()
    with (
        Server(answers({"error": code, "error_text": "No"})) as server,
        client_of(server.url, halt) as client,
        pytest.raises(kind) as caught,
    ):
        retry(lambda: client.workflow(12), ASKED_AGAIN, 300, halt)
    assert shows_nothing(caught.value, kind).endpoint == LIST
    assert caught.value.code == code
    assert halt.waits == []


def test_list_that_never_answers_is_given_up(clock: Clock) -> None:
    halt = Halt(clock)
    with (
        Server(*[answers(b"", 502)] * 400) as server,
        client_of(server.url, halt) as client,
        pytest.raises(Fatal) as caught,
    ):
        retry(lambda: client.workflow(12), ASKED_AGAIN, 100, halt)
    assert "retry_max_seconds (100)" in str(caught.value)
    assert caught.value.code == 502


def test_halt_ends_the_asking_for_the_list() -> None:
    halt = Halt(halts_in=0)
    with (
        Server(answers(b"", 503), answers({"error": 0})) as server,
        client_of(server.url, halt) as client,
        pytest.raises(Halted),
    ):
        retry(lambda: client.workflow(12), ASKED_AGAIN, 100, halt)


def test_list_is_not_asked_once_the_run_is_ending() -> None:
    halt = Halt()
    halt.set()
    with Server() as server, client_of(server.url, halt) as client, pytest.raises(Halted):
        client.workflow(12)
    assert server.connections == 0


# The status of a task


def status_of(answer: object) -> TaskStatus:
    with Server(answers(answer)) as server, client_of(server.url) as client:
        return client.status("3042", 30)


def test_status_of_a_completed_task() -> None:
    result = {"error": 0, "error_text": "", "result": [{"profile_id": "61"}, {"profile_id": "62"}]}
    status = status_of(
        {"error": 0, "data": {"status": "completed", "progress": 100, "result": result}}
    )
    assert status == TaskStatus("completed", 100, 0, "", result["result"])  # type: ignore[arg-type]
    assert status.completed
    assert not status.failed


@pytest.mark.parametrize("state", ["completed", "Completed", "COMPLETED", "success", "Success"])
def test_case_of_a_state_does_not_matter(state: str) -> None:
    assert status_of({"error": 0, "data": {"status": state}}).completed


@pytest.mark.parametrize(
    "state", ["failed", "error", "canceled", "cancelled", "aborted", "Stopped"]
)
def test_failed_states(state: str) -> None:
    status = status_of({"error": 0, "data": {"status": state, "progress": 100}})
    assert status.failed
    assert not status.completed


@pytest.mark.parametrize("state", ["running", "queued", "", None, 5, "done"])
def test_any_other_state_has_not_ended(state: object) -> None:
    status = status_of({"error": 0, "data": {"status": state}})
    assert not status.failed
    assert not status.completed


@pytest.mark.parametrize(
    ("progress", "read"),
    [(0, 0), (55, 55), (55.5, 55.5), (100, 100), ("55", None), (None, None), ([], None)],
)
def test_progress_is_a_number_or_nothing(progress: object, read: float | None) -> None:
    assert status_of(
        {"error": 0, "data": {"status": "running", "progress": progress}}
    ).progress == (read)


def test_completed_task_with_an_error_has_failed_and_its_text_is_masked() -> None:
    result = {"error": 7, "error_text": f"bad {PROFILE} for {TOKEN}", "result": []}
    status = status_of({"error": 0, "data": {"status": "completed", "result": result}})
    assert status.failed
    assert status.error == 7
    assert status.text == "bad *** for ***"


@pytest.mark.parametrize("error", [0, "0", None])
def test_completed_task_without_an_error_has_not_failed(error: object) -> None:
    result = {"error": error, "result": []}
    status = status_of({"error": 0, "data": {"status": "completed", "result": result}})
    assert not status.failed


@pytest.mark.parametrize("error", ["E_LIMIT", {"code": 5}, [7], 0.5])
def test_completed_task_with_an_error_that_is_no_number_has_failed(error: object) -> None:
    result = {"error": error, "error_text": "Quota is used up", "result": []}
    status = status_of({"error": 0, "data": {"status": "completed", "result": result}})
    assert status.failed


@pytest.mark.parametrize("result", [None, [], "x", {}, {"result": None}, {"result": {"0": 1}}])
def test_status_without_a_list_of_results_has_none(result: object) -> None:
    status = status_of({"error": 0, "data": {"status": "completed", "result": result}})
    assert status.results is None
    assert status.completed


@pytest.mark.parametrize("data", [None, [], "completed", 5])
def test_status_without_data_leaves_the_question_open(data: object) -> None:
    error = status_error(OutcomeUnknown, answers({"error": 0, "data": data}))
    assert error.text == "the answer has no 'data' object"


def test_status_waits_no_longer_than_it_is_told() -> None:
    with (
        Server(never_answers) as server,
        client_of(server.url) as client,
        pytest.raises(ApiError),
    ):
        client.status("3042", 0.1)


def test_status_waits_no_longer_than_the_setting() -> None:
    with (
        Server(never_answers) as server,
        client_of(server.url, request_timeout_seconds=0.1) as client,
        pytest.raises(ApiError),
    ):
        client.status("3042", 3600)


# Nothing shows


def test_nothing_of_a_request_is_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    steps = [
        answers(b"", 503, {"Retry-After": "0"}),
        answers({"error": 503, "error_text": f"{TOKEN} {PROFILE}"}),
        answers(ACCEPTED),
    ]
    with caplog.at_level(logging.DEBUG), Server(*steps) as server:
        submitted(server)
    assert TOKEN not in caplog.text
    assert PROFILE not in caplog.text


def test_token_is_never_in_the_url() -> None:
    with Server(answers(ACCEPTED)) as server:
        submitted(server)
    assert TOKEN not in server.exchanges[0].path
    assert TOKEN not in str(server.exchanges[0].headers)
