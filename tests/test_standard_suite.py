"""The SDK's standard suite for targets, against the sandbox, and what we replace of the SDK."""

from __future__ import annotations

import hashlib
import inspect
import typing as t

import pytest
from harness import TOKEN
from singer_sdk import Target
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


REPLACED = {
    "_process_schema_message": "ed6e8449bc8ff234",
    "_process_record_message": "08aaf4096e2d39e7",
    "_process_state_message": "e27158e2b1e7ea6d",
    "_process_batch_message": "f26fbe519745daf2",
    "_process_activate_version_message": "377950028ca9b3eb",
    "_handle_max_record_age": "5762750ab1035404",
    "_handle_termination": "0d610b822293792b",
    "process_endofpipe": "cfb659b6898b0490",
    "drain_all": "1da0109210d345c4",
    "drain_one": "97c86cb67c13cf79",
    "invoke": "09090ea685c4bda1",
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_we_replace_of_the_sdk_is_what_we_know(name: str) -> None:
    """A new SDK that fails here must be read before the digest is renewed."""
    source = inspect.getsource(getattr(Target, name))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == REPLACED[name]
