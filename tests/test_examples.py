"""The example export: as its script writes it, valid, and delivered by its configuration."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from decimal import Decimal
from pathlib import Path

import jsonschema
import yaml
from harness import TargetProcess

if t.TYPE_CHECKING:
    from target_altcraft.sandbox import Sandbox

ROOT = Path(__file__).resolve().parent.parent
EXPORT = ROOT / "examples" / "customers.singer"
CONFIG: dict[str, t.Any] = json.loads((ROOT / "examples" / "config.json").read_text())


def messages() -> list[dict[str, t.Any]]:
    lines = EXPORT.read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_float=Decimal) for line in lines]


def records(stream: str) -> list[dict[str, t.Any]]:
    return [m["record"] for m in messages() if m["type"] == "RECORD" and m["stream"] == stream]


def test_the_export_is_what_its_script_writes() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_examples.py"), "--check"]
    check = subprocess.run(command, check=False, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout


def test_the_records_of_the_export_are_valid_and_name_nobody_real() -> None:
    schemas = {m["stream"]: m["schema"] for m in messages() if m["type"] == "SCHEMA"}
    for message in messages():
        if message["type"] == "RECORD":
            schema, record = schemas[message["stream"]], message["record"]
            jsonschema.validate(record, schema, format_checker=jsonschema.FormatChecker())
            email = record["email" if "email" in record else "customer_email"]
            assert email is None or email.rpartition("@")[2] in {
                "example.com",
                "example.org",
                "example.net",
            }
    emails = [customer["email"] for customer in records("customers") if customer["email"]]
    assert len(set(emails)) == len(emails) == 293
    assert len(records("customers")) == 300
    assert {order["customer_email"] for order in records("orders")} < set(emails)


def test_meltano_is_configured_as_the_example_configuration() -> None:
    project = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    (environment,) = project["environments"]
    (loader,) = environment["config"]["plugins"]["loaders"]
    assert environment["name"] == project["default_environment"] == "demo"
    assert loader == {"name": "target-altcraft", "config": CONFIG}


def test_the_example_configuration_delivers_the_export(sandbox: Sandbox, tmp_path: Path) -> None:
    config = {**CONFIG, "api_url": sandbox.url, "poll_interval_seconds": 0.05}
    assert CONFIG["token"] == sandbox.token

    with (
        EXPORT.open("rb") as export,
        TargetProcess(config, tmp_path, stdin=export.fileno()) as target,
    ):
        result = target.wait()

    assert result.status == 0, result.stderr
    assert result.states[-1] == messages()[-1]["value"]
    customers, orders = records("customers"), records("orders")
    profiles = {profile["fields"]["customer_id"]: profile for profile in sandbox.profiles}
    assert len(profiles) == len(sandbox.profiles) == len(customers)
    for customer in customers:
        profile = profiles[customer["customer_id"]]
        assert bool(profile["messages"]) is (customer["email"] is not None)
        assert profile["runs"][1] == 1
        expected = {
            "customer_id": customer["customer_id"],
            "email": customer["email"],
            "phones": customer["phone"],
            "_fname": customer["first_name"],
            "_lname": customer["last_name"],
            "_bdate": customer["birth_date"] and f"{customer['birth_date']}T00:00:00Z",
            "_city": customer["city"],
            "_regdate": profile["fields"]["_regdate"],
            "bonus_points": customer["bonus_points"],
        }
        assert profile["fields"] == {k: v for k, v in expected.items() if v is not None}
    sent = [entry for task in sandbox.tasks if task.workflow_id == 2 for entry in task.entries]
    assert len(sent) == len(orders)
    for entry, order in zip(sent, orders, strict=True):
        email = order.pop("customer_email")
        subscription = {"channel": "email", "resource_id": 7, "email": email}
        assert entry == {
            "data": {"email": email, "subscriptions": [subscription]},
            "content": order,
        }
        assert str(entry["content"]["total"]) == str(order["total"])  # 1290.50 stays 1290.50
    assert profiles[1]["fields"]["_regdate"] == "2024-01-22T06:23:17Z"
