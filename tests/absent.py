"""Programs that some tests need and a machine may lack: what was skipped, in one line."""

from __future__ import annotations

import collections
import typing as t

import pytest

PACKAGES = {"Chromium": "chromium chromium-driver", "PostgreSQL": "postgresql"}  # of Debian
_REASON = "is not installed here"


def skip(program: str) -> t.NoReturn:
    """Skip the test, because a program of `PACKAGES` is not installed."""
    pytest.skip(f"{program} {_REASON}")


def what_is_absent(reasons: t.Iterable[str]) -> str | None:
    """Return one line on the tests that were skipped, and how to have them; none, no line.

    Args:
        reasons: Of each skipped test, whatever it was skipped for.
    """
    number = collections.Counter(reasons)
    tests = {name: n for name in PACKAGES if (n := number[f"Skipped: {name} {_REASON}"])}
    if not tests:
        return None
    said = ", ".join(f"{n} for want of {name}" for name, n in tests.items())
    packages = " ".join(PACKAGES[name] for name in tests)
    return f"tests skipped: {said}; on Debian: apt-get install {packages}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it."""
    skipped = terminalreporter.stats.get("skipped", [])
    line = what_is_absent(each.longrepr[2] for each in skipped)
    if line:
        terminalreporter.write_line(line, yellow=True)
