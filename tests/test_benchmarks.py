from __future__ import annotations

import re
import subprocess
import sys
import typing as t
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECORDS = 500
DEADLINE_SECONDS = 110

ARRIVED = [
    ("10 columns, instant tasks", "target-altcraft", RECORDS),
    ("10 columns, instant tasks", "template", RECORDS),
    ("10 columns, instant tasks", "bare loop", RECORDS),
    ("10 tasks of 0.2 s, 1 in flight", "target-altcraft", 200),
    ("10 tasks of 0.2 s, 4 in flight", "target-altcraft", 200),
    ("10 tasks of 0.2 s, 10 in flight", "target-altcraft", 200),
    ("500 records, default settings", "target-altcraft", RECORDS),
    ("5,000 records, default settings", "target-altcraft", 10 * RECORDS),
    ("10 columns, stream map renames five", "target-altcraft", RECORDS),
    ("10 columns, stream map renames five", "template", RECORDS),
    ("60 columns", "target-altcraft", RECORDS // 5),
    ("60 columns", "template", RECORDS // 5),
    ("2 columns", "target-altcraft", RECORDS),
    ("2 columns", "template", RECORDS),
]


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def rows(text: str) -> list[tuple[str, str, int]]:
    """What was measured, of which program, and how many records the server counted."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line] for line in lines[2:]]
    return [(what, program, int(arrived.replace(",", ""))) for what, program, arrived, *_ in cells]


@pytest.mark.timeout(DEADLINE_SECONDS + 10)
def test_the_bench_measures_every_part_and_every_record_arrives(tmp_path: Path) -> None:
    result = bench("--records", str(RECORDS), "--output", str(tmp_path))

    assert result.returncode == 0, result.stderr
    assert rows(result.stdout) == ARRIVED
    assert "Absolute times vary" in result.stdout
    assert rows((tmp_path / "results.md").read_text(encoding="utf-8")) == ARRIVED
    chart = ET.parse(tmp_path / "results.svg").getroot()  # noqa: S314 - our own file
    texts = [element.text or "" for element in chart.iter("{http://www.w3.org/2000/svg}text")]
    for program in ("target-altcraft", "template", "bare loop"):
        assert any(text.endswith(program) for text in texts)


def test_one_part_is_measured_alone_and_leaves_the_results_as_they_are() -> None:
    results = ROOT / "benchmarks" / "results.md"
    before = results.read_bytes() if results.exists() else None

    result = bench("--records", "10", "--only", "memory")

    assert result.returncode == 0, result.stderr
    assert [arrived for _, _, arrived in rows(result.stdout)] == [10, 100]
    assert (results.read_bytes() if results.exists() else None) == before


def test_the_ratios_that_readme_claims_are_the_results_own() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("<!-- bench:begin -->")[2].partition("<!-- bench:end -->")[0]
    results = (ROOT / "benchmarks" / "results.md").read_text(encoding="utf-8")
    claims = re.findall(r"(\d+\.\d+) times", section)

    assert claims
    assert [claim for claim in claims if f"{claim} times" not in results] == []


def test_a_run_in_which_not_every_record_arrives_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.customers import Inputs  # noqa: PLC0415 - found by the line above
    from benchmarks.measure import BenchmarkError, run  # noqa: PLC0415

    source = Inputs(tmp_path).path("tiny", 3)

    assert run("bare loop", source, 3).arrived == 3
    with pytest.raises(BenchmarkError, match="3 of 4 records arrived"):
        run("bare loop", source, 4)


def test_a_program_that_fails_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.measure import BenchmarkError, run  # noqa: PLC0415 - found by the line above

    source = tmp_path / "broken"
    source.write_text("no JSON\n", encoding="utf-8")

    with pytest.raises(BenchmarkError, match=r"(?s)bare loop ended with status 1:.*DecodeError"):
        run("bare loop", source, 0)


def test_the_same_customers_come_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.customers import write_input  # noqa: PLC0415 - found by the line above

    kinds: tuple[t.Literal["customers", "wide", "tiny"], ...] = ("customers", "wide", "tiny")
    for kind in kinds:
        first, second = tmp_path / f"{kind}-1", tmp_path / f"{kind}-2"
        write_input(first, kind, 20)
        write_input(second, kind, 20)

        assert first.read_bytes() == second.read_bytes()
