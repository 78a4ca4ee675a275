from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from absent import what_is_absent

TESTS = Path(__file__).resolve().parent

SUITE = """
import absent, pytest

@pytest.mark.parametrize("program", ["Chromium", "PostgreSQL", "Chromium"])
def test_something(program):
    absent.skip(program)

def test_another():
    pytest.skip("for a reason of its own")
"""


def said(folder: Path, test: str, *arguments: str, path: str | None = None) -> list[str]:
    """Return the lines of a run of pytest, with the conftest of this suite, on what is absent."""
    (folder / "test_it.py").write_text(test, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS), **({"PATH": path} if path else {})},
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "apt-get" in line]


def test_what_was_skipped_is_said_in_one_line_with_the_packages(tmp_path: Path) -> None:
    (line,) = said(tmp_path, SUITE, "-n", "2")
    assert line == (
        "tests skipped: 2 for want of Chromium, 1 for want of PostgreSQL; "
        "on Debian: apt-get install chromium chromium-driver postgresql"
    )


def test_a_test_in_the_browser_is_skipped_where_there_is_none(tmp_path: Path) -> None:
    (line,) = said(tmp_path, "def test_it(driver): pass", path=str(tmp_path))
    assert line == (
        "tests skipped: 1 for want of Chromium; on Debian: apt-get install chromium chromium-driver"
    )


def test_nothing_is_said_where_nothing_is_absent() -> None:
    assert what_is_absent([]) is None
    assert what_is_absent(["Skipped: for a reason of its own"]) is None
