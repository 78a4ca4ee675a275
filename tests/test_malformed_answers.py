"""Whatever comes as an answer, the outcome of a submit is one row of the table of outcomes."""

from __future__ import annotations

import contextlib
import gzip
import json
import queue
import socket
import threading
import traceback
import typing as t
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire import ACCEPTED, PROFILE, TOKEN, Halt, Server, answers, body_of, client_of

from target_altcraft.answers import SUBMIT
from target_altcraft.errors import (
    AcceptedWithoutId,
    ApiError,
    Fatal,
    LostInBody,
    NotAccepted,
    OutcomeUnknown,
    Refused,
    TooLarge,
)

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from target_altcraft.client import Client

ROWS = {NotAccepted, LostInBody, TooLarge, Refused, Fatal, OutcomeUnknown, AcceptedWithoutId}
OK = json.dumps(ACCEPTED).encode()
ID = "30421978-7f6d"
EXAMPLES = 300


class RawServer:
    """Reads one request for each connection, sends the bytes it was told, and closes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.pieces: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.pieces.put(None)
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._listener.close()

    def _serve(self) -> None:
        while (pieces := self.pieces.get()) is not None:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError):
                received = b""
                while not received.endswith(b"]}") and b'"task_id"' not in received:
                    received += connection.recv(65536) or b"]}"
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    running = RawServer()
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(server: RawServer) -> Iterator[Client]:
    with client_of(server.url, request_timeout_seconds=5) as running:
        yield running


def outcome(server: RawServer, client: Client, *pieces: bytes) -> str | ApiError:
    """The task's id, or the error; the latter is one of the table, and shows nothing."""
    server.pieces.put(list(pieces))
    try:
        return client.submit(body_of())
    except ApiError as error:
        return checked(error)
    finally:
        client.close()


def checked(error: ApiError) -> ApiError:
    assert type(error) in ROWS
    assert error.endpoint == SUBMIT
    for text in (str(error), repr(error), "".join(traceback.format_exception(error))):
        assert TOKEN not in text
        assert PROFILE not in text
    assert len(error.text) < 400
    assert error.text.isprintable()
    return error


