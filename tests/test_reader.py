from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import signal
import sys
import threading
import time
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_altcraft.codec import decode_json, holds_no_number
from target_altcraft.reader import LineReader
from target_altcraft.wakeup import Wakeup

if t.TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

KINDS = ("SCHEMA", "RECORD", "STATE")
SECRET = "v4lue"


class Enough(Exception):
    """Ends a reading from within a tick."""


class Reading:
    """A reader and what it has handed to its callbacks."""

    def __init__(self) -> None:
        self.reader = LineReader()
        self.messages: list[dict[str, t.Any]] = []
        self.counts: Counter[str] | None = None

    def read(self, source: t.IO[str]) -> None:
        callbacks: dict[str, Callable[[dict[str, t.Any]], None]] = dict.fromkeys(
            KINDS, self.messages.append
        )
        self.counts = self.reader.process_lines(source, callbacks)


@contextlib.contextmanager
def reading() -> Iterator[Reading]:
    one = Reading()
    try:
        yield one
    finally:
        one.reader.wakeup.close()


def read_in_chunks(chunks: Sequence[bytes]) -> Reading:
    """Read from a pipe that holds one chunk at each read, then ends."""
    out, into = os.pipe()
    waiting = [chunk for chunk in chunks if chunk]

    def feed() -> None:
        nonlocal into
        if waiting:
            chunk = waiting.pop(0)
            assert os.write(into, chunk) == len(chunk)
        elif into >= 0:
            os.close(into)
            into = -1

    try:
        with reading() as one, os.fdopen(out, encoding="ascii") as source:
            one.reader.tick = feed
            one.read(source)
            return one
    finally:
        if into >= 0:
            os.close(into)


def read_bytes(data: bytes) -> Reading:
    return read_in_chunks([data])


def line(kind: str = "RECORD", **values: t.Any) -> bytes:
    return json.dumps({"type": kind, **values}, ensure_ascii=False).encode()


# Lines and chunks


def test_messages_go_to_the_callback_of_their_type_and_are_counted() -> None:
    seen: list[tuple[str, t.Any]] = []
    source = io.StringIO('{"type":"STATE","value":1}\n{"type":"RECORD"}\n{"type":"STATE"}\n')
    with reading() as one:
        counts = one.reader.process_lines(
            source,
            {
                "STATE": lambda message: seen.append(("state", message)),
                "RECORD": lambda message: seen.append(("record", message)),
            },
        )
    assert [kind for kind, _ in seen] == ["state", "record", "state"]
    assert seen[0][1] == {"type": "STATE", "value": 1}
    assert counts == {"STATE": 2, "RECORD": 1}


def test_last_line_needs_no_newline() -> None:
    assert read_bytes(line(n=1) + b"\n" + line(n=2)).messages[-1]["n"] == 2


def test_blank_lines_are_skipped_but_counted_as_lines() -> None:
    one = read_bytes(b"\n  \n\r\n" + line(n=1) + b"\n\t\n" + line(n=2) + b"\r\n\n")
    assert [message["n"] for message in one.messages] == [1, 2]
    with pytest.raises(InvalidInputLine, match="line 3 "):
        read_bytes(b"\n\nbroken\n")


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n  \n"])
def test_empty_input_is_no_message(data: bytes) -> None:
    one = read_bytes(data)
    assert one.messages == []
    assert one.counts == {}


def test_line_longer_than_any_chunk_is_read_whole() -> None:
    data = line(text="ы" * 100_000) + b"\n" + line(n=2)
    chunks = [data[start : start + 5000] for start in range(0, len(data), 5000)]
    one = read_in_chunks(chunks)
    assert one.messages[0]["text"] == "ы" * 100_000
    assert one.messages[1]["n"] == 2


def test_file_is_read_like_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "input.singer"
    path.write_bytes(b"".join(line(n=n, text="Ада") + b"\n" for n in range(50_000)))
    with reading() as one, path.open(encoding="ascii") as source:
        one.read(source)
    assert [message["n"] for message in one.messages] == list(range(50_000))
    assert one.messages[0]["text"] == "Ада"


