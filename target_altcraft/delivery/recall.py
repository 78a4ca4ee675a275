"""Tasks that an earlier run left: asked about before a byte of input is read."""

from __future__ import annotations

import logging
import typing as t

from target_altcraft.errors import TaskError, TaskFailed, TaskTimedOut, TaskVanished, Unattributable
from target_altcraft.messages import rerun_in_doubt
from target_altcraft.results import attributed, not_imported

if t.TYPE_CHECKING:
    from target_altcraft.client import Client
    from target_altcraft.delivery.window import Window
    from target_altcraft.memory.resume import Leftovers
    from target_altcraft.memory.sent import Leftover
    from target_altcraft.settings import Settings

logger = logging.getLogger(__name__)


def recall(
    client: Client,
    leftover: Leftover,
    leftovers: Leftovers,
    window: Window,
    settings: Settings,
    failures: list[TaskError],
) -> None:
    """Await a task of an earlier run, and write down what became of it.

    What is found out is kept: the next run does not ask again. A task that failed is added to
    `failures`: the others are asked about before the run fails.

    Raises:
        TaskError: If the token is refused.
    """
    task_id = t.cast("str", leftover.task_id)
    name = f"{leftover.name}, task {task_id}, of an earlier run"
    count = len(leftover.versions)
    is_known = leftover.state == "completed"  # asked for the profiles' ids alone
    try:
        status = window.await_task(client, task_id, name, count)
        results, faults = attributed(name, status.results or [], count)
    except (TaskFailed, TaskVanished, TaskTimedOut, Unattributable) as error:
        if is_known:
            leftovers.close(leftover)
        elif isinstance(error, TaskFailed):
            leftovers.doubtful(leftover, "failed", not_imported(error.results, count))
            failures.append(TaskError(f"{error}. {rerun_in_doubt(settings)}"))
        else:
            logger.warning("%s", error)
            is_gone = isinstance(error, TaskVanished)
            leftovers.doubtful(leftover, "vanished" if is_gone else "unfinished")
    else:
        leftovers.completed(leftover, results, [fault.position for fault in faults])