def http(content: bytes, status: object = 200, *headers: bytes, length: object = None) -> bytes:
    size = len(content) if length is None else length
    head = [f"HTTP/1.1 {status} X\r\nContent-Length: {size}".encode(), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + content


# An acceptance, whatever ails it


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENIENT: dict[str, bytes] = {
    "plain": http(OK),
    "byte order mark": http(b"\xef\xbb\xbf" + OK),
    "two byte order marks": http(b"\xef\xbb\xbf\xef\xbb\xbf" + OK),
    "UTF-16": http(OK.decode().encode("utf-16")),
    "UTF-32": http(OK.decode().encode("utf-32")),
    "broken UTF-8": http(OK.replace(b"Successful", b"\xff\xfe\xc3")),
    "surrogates in UTF-8": http(OK.replace(b"Successful", b"\xed\xa0\x80")),
    "NaN": http(OK[:-1] + b', "x": NaN, "y": -Infinity}'),
    "number beyond bounds": http(OK[:-1] + b', "x": 1e999}'),
    "many digits": http(OK[:-1] + b', "x": ' + b"9" * 5_000 + b"}"),
    "many digits of a fraction": http(OK[:-1] + b', "x": 0.' + b"9" * 5_000 + b"}"),
    "duplicate keys": http(b'{"error": 5, "task_id": null,' + OK[1:]),
    "duplicate key that is null": http(OK[:-1] + b', "task_id": null}'),
    "half of a surrogate pair": http(OK.replace(b"Successful", rb"\ud800")),
    "control characters": http(OK.replace(b"Successful", b"\x00\n\x1b[31m")),
    "blanks around": http(b" \r\n\t" + OK + b"\n\n"),
    "something behind": http(OK + b"<!-- proxy -->"),
    "error as a text": http(OK.replace(b'"error": 0', b'"error": "0"')),
    "error as a fraction": http(OK.replace(b'"error": 0', b'"error": 0.0')),
    "error less than nothing": http(OK.replace(b'"error": 0', b'"error": -0')),
    "id in data": http(b'{"error": 0, "data": {"task_id": "30421978-7f6d"}}'),
    "gzip": http(gzip.compress(OK), 200, b"Content-Encoding: gzip"),
    "deflate": http(zlib.compress(OK), 200, b"Content-Encoding: deflate"),
    "raw deflate": http(zlib.compress(OK)[2:-4], 200, b"Content-Encoding: Deflate "),
    "gzip that is none": http(OK, 200, b"Content-Encoding: gzip"),
    "gzip that breaks off": http(gzip.compress(OK)[:-3], 200, b"Content-Encoding: gzip"),
    "unknown encoding": http(OK, 200, b"Content-Encoding: zip, br"),
    "length too great": http(OK, length=5_000),
    "length that is no number": http(OK, length="many"),
    "length below nothing": http(OK, length=-3),
    "length beyond bounds": http(OK, length="9" * 4_000),
    "no length": b"HTTP/1.1 200 OK\r\n\r\n" + OK,
    "HTTP 1.0": b"HTTP/1.0 200\r\n\r\n" + OK,
    "no reason": b"HTTP/1.1 200\r\n\r\n" + OK,
    "bare line feeds": b"HTTP/1.1 200 OK\n\n" + OK,
    "header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nX: y\r\n\r\n" + OK,
    "bytes in a header": http(OK, 200, b"X-\xff: \xfe\x00"),
    "header of a token": http(OK, 200, b"nonsense " + TOKEN.encode()),
    "cookies": http(OK, 200, b"Set-Cookie: ;;=;\xff; expires=never; domain=.", b"Set-Cookie2: ="),
    "location": http(OK, 200, b"Location: http://[x"),
    "status 503": http(OK, 503, b"Retry-After: 1e99"),
    "status 302": http(OK, 302, b"Location: //["),
    "status 999": http(OK, 999),
    "chunks": CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(OK), OK),
    "chunks of one byte": CHUNKED + b"".join(b"1\r\n%c\r\n" % c for c in OK) + b"0\r\n\r\n",
    "chunks that break off": CHUNKED + b"%x\r\n%b\r\n" % (len(OK), OK),
    "chunk that breaks off": CHUNKED + b"fff\r\n" + OK,
    "chunk of no size": CHUNKED + b"%x\r\n%b\r\nzz\r\n" % (len(OK), OK),
    "chunked and a length": http(OK, 200, b"X: y").replace(b"X: y", b"Transfer-Encoding: x"),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + http(OK),
    "continue, often": b"HTTP/1.1 100 Continue\r\n\r\n" * 7 + http(OK),
    "processing": b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + http(OK),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" + http(OK),
    "interim answers of all kinds": b"".join(
        b"HTTP/1.1 %d X\r\nContent-Length: 9\r\nConnection: close\r\n\r\n" % status
        for status in (100, 103, 100, 102, 199)
    )
    + http(OK),
}  # fmt: skip


@pytest.mark.parametrize("answer", LENIENT.values(), ids=LENIENT.keys())
def test_acceptance_is_heard_whatever_ails_its_text(
    server: RawServer, client: Client, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert outcome(server, client, answer) == ID
    assert caplog.text == ""


@pytest.mark.parametrize("size", [1, 7, 100])
def test_acceptance_is_heard_in_pieces(server: RawServer, client: Client, size: int) -> None:
    whole = b"HTTP/1.1 103 Early Hints\r\n\r\n" + http(OK)
    pieces = [whole[first : first + size] for first in range(0, len(whole), size)]
    assert outcome(server, client, *pieces) == ID


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud800"', "\ufffd"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\\ud800"', r"\ud800"),
        (rb'"\\\ud800"', "\\\ufffd"),
        (b"9" * 5_000, "9" * 5_000),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b"-5", "-5"),
    ],
)
def test_task_id_is_an_opaque_text_that_can_be_asked_for(
    server: RawServer, client: Client, written: bytes, read: str
) -> None:
    task_id = outcome(server, client, http(b'{"error": 0, "task_id": ' + written + b"}"))
    assert task_id == read
    server.pieces.put([http(b'{"error": 0, "data": {"status": "success"}}')])
    assert client.status(read, 5).completed
    client.close()


