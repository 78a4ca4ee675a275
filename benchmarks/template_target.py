"""The baseline: a target as the SDK's template gives it, with the API's calls filled in.

A `BatchSink` that gathers the records of a batch, posts them and waits for the task. Reader,
validator, dates, batches and drains are the SDK's own.
"""

from __future__ import annotations

import json
import time
import typing as t

import requests
from singer_sdk import typing as th
from singer_sdk.sinks import BatchSink
from singer_sdk.target_base import Target

_POLL_SECONDS = 1.0
_TIMEOUT_SECONDS = 300


class TemplateSink(BatchSink):
    """Sends a batch when it is full and waits for its task."""

    def process_batch(self, context: dict[str, t.Any]) -> None:
        """Send the records of a batch and wait until its task has ended."""
        task_id = self._call(
            "workflows/import_and_start_batch_task",
            workflow_id=self.config["workflow_id"],
            matching="email",
            data=[{"data": record} for record in context["records"]],
        )["task_id"]
        while self._call("tasks/status", task_id=task_id)["data"]["status"] != "completed":
            time.sleep(_POLL_SECONDS)

    def _call(self, method: str, **parameters: t.Any) -> t.Any:  # noqa: ANN401
        response = requests.post(
            f"{self.config['api_url']}/api/v1.1/{method}",
            data=json.dumps({"token": self.config["token"], **parameters}, default=str),
            headers={"Content-Type": "application/json"},
            timeout=_TIMEOUT_SECONDS,
        )
        response.raise_for_status()
        answer = response.json()
        if answer["error"]:
            raise RuntimeError(answer["error_text"])
        return answer


class TemplateTarget(Target):
    """Imports records as Altcraft profiles."""

    name = "target-template"
    config_jsonschema = th.PropertiesList(
        th.Property("api_url", th.StringType, required=True),
        th.Property("token", th.StringType, required=True, secret=True),
        th.Property("workflow_id", th.IntegerType, required=True),
    ).to_dict()
    default_sink_class = TemplateSink


if __name__ == "__main__":
    TemplateTarget.cli()
