"""What Altcraft says when it is asked about scenarios before a run, within seconds.

Asking changes nothing on the server (developer guide, `workflows/list` and `tasks/status`).
"""

from __future__ import annotations

import dataclasses
import threading
import time
import typing as t
from collections import deque

from target_altcraft.answers import MAY_NOT_LIST, NO_SUCH_TASK, TOKEN_REFUSED
from target_altcraft.client import Client
from target_altcraft.errors import REPEATABLE, ApiError, Refused

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from target_altcraft.settings import Settings

CALL_SECONDS = 5.0
"""For connecting, and again for the answer."""
ALL_SECONDS = 10.0
"""For all answers; a name that is looked up, or an answer that comes by drops, may take longer."""
_REPEAT_SECONDS = 1.0
"""A call that failed is repeated if no more than this has passed since it began."""
_PAUSE_SECONDS = 0.3
_WORKERS = 4
_ANY_SCENARIO = 1
_NO_TASK = "00000000-0000-0000-0000-000000000000"

Workflow = dict[str, t.Any]
_T = t.TypeVar("_T")


@dataclasses.dataclass(slots=True)
class Answers:
    """What Altcraft said.

    Attributes:
        workflows: By scenario: its item of `workflows/list`, None if there is no such one, or what
            went wrong. A scenario that is not in it was not asked for, or not answered in time.
        first: What went wrong with the first call, or with all; None if nothing did.
        in_time: Whether every call was answered in time.
        token: Whether the token is accepted; None if that cannot be told.
        may_list: Whether the token may list scenarios.
    """

    workflows: dict[int, Workflow | ApiError | None] = dataclasses.field(default_factory=dict)
    first: ApiError | None = None
    in_time: bool = True
    token: bool | None = None
    may_list: bool = True


def ask(settings: Settings, workflow_ids: Sequence[int]) -> Answers:
    """Ask for scenarios; after a first answer that is good for all of them, for no others.

    Args:
        settings: The run's settings; its time-outs and retries are not used.
        workflow_ids: The scenarios; without any, the token is still tried.
    """
    quick = dataclasses.replace(settings, request_timeout_seconds=CALL_SECONDS)
    deadline = time.monotonic() + ALL_SECONDS
    answers = Answers()
    first, *others = workflow_ids or [_ANY_SCENARIO]
    first_only = deque([first])
    answers.in_time = _work([lambda: _ask_for(quick, first_only, answers)], deadline)
    if not answers.in_time:
        return answers
    answer = answers.workflows[first]
    if isinstance(answer, ApiError) and not isinstance(answer, Refused):
        answers.first = answer
        if answer.code in TOKEN_REFUSED - MAY_NOT_LIST:
            answers.token = False
        elif answer.code in MAY_NOT_LIST:
            answers.may_list = False
            _work([lambda: _try_token(quick, answers)], deadline)
        return answers
    answers.token = None if isinstance(answer, Refused) else True
    waiting = deque(others)
    work = [lambda: _ask_for(quick, waiting, answers)] * min(_WORKERS, len(others))
    answers.in_time = _work(work, deadline)
    return answers


def _work(jobs: Sequence[Callable[[], None]], deadline: float) -> bool:
    """Do jobs side by side; return whether they were done in time.

    What is not done by then is left behind: nothing interrupts the look-up of a name.
    """
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _ask_for(settings: Settings, waiting: deque[int], answers: Answers) -> None:
    """Ask for the scenarios that wait; several threads may share them."""
    client = Client(settings, threading.Event())
    while waiting:
        try:
            workflow_id = waiting.popleft()
        except IndexError:  # another thread was faster
            break
        try:
            answers.workflows[workflow_id] = _repeated(lambda: client.workflow(workflow_id))  # noqa: B023 - called at once
        except ApiError as error:
            answers.workflows[workflow_id] = error
    client.close()


def _try_token(settings: Settings, answers: Answers) -> None:
    """Find out whether a token that may not list scenarios is accepted at all.

    It is if the status of a task that does not exist is refused for that reason.
    """
    client = Client(settings, threading.Event())
    try:
        _repeated(lambda: client.status(_NO_TASK, CALL_SECONDS))
        answers.token = True
    except ApiError as error:
        if error.code in TOKEN_REFUSED:
            answers.token = False
        elif error.code in NO_SUCH_TASK:
            answers.token = True
    client.close()


def _repeated(call: Callable[[], _T]) -> _T:
    """Make a call; repeat it within the second that is allowed, if that may help."""
    began = time.monotonic()
    while True:
        try:
            return call()
        except REPEATABLE:
            if time.monotonic() + _PAUSE_SECONDS > began + _REPEAT_SECONDS:
                raise
        time.sleep(_PAUSE_SECONDS)
