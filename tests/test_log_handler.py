from __future__ import annotations

import io
import logging
import threading
import typing as t
import weakref

import pytest
from harness import DEADLINE_SECONDS, customer, run, schema, wait_for

from target_altcraft import cli, log_handler
from target_altcraft.log_handler import LineHandler, write_together

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Held(io.StringIO):
    """A stream whose first write waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_writing = threading.Event()
        self.may_go_on = threading.Event()

    def write(self, text: str) -> int:
        if not self.is_writing.is_set():
            self.is_writing.set()
            assert self.may_go_on.wait(DEADLINE_SECONDS)
        return super().write(text)


class Log:
    """A logger with the handler under test."""

    def __init__(self, stream: t.TextIO) -> None:
        self.handler = LineHandler(logging.StreamHandler(stream))
        self.logger = logging.Logger("a.log", logging.INFO)  # noqa: LOG001 - not the process's
        self.logger.addHandler(self.handler)

    def waiting(self) -> int:
        """Return how many lines wait for the stream."""
        return len(self.handler._lines)  # noqa: SLF001

    def say(self, *texts: str) -> threading.Thread:
        """Say them in a thread of their own, one after the other."""

        def work() -> None:
            for text in texts:
                self.logger.info(text)

        return started(work)


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ended(*threads: threading.Thread) -> bool:
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    return not any(thread.is_alive() for thread in threads)


@pytest.fixture
def held() -> Iterator[tuple[Log, Held]]:
    """A log of which a thread is just writing the line "first"."""
    stream = Held()
    log = Log(stream)
    first = log.say("first")
    assert stream.is_writing.wait(DEADLINE_SECONDS)
    yield log, stream
    stream.may_go_on.set()
    assert ended(first)


# Who waits for whom


def test_of_the_threads_that_have_a_line_one_waits_for_the_writer(held: tuple[Log, Held]) -> None:
    log, stream = held
    threads = [log.say(f"line {number}") for number in range(10)]

    def waiting() -> list[threading.Thread]:
        return [thread for thread in threads if thread.is_alive()]

    wait_for(lambda: len(waiting()) == 1, "all but one go on")
    assert stream.getvalue() == ""
    stream.may_go_on.set()
    assert ended(*threads)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "first"
    assert sorted(lines[1:]) == [f"line {number}" for number in range(10)]


def test_threads_wait_where_too_many_lines_do(
    held: tuple[Log, Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, stream = held
    monkeypatch.setattr(log_handler, "_MOST_LINES", 3)
    said: list[int] = []

    def say() -> None:
        for number in range(100):
            log.logger.info("line %d", number)
            said.append(number)

    waits_to_be_the_next = log.say("second")
    saying = started(say)
    wait_for(lambda: len(said) == 2, "three lines wait")
    assert saying.is_alive()
    stream.may_go_on.set()
    assert ended(waits_to_be_the_next, saying)
    assert stream.getvalue().count("line") == 100


def test_thread_writes_no_line_that_came_after_it_had_begun() -> None:
    class Spawning(io.StringIO):
        """A stream that makes others say something while it is written."""

        def __init__(self) -> None:
            super().__init__()
            self.writers: list[tuple[str, str]] = []
            self.talkers: list[threading.Thread] = []

        def write(self, text: str) -> int:
            self.writers.append((threading.current_thread().name, text))
            if len(self.talkers) < 20:
                for _ in range(2):  # one of them leaves its line
                    self.talkers.append(log.say(f"{len(self.talkers)}"))
                wait_for(log.waiting, "a line that waits")
            return super().write(text)

    stream = Spawning()
    log = Log(stream)
    log.logger.info("mine")
    wait_for(lambda: len(stream.getvalue().splitlines()) == 21, "all lines are written")
    assert ended(*stream.talkers)
    mine = threading.current_thread().name
    assert [text for name, text in stream.writers if name == mine] == ["mine\n"]


def test_flush_waits_for_the_writer_and_writes_what_waits(held: tuple[Log, Held]) -> None:
    log, stream = held
    texts: list[str] = []

    def flush() -> None:
        log.handler.flush()
        texts.append(stream.getvalue())

    second = log.say("second")
    flushing = started(flush)
    flushing.join(0.1)
    assert flushing.is_alive()
    stream.may_go_on.set()
    assert ended(second, flushing)
    assert texts == ["first\nsecond\n"]


def test_flush_of_who_has_the_lock_writes_what_waits() -> None:
    stream = io.StringIO()
    log = Log(stream)
    log.handler.acquire()
    threads = [log.say("one"), log.say("two"), log.say("three")]
    wait_for(lambda: log.waiting() == 3, "three lines wait")
    log.handler.flush()
    assert sorted(stream.getvalue().split()) == ["one", "three", "two"]
    log.handler.release()
    assert ended(*threads)
    assert len(stream.getvalue().split()) == 3


def test_log_call_in_a_write_is_written_after_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Talking(io.StringIO):
        """A stream that says something itself during its first write, with many lines waiting."""

        said = False

        def write(self, text: str) -> int:
            written = super().write(text)
            if not self.said:
                self.said = True
                log.logger.info("nested")
            return written

    monkeypatch.setattr(log_handler, "_MOST_LINES", 1)
    stream = Talking()
    log = Log(stream)
    log.handler.acquire()
    threads = [log.say("line"), log.say("line")]
    wait_for(lambda: log.waiting() == 2, "two lines wait")
    log.handler.release()
    assert ended(*threads)
    assert sorted(stream.getvalue().splitlines()) == ["line", "line", "nested"]
    assert capsys.readouterr().err == ""  # nor has logging anything to say


def test_log_call_with_the_lock_and_too_many_lines_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_handler, "_MOST_LINES", 1)
    stream = io.StringIO()
    log = Log(stream)

    threads: list[threading.Thread] = []

    def say() -> None:
        log.handler.acquire()
        threads.extend([log.say("line"), log.say("line")])
        wait_for(lambda: log.waiting() == 2, "two lines wait")
        log.logger.info("mine")
        log.handler.release()

    assert ended(started(say))
    assert ended(*threads)
    assert sorted(stream.getvalue().splitlines()) == ["line", "line", "mine"]


def test_shutdown_ends_while_others_write() -> None:
    stream = io.StringIO()
    log = Log(stream)
    threads = [log.say(*["again"] * 500) for _ in range(8)]

    def shut_down() -> None:
        while any(thread.is_alive() for thread in threads):
            logging.shutdown([weakref.ref(log.handler)])

    assert ended(*threads, started(shut_down))
    log.handler.flush()
    assert stream.getvalue() == "again\n" * 4000


# What is written


def test_line_says_what_was_so_when_it_was_said(held: tuple[Log, Held]) -> None:
    log, stream = held
    counts = [1]
    second = started(lambda: log.logger.info("counts: %s", counts))
    wait_for(log.waiting, "a line that waits")
    counts.append(2)
    stream.may_go_on.set()
    assert ended(second)
    assert "counts: [1]\n" in stream.getvalue()


def test_lines_of_many_threads_are_whole_and_in_the_order_of_each() -> None:
    stream = io.StringIO()
    log = Log(stream)
    texts = [[f"{who} {number}" for number in range(500)] for who in range(8)]
    assert ended(*[log.say(*mine) for mine in texts])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4000
    for who, mine in enumerate(texts):
        assert [line for line in lines if line.startswith(f"{who} ")] == mine


class Broken(io.StringIO):
    """A stream that does not take every text; it counts how often it is flushed."""

    def __init__(self, refused: str) -> None:
        super().__init__()
        self.refused = refused
        self.flushes = 0

    def write(self, text: str) -> int:
        if self.refused in text:
            raise OSError("no space left")
        return super().write(text)

    def flush(self) -> None:
        self.flushes += 1
        if self.refused == "":
            raise OSError("no space left")


def test_line_that_cannot_be_written_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    stream = Broken("bad")
    log = Log(stream)
    log.handler.acquire()
    threads = [log.say("good 1"), log.say("bad"), log.say("good 2")]
    wait_for(lambda: log.waiting() == 3, "three lines wait")
    log.handler.release()
    assert ended(*threads)
    log.logger.info("good 3")
    assert sorted(stream.getvalue().splitlines()) == ["good 1", "good 2", "good 3"]


def test_stream_that_cannot_be_flushed_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    stream = Broken("")
    log = Log(stream)
    log.logger.info("one")
    log.logger.info("two")
    assert stream.flushes == 2


def test_stream_is_flushed_after_each_line() -> None:
    stream = Broken("nothing of this")
    log = Log(stream)
    log.logger.info("one")
    assert stream.flushes == 1


def test_log_without_a_stream_ends_no_run() -> None:
    log = Log(io.StringIO())
    log.handler.stream = None  # type: ignore[assignment]
    log.handler.flush()


def test_record_that_cannot_be_formatted_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    stream = io.StringIO()
    log = Log(stream)
    log.handler.setFormatter(logging.Formatter("%(message)s %(nothing)s"))
    log.logger.info("one")
    log.handler.setFormatter(None)
    log.logger.info("two")
    assert stream.getvalue() == "two\n"


def test_filters_and_levels_hold() -> None:
    stream: t.TextIO = io.StringIO()
    like = logging.StreamHandler(stream)
    like.addFilter(lambda record: "not this" not in record.msg)
    like.setLevel(logging.WARNING)
    like.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.Logger("a.log", logging.INFO)  # noqa: LOG001 - not the process's
    logger.addHandler(LineHandler(like))
    for text in ("not this", "this"):
        logger.info(text)
        logger.warning(text)
    stream.seek(0)
    assert stream.read() == "WARNING this\n"


def test_record_that_a_filter_puts_in_its_place_is_written() -> None:
    stream = io.StringIO()
    handler = LineHandler(logging.StreamHandler(stream))
    other = logging.LogRecord("a.log", logging.INFO, "", 0, "another", (), None)
    record = logging.LogRecord("a.log", logging.INFO, "", 0, "one", (), None)
    replace: t.Any = lambda _: other  # noqa: E731 - older Pythons know a bool only
    handler.filter = replace  # type: ignore[method-assign]
    handler.handle(record)
    assert stream.getvalue() == "another\n"


# In a run


@pytest.fixture
def plain() -> Iterator[logging.StreamHandler[io.StringIO]]:
    """A handler of the root logger as the SDK makes one."""
    root = logging.getLogger()
    before = list(root.handlers)
    handler = logging.StreamHandler(io.StringIO())
    root.addHandler(handler)
    yield handler
    root.handlers[:] = before


def test_plain_handlers_of_the_root_are_replaced_and_no_others(
    plain: logging.StreamHandler[io.StringIO], tmp_path: Path
) -> None:
    root = logging.getLogger()
    before = {*root.handlers} - {plain}
    file = logging.FileHandler(tmp_path / "log")
    root.addHandler(file)
    other = logging.getLogger("target_altcraft.tests.shared")
    other.addHandler(plain)
    for _ in range(2):
        write_together()
        (mine,) = (handler for handler in root.handlers if isinstance(handler, LineHandler))
        assert {*root.handlers} == {*before, file, mine}
        assert mine.stream is plain.stream
        assert other.handlers == [mine]  # or one thread's lines would overtake each other
    other.handlers.clear()
    file.close()


def test_log_of_a_run_is_written_by_it(plain: logging.StreamHandler[io.StringIO]) -> None:
    def fail() -> t.NoReturn:
        raise ValueError

    assert cli.run(fail, io.StringIO()) == 1
    assert plain not in logging.getLogger().handlers
    assert "internal error, ValueError" in plain.stream.getvalue()


def test_log_of_a_run_with_many_batches_holds_every_line(
    config: dict[str, t.Any], tmp_path: Path
) -> None:
    small = {"batch_size_rows": 1, "max_in_flight": 32}
    result = run([schema(), *map(customer, range(200))], {**config, **small}, tmp_path)
    assert result.status == 0
    lines = result.stderr.splitlines()
    for number in range(1, 201):
        mine = f" batch {number}:", f" batch {number},"
        of_batch = [line for line in lines if any(name in line for name in mine)]
        assert ["accepted" in line for line in of_batch] == [True, False]
        assert "completed after" in of_batch[1]
    assert sum("METRIC" in line and "batch_processing_time" in line for line in lines) == 200
    assert all(line.count(" | ") == 3 for line in lines if "batch" in line)