def test_input_in_memory_is_read_too() -> None:
    with reading() as one:
        one.read(io.StringIO('{"type":"RECORD","text":"Ада 😀"}\n\n{"type":"STATE"}'))
    assert one.messages == [{"type": "RECORD", "text": "Ада 😀"}, {"type": "STATE"}]


def test_a_line_in_memory_is_without_its_end_too() -> None:
    lines: list[bytes] = []
    with reading() as one:
        source = io.StringIO('{"type":"RECORD"}\n{"type":"RECORD","n":1}\n')
        one.reader.process_lines(source, {"RECORD": lambda _: lines.append(one.reader.line)})
    assert lines == [b'{"type":"RECORD"}', b'{"type":"RECORD","n":1}']


def test_input_is_stdin_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "input.singer"
    path.write_bytes(line(n=7))
    with reading() as one, path.open(encoding="ascii") as source:
        monkeypatch.setattr(sys, "stdin", source)
        one.reader.process_lines(None, {"RECORD": one.messages.append})
    assert [message["n"] for message in one.messages] == [7]


def test_closed_stdin_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with reading() as one, pytest.raises(InvalidInputLine, match="stdin is closed"):
        one.reader.process_lines(None, {})


MESSAGES = st.builds(
    lambda kind, value: {"type": kind, "value": value},
    st.sampled_from(KINDS),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \t\n"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(MESSAGES, st.booleans(), ENDS), max_size=6),
    st.sampled_from(["ended", "open"]),
    st.lists(st.integers(min_value=0, max_value=400), max_size=8),
)
@example([({"type": "RECORD", "value": "ы"}, False, b"\n")], "open", list(range(40)))
def test_any_chunks_give_the_same_messages(
    lines: list[tuple[dict[str, t.Any], bool, bytes]],
    last_line: str,
    cuts: list[int],
) -> None:
    data = b"".join(
        json.dumps(message, ensure_ascii=as_ascii).encode() + end
        for message, as_ascii, end in lines
    )
    data = data if last_line == "ended" else data.rstrip()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in itertools.pairwise(places)]
    assert read_in_chunks(chunks).messages == [message for message, _, _ in lines]


# What a line holds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"12.10", Decimal("12.10")),
        (b"1e400", Decimal("1e400")),
        (b"-0.0", Decimal("-0.0")),
        (b"12", 12),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"true", True),
        (b"null", None),
        ('"Ада 😀"'.encode(), "Ада 😀"),
        (b'"\\u0436\\ud83d\\ude00"', "ж😀"),
        (b'"half \\ud83d pair"', "half \ud83d pair"),
        (b'"\\ude00\\ud83d"', "\ude00\ud83d"),
        (b' [1, {"a": []}]\r', [1, {"a": []}]),
    ],
)
def test_json_is_read_exactly(text: bytes, value: t.Any) -> None:
    decoded = decode_json(text)
    assert decoded == value
    assert type(decoded) is type(value)
    assert str(decoded) == str(value)


def test_numbers_beside_half_a_pair_are_exact_too() -> None:
    decoded = decode_json(b'{"a": "\\ud800", "n": 12.10, "i": 12345678901234567890123}')
    assert str(decoded["n"]) == "12.10"
    assert decoded["i"] == 12345678901234567890123


@pytest.mark.parametrize(
    "broken",
    [
        b"{",
        b'{"type": "RECORD", "a": "v4lue"',
        b'{"type": "RECORD"} {"v4lue": 1}',
        b"v4lue",
        b"'v4lue'",
        b'{"a": v4lue}',
        b'{"a": 01, "b": "v4lue"}',
        b'{"a": "v4lue\x01"}',
        b'{"a": "v4lue\xff"}',
        b'{"a": "v4lue\xc3"}',
        b'{"a": "\xc0\xafv4lue"}',
        b'{"a": "v4lue\\x"}',
        b"\x00v4lue",
    ],
    ids=repr,
)
def test_line_that_is_not_json_is_named_by_number_and_not_quoted(broken: bytes) -> None:
    with pytest.raises(InvalidInputLine) as caught:
        read_bytes(line() + b"\n" + line() + b"\n" + broken + b"\n" + line())
    assert str(caught.value) == "line 3 of the input is not valid JSON in UTF-8"
    assert caught.value.__suppress_context__


