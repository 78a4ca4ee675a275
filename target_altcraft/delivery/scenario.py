"""The check of a scenario before the first record of a stream is sent."""

from __future__ import annotations

import logging
import typing as t

from target_altcraft.answers import MAY_NOT_LIST, shown_name
from target_altcraft.errors import Fatal, Refused, TaskError

if t.TYPE_CHECKING:
    from target_altcraft.client import Client
    from target_altcraft.delivery.window import Window
    from target_altcraft.report import Report
    from target_altcraft.settings import Settings, StreamSettings

logger = logging.getLogger(__name__)


def check_scenario(
    client: Client, stream: StreamSettings, window: Window, settings: Settings, report: Report
) -> None:
    """Make sure that the scenario of a stream exists and is active; note its name in the report.

    Asking changes nothing on the server (developer guide, `workflows/list`), so it is repeated
    like a submit.

    Raises:
        TaskError: If the token is refused, or the scenario is missing or not active.
    """
    where, workflow_id = f"stream '{stream.name}'", stream.workflow_id
    try:
        workflow = window.repeat(lambda: client.workflow(workflow_id), where)
    except Fatal as error:
        if error.code in MAY_NOT_LIST:
            logger.warning(
                "%s: scenario %d cannot be checked (%s); set check_workflow to false to skip this",
                where,
                workflow_id,
                error,
            )
            return
        raise TaskError(f"{where}: {error}. Nothing of this stream was sent") from error
    except Refused as error:
        raise TaskError(f"{where}: {error}. Nothing of this stream was sent") from error
    if workflow is None:
        raise TaskError(
            f"{where}: there is no scenario with workflow_id {workflow_id}. Nothing of this stream "
            "was sent"
        )
    report.scenario(stream.name, workflow_id, shown_name(workflow.get("name"), settings.token))
    if not workflow.get("is_active", True):
        raise TaskError(
            f"{where}: the scenario with workflow_id {workflow_id} is not active. Nothing of "
            "this stream was sent; activate it in Altcraft, or set check_workflow to false"
        )