# No acceptance: one row of the table


LOCATIONS = [b"http://[", b"//[::1", b"http://a..b", b"https://" + b"a" * 70 + b".x", b"\xff\xfe",
             b"http://\xe2\x98\x83..", b"ftp://x", b"http://x:99999/", b"http://*", b"", b"://",
             b"mailto:ada@b.example", b"http://user:pa%zz@x/%zz", b"/" + b"x" * 60_000,
             TOKEN.encode()]  # fmt: skip


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("location", LOCATIONS, ids=lambda location: repr(location)[:30])
def test_redirect_is_fatal_wherever_it_leads(
    server: RawServer, client: Client, status: int, location: bytes
) -> None:
    error = outcome(server, client, http(b"", status, b"Location: " + location))
    assert type(error) is Fatal
    assert error.text == (
        f"HTTP {status}: redirects are not followed; api_url must name the API itself"
    )


DEEP = 50_000
SIGN_IN = b"<html><title>Sign in</title>" + TOKEN.encode() + PROFILE.encode() + b"</html>"
TABLE: dict[str, tuple[bytes, type[ApiError]]] = {
    "nothing": (b"", OutcomeUnknown),
    "no HTTP": (b"\x16\x03\x01 hello", OutcomeUnknown),
    "HTTP 0.9": (OK, OutcomeUnknown),
    "HTTP 2": (b"HTTP/2 200\r\n\r\n" + OK, OutcomeUnknown),
    "no status": (b"HTTP/1.1\r\n\r\n" + OK, OutcomeUnknown),
    "status that is no number": (http(OK, "two"), OutcomeUnknown),
    "status 99": (http(OK, 99), OutcomeUnknown),
    "status of four digits": (http(OK, 2000), OutcomeUnknown),
    "status below nothing": (http(OK, -200), OutcomeUnknown),
    "half of a head": (b"HTTP/1.1 200 OK\r\nContent-", OutcomeUnknown),
    "interim answers only": (b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 103 X\r\n\r\n", OutcomeUnknown),
    "switching protocols": (b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n" + http(OK), OutcomeUnknown),
    "no content": (http(b"", 204), OutcomeUnknown),
    "long line": (b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n" + OK, OutcomeUnknown),
    "long header": (http(OK, 200, b"X: " + b"x" * 70_000), OutcomeUnknown),
    "many headers": (http(OK, 200, *[b"X: y"] * 200), OutcomeUnknown),
    "two lengths": (http(OK, 200, b"Content-Length: 3"), OutcomeUnknown),
    "chunks of nonsense": (CHUNKED + b"zz\r\n" + OK, OutcomeUnknown),
    "chunk of a size below nothing": (CHUNKED + b"-5\r\n{}", OutcomeUnknown),
    "gzip of nonsense": (http(b"\x1f\x8bxx", 200, b"Content-Encoding: gzip"), OutcomeUnknown),
    "deep nesting": (http(b"[" * DEEP + b"]" * DEEP), OutcomeUnknown),
    "deep nesting of objects": (http(b'{"a":' * DEEP + b"1" + b"}" * DEEP), OutcomeUnknown),
    "sign-in page": (http(SIGN_IN), OutcomeUnknown),
    "sign-in page that forbids": (http(SIGN_IN, 403), Fatal),
    "gateway": (http(SIGN_IN, 502), OutcomeUnknown),
    "busy": (http(SIGN_IN, 503), NotAccepted),
    "status alone": (b"HTTP/1.1 429 X\r\nContent-Length: 900\r\n\r\n", NotAccepted),
    "error that is nested": (
        http(b'{"error": 400, "error_text": ' + b"[" * 90 + b"]" * 90 + b"}"), Refused),
    "error as a text": (http(b'{"error": "400"}'), Refused),
    "error as a fraction": (http(b'{"error": 401.0}'), Fatal),
    "error between": (http(b'{"error": 0.5, "task_id": "x"}'), OutcomeUnknown),
    "error beyond bounds": (http(b'{"error": 1e999, "task_id": "x"}'), OutcomeUnknown),
    "error that is no number": (http(b'{"error": NaN, "task_id": "x"}'), OutcomeUnknown),
    "error of many digits": (http(b'{"error": ' + b"4" * 5_000 + b"}"), OutcomeUnknown),
    "error of a few digits too many": (http(b'{"error": ' + b"4" * 300 + b"}"), OutcomeUnknown),
    "error 440": (http(b'{"error": 440}'), Fatal),
    "status 440": (http(b"", 440), Fatal),
    "status 440 and error 400": (http(b'{"error": 400}', 440), Fatal),
    "too large, as Go says it": (http(b"http: request body too large\n", 400), TooLarge),
    "too large, in the text": (
        http(b'{"error": 400, "error_text": "request body too large"}'), TooLarge),
    "success without an id": (http(b'{"error": 0}'), AcceptedWithoutId),
    "success with an id that is none": (http(b'{"error": 0, "task_id": [1]}'), AcceptedWithoutId),
    "busy, no error, no id": (http(b'{"error": 0}', 503), NotAccepted),
    "text with a blank in its name": (http(b'{"error": 400, "error text": "no"}'), Refused),
    "token in every place": (http(json.dumps({
        "error": TOKEN, "error_text": [TOKEN, {TOKEN: PROFILE}], "error_debug": TOKEN,
        "status": TOKEN}).encode(), 400, b"Retry-After: " + TOKEN.encode()), Refused),
}  # fmt: skip


def test_deep_nesting_in_another_key_does_not_hide_the_task(
    server: RawServer, client: Client
) -> None:
    answer = http(OK[:-1] + b', "x":' + b"[" * 500 + b"]" * 500 + b"}")
    assert outcome(server, client, answer) == ACCEPTED["task_id"]


@pytest.mark.parametrize(("answer", "kind"), TABLE.values(), ids=TABLE.keys())
def test_answer_means_one_row_of_the_table(
    server: RawServer,
    client: Client,
    answer: bytes,
    kind: type[ApiError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO"):
        assert type(outcome(server, client, answer)) is kind
    assert caplog.text == ""


def test_text_whose_name_has_a_blank_is_shown(server: RawServer, client: Client) -> None:
    answer = http(b'{"error": 400, "error text": "no such scenario"}')
    assert str(outcome(server, client, answer)).endswith("error 400, no such scenario")


def test_code_is_that_of_the_two_which_decided(server: RawServer, client: Client) -> None:
    error = outcome(server, client, http(b'{"error": 400}', 401))
    assert isinstance(error, Fatal)
    assert error.code == 401


@pytest.mark.parametrize(
    "value",
    [b"-1", b"1e99", b"9" * 5_000, b"99999999999", b"Fri, 31 Dec 9999 23:59:59 GMT",
     b"Mon, 01 Jan 0001 00:00:00 GMT", b"Mon, 01 Jan 99999 00:00:00 GMT", b"\xff", b"\x00",
     b"Mon, 01 Jan 2024 00:00:00 +9999999", b"inf", b"nan", b"0x10", b"1_0", b",", b"()" * 90,
     b"Thu, 31 Dec 1969 23:59:59 -2359", b"1 Jan", b"Jan", b"1:1", b"Mon, 1 Jan 1 1:1:1 1"],
)  # fmt: skip
def test_retry_after_is_bounded(server: RawServer, client: Client, value: bytes) -> None:
    error = outcome(server, client, http(b"", 503, b"Retry-After: " + value))
    assert isinstance(error, NotAccepted)
    assert error.retry_after is None or 0 <= error.retry_after <= 86_400


FRAGMENTS = st.sampled_from(
    [b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"100", b"103", b"204", b"302", b"400", b"503", b" OK",
     b"\r\n", b"\r\n\r\n", b"\n", b":", b"Content-Length: ", b"Transfer-Encoding: chunked",
     b"Content-Encoding: gzip", b"Location: http://[", b"Retry-After: ", b"Connection: close",
     b"5", b"0", b"-1", b"{", b"}", b"[", b'"error": 0', b'"error": 400', b'"task_id": "x"', b",",
     b"null", b"NaN", b'"', b"\\u", b"d800", b"\xff", b"\x00", OK, SIGN_IN, TOKEN.encode()],
)  # fmt: skip
WILD = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@WILD
@given(st.lists(FRAGMENTS | st.binary(max_size=8), max_size=25))
def test_any_bytes_mean_one_row_of_the_table(
    server: RawServer, client: Client, pieces: list[bytes]
) -> None:
    outcome(server, client, b"".join(pieces))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([0, "0", 400, 401, 440, 503, TOKEN, PROFILE, "completed", {}, []]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
KEYS = ("error", "error_text", "error text", "error_debug", "task_id", "data", "status")


@WILD
@given(
    st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), VALUES, max_size=8),
    st.integers(min_value=100, max_value=999),
    st.binary(max_size=4),
)
def test_any_json_means_one_row_of_the_table(
    server: RawServer, client: Client, answer: dict[str, t.Any], status: int, tail: bytes
) -> None:
    outcome(server, client, http(json.dumps(answer).encode() + tail, status))


@WILD
@given(VALUES, VALUES, VALUES, st.sampled_from(["completed", "success", "done", "failed"]))
def test_any_status_of_a_task_is_read_or_one_row_of_the_table(
    server: RawServer, client: Client, progress: object, error: object, text: object, state: str
) -> None:
    result = {"error": error, "error_text": text, "result": progress}
    data = {"status": state, "progress": progress, "result": result}
    server.pieces.put([http(json.dumps({"error": 0, "data": data}).encode())])
    status = client.status("3042", 5)
    client.close()
    assert TOKEN not in f"{status.state} {status.error} {status.text}"
    assert PROFILE not in f"{status.state} {status.error} {status.text}"
    assert status.progress is None or 0 <= status.progress <= 100


# An answer has an end


def test_answer_is_read_up_to_a_size(
    server: RawServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("target_altcraft.client.MAX_ANSWER_BYTES", 1_000_000)
    error = outcome(server, client, http(b'{"error": 0, "x": "', length=10**12), b"x" * 5_000_000)
    assert isinstance(error, OutcomeUnknown)
    assert error.text.endswith("the answer is longer than 1000000 bytes")


def test_answer_is_unpacked_up_to_a_size(
    server: RawServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("target_altcraft.answers.MAX_ANSWER_BYTES", 1_000)
    packed = gzip.compress(b'{"x": "' + b"x" * 5_000_000 + b'", "error": 0, "task_id": "x"}')
    error = outcome(server, client, http(packed, 200, b"Content-Encoding: gzip"))
    assert isinstance(error, OutcomeUnknown)


@pytest.mark.parametrize(
    "drop", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\n\r\n"], ids=["100", "103"]
)
def test_interim_answers_without_end_have_one(drop: bytes) -> None:
    without_end(b"", drop)


def test_headers_without_end_have_one() -> None:
    without_end(b"HTTP/1.1 200 OK\r\nX: ", b"x")


def test_answer_by_drops_has_an_end() -> None:
    without_end(b"HTTP/1.1 200 OK\r\n\r\n", b" ")


def without_end(first: bytes, drop: bytes) -> None:
    """Ask a server that sends drop after drop."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(first)
                while not stop.wait(0.01):
                    connection.sendall(drop)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            client_of(url, Halt(), request_timeout_seconds=0.05) as client,
            pytest.raises(OutcomeUnknown),
        ):
            client.submit(body_of())
        stop.set()
        thread.join(30)


def test_what_follows_an_odd_answer_is_not_taken_for_the_next() -> None:
    with Server(answers(b"", 503), answers(ACCEPTED)) as server, client_of(server.url) as client:
        with pytest.raises(NotAccepted):
            client.submit(body_of())
        client.submit(body_of())
    assert server.connections == 2
