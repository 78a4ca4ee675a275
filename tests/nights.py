"""One pipeline, run night after night over one journal."""

from __future__ import annotations

import signal
import typing as t

from harness import TargetProcess, record, run, schema, wait_for

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from fork_server import ForkServer
    from harness import Message, Result

    from target_altcraft.sandbox import Sandbox

NOON = "2024-05-06T12:00:00Z"
MORNING = "2024-05-06T09:00:00Z"
EVENING = "2024-05-06T18:00:00Z"
PROPERTIES = {
    "id": {"type": "integer"},
    "email": {"type": ["string", "null"]},
    "updated_at": {"type": "string", "format": "date-time"},
}
MISSING_TASK_SECONDS = "target_altcraft.delivery.polling:MISSING_TASK_SECONDS"


def bookmarked(column: str = "updated_at", stream: str = "customers", **more: t.Any) -> Message:
    """A SCHEMA with a key and one bookmark column."""
    return schema(
        stream,
        properties={**PROPERTIES, **more},
        bookmark_properties=[column],
        key_properties=["id"],
    )


def unbookmarked(stream: str = "customers", **more: t.Any) -> Message:
    """A SCHEMA with a key and without a bookmark."""
    return schema(stream, properties={**PROPERTIES, **more}, key_properties=["id"])


def at(number: int, moment: t.Any = NOON, stream: str = "customers", **fields: t.Any) -> Message:
    values = {"id": number, "email": f"c{number}@example.com", "updated_at": moment}
    return record(stream, **{**values, **fields})


class Nights:
    """Runs the target over one journal, with a sandbox that remembers what it was sent."""

    def __init__(
        self, sandbox: Sandbox, config: dict[str, t.Any], folder: Path, server: ForkServer
    ) -> None:
        self.sandbox = sandbox
        self.journal = folder / "journal.sqlite"
        self.folder = folder
        self.settings: dict[str, t.Any] = {
            **config,
            "journal_path": str(self.journal),
            "batch_size_rows": 1,
            "check_workflow": False,
        }
        self._server = server

    def _config(self, settings: dict[str, t.Any]) -> dict[str, t.Any]:
        merged = {**self.settings, **settings}
        return {name: value for name, value in merged.items() if value is not None}

    def start(self, patches: dict[str, t.Any] | None = None, /, **settings: t.Any) -> TargetProcess:
        return TargetProcess(
            self._config(settings), self.folder, server=self._server, patches=patches
        )

    def run(
        self,
        messages: Iterable[Message | str],
        patches: dict[str, t.Any] | None = None,
        /,
        **settings: t.Any,
    ) -> Result:
        """Run to the end of the input; a setting that is None is left out."""
        return run(
            messages, self._config(settings), self.folder, server=self._server, patches=patches
        )

    def good(self, messages: Iterable[Message | str], **settings: t.Any) -> Result:
        """Run to the end of the input, which must go well."""
        result = self.run(messages, **settings)
        assert result.status == 0, result.stderr
        return result

    def stopped(
        self,
        messages: Iterable[Message | str],
        when: Callable[[TargetProcess], t.Any],
        signum: int = signal.SIGKILL,
        /,
        **settings: t.Any,
    ) -> Result:
        """Feed messages, keep the input open, and send a signal once something has happened."""
        with self.start(**settings) as target:
            target.feed(messages)
            wait_for(lambda: when(target), "what the signal waits for")
            target.terminate(signum)
            return target.wait()

    def sent(self) -> list[int]:
        """The ids that the sandbox accepted, as often as it did, in ascending order."""
        return sorted(int(entry["data"]["id"]) for entry in self.sandbox.entries)

    def calls(self, endpoint: str) -> int:
        return sum(seen.endpoint == endpoint for seen in self.sandbox.requests)


def completed(number: int) -> Callable[[TargetProcess], bool]:
    """So many tasks are completed."""
    return lambda target: target.log().count("completed after") >= number


def accepted(number: int) -> Callable[[TargetProcess], bool]:
    """So many requests are accepted."""
    return lambda target: target.log().count("accepted as task") >= number


def twice(result: Result) -> list[str]:
    """The warnings that something may be sent twice."""
    return [line for line in result.log("WARNING") if "may enter the scenario twice" in line]


def warnings(result: Result) -> list[str]:
    """The warnings, save that no profile carried a subscription: no row of these tests does."""
    return [line for line in result.log("WARNING") if "carried a subscription" not in line]
