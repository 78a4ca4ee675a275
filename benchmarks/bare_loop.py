"""The floor: records from standard input to Altcraft with nothing that a target owes its user.

Decode, encode, join, post, poll, with the target's own libraries (msgspec, requests) and numbers as
exact as the target's; no SDK, no schema, no check, no STATE, no retry, no second batch under way.
"""

from __future__ import annotations

import sys
import time
import typing as t
from decimal import Decimal
from pathlib import Path

import msgspec
import requests

_BATCH_ROWS = 10_000
_POLL_SECONDS = 1.0
_TIMEOUT_SECONDS = 300


class Api:
    """One connection.

    Args:
        config: `api_url`, `token` and `workflow_id`.
    """

    def __init__(self, config: dict[str, t.Any]) -> None:
        self._session = requests.Session()
        self._url = config["api_url"]
        self._token = config["token"]
        root = {"token": self._token, "workflow_id": config["workflow_id"], "matching": "email"}
        self._start = msgspec.json.encode(root)[:-1] + b',"data":['

    def send(self, entries: list[bytes]) -> None:
        """Send a batch and wait until its task has ended."""
        body = self._start + b",".join(entries) + b"]}"
        task_id = self._call("workflows/import_and_start_batch_task", body)["task_id"]
        question = msgspec.json.encode({"token": self._token, "task_id": task_id})
        while self._call("tasks/status", question)["data"]["status"] != "completed":
            time.sleep(_POLL_SECONDS)

    def _call(self, method: str, body: bytes) -> t.Any:  # noqa: ANN401
        url = f"{self._url}/api/v1.1/{method}"
        return msgspec.json.decode(
            self._session.post(url, data=body, timeout=_TIMEOUT_SECONDS).content
        )


def main() -> None:
    """Read the configuration named on the command line, and standard input to its end."""
    api = Api(msgspec.json.decode(Path(sys.argv[-1]).read_bytes()))
    decode = msgspec.json.Decoder(float_hook=Decimal).decode
    encode = msgspec.json.Encoder(decimal_format="number").encode
    entries: list[bytes] = []
    for line in sys.stdin.buffer:
        message = decode(line)
        if message["type"] == "RECORD":
            entries.append(encode({"data": message["record"]}))
            if len(entries) == _BATCH_ROWS:
                api.send(entries)
                entries = []
    if entries:
        api.send(entries)


if __name__ == "__main__":
    main()
