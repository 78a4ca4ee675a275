from __future__ import annotations

import gzip
import json
import logging
import typing as t
from decimal import Decimal

import pytest

from target_altcraft.batch_files import rows
from target_altcraft.errors import InputError, SettingsError

if t.TYPE_CHECKING:
    from pathlib import Path

SECRET = "v4lue"
JSONL = {"format": "jsonl"}
GZIP = {"format": "jsonl", "compression": "gzip"}
DAMAGED = "cannot be read: it is not gzip, or damaged, or cut short"


def read(
    path: Path | str, encoding: t.Any = JSONL, config: dict[str, t.Any] | None = None
) -> list[t.Any]:
    url = path if isinstance(path, str) else f"file://{path}"
    return [row for row, _ in rows("customers", encoding, [url], config)]


def fault(path: Path | str, encoding: t.Any = JSONL) -> str:
    with pytest.raises(InputError) as caught:
        read(path, encoding)
    assert caught.value.__cause__ is None
    assert SECRET not in str(caught.value)
    return str(caught.value)


def lines(number: int) -> bytes:
    return b"".join(
        json.dumps({"id": n, "text": SECRET * 10}).encode() + b"\n" for n in range(number)
    )


@pytest.mark.parametrize(
    "encoding", [JSONL, GZIP, {**JSONL, "compression": None}, {**JSONL, "compression": "none"}]
)
def test_rows_come_in_order_with_numbers_as_they_are_written(
    tmp_path: Path, encoding: dict[str, t.Any]
) -> None:
    content = '{"price": 12.10, "name": "Ада"}\n[1]\n'.encode()
    path = tmp_path / "rows"
    path.write_bytes(gzip.compress(content) if encoding == GZIP else content)
    found = read(path, encoding)
    assert found == [{"price": Decimal("12.10"), "name": "Ада"}, [1]]
    assert str(found[0]["price"]) == "12.10"


def test_files_are_read_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(f'"{name}"\n', encoding="ascii")
    manifest = [f"file://{tmp_path / name}" for name in ("b", "a")]
    assert list(rows("customers", JSONL, manifest, None)) == [("b", b'"b"\n'), ("a", b'"a"\n')]


@pytest.mark.parametrize("encoding", [JSONL, GZIP])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\n  \r\n", b"\n\n\n"])
def test_blank_lines_are_no_rows(tmp_path: Path, encoding: t.Any, end: bytes) -> None:
    content = b'\n{"id": 1}\r\n\t\n{"id": 2}' + end
    path = tmp_path / "rows"
    path.write_bytes(gzip.compress(content) if encoding == GZIP else content)
    assert read(path, encoding) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("encoding", [JSONL, GZIP])
def test_empty_file_has_no_rows(tmp_path: Path, encoding: t.Any) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"")
    assert read(path, encoding) == []


def test_rows_are_yielded_while_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'{"id": 1}\n' * 10 + b"broken\n")
    found = rows("customers", JSONL, [f"file://{path}"], None)
    assert [next(found)[0] for _ in range(10)] == [{"id": 1}] * 10
    with pytest.raises(InputError, match="row 11 of BATCH file"):
        next(found)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4],
        lambda data: data[:5],
        lambda data: data[:100] + bytes([data[100] ^ 0xFF]) + data[101:],
        lambda data: data[:-8] + b"\0" * 8,
        lambda data: data + b"no gzip",
        lambda _: b'{"id": "v4lue"}\n',
        gzip.decompress,
    ],
)
def test_damaged_gzip_is_one_message_that_names_stream_and_file(
    tmp_path: Path, damage: t.Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(damage(gzip.compress(lines(500))))
    assert fault(path, GZIP) == f"stream 'customers': BATCH file file://{path} {DAMAGED}"


def test_every_flipped_byte_of_a_gzip_file_is_read_or_one_message(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    data = gzip.compress(lines(20))
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            read(path, GZIP)
        except InputError as error:
            assert SECRET not in str(error)  # noqa: PT017


@pytest.mark.parametrize("broken", [b"{", b"v4lue", b'{"a": "v4lue\xff"}', b"[" * 100_000])
def test_row_that_is_not_json_is_named_by_number_and_not_quoted(
    tmp_path: Path, broken: bytes
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'{"id": 1}\n\n' + broken + b"\n")
    assert fault(path) == f"stream 'customers': row 3 of BATCH file file://{path} is not valid JSON"


def test_file_that_is_not_there_is_named_and_no_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "rows"
    assert fault(path) == (
        f"stream 'customers': BATCH file file://{path} cannot be read: No such file or directory"
    )
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("unheard-of://bucket/rows", "fsspec does not know such URLs"),
        ("", "Is a directory"),
        ("http://[v4lue", ""),
    ],
)
def test_url_that_cannot_be_read_is_one_message(url: str, why: str) -> None:
    assert f"cannot be read: {why}" in fault(url)


