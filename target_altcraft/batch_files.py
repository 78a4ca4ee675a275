"""The rows of a BATCH message's files."""

from __future__ import annotations

import gzip
import typing as t
import zlib
from contextlib import contextmanager
from urllib.parse import urlsplit

import fsspec

from target_altcraft.codec import decode_json
from target_altcraft.errors import InputError, SettingsError

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SHOWN_CHARACTERS = 200
_GZIP_FAULTS = (EOFError, gzip.BadGzipFile, zlib.error)


def rows(
    stream: str,
    encoding: t.Any,  # noqa: ANN401 - whatever the tap says
    manifest: t.Any,  # noqa: ANN401 - the same
    batch_config: Mapping[str, t.Any] | None,
) -> Iterator[tuple[t.Any, bytes]]:
    """Yield the rows of the files, one at a time, each with its line; blank lines are skipped.

    The files are opened by fsspec, as the SDK's taps do that write them: they may be local, or
    wherever an installed package of fsspec can read.

    Args:
        stream: The tap's name of the stream, for messages.
        encoding: `encoding` of the message: an object with `format` and perhaps `compression`.
        manifest: `manifest` of the message: an array of URLs.
        batch_config: The setting `batch_config`. If it is given, only the last part of each URL is
            used, and the folder is `storage.root`, opened with `storage.params`.

    Raises:
        InputError: If the message is malformed, or a file cannot be read or has another format.
        SettingsError: If `batch_config` has no `storage.root`.
    """
    if not isinstance(encoding, dict):
        raise InputError(f"stream '{stream}': the encoding of a BATCH message is not an object")
    if not isinstance(manifest, list) or not all(isinstance(url, str) for url in manifest):
        raise InputError(
            f"stream '{stream}': the manifest of a BATCH message is not an array of texts"
        )
    file_format, compression = encoding.get("format"), encoding.get("compression")
    if file_format != "jsonl" or compression not in (None, "none", "gzip"):
        packed = "" if compression is None else f" with compression '{_shown(compression)}'"
        raise InputError(
            f"stream '{stream}': BATCH files of format '{_shown(file_format)}'{packed} cannot be "
            "read; let the tap write jsonl, plain or gzip"
        )
    for url in manifest:
        yield from _rows_of_file(stream, url, batch_config, is_gzip=compression == "gzip")


def _rows_of_file(
    stream: str, url: str, batch_config: Mapping[str, t.Any] | None, *, is_gzip: bool
) -> Iterator[tuple[t.Any, bytes]]:
    name = f"BATCH file {_shown_url(url)}"
    number = 0
    with _opened(stream, name, *_place(url, batch_config)) as file:
        for line in gzip.GzipFile(fileobj=file) if is_gzip else file:
            number += 1
            if line.isspace():
                continue
            try:
                row = decode_json(line)
            except (ValueError, RecursionError):
                raise InputError(
                    f"stream '{stream}': row {number} of {name} is not valid JSON"
                ) from None
            yield row, line


def _place(url: str, batch_config: Mapping[str, t.Any] | None) -> tuple[str, Mapping[str, t.Any]]:
    """Return the URL that a file is read from, and the options of its file system."""
    if not batch_config:
        return url, {}
    try:
        storage = batch_config["storage"]
        root, params = storage["root"].rstrip("/"), storage.get("params") or {}
    except (KeyError, TypeError, AttributeError):
        raise SettingsError("batch_config has no storage with a root") from None
    return f"{root}/{url.rsplit('/', 1)[-1]}", params


@contextmanager
def _opened(
    stream: str, name: str, url: str, options: Mapping[str, t.Any]
) -> Iterator[t.IO[bytes]]:
    """Open a file; whatever fails until it is closed is one message.

    Raises:
        InputError: If it cannot be read. The words of a remote file system are not shown.
    """
    try:
        try:
            opener = fsspec.open(url, "rb", **options)
        except ValueError:
            raise _cannot_be_read(stream, name, "fsspec does not know such URLs") from None
        with opener as file:
            yield file
    except (InputError, MemoryError):
        raise
    except _GZIP_FAULTS:
        why = "it is not gzip, or damaged, or cut short"
    except ImportError as error:
        why = str(error)  # it names the package that is missing
    except Exception as error:  # noqa: BLE001 - each file system has errors of its own
        why = getattr(error, "strerror", None) or type(error).__name__
    else:
        return
    raise _cannot_be_read(stream, name, why)


def _cannot_be_read(stream: str, name: str, why: str) -> InputError:
    return InputError(f"stream '{stream}': {name} cannot be read: {why}")


def _shown_url(url: str) -> str:
    """Return a URL without what may be a secret: the user's part and the query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "of a URL that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return _shown(parts._replace(netloc=host, query="", fragment="").geturl())


def _shown(value: object) -> str:
    """Return a value of the input, cut to what belongs into a message."""
    text = " ".join(str(value)[: _SHOWN_CHARACTERS + 1].split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
