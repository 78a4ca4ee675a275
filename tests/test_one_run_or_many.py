"""What is sent does not depend on how records fall into runs, lots and batches.

Each record in a run of its own is the reference: there, everything before it is settled.
"""

from __future__ import annotations

import itertools
import os
import random
import typing as t

import pytest
from harness import TOKEN, state
from nights import MORNING, NOON, Nights, at, bookmarked

from target_altcraft.sandbox import Sandbox

if t.TYPE_CHECKING:
    from pathlib import Path

    from fork_server import ForkServer
    from harness import Message

SEEDS = int(os.environ.get("SOAK_SPLITS", "12"))
COLUMNS = ("city", "note")
"""Each SCHEMA names other ones: records become entries in another way."""


def head(columns: t.Sequence[str]) -> Message:
    more: dict[str, t.Any] = {column: {"type": "string"} for column in columns}
    more["updated_at"] = {"type": ["string", "null"], "format": "date-time"}
    return bookmarked(**more)


def story(dice: random.Random, send_again: str) -> list[tuple[Message, Message]]:
    """Records of a few rows, each with the SCHEMA that it stands behind."""
    heads = [head(COLUMNS[:number]) for number in range(len(COLUMNS) + 1)]
    if send_again != "new_version":  # which compares entries of one mapping alone
        heads = heads[:1]
    schema = dice.choice(heads)
    told = []
    for _ in range(dice.randint(3, 14)):
        if dice.random() < 0.3:
            schema = dice.choice(heads)
        row = at(
            dice.randint(1, 2),
            dice.choice([None, NOON, NOON, MORNING]),
            note=dice.choice("abc"),
        )
        told.append((schema, row))
    return told


def in_runs(
    told: t.Sequence[tuple[Message, Message]], dice: random.Random
) -> t.Iterator[list[Message]]:
    """The same records in a few runs; now and then a SCHEMA comes again."""
    ends = sorted(dice.sample(range(1, len(told)), dice.randint(0, 2)))
    for first, last in itertools.pairwise([0, *ends, len(told)]):
        messages: list[Message] = []
        before = None
        for schema, row in told[first:last]:
            if schema is not before or dice.random() < 0.2:
                messages.append(schema)
            messages.append(row)
            before = schema
        yield [*messages, state("end")]


def is_bad(entry: dict[str, t.Any]) -> bool:
    return bool(entry["data"]["note"] == "c")


def imported(sandbox: Sandbox) -> dict[int, list[tuple[t.Any, ...]]]:
    """What was imported of each row, in order."""
    rows: dict[int, list[tuple[t.Any, ...]]] = {}
    for entry in sandbox.entries:
        data = entry["data"]
        if not (sandbox.fail_where and sandbox.fail_where(entry)):
            rows.setdefault(data["id"], []).append((data.get("updated_at"), data["note"]))
    return rows


@pytest.mark.parametrize("seed", range(SEEDS))
def test_records_are_sent_as_if_each_came_in_a_run_of_its_own(
    config: dict[str, t.Any], fork_server: ForkServer, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    send_again = dice.choice(["new_version", "new_version", "changed", "never"])
    has_bad = dice.random() < 0.4
    told = story(dice, send_again)
    alone = [[schema, row, state("end")] for schema, row in told]
    together = list(in_runs(told, dice))
    split = {
        "batch_size_rows": dice.choice([1, 2, 50]),
        "task_seconds": dice.choice([0, 0.05]),
        "lot": dice.choice([1, 2, 250]),
    }

    def arrived(name: str, runs: list[list[Message]], split: dict[str, t.Any]) -> t.Any:
        folder = tmp_path / name
        folder.mkdir()
        with Sandbox(port=0, token=TOKEN, task_seconds=split.pop("task_seconds", 0)) as sandbox:
            sandbox.fail_where = is_bad if has_bad else None
            nights = Nights(sandbox, config | {"api_url": sandbox.url}, folder, fork_server)
            patches = {"target_altcraft.lot:_MOST_RECORDS": split.pop("lot", 250)}
            rejects = str(folder / "rejects.jsonl")
            for messages in runs:
                result = nights.run(
                    messages, patches, send_again=send_again, rejects_path=rejects, **split
                )
                assert result.status == 0, result.stderr
            return imported(sandbox)

    assert arrived("together", together, split) == arrived("alone", alone, {})