def test_line_that_is_nested_too_deeply_is_named_by_number() -> None:
    with pytest.raises(InvalidInputLine) as caught:
        read_bytes(line() + b"\n" + b"[" * 60_000 + b"\n" + line())
    assert str(caught.value) == "line 2 of the input is nested too deeply"
    assert caught.value.__suppress_context__


NO_NUMBERS = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e1000000000000000000",
    b"-1.5E-99999999999999999999",
]


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_number_that_nothing_can_hold_is_left_to_whoever_takes_the_record(number: bytes) -> None:
    (message,) = read_bytes(b'{"type":"RECORD","n":[' + number + b"]}").messages
    assert holds_no_number(message)


@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize("kind", [b"SCHEMA", b"STATE"])
def test_number_that_nothing_can_hold_is_no_part_of_other_messages(
    kind: bytes, number: bytes
) -> None:
    with pytest.raises(InvalidInputLine) as caught:
        read_bytes(b'{"type":"' + kind + b'","n":' + number + b"}")
    assert str(caught.value) == (
        "line 1 of the input holds NaN, Infinity or a number beyond all bounds, which are no JSON"
    )


def test_integer_of_any_length_is_read_exactly() -> None:
    half = b'"\\ud800"'  # has the line read by the slow road
    for more in (b"1", half):
        data = b'{"type":"RECORD","n":' + b"9" * 5000 + b',"m":' + more + b"}"
        (message,) = read_bytes(data).messages
        assert message["n"] == Decimal("9" * 5000)


@pytest.mark.parametrize(
    "data", [b'{"type":"RECORD","a":"\xed\xa0\x80"}', '{"type":"RECORD"}'.encode("utf-16-le")]
)
def test_line_that_is_not_utf_8_is_an_invalid_line(data: bytes) -> None:
    with pytest.raises(InvalidInputLine, match="line 1 of the input is not valid JSON"):
        read_bytes(data)


def test_byte_order_mark_is_no_fault() -> None:
    assert read_bytes(b"\xef\xbb\xbf" + line(n=1)).messages == [{"type": "RECORD", "n": 1}]


@pytest.mark.parametrize(
    "odd",
    [
        b'"v4lue"',
        b"12",
        b"null",
        b'["RECORD", "v4lue"]',
        b"{}",
        b'{"type": null, "a": "v4lue"}',
        b'{"type": "v4lue"}',
        b'{"type": "record"}',
        b'{"type": ["RECORD"]}',
        b'{"record": {"a": "v4lue"}}',
    ],
)
def test_line_that_is_no_known_message_is_named_by_number_and_not_quoted(odd: bytes) -> None:
    with pytest.raises(InvalidInputLine) as caught:
        read_bytes(line() + b"\n" + odd + b"\n")
    assert str(caught.value) == "line 2 of the input is not a Singer message of a known type"


def test_messages_before_a_broken_line_have_been_handed_over() -> None:
    with reading() as one:
        with pytest.raises(InvalidInputLine):
            one.read(
                io.StringIO('{"type":"STATE"}\n{"type":"RECORD"}\n{broken\n{"type":"STATE"}\n')
            )
        assert [message["type"] for message in one.messages] == ["STATE", "RECORD"]


def test_missing_keys_of_a_message_are_named_and_nothing_is_quoted() -> None:
    message = {"type": "RECORD", "record": {"a": SECRET}, "time_extracted": SECRET}
    with pytest.raises(InvalidInputLine) as caught:
        LineReader.assert_line_requires(message, {"stream", "record", "also"})
    assert str(caught.value) == "a RECORD message has no also, stream"


