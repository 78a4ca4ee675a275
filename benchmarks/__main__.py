"""Run the benchmark: one table, and for a whole run `results.md` and `results.svg`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import QUICK, Sizes
from benchmarks.customers import Inputs
from benchmarks.measure import HERE, BenchmarkError
from benchmarks.parts import PARTS, measure
from benchmarks.report import VARY, chart, machine, page, table


def main() -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="run this part only")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat")
    parser.add_argument("--repeats", type=int, help="runs of each program (5)")
    parser.add_argument("--records", type=int, help="records of a run (100000)")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for results.md and results.svg; a whole run writes them beside this package, "
        "a part or a quick one nowhere",
    )
    args = parser.parse_args()
    given = {"records": args.records, "repeats": args.repeats}
    sizes = replace(
        QUICK if args.quick else Sizes(),
        **{name: number for name, number in given.items() if number is not None},
    )
    whole = not args.only and not args.quick
    output = args.output or (HERE if whole else None)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        try:
            results = measure(args.only or list(PARTS), sizes, Inputs(Path(folder)))
        except BenchmarkError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
    print(f"{table(results.rows)}\n\nMeasured on: {machine()}.\n{VARY}")
    if output:
        Path(output, "results.md").write_text(page(results, sizes), encoding="utf-8")
        Path(output, "results.svg").write_text(chart(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
