from __future__ import annotations

import io
import json
import logging
import sys
import typing as t

import pytest
from singer_sdk.logging import ConsoleFormatter, StructuredFormatter

from target_altcraft.log import mask_token, silence_libraries

if t.TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "s3cret-token"
FORMATTERS = [logging.Formatter, ConsoleFormatter, StructuredFormatter]


class Told(Exception):
    """Tells the token when it is shown."""

    def __init__(self) -> None:
        super().__init__(f"refused: {TOKEN}")


class Unprintable:
    """As objects of other libraries may be."""

    def __str__(self) -> str:
        raise ValueError(TOKEN)

    __repr__ = __str__


@pytest.fixture(autouse=True)
def factory() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    mask_token(TOKEN)
    yield
    logging.setLogRecordFactory(before)


class Log:
    """A logger whose lines can be read, and the records that they were made of."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = io.StringIO()
        self.records: list[logging.LogRecord] = []
        self.logger = logging.Logger("third.party", logging.DEBUG)  # noqa: LOG001 - not the process's
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(formatter)
        handler.addFilter(self._note)
        self.logger.addHandler(handler)

    def _note(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True

    @property
    def text(self) -> str:
        return self.stream.getvalue()


@pytest.fixture(params=FORMATTERS)
def log(request: pytest.FixtureRequest) -> Log:
    return Log(request.param())


@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"the token {TOKEN} is wrong, {TOKEN}!", ()),
        ("the token %s is wrong, %s!", (TOKEN, TOKEN)),
        ("the token %(a)s is wrong, %(a)s!", ({"a": TOKEN},)),
        ("the token s3cret-%s is wrong, s3cret-%s!", ("token", "token")),
        (Told(), ()),
    ],
)
def test_token_is_masked_wherever_in_a_message_it_stands(
    log: Log, message: object, args: tuple[object, ...]
) -> None:
    log.logger.info(message, *args)
    assert TOKEN not in log.text
    assert "***" in log.text
    assert log.records[0].getMessage() in {"the token *** is wrong, ***!", "refused: ***"}


def test_arguments_without_the_token_are_kept_as_they_were_given(log: Log) -> None:
    argument = object()
    log.logger.info("%s of %s", argument, 5)
    assert log.records[0].msg == "%s of %s"
    assert log.records[0].args == (argument, 5)


def test_text_behind_a_mask_is_not_taken_for_a_format(log: Log) -> None:
    log.logger.info("%s", f"{TOKEN} 100 %d")
    assert "*** 100 %d" in log.text


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%d things", ("x",)),
        ("%d %d things", (1,)),
        ("things", (1,)),
        ("%(a)s things", (1, 2)),
        ("%z things", (1,)),
        ("%s things", (Unprintable(),)),
        (f"%d things {TOKEN}", (TOKEN,)),
    ],
)
def test_wrong_log_call_loses_neither_the_run_nor_its_line(
    log: Log, message: str, args: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    log.logger.error(message, *args)
    assert "things" in log.text
    assert TOKEN not in log.text
    assert capsys.readouterr().err == ""  # nor does logging print a traceback of its own


def test_message_that_cannot_be_shown_is_named_by_its_type(log: Log) -> None:
    log.logger.error(Unprintable())
    assert "a message of type Unprintable that cannot be shown" in log.text


def tell() -> None:
    raise Told


def tell_as_a_cause() -> None:
    raise RuntimeError("it went wrong") from Told()


def tell_behind_another() -> None:
    try:
        tell()
    except Told:
        raise RuntimeError("it went wrong") from None


@pytest.mark.parametrize("fail", [tell, tell_as_a_cause, tell_behind_another])
def test_exception_that_tells_the_token_is_masked(log: Log, fail: t.Callable[[], None]) -> None:
    try:
        fail()
    except Exception:
        log.logger.exception("stopped by %s", TOKEN)
    assert TOKEN not in log.text
    assert "stopped by ***" in log.text
    assert ("refused: ***" in log.text) is (fail is not tell_behind_another)
    assert "test_log.py" in log.text  # the traceback is still there
    assert log.records[0].exc_info is None
    assert log.records[0].exc_text is None


def test_exception_without_the_token_is_left_to_the_formatter(log: Log) -> None:
    error = ValueError("harmless")
    log.logger.error("stopped %s", "here", exc_info=error)
    assert log.records[0].exc_info == (ValueError, error, None)
    assert log.records[0].args == ("here",)
    assert "harmless" in log.text


def test_exception_behind_a_wrong_log_call_is_masked(log: Log) -> None:
    log.logger.error("%d", "x", exc_info=Told())
    assert "refused: ***" in log.text
    assert TOKEN not in log.text


def test_exception_that_cannot_be_shown_does_not_stop_the_run(log: Log) -> None:
    odd: t.Any = (ValueError, Unprintable(), None)
    log.logger.error("stopped", exc_info=odd)
    log.logger.error("and on")
    assert "stopped" in log.text
    assert "and on" in log.text
    assert TOKEN not in log.text


def test_exceptions_that_caused_each_other_are_no_endless_chain(log: Log) -> None:
    first, second = ValueError("one"), Told()
    first.__context__, second.__context__ = second, first
    log.logger.error("stopped", exc_info=first)
    assert "stopped" in log.text
    assert TOKEN not in log.text


def test_no_exception_at_hand_is_no_fault(log: Log) -> None:
    log.logger.error("stopped", exc_info=True)  # noqa: LOG014 - a mistake of others
    log.logger.error("stopped", exc_info=sys.exc_info())
    assert TOKEN not in log.text
    assert log.text.count("stopped") == 2


def test_stack_is_masked() -> None:
    log = Log(logging.Formatter())
    namespace = {"logger": log.logger}
    exec(compile("logger.info('here', stack_info=True)", f"/srv/{TOKEN}.py", "exec"), namespace)  # noqa: S102
    assert "/srv/***.py" in log.text
    assert TOKEN not in log.text


def test_every_token_is_masked_and_the_factory_is_wrapped_once(log: Log) -> None:
    wrapped = logging.getLogRecordFactory()
    for number in range(2000):
        mask_token(f"another-{number}-token")
    assert logging.getLogRecordFactory() is wrapped
    log.logger.info("%s and another-7-token", TOKEN)
    assert log.records[0].getMessage() == "*** and ***"


def test_longer_token_is_masked_before_one_that_it_holds(log: Log) -> None:
    mask_token(f"{TOKEN}-and-more")
    log.logger.info(f"{TOKEN}-and-more")  # noqa: G004
    assert log.records[0].getMessage() == "***"


def test_empty_token_masks_nothing(log: Log) -> None:
    mask_token("")
    log.logger.info("as it is")
    assert log.records[0].getMessage() == "as it is"


def test_structured_log_is_still_json() -> None:
    log = Log(StructuredFormatter())
    log.logger.error('it says "%s"', TOKEN, exc_info=Told())
    line = json.loads(log.text)
    assert line["message"].startswith('it says "***"\n')
    assert "refused: ***" in line["message"]


def test_debug_lines_of_libraries_are_silenced_and_ours_are_not() -> None:
    names = ["backoff", "singer_sdk.mapper", "urllib3.connectionpool", "botocore.endpoint"]
    loggers = [logging.getLogger(name) for name in names]
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    try:
        silence_libraries()
        assert not any(logger.isEnabledFor(logging.DEBUG) for logger in loggers)
        assert all(logger.isEnabledFor(logging.INFO) for logger in loggers)
        assert logging.getLogger("target_altcraft.delivery").isEnabledFor(logging.DEBUG)
    finally:
        root.setLevel(before)
