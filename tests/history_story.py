"""Tells a history: what changed, what the tap sent, what arrived, what was said, what is wrong."""

from __future__ import annotations

import sys
import tempfile
import typing as t
from pathlib import Path

from fork_server import ForkServer
from histories import generate
from history_checks import judge
from history_run import play

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from histories import History, Run
    from history_run import Copy, Found, RunSeen
    from history_tap import Message

_SAID = ("| WARNING", "| ERROR", "stream '")


def tell(found: Found, faults: Sequence[str]) -> str:
    """Return the whole story, the faults first and last."""
    lines = [f"history {found.history.seed}: {len(faults)} faults", *_list(faults), ""]
    lines += plan_of(found.history)
    for run in found.runs:
        lines += ["", *_run(found, run)]
    return "\n".join([*lines, "", "faults:", *_list(faults)])


def plan_of(history: History) -> Iterator[str]:
    """Yield what holds for all runs."""
    for stream in history.streams:
        named = f", by the {stream.bookmark_by}" if stream.has_bookmark else ""
        kept = "" if stream.keeps_bookmark else ", not in the entry"
        yield (
            f"stream {stream.name}: replays by {stream.replay}{named}{kept}, "
            f"send_again {stream.send_again or 'not set'} ({stream.rule})"
        )


def _run(found: Found, seen: RunSeen) -> Iterator[str]:
    run = seen.run
    yield f"--- run {run.number} ---"
    yield from _list([f"changed: {change}" for change in seen.changes])
    yield f"  starts from {_state(seen.start)}{', as its STATE was lost' if run.refresh else ''}"
    yield from _list([f"server: {fault}" for fault in run.faults])
    yield f"  task seconds: {run.durations}; struck: {', '.join(seen.struck) or 'nothing'}"
    yield f"  settings: {', '.join(f'{name} {value}' for name, value in run.settings)}"
    yield from _input(seen)
    yield from _list(_tasks([copy for copy in found.copies if copy.run == run.number]))
    yield f"  {_ending(run)}; exit status {seen.status}"
    printed = [position for _, position in seen.printed]
    yield f"  STATE printed: {printed or 'none'}; saved: {seen.saved} ({run.save})"
    yield from _list([f"set aside: {reject.stream} {reject.source}" for reject in seen.rejects])
    yield f"  receipts: {', '.join(f'{r.stream} {r.id}' for r in seen.receipts) or 'none'}"
    yield from _list(
        [
            f"log: {line.split(' | ', 1)[-1]}"
            for line in seen.log.splitlines()
            if any(word in line for word in _SAID)
        ]
    )


def _input(seen: RunSeen) -> Iterator[str]:
    reads = {read.position: read for read in seen.input.reads}
    for position, message in enumerate(seen.input.messages):
        if read := reads.get(position):
            row = read.row
            moment = "" if row.moment is None else f" at {row.moment} ({read.source[-1]})"
            yield (
                f"  {position:3d} {read.stream} {row.id}{moment}: {row.email}, {row.city} "
                f"(change {row.change})"
            )
        elif message["type"] == "STATE":
            yield f"  {position:3d} {_state(message['value'])}"
    died = "the tap dies" if seen.run.dies is not None else "the input ends"
    hold = seen.run.ending.hold
    yield f"  {died}" + ("" if hold is None else f"; silent from {hold:.0%} on")


def _tasks(copies: list[Copy]) -> list[str]:
    tasks: dict[tuple[str, int], list[Copy]] = {}
    for copy in copies:
        tasks.setdefault((copy.task, copy.place[0]), []).append(copy)
    return [
        f"accepted: task {number} {task[:8]} at {group[0].at:.3f}, "
        + ("never over" if group[0].ends_at is None else f"over at {group[0].ends_at:.3f}")
        + ("" if group[0].certain else ", in doubt")
        + ": "
        + "; ".join(f"{copy.stream} {copy.id} {copy.form} {copy.outcome}" for copy in group)
        for (task, number), group in tasks.items()
    ]


def _ending(run: Run) -> str:
    ending = run.ending
    if ending.signal is None:
        return "runs to its end"
    return f"{ending.signal} {ending.delay:.3f} s after: {ending.event}, {ending.count} times"


def _state(value: Message | None) -> str:
    if value is None:
        return "no STATE"
    marks = {
        name: bookmark.get("replication_key_value", bookmark.get("offset"))
        for name, bookmark in value["bookmarks"].items()
    }
    return f"STATE {value['run']}.{value['position']} {marks}"


def _list(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def main(seeds: Sequence[str]) -> int:
    """Play the histories of these seeds, and tell them."""
    wrong = 0
    with ForkServer() as server:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                found = play(generate(int(seed)), Path(folder), server)
            faults = judge(found)
            wrong += bool(faults)
            sys.stdout.write(tell(found, faults) + "\n\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
