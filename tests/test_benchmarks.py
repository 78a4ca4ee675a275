from __future__ import annotations

import json
import re
import subprocess
import sys
import typing as t
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from real_parts import MissingPartError

if t.TYPE_CHECKING:
    from real_parts import Postgres

ROOT = Path(__file__).resolve().parent.parent
RECORDS = 500
DEADLINE_SECONDS = 300  # the first run installs the tap

ARRIVED = [
    ("10 columns, instant tasks", "target-altcraft", RECORDS),
    ("10 columns, instant tasks", "template", RECORDS),
    ("10 columns, instant tasks", "bare loop", RECORDS),
    ("10 tasks of 0.2 s, 1 in flight", "target-altcraft", 200),
    ("10 tasks of 0.2 s, 4 in flight", "target-altcraft", 200),
    ("10 tasks of 0.2 s, 10 in flight", "target-altcraft", 200),
    ("60 batches of one row, tasks of 50 ms, 32 in flight", "target-altcraft", 60),
    ("30 streams of one row, tasks of 50 ms, 32 in flight", "target-altcraft", 30),
    ("500 records, default settings", "target-altcraft", RECORDS),
    ("5,000 records, default settings", "target-altcraft", 10 * RECORDS),
    ("10 columns, stream map renames five", "target-altcraft", RECORDS),
    ("10 columns, stream map renames five", "template", RECORDS),
    ("60 columns", "target-altcraft", RECORDS // 5),
    ("60 columns", "template", RECORDS // 5),
    ("2 columns", "target-altcraft", RECORDS),
    ("2 columns", "template", RECORDS),
    ("1,000 records, no journal", "target-altcraft", 2 * RECORDS),
    ("1,000 records, new journal", "target-altcraft", 2 * RECORDS),
    ("1,000 records of one bookmark", "target-altcraft", 2 * RECORDS),
    ("1,000 records without a bookmark", "target-altcraft", 2 * RECORDS),
    ("1,000 records, delivered before", "target-altcraft", 0),
    ("1 record, new journal", "target-altcraft", 1),
    ("1 record, journal of 20,000", "target-altcraft", 1),
    ("1,000 new records, journal of no others", "target-altcraft", 2 * RECORDS),
    ("1,000 new records, journal of 20,000", "target-altcraft", 2 * RECORDS),
    ("1,000 records delivered before, journal of no others", "target-altcraft", 0),
    ("1,000 records delivered before, journal of 20,000", "target-altcraft", 0),
    ("500 records, production settings", "target-altcraft", RECORDS),
    ("500 records, production settings", "template", RECORDS),
    ("500 records, production settings without the files", "target-altcraft", RECORDS),
    ("5,000 records, production settings", "target-altcraft", 10 * RECORDS),
]
PIPED = ("1,000 rows of PostgreSQL, by tap-postgres", "target-altcraft", 2 * RECORDS)
"""Where a PostgreSQL server is installed."""

JOURNAL_CLAIMS = {
    r"at most ([\d.]+) times the time without a journal": (
        4,
        r"([\d.]+) times [^|;]* the time without a journal",
    ),
    r"at most ([\d.]+) bytes on disk": (2, r"([\d.]+) bytes on disk for each version"),
    r"at most ([\d.]+) second later": (1, r"(-?[\d.]+) s more [^|;]* than with a new journal"),
    r"at most ([\d.]+) times as long": (
        2,
        r"([\d.]+) times [^|;]* the time with a journal of no others",
    ),
}
"""What README says of the journal, and how often and in which words the results say how it is."""

PRODUCTION_CLAIMS = {
    r"([\d.]+) times as fast as the template with the same map": (
        "100,000 records, production settings ",
        r"([\d.]+) times [^|;]* as fast as the template",
    ),
    r"([\d.]+) times the time without the four files": (
        "100,000 records, production settings ",
        r"([\d.]+) times [^|;]* the time without the four files",
    ),
    r"([\d.]+) times the peak of 100,000 records in these settings": (
        "1,000,000 records, production settings ",
        r"([\d.]+) times [^|;]* the peak of 100,000 records",
    ),
    r"([\d.]+) % of the CPU time of tap-postgres and the target": (
        "200,000 rows of PostgreSQL, by tap-postgres ",
        r"([\d.]+) % [^|;]* of the CPU time of tap and target",
    ),
}
"""What README says of production, and the row and the words in which the results say it."""


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
    arrived = ARRIVED if "tap skipped: " in result.stderr else [*ARRIVED, PIPED]
    assert rows(result.stdout) == arrived
    assert "Absolute times vary" in result.stdout
    assert rows((tmp_path / "results.md").read_text(encoding="utf-8")) == arrived
    chart = ET.parse(tmp_path / "results.svg").getroot()  # noqa: S314 - our own file
    texts = [element.text or "" for element in chart.iter("{http://www.w3.org/2000/svg}text")]
    for program in ("target-altcraft", "template", "bare loop"):
        assert any(text.endswith(program) for text in texts)


@pytest.mark.timeout(DEADLINE_SECONDS + 10)
def test_a_real_tap_is_measured_and_its_share_told(tap: Path, postgres: Postgres) -> None:
    del tap, postgres  # they are here, then
    result = bench("--records", "50", "--only", "tap")

    assert result.returncode == 0, result.stderr
    assert rows(result.stdout) == [
        ("100 rows of PostgreSQL, by tap-postgres", "target-altcraft", 100)
    ]
    assert re.search(r"\| \d+\.\d % \(.*\) of the CPU time of tap and target;", result.stdout)


@pytest.mark.parametrize("missing", ["database", "tap"])
def test_without_a_database_or_the_tap_one_line_says_so_and_there_is_no_row(
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import piped  # noqa: PLC0415 - found by the line above
    from benchmarks.bench import QUICK  # noqa: PLC0415
    from benchmarks.customers import Inputs  # noqa: PLC0415
    from benchmarks.parts import measure  # noqa: PLC0415

    def no_database() -> None:
        raise MissingPartError("no PostgreSQL server is installed")

    def no_tap(*_: t.Any) -> Path:
        if missing == "tap":
            raise subprocess.CalledProcessError(1, "pip")
        return tmp_path

    monkeypatch.setattr(piped, "database", no_database)
    monkeypatch.setattr(piped, "environment", no_tap)

    results = measure(["tap"], QUICK, Inputs(tmp_path))

    assert results.rows == []
    assert (
        capsys.readouterr().err
        == {
            "database": "tap skipped: no PostgreSQL server is installed\n",
            "tap": "tap skipped: tap-postgres cannot be installed: pip's exit status was 1\n",
        }[missing]
    )


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
    claims = re.findall(r"(?<!at most )(\b\d+\.\d+) times", section)

    assert claims
    assert [claim for claim in claims if f"{claim} times" not in results] == []


@pytest.mark.parametrize("claim", JOURNAL_CLAIMS)
def test_what_readme_claims_of_the_journal_holds_in_the_results(claim: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("<!-- bench:begin -->")[2].partition("<!-- bench:end -->")[0]
    results = (ROOT / "benchmarks" / "results.md").read_text(encoding="utf-8")
    number, measured = JOURNAL_CLAIMS[claim]

    (most,) = re.findall(claim, " ".join(section.split()))
    figures = [float(figure) for figure in re.findall(measured, results)]

    assert len(figures) == number
    assert max(figures) <= float(most)


@pytest.mark.parametrize("claim", PRODUCTION_CLAIMS)
def test_readme_claims_of_production_what_the_results_say_and_nothing_without_them(
    claim: str,
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = (ROOT / "benchmarks" / "results.md").read_text(encoding="utf-8")
    row, measured = PRODUCTION_CLAIMS[claim]

    figures = [
        figure
        for line in results.splitlines()
        if line.startswith(f"| {row}")
        for figure in re.findall(measured, line)
    ]

    assert re.findall(claim, " ".join(readme.split())) == figures
    assert len(figures) <= 1


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


def test_a_run_in_which_nothing_is_to_arrive_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.customers import Inputs  # noqa: PLC0415 - found by the line above
    from benchmarks.measure import BenchmarkError, run  # noqa: PLC0415

    source = Inputs(tmp_path).path("customers", 3, bookmark="ascending")
    settings = {"journal_path": str(tmp_path / "journal.sqlite")}

    assert run("target-altcraft", source, 3, settings=settings).arrived == 3
    assert run("target-altcraft", source, 0, settings=settings).arrived == 0
    with pytest.raises(BenchmarkError, match="0 of 3 records arrived"):
        run("target-altcraft", source, 3, settings=settings)


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


@pytest.mark.parametrize(("bookmark", "values"), [("ascending", 20), ("one", 1)])
def test_customers_with_a_bookmark_are_the_same_but_for_it(
    bookmark: t.Literal["ascending", "one"],
    values: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.customers import write_input  # noqa: PLC0415 - found by the line above

    def written(name: str, **how: t.Any) -> list[dict[str, t.Any]]:
        write_input(tmp_path / name, "customers", 20, **how)
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    schema, *plain = written("plain")
    marked_schema, *marked = written("marked", bookmark=bookmark)

    assert marked_schema == schema | {"bookmark_properties": ["updated_at"]}
    assert len({m["record"].pop("updated_at") for m in marked if "record" in m}) == values
    for message in plain:
        message.get("record", {}).pop("updated_at", None)
    assert marked == plain
