from __future__ import annotations

import typing as t

import pytest
from harness import TOKEN, run

from target_altcraft.sandbox import Sandbox

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Result


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(port=0, token=TOKEN) as running:
        yield running


@pytest.fixture
def config(sandbox: Sandbox) -> dict[str, t.Any]:
    """A configuration that delivers to the sandbox and does not wait longer than a test should."""
    return {
        "api_url": sandbox.url,
        "token": TOKEN,
        "workflow_id": 1,
        "poll_interval_seconds": 0.05,
        "request_timeout_seconds": 5,
        "retry_max_seconds": 5,
    }


@pytest.fixture
def deliver(config: dict[str, t.Any], tmp_path: Path) -> Callable[..., Result]:
    """Run the command over messages, with settings on top of `config`."""

    def _deliver(messages: t.Any, settings: dict[str, t.Any] | None = None, **how: t.Any) -> Result:
        return run(messages, {**config, **(settings or {})}, tmp_path, **how)

    return _deliver