def test_what_may_be_a_secret_in_a_url_is_not_shown() -> None:
    text = fault(f"unheard-of://{SECRET}:{SECRET}@host/rows.jsonl?signature={SECRET}#{SECRET}")
    assert "BATCH file unheard-of://host/rows.jsonl cannot" in text


def test_message_is_short_whatever_the_input_says() -> None:
    long = SECRET.upper() * 10_000
    assert len(fault(f"file:///tmp/{long}")) < 400
    assert len(fault("file:///tmp/x", {"format": long, "compression": [long]})) < 600


def test_error_of_a_file_system_is_one_message_without_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class ClientError(Exception):
        """As those of the cloud's libraries: no OSError."""

    def fail(*_: object, **__: object) -> t.NoReturn:
        raise ClientError(SECRET)

    monkeypatch.setattr("fsspec.core.OpenFile.__enter__", fail)
    assert fault(tmp_path / "x").endswith("cannot be read: ClientError")


@pytest.mark.parametrize("encoding", [None, "jsonl", ["jsonl"], 1])
def test_encoding_that_is_no_object_is_one_message(encoding: t.Any) -> None:
    assert fault("file:///tmp/x", encoding) == (
        "stream 'customers': the encoding of a BATCH message is not an object"
    )


@pytest.mark.parametrize("manifest", [None, "file:///tmp/x", {"a": 1}, [1], [None], ["x", ["y"]]])
def test_manifest_that_is_no_array_of_texts_is_one_message(manifest: t.Any) -> None:
    with pytest.raises(InputError) as caught:
        list(rows("customers", JSONL, manifest, None))
    assert str(caught.value) == (
        "stream 'customers': the manifest of a BATCH message is not an array of texts"
    )


@pytest.mark.parametrize(
    "encoding",
    [
        {},
        {"format": "parquet"},
        {"format": ["jsonl"]},
        {**JSONL, "compression": "zstd"},
        {**JSONL, "compression": ["gzip"]},
        {**JSONL, "compression": {}},
    ],
)
def test_other_formats_are_refused_even_without_files(encoding: dict[str, t.Any]) -> None:
    with pytest.raises(InputError, match="cannot be read; let the tap write jsonl, plain or gzip"):
        list(rows("customers", encoding, [], None))


# The setting batch_config


def test_files_are_read_from_the_storage_of_batch_config(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"1\n")
    config = {"encoding": JSONL, "storage": {"root": f"file://{tmp_path}/"}}
    assert read("s3://bucket/elsewhere/rows.jsonl", config=config) == [1]


def test_params_of_the_storage_go_to_its_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[t.Any] = []

    def opened(url: str, mode: str, **options: t.Any) -> t.Any:
        seen.append((url, mode, options))
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("fsspec.open", opened)
    config = {"storage": {"root": "s3://bucket/dir", "prefix": "x-", "params": {"key": SECRET}}}
    with pytest.raises(InputError) as caught:
        read("s3://bucket/other/rows.jsonl", config=config)
    assert SECRET not in str(caught.value)
    assert seen == [("s3://bucket/dir/rows.jsonl", "rb", {"key": SECRET})]


@pytest.mark.parametrize("storage", [None, {}, {"root": None}, "file:///tmp", ["x"]])
def test_storage_without_a_root_is_a_wrong_setting(storage: t.Any) -> None:
    with pytest.raises(SettingsError, match="batch_config has no storage with a root"):
        read("file:///tmp/x", config={"encoding": JSONL, "storage": storage})


def test_abandoned_rows_close_their_file_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"1\n2\n")
    with caplog.at_level(logging.DEBUG, "target_altcraft"):
        found = rows("customers", JSONL, [f"file://{path}"], None)
        assert next(found) == (1, b"1\n")
        t.cast("t.Generator[t.Any]", found).close()
    assert not caplog.records
