"""What the log may not show: the token, and what other libraries tell of their work."""

from __future__ import annotations

import logging
import typing as t

_LIBRARIES_THAT_LOG_VALUES = (
    "aiobotocore",
    "asyncio",
    "azure",
    "backoff",
    "boto3",
    "botocore",
    "fsspec",
    "gcsfs",
    "s3fs",
    "simpleeval",
    "singer_sdk",
    "urllib3",
)
"""Libraries whose DEBUG lines hold values of records, of STATE, or of requests."""

_formatter = logging.Formatter()


def silence_libraries() -> None:
    """Keep the DEBUG lines of libraries out of the log; they hold values of records."""
    for name in _LIBRARIES_THAT_LOG_VALUES:
        logging.getLogger(name).setLevel(logging.INFO)


def mask_token(token: str) -> None:
    """Mask the token in whatever is logged in this process from here on.

    Messages, their arguments, exceptions and stacks are covered, whichever library logs them; what
    is given as `extra` is not. A line without the token keeps its arguments as they were given.

    Args:
        token: Setting `token`. An empty one masks nothing.
    """
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _MaskingFactory):
        factory = _MaskingFactory(factory)
        logging.setLogRecordFactory(factory)
    factory.add(token)


class _MaskingFactory:
    """Makes log records in which the tokens are masked.

    Args:
        make: The factory that makes the records as they are.
    """

    def __init__(self, make: t.Callable[..., logging.LogRecord]) -> None:
        self._make = make
        self._tokens: tuple[str, ...] = ()

    def add(self, token: str) -> None:
        """Mask one more token; the longest first, for it may hold another."""
        tokens = {*self._tokens, token} - {""}
        self._tokens = tuple(sorted(tokens, key=len, reverse=True))

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> logging.LogRecord:  # noqa: ANN401
        record = self._make(*args, **kwargs)
        text = _text(record)
        if text is None:  # the log call is wrong: its text is better than an exception
            record.msg, record.args = self._masked(_as_written(record.msg)), ()
        elif self._holds_token(text):
            record.msg, record.args = self._masked(text), ()
        if record.stack_info:
            record.stack_info = self._masked(record.stack_info)
        if record.exc_info:
            self._mask_exception(record)
        return record

    def _mask_exception(self, record: logging.LogRecord) -> None:
        """Replace an exception by its masked traceback, behind the message, if it holds a token.

        Formatters differ in what they take from a record's exception; all of them show its message.
        """
        exc_info = t.cast("t.Any", record.exc_info)
        try:
            trace = _formatter.formatException(exc_info)
            chain = [str(error) for error in _chain(exc_info[1])]
        except Exception:  # noqa: BLE001 - what cannot be shown cannot show the token
            record.exc_info = None
            return
        if self._holds_token("\n".join([trace, *chain])):
            record.msg, record.args = f"{_text(record)}\n{self._masked(trace)}", ()
            record.exc_info = None

    def _holds_token(self, text: str) -> bool:
        return any(token in text for token in self._tokens)

    def _masked(self, text: str) -> str:
        for token in self._tokens:
            text = text.replace(token, "***")
        return text


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and those behind it, also those that a traceback leaves out."""
    chain: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is other for other in chain):
            chain.append(one)
            waiting += [one.__cause__, one.__context__]
    return chain


def _text(record: logging.LogRecord) -> str | None:
    """Return a record's message, None if it cannot be formatted."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - any `__str__` may have been called
        return None


def _as_written(message: object) -> str:
    """Return the first argument of a log call as a text, without the other arguments."""
    try:
        return str(message)
    except Exception:  # noqa: BLE001 - as above
        return f"a message of type {type(message).__name__} that cannot be shown"