def test_message_with_its_keys_passes() -> None:
    LineReader.assert_line_requires({"type": "STATE", "value": None}, {"value"})


def test_fault_of_a_callback_ends_the_reading_with_its_line_number() -> None:
    def fail(_: dict[str, t.Any]) -> None:
        raise Enough

    with reading() as one:
        source = io.StringIO('\n\n{"type":"RECORD"}\n{"type":"RECORD"}\n')
        with pytest.raises(Enough):
            one.reader.process_lines(source, {"RECORD": fail})
        assert one.reader.line_number == 3


def test_callback_finds_the_line_that_is_being_handled() -> None:
    lines = []
    with reading() as one:
        one.reader.process_lines(
            io.StringIO('{"type":"RECORD"}\n\n {"type":"STATE","value":"ы"}\n'),
            dict.fromkeys(KINDS, lambda _: lines.append((one.reader.line_number, one.reader.line))),
        )
    assert [(number, text.strip()) for number, text in lines] == [
        (1, b'{"type":"RECORD"}'),
        (3, '{"type":"STATE","value":"ы"}'.encode()),
    ]


# Waiting


@contextlib.contextmanager
def silence() -> Iterator[t.IO[str]]:
    """An input that never says anything and never ends."""
    out, into = os.pipe()
    try:
        with os.fdopen(out, encoding="ascii") as source:
            yield source
    finally:
        os.close(into)


def ticks(number: int, also: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """A tick that ends the reading when it was called so often."""
    left = number

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Enough
        also()

    return tick


def test_tick_is_called_while_the_input_is_silent() -> None:
    with reading() as one, silence() as source:
        one.reader.tick = ticks(2)
        with pytest.raises(Enough):
            one.read(source)


def test_ring_wakes_the_reader() -> None:
    with reading() as one, silence() as source:
        one.reader.tick = ticks(500, one.reader.wakeup.ring)  # minutes, were it not woken
        with pytest.raises(Enough):
            one.read(source)


def test_tick_is_called_before_every_read_of_a_busy_input() -> None:
    called = 0

    def tick() -> None:
        nonlocal called
        called += 1

    out, into = os.pipe()
    with reading() as one, os.fdopen(out, encoding="ascii") as source:
        one.reader.tick = tick
        messages = one.messages

        def write_again(message: dict[str, t.Any]) -> None:
            messages.append(message)
            if len(messages) < 20:
                os.write(into, line() + b"\n")
            else:
                os.close(into)

        os.write(into, line() + b"\n")
        one.reader.process_lines(source, {"RECORD": write_again})
    assert len(messages) == 20
    assert called >= 20


def test_a_tick_is_told_whether_more_of_the_input_is_there() -> None:
    told = []
    out, into = os.pipe()
    with reading() as one, os.fdopen(out, encoding="ascii") as source:

        def tick() -> None:
            told.append(one.reader.has_more)
            if told == [True, False]:  # the first line was there, nothing is behind it
                os.write(into, line() + b"\n")
            elif len(told) > 2 and into not in closed:
                closed.append(into)
                os.close(into)

        closed: list[int] = []
        one.reader.tick = tick
        os.write(into, line() + b"\n")
        one.read(source)
    assert told[:2] == [True, False]
    assert len(one.messages) == 2


def test_tick_is_called_for_an_input_in_memory() -> None:
    with reading() as one:
        one.reader.tick = ticks(3)
        with pytest.raises(Enough):
            one.read(io.StringIO('{"type":"RECORD"}\n' * 100_000))


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_reader_opens_nothing_before_it_waits() -> None:
    before = open_files()
    readers = [LineReader() for _ in range(100)]
    for reader in readers:
        reader.process_lines(io.StringIO('{"type":"RECORD"}\n'), {"RECORD": lambda _: None})
        reader.wakeup.ring()
    assert open_files() == before


def test_pipe_of_a_reader_is_closed_by_who_owns_it() -> None:
    before = open_files()
    with silence() as source:
        one = Reading()
        one.reader.tick = ticks(2)
        with pytest.raises(Enough):
            one.read(source)
        assert len(open_files()) == len(before) + 4  # the input's pipe and the reader's
        one.reader.wakeup.close()
    one.reader.wakeup.close()
    assert open_files() == before


def test_ring_before_the_pipe_is_open_is_not_lost() -> None:
    wakeup = Wakeup()
    wakeup.ring()
    assert not wakeup.wait(600)
    started = time.monotonic()
    assert not wakeup.wait(0.05)  # it rang once
    assert time.monotonic() - started >= 0.04
    wakeup.close()


def test_ring_after_the_end_harms_no_file_opened_since(tmp_path: Path) -> None:
    wakeup = Wakeup()
    wakeup.wait(0)
    wakeup.close()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((tmp_path / str(n)).open("wb")) for n in range(4)]
        wakeup.ring()
        assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 4
    assert not wakeup.wait(600)  # it can be waited on again, and the ring is still there
    wakeup.close()


