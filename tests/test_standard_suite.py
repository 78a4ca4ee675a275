"""The SDK's standard suite for targets, against the sandbox."""

from __future__ import annotations

import typing as t

import pytest
from harness import TOKEN
from singer_sdk.testing import get_target_test_class

from target_altcraft.sandbox import Sandbox
from target_altcraft.target import TargetAltcraft

_sandbox = Sandbox(port=0, token=TOKEN)
_sandbox.start()


def _by_id(field: str = "id") -> dict[str, t.Any]:
    return {"matching": "custom", "field_name": field}


_QUERY = {"matching": "custom_request", "custom_request_column": "object_store"}

CONFIG = {
    "api_url": _sandbox.url,
    "token": TOKEN,
    "workflow_id": 1,
    "poll_interval_seconds": 0.01,
    **_by_id(),
    "streams": {
        # Streams whose key has another name.
        "TestCamelcase": _by_id("Id"),
        "ForecastingTypeToCategory": _by_id("Id"),
        "test:SpecialChars!in?attributes": _by_id("_id"),
        # Streams without any: the record's only column is taken for a query.
        "test_object_schema_with_properties": _QUERY,
        "test_object_schema_no_properties": _QUERY,
    },
}

StandardSuite = get_target_test_class(TargetAltcraft, config=CONFIG, parse_env_config=False)


class TestStandardSuite(StandardSuite):  # type: ignore[misc, valid-type]
    """Nothing is left out."""

    @pytest.fixture(autouse=True, scope="class")
    @staticmethod
    def _running() -> t.Iterator[None]:
        yield
        _sandbox.stop()
