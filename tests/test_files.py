from __future__ import annotations

import errno
import os
import resource
import stat
import threading
import typing as t
from pathlib import Path

import pytest

from target_altcraft.errors import OutputError
from target_altcraft.files import JsonLines, sync_directory

if t.TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was put on disk, in order: names of files and folders."""
    names: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        names.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return names


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each write took."""
    sizes: list[int] = []
    write = os.write

    def noted(handle: int, data: t.Any) -> int:
        sizes.append(write(handle, data))
        return sizes[-1]

    monkeypatch.setattr(os, "write", noted)
    return sizes


def append(path: Path, *lines: bytes) -> None:
    file = JsonLines(str(path), "rejects_path")
    file.append(lines)
    file.close()


def test_lines_are_appended_and_readable_by_their_owner_alone(path: Path) -> None:
    append(path, b"1", b"2")
    append(path, b"3")
    assert path.read_bytes() == b"1\n2\n3\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_name_of_a_new_file_is_on_disk_before_its_lines(path: Path, synced: list[str]) -> None:
    append(path, b"1")
    assert synced == [str(path.parent), str(path)]


def test_folder_of_a_file_that_has_lines_is_left_alone(path: Path, synced: list[str]) -> None:
    path.write_bytes(b"1\n")
    append(path, b"2")
    assert synced == [str(path)]


def test_folder_of_a_file_behind_a_link_is_the_one_that_is_synced(
    path: Path, tmp_path: Path, synced: list[str]
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path.symlink_to(folder / "file")
    append(path, b"1")
    assert synced == [str(folder), str(folder / "file")]


def test_file_in_a_folder_that_cannot_be_synced_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def refuse_folders(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    append(path, b"1")
    assert path.read_bytes() == b"1\n"


def test_failing_disk_is_one_message_and_leaves_nothing_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OutputError) as caught:
        JsonLines(str(path), "rejects_path")
    assert str(caught.value) == f"rejects_path: {path} cannot be written: Input/output error"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    sync_directory(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "missing")
    with pytest.raises(OutputError, match=r"receipts_path: .* No such file or directory"):
        JsonLines(str(tmp_path / "missing" / "file"), "receipts_path")


@pytest.mark.parametrize("begun", [b'{"id": 1', b"{}\n{", b"\0"])
def test_line_cut_short_is_ended_before_the_next(path: Path, begun: bytes) -> None:
    path.write_bytes(begun)
    append(path, b"2")
    assert path.read_bytes() == begun + b"\n2\n"


def test_lines_that_the_system_takes_in_parts_are_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    append(path, b"12345", b"6789")
    assert path.read_bytes() == b"12345\n6789\n"


def test_file_that_nothing_is_appended_to_stays_as_it_is(path: Path) -> None:
    path.write_bytes(b'{"id": 1')
    append(path)
    assert path.read_bytes() == b'{"id": 1'


def test_line_that_a_full_disk_cut_is_ended_before_the_next(path: Path) -> None:
    file = JsonLines(str(path), "rejects_path")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OutputError) as caught:
            file.append([b"1234", b"567890"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"1234\n56789"
    file.append([b"next"])  # by a worker, while the main thread still says what failed
    file.append([b"last"])
    file.close()
    assert path.read_bytes() == b"1234\n56789\nnext\nlast\n"
    assert str(caught.value) == f"rejects_path: {path} cannot be written: File too large"


def test_lines_are_written_in_lots_and_put_on_disk_once(
    path: Path, writes: list[int], synced: list[str]
) -> None:
    line = b"x" * 999
    file = JsonLines(str(path), "receipts_path")
    synced.clear()
    file.append(line for _ in range(10_000))
    file.close()
    assert sum(writes) == 10_000 * 1000
    assert 2 < len(writes) <= 10
    assert synced == [str(path)]
    assert path.read_bytes() == (line + b"\n") * 10_000


def test_lot_is_written_before_the_next_is_made(path: Path, writes: list[int]) -> None:
    written = []

    def lines() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * (1 << 20)
            written.append(sum(writes))

    file = JsonLines(str(path), "receipts_path")
    file.append(lines())
    file.close()
    assert written == sorted(written)
    assert written[0] > 0


def test_lines_of_several_threads_do_not_mix(path: Path) -> None:
    file = JsonLines(str(path), "receipts_path")
    threads = [
        threading.Thread(target=file.append, args=([name * 3000] * 500,))
        for name in (b"a", b"b", b"c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 1500
    assert {(len(line), len(set(line))) for line in lines} == {(3000, 1)}


def test_pipe_is_written_to_as_well(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    append(path, b"1")
    assert os.read(reading, 10) == b"1\n"
    os.close(reading)