def test_rings_of_many_threads_while_it_opens_and_closes_are_safe() -> None:
    wakeup = Wakeup()
    ended = threading.Event()

    def ring() -> None:
        while not ended.is_set():
            wakeup.ring()

    threads = [threading.Thread(target=ring) for _ in range(4)]
    before = open_files()
    for thread in threads:
        thread.start()
    for _ in range(300):
        assert not wakeup.wait(600)
        wakeup.close()
    ended.set()
    for thread in threads:
        thread.join()
    assert open_files() == before


def test_signal_that_another_thread_takes_wakes_who_waits_and_closing_ends_that() -> None:
    wakeup = Wakeup()
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        wakeup.listen_to_signals()
        timer = threading.Timer(0.05, lambda: signal.pthread_kill(timer.ident or 0, signal.SIGUSR1))
        timer.start()
        assert not wakeup.wait(600)
        timer.join()
        wakeup.close()
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closing_leaves_another_one_that_listens_to_signals_alone() -> None:
    first, second = Wakeup(), Wakeup()
    first.listen_to_signals()
    second.listen_to_signals()
    first.close()
    listening = signal.set_wakeup_fd(-1)
    assert listening != -1
    signal.set_wakeup_fd(listening)
    second.close()
    assert signal.set_wakeup_fd(-1) == -1


def test_signal_wakes_who_waits() -> None:
    wakeup = Wakeup()
    before = signal.signal(signal.SIGUSR1, lambda *_: wakeup.ring())
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        assert not wakeup.wait(600)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
        wakeup.close()


def test_ring_of_another_thread_wakes_who_waits() -> None:
    wakeup = Wakeup()
    timer = threading.Timer(0.05, wakeup.ring)
    timer.start()
    assert not wakeup.wait(600)
    timer.join()
    wakeup.close()


def test_ring_before_the_wait_is_not_lost() -> None:
    wakeup = Wakeup()
    wakeup.ring()
    assert not wakeup.wait(600)
    wakeup.close()


def test_any_number_of_rings_never_blocks_and_wakes() -> None:
    wakeup = Wakeup()
    for _ in range(100_000):
        wakeup.ring()
    assert not wakeup.wait(600)
    wakeup.close()


def test_wait_ends_with_its_time() -> None:
    wakeup = Wakeup()
    assert not wakeup.wait(0.01)
    assert not wakeup.wait(-1)
    wakeup.close()


def test_wait_says_whether_the_input_can_be_read() -> None:
    wakeup = Wakeup()
    out, into = os.pipe()
    assert not wakeup.wait(0, out)
    wakeup.ring()
    assert not wakeup.wait(600, out)
    os.write(into, b"x")
    assert wakeup.wait(600, out)
    wakeup.ring()
    assert wakeup.wait(600, out)
    os.read(out, 10)
    os.close(into)
    assert wakeup.wait(600, out)  # its end can be read, too
    os.close(out)
    wakeup.close()
