"""The documentation says what is true: links, settings, messages, and recipes that are run."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import re
import stat
import subprocess
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
import singer_sdk.mapper
import yaml
from harness import COMMAND, TOKEN, record, schema, state

from target_altcraft import misspelt, settings_schema
from target_altcraft import settings as settings_module
from target_altcraft.batch import MAX_AGE_SECONDS
from target_altcraft.delivery.polling import MISSING_TASK_SECONDS
from target_altcraft.delivery.request import TRANSITIONS
from target_altcraft.delivery.sender import MAX_RESENDS
from target_altcraft.delivery.split import MAX_PER_REFUSED, MAX_REFUSED, MAX_REFUSED_AT_FIRST
from target_altcraft.messages import SENT_AGAIN, TWICE
from target_altcraft.sandbox import Sandbox, Workflow
from target_altcraft.sandbox.faults import KINDS
from target_altcraft.target import TargetAltcraft

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Message, Result

    Deliver = Callable[..., Result]

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RECOVERY, TROUBLESHOOTING = DOCS / "recovery.md", DOCS / "troubleshooting.md"
DEFINITION = ROOT / "target-altcraft.yml"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
FOR_USERS = [page for page in PAGES if page.name not in {"CONTRIBUTING.md", "decisions.md"}]

STREAM_OF_ROW = 100  # the scenario of the first row in the table of matching modes


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# What stands in a page


class Block(t.NamedTuple):
    page: Path
    language: str
    recipe: str
    part: str
    text: str


_FENCE = re.compile(r"^```(\w+)(?: recipe=(\S+) (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")


def blocks_of(page: Path) -> Iterator[Block]:
    for language, recipe, part, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        yield Block(page, language, recipe, part, text)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def recipe_block(name: str, part: str) -> str:
    (text,) = (block.text for block in BLOCKS if (block.recipe, block.part) == (name, part))
    return text


def prose_of(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def tables_of(page: Path) -> Iterator[list[list[str]]]:
    """Yield each table as its rows, the header first."""
    for table in re.findall(r"(?:^\|.*\|\n)+", prose_of(page), re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        yield [[cell.strip() for cell in row] for row in rows if set("".join(row)) != {"-", " "}]


# Links


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that the web host gives to a page's headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose_of(page)):
        slug = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_images_resolve_in_a_checkout(page: Path) -> None:
    broken = []
    for link in _LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_inside = target == ROOT or ROOT in target.parents
        is_there = target.exists()
        if not (is_inside and is_there) or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_found_from_the_index() -> None:
    linked = {(DOCS / link).resolve() for link in _LINK.findall(prose_of(DOCS / "index.md"))}
    assert {page for page in DOCS.glob("*.md") if page.name != "index.md"} <= linked


# Examples are valid


def json_values(text: str) -> list[t.Any]:
    """Return the one value of a block, or one for each of its lines."""
    try:
        return [json.loads(text, parse_float=Decimal)]
    except ValueError:
        return [json.loads(line, parse_float=Decimal) for line in text.splitlines()]


def linted_dockerfile(text: str) -> None:
    # DL3006: the base is the reader's own image, so it has no version
    hadolint = Path(COMMAND).with_name("hadolint")
    command = [str(hadolint), "--ignore", "DL3006", "-"]
    subprocess.run(command, input=text, text=True, check=True)


def test_the_examples_in_json_yaml_python_and_shell_are_valid() -> None:
    checks: dict[str, Callable[[str], object]] = {
        "json": json_values,
        "yaml": yaml.safe_load,
        "python": lambda text: compile(text, "example", "exec"),
        "bash": lambda text: subprocess.run(["bash", "-n"], input=text, text=True, check=True),
        "dockerfile": linted_dockerfile,
        "text": str,
        "mermaid": str,
    }
    for block in BLOCKS:
        checks[block.language](block.text)
    assert {block.language for block in BLOCKS} >= checks.keys()


def full_schema() -> dict[str, t.Any]:
    properties = dict(settings_schema.SCHEMA["properties"])
    whole = {**settings_schema.SCHEMA, "properties": properties}
    TargetAltcraft.append_builtin_config(whole)
    return whole


def loader(text: str) -> dict[str, t.Any]:
    (environment,) = yaml.safe_load(text)["environments"]
    (plugin,) = environment["config"]["plugins"]["loaders"]
    return t.cast("dict[str, t.Any]", plugin)


def configurations() -> Iterator[tuple[str, dict[str, t.Any]]]:
    for block in BLOCKS:
        if block.part == "config":
            yield block.recipe, yaml.safe_load(block.text)
        elif block.part == "meltano":
            yield block.recipe, loader(block.text)["config"]


def test_every_setting_of_an_example_exists_and_is_right() -> None:
    schema_ = full_schema()
    for recipe, config in configurations():
        whole = {"api_url": "https://altcraft.example", "token": TOKEN, **config}
        assert settings_module.check(whole, schema_) == [], recipe
        assert list(misspelt.unknown_names(whole, schema_)) == [], recipe


_NAME = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")
# Names in back-ticks that are not settings, by where they come from.
_OTHER_NAMES = {
    *("task_id", "profile_id", "error_text", "field_value", "custom_request"),  # API
    *("skip_in_any_case",),  # API, a mode of scenarios
    *("subscription_id", "resource_id", "telegram_bot"),  # API, subscriptions
    *("new_version", "bad_subscriptions", "in_doubt"),  # values of `send_again`, rejects
    *("delivered_at",),  # receipts
    *("email_profile", "bookmark_properties"),  # matching modes, Singer
    *("birth_date", "customer_email", "updated_at", "registered_at", "created_at"),  # columns
    *("order_id", "old_email", "email_profile"),
    *(kind for kinds in KINDS.values() for kind in kinds),  # the sandbox's faults
    *("killed_task_cleanup_time", "pip_url"),  # Airflow, Meltano
    *("missing_key", "no_match_value", "bad_match_value", "bad_date", "stream_map"),  # rejects
    *("bad_attach", "bad_custom_request", "too_large", "not_json"),
}


@pytest.mark.parametrize("page", FOR_USERS, ids=name_of)
def test_every_setting_in_back_ticks_exists(page: Path) -> None:
    known = full_schema()["properties"].keys() | _OTHER_NAMES
    unknown = set()
    for code in _CODE.findall(prose_of(page)):
        name = code.split(":")[0]
        if _NAME.fullmatch(name) and name not in known:
            unknown.add(name)
        if code.startswith(settings_module.ENV_PREFIX):
            variable = re.split(r"\W", code)[0].removeprefix(settings_module.ENV_PREFIX).lower()
            if variable not in {*known, "loglevel", ""}:
                unknown.add(code)
    assert unknown == set()


# Messages are those of the code

_HOLE = "…"
_PLACEHOLDER = re.compile(r"%[-+\d.]*[sdfgr]|\{\w+\}")
_SHARED = {"TWICE": TWICE, "SENT_AGAIN": SENT_AGAIN}


def _part(node: ast.expr) -> str:
    """Return what a part of an f-string says."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    name = node.value if isinstance(node, ast.FormattedValue) else None
    return _SHARED.get(name.id, _HOLE) if isinstance(name, ast.Name) else _HOLE


def said_by(path: Path) -> Iterator[str]:
    """Yield every text of a module, with a hole for what is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner.update(node.values)
            yield "".join(map(_part, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield _PLACEHOLDER.sub(_HOLE, node.value)


def messages_of(page: Path) -> Iterator[str]:
    for header, *rows in tables_of(page):
        if header[0] == "message":
            for row in rows:
                yield from _CODE.findall(row[0])


@pytest.mark.parametrize("page", [TROUBLESHOOTING, RECOVERY], ids=name_of)
def test_every_message_that_is_explained_is_one_that_is_said(page: Path) -> None:
    ours = set((ROOT / "target_altcraft").rglob("*.py"))
    ours -= set((ROOT / "target_altcraft" / "sandbox").iterdir())
    modules = [*sorted(ours), Path(singer_sdk.mapper.__file__)]
    said = "\n".join(text for module in modules for text in said_by(module))
    messages = list(messages_of(page))
    assert len(messages) > 10
    unsaid = []
    for message in messages:
        wanted = re.sub(r"^(workflows/list|tasks/status): ", "", message)
        wanted = re.sub(r"\b(error|HTTP) \d+", rf"\1 {_HOLE}", wanted).strip(f"{_HOLE} .")
        if wanted not in said:
            unsaid.append(message)
    assert unsaid == []


def test_the_bounds_that_are_told_are_those_of_the_code() -> None:
    text = " ".join(prose_of(DOCS / "how-delivery-works.md").split())
    for told in (
        f"open for {MAX_AGE_SECONDS:.0f} seconds (`batch.py`)",
        f"at most {MAX_RESENDS} times (`sender.py`)",
        f"at most {MAX_REFUSED_AT_FIRST} requests while",
        f"at most {MAX_PER_REFUSED} more for each refused entry",
        f"at most {MAX_REFUSED} such entries",
        f"during {MISSING_TASK_SECONDS:.0f} seconds (`polling.py`)",
    ):
        assert told in text


def test_the_transitions_that_are_told_are_those_of_a_request() -> None:
    page = DOCS / "how-delivery-works.md"
    (rows,) = (table[1:] for table in tables_of(page) if table[0][0] == "state")
    told = {}
    for state_, events in rows:
        for event, after in re.findall(r"([a-z ]+): `([a-z ]+)`", events):
            told[state_.strip("`"), event.strip()] = after
    assert told == {
        (before.value, event.value): after.value for (before, event), after in TRANSITIONS.items()
    }


def test_the_faults_that_are_told_are_those_of_the_sandbox() -> None:
    page = DOCS / "sandbox.md"
    (rows,) = (table for table in tables_of(page) if table[0] == ["endpoint", "kinds"])
    calls, tasks = (set(_CODE.findall(row[1])) - {"submit"} for row in rows[1:])
    assert calls == set(KINDS["submit"])
    only_submit = {"no_task_id", "nested_id"}
    assert set(KINDS["submit"]) - only_submit == set(KINDS["status"]) == set(KINDS["list"])
    assert tasks == set(KINDS["task"])
    shell = "\n".join(block.text for block in blocks_of(page) if block.language == "bash")
    faults = re.findall(r"--fault (\S+)", shell)
    assert len(faults) >= 5
    sandbox = Sandbox(port=0)
    for fault in faults:
        sandbox.add_fault(fault)


# Recipes are run


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that has the scenarios of the documentation."""
    numbers = [2, 12, 34, 56, 78, *range(STREAM_OF_ROW, STREAM_OF_ROW + 20)]
    workflows = [Workflow(number, f"Scenario {number}") for number in numbers]
    with Sandbox(port=0, token=TOKEN, workflows=workflows) as running:
        yield running


@pytest.fixture
def adapted(sandbox: Sandbox) -> Callable[[dict[str, t.Any]], dict[str, t.Any]]:
    """Direct a configuration of the documentation at the sandbox."""

    def _adapted(config: dict[str, t.Any]) -> dict[str, t.Any]:
        where = {"api_url": sandbox.url, "token": TOKEN, "workflow_id": None}
        return {**config, **where, "poll_interval_seconds": 0.05}

    return _adapted


def plain(value: t.Any) -> t.Any:
    """Return a JSON value with its decimals as digits: 12.10 is not 12.1 here."""
    return json.loads(json.dumps(value, default=str))


def arrived(sandbox: Sandbox) -> dict[str, list[t.Any]]:
    found: dict[str, list[t.Any]] = {}
    for task in sandbox.tasks:
        found.setdefault(str(task.workflow_id), []).extend(plain(task.entries))
    return found


UNHEARD = (
    "the scenario reaches only those whose profile has one already. To subscribe them, set "
    "subscriptions"
)
WITH_INPUT = [block.recipe for block in BLOCKS if block.part == "arrives"]


def test_the_recipes_are_those_that_are_expected() -> None:
    assert set(WITH_INPUT) == {
        *("screen", "first", "welcome", "since", "orders", "crm-id", "phone", "scenarios")
    }


@pytest.mark.parametrize("recipe", WITH_INPUT)
def test_what_a_recipe_says_arrives(
    sandbox: Sandbox,
    deliver: Deliver,
    adapted: Callable[[dict[str, t.Any]], dict[str, t.Any]],
    recipe: str,
) -> None:
    lines = recipe_block(recipe, "input").splitlines()
    config = yaml.safe_load(recipe_block(recipe, "config"))
    result = deliver(lines, adapted(config))
    assert result.status == 0, result.stderr
    warnings = [line for line in result.log("WARNING") if "EOLWarning" not in line]
    # Nothing, save the SDK's own about an old Python, and that nobody is subscribed.
    subscribes = "subscriptions" in recipe_block(recipe, "config")
    assert [line.partition("; ")[2] for line in warnings] == [UNHEARD] * (not subscribes)
    (expected,) = json_values(recipe_block(recipe, "arrives"))
    assert arrived(sandbox) == plain(expected)
    assert result.states == [json.loads(line)["value"] for line in lines if '"STATE"' in line]
    if recipe == "first":
        assert result.states == json_values(recipe_block(recipe, "states"))


OVER_TWO_NIGHTS = [block.recipe for block in BLOCKS if block.part == "night-2"]


def test_the_recipes_over_two_nights_are_those_that_are_expected() -> None:
    assert OVER_TWO_NIGHTS == ["baseline", "nightly", "once"]


@pytest.mark.parametrize("recipe", OVER_TWO_NIGHTS)
def test_what_a_recipe_says_arrives_in_the_first_and_in_the_second_night(
    sandbox: Sandbox,
    deliver: Deliver,
    adapted: Callable[[dict[str, t.Any]], dict[str, t.Any]],
    tmp_path: Path,
    recipe: str,
) -> None:
    config = adapted(yaml.safe_load(recipe_block(recipe, "config")))
    config["journal_path"] = str(tmp_path / "journal.sqlite")
    firsts = [b.text for b in BLOCKS if (b.recipe, b.part) == (recipe, "first")]
    nights: dict[str, dict[str, list[t.Any]]] = {
        "night-1": plain(json_values(firsts[0])[0]) if firsts else {},
        "night-2": plain(json_values(recipe_block(recipe, "second"))[0]),
    }
    before: dict[str, list[t.Any]] = {}
    for night, expected in nights.items():
        lines = recipe_block(recipe, night).splitlines()
        is_baseline = recipe == "baseline" and night == "night-1"
        result = deliver(
            lines,
            config,
            args=("--config", "ENV"),
            env={"TARGET_ALTCRAFT_BASELINE": "true"} if is_baseline else {},
        )
        assert result.status == 0, result.stderr
        assert ("skipped, baseline: 2" in result.stderr) == is_baseline
        assert result.states == [json.loads(line)["value"] for line in lines if '"STATE"' in line]
        now = arrived(sandbox)
        assert {k: v[len(before.get(k, [])) :] for k, v in now.items()} == expected
        before = now


def test_the_dry_run_says_what_getting_started_shows(
    sandbox: Sandbox, deliver: Deliver, adapted: Callable[[dict[str, t.Any]], dict[str, t.Any]]
) -> None:
    config = adapted(yaml.safe_load(recipe_block("first", "config")))
    result = deliver(
        recipe_block("first", "input").splitlines(),
        config,
        args=("--config", "ENV"),
        env={"TARGET_ALTCRAFT_DRY_RUN": "true"},
    )
    assert (result.status, result.states, sandbox.tasks) == (0, [], [])
    table = [line for line in result.log("INFO") if line.startswith("dry run: ")]
    assert table == recipe_block("first", "dry-run").splitlines()
    last = [line.rpartition(" | ")[2] for line in result.stderr.splitlines()[-len(table) :]]
    assert last == table, "README: a dry run's log ends with them"


def test_the_check_says_what_getting_started_shows(
    sandbox: Sandbox, adapted: Callable[[dict[str, t.Any]], dict[str, t.Any]], tmp_path: Path
) -> None:
    config = adapted(yaml.safe_load(recipe_block("first", "config")))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), "utf-8")
    command = [COMMAND, "--config", str(path), "--check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=60)
    shown = recipe_block("first", "check").replace("http://127.0.0.1:8765", sandbox.url)
    shown = shown.replace("'Order follow-up'", "'Scenario 2'")
    assert [line.split() for line in done.stdout.splitlines()] == [
        line.split() for line in shown.splitlines()
    ]


def test_the_production_configuration_delivers_and_writes_its_files(
    sandbox: Sandbox,
    deliver: Deliver,
    adapted: Callable[[dict[str, t.Any]], dict[str, t.Any]],
    tmp_path: Path,
) -> None:
    (tmp_path / "altcraft").mkdir()
    text = recipe_block("production", "meltano")
    config = loader(text.replace("$MELTANO_PROJECT_ROOT", str(tmp_path)))["config"]
    date, moment = {"format": "date"}, {"type": "string", "format": "date-time"}
    words, number = {"type": ["string", "null"]}, {"type": "integer"}
    customer = {
        "id": 15,
        "email": "ada@example.com",
        "phone": "+79000000001",
        "first_name": "Ada",
        "last_name": "Byron",
        "birth_date": "1990-02-22",
        "city": "Perm",
        "registered_at": "2025-03-01T10:00:00+03:00",
        "password_hash": "5f4dcc3b",
    }
    nobody = {**customer, "id": 16, "email": None}
    order = {
        "id": 7,
        "customer_email": "ada@example.com",
        "total": 12,
        "created_at": "2025-03-02T00:00:00Z",
        "warehouse": "north",
    }
    described = {"id": number, "birth_date": date, "registered_at": moment, "created_at": moment}
    described["total"] = number
    messages = [
        schema("public-customers", {name: described.get(name, words) for name in customer}),
        schema("public-orders", {name: described.get(name, words) for name in order}),
        record("public-customers", **customer),
        record("public-customers", **nobody),
        record("public-orders", **order),
        state(1),
    ]

    result = deliver(messages, adapted(config))

    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert "rejected" not in result.stderr
    subscription = {"channel": "email", "resource_id": 7, "email": "ada@example.com"}
    assert arrived(sandbox) == {
        "12": [
            {
                "data": {
                    "CRM_ID": "15",
                    "email": "ada@example.com",
                    "phones": "+79000000001",
                    "_fname": "Ada",
                    "_lname": "Byron",
                    "_bdate": "1990-02-22T00:00:00Z",
                    "_city": "Perm",
                    "_regdate": "2025-03-01T07:00:00Z",
                    "subscriptions": [subscription],
                }
            }
        ],
        "34": [
            {
                "data": {"email": "ada@example.com", "subscriptions": [subscription]},
                "content": {"order_id": 7, "total": 12, "ordered_at": "2025-03-02T00:00:00Z"},
            }
        ],
    }
    written = {path.name: path for path in (tmp_path / "altcraft").iterdir()}
    assert {"journal.sqlite", "rejects.jsonl", "receipts.jsonl", "last-run.html"} <= set(written)
    assert {stat.S_IMODE(path.stat().st_mode) for path in written.values()} == {0o600}
    receipts = map(json.loads, written["receipts.jsonl"].read_text("utf-8").splitlines())
    assert [receipt["key"] for receipt in receipts] == [{"CRM_ID": "15"}, {"order_id": 7}]


def test_the_table_of_matching_modes_says_what_is_sent(
    sandbox: Sandbox, deliver: Deliver, adapted: Callable[[dict[str, t.Any]], dict[str, t.Any]]
) -> None:
    (table,) = (table for table in tables_of(DOCS / "records.md") if table[0][0] == "matching")
    messages: list[Message] = []
    streams: dict[str, Message] = {}
    expected: dict[str, list[Message]] = {}
    for number, (matching, settings, row, entry) in enumerate(table[1:]):
        name, workflow_id = f"row{number}", STREAM_OF_ROW + number
        (mode, *_) = _CODE.findall(matching)
        streams[name] = {"workflow_id": workflow_id, "matching": mode}
        for setting in _CODE.findall(settings):
            streams[name] |= yaml.safe_load(setting)
        messages += [schema(name, {"id": {}}), record(name, **json.loads(row.strip("`")))]
        expected[str(workflow_id)] = [json.loads(entry.strip("`"))]
    modes = {settings["matching"] for settings in streams.values()}
    assert modes == set(settings_schema.STREAM_SETTINGS["matching"]["enum"])

    result = deliver([*messages, state(1)], adapted({"streams": streams}))

    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert arrived(sandbox) == expected


PARTS = 4
BOUND = "2025-03-02"


def at(number: int) -> str:
    return f"2025-03-{1 + number // 24:02}T{number % 24:02}:00:00+00:00"


def test_a_stream_in_parts_arrives_exactly_once(
    sandbox: Sandbox,
    deliver: Deliver,
    adapted: Callable[[dict[str, t.Any]], dict[str, t.Any]],
    tmp_path: Path,
) -> None:
    config = adapted(yaml.safe_load(recipe_block("parts", "config")))
    head, *_ = recipe_block("parts", "input").splitlines()
    rows = [
        record("public-customers", id=n, email=f"c{n}@example.com", updated_at=at(n))
        for n in range(1, 31)
    ]
    early = {row["record"]["id"] for row in rows if row["record"]["updated_at"] < BOUND}
    assert 10 < len(early) < len(rows)

    for part in range(PARTS):
        before = len(sandbox.entries)
        environment = {
            "TARGET_ALTCRAFT_STREAM_MAP_CONFIG": json.dumps({"parts": PARTS, "part": part}),
            "TARGET_ALTCRAFT_JOURNAL_PATH": str(tmp_path / f"part-{part}.sqlite"),
        }
        result = deliver(
            [head, *rows, state(part)], config, args=("--config", "ENV"), env=environment
        )
        assert (result.status, result.bookmarks) == (0, [part]), result.stderr
        assert len(sandbox.entries) > before

    assert sorted(entry["data"]["id"] for entry in sandbox.entries) == sorted(early)

    del config["stream_map_config"], config["stream_maps"]["public-customers"]["__filter__"]
    late = [row for row in rows if row["record"]["updated_at"] >= BOUND]
    daily = deliver([head, *late, state("daily")], config)
    assert (daily.status, daily.bookmarks) == (0, ["daily"]), daily.stderr
    ids = [entry["data"]["id"] for entry in sandbox.entries]
    assert sorted(ids) == [row["record"]["id"] for row in rows]


def test_the_script_for_cron_keeps_state_after_good_runs_and_bad_ones(
    sandbox: Sandbox, adapted: Callable[[dict[str, t.Any]], dict[str, t.Any]], tmp_path: Path
) -> None:
    script, tap = tmp_path / "deliver.sh", tmp_path / "bin" / "tap-postgres"
    script.write_text(recipe_block("cron", "script"), encoding="utf-8")
    tap.parent.mkdir()
    tap.write_text('#!/bin/sh\necho "$@" >> arguments\ncat input\n', encoding="utf-8")
    for program in (script, tap):
        program.chmod(0o700)
    (tmp_path / "secrets.env").write_text(f"export TARGET_ALTCRAFT_TOKEN={TOKEN}\n", "utf-8")
    config = adapted({"batch_size_rows": 1, "streams": {"customers": {"workflow_id": 12}}})
    del config["token"]
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    path = os.pathsep.join([str(tap.parent), str(Path(COMMAND).parent), os.environ["PATH"]])

    def run_with(messages: list[t.Any]) -> tuple[int, t.Any, str]:
        text = "".join(m if isinstance(m, str) else json.dumps(m) + "\n" for m in messages)
        (tmp_path / "input").write_text(text, "utf-8")
        done = subprocess.run(
            [str(script)], env={**os.environ, "PATH": path}, cwd="/", check=False, timeout=60
        )
        saved = json.loads((tmp_path / "state.json").read_text("utf-8"))
        return done.returncode, saved, (tmp_path / "arguments").read_text("utf-8").splitlines()[-1]

    one, two = record(email="a@example.com"), record(email="b@example.com")
    good = run_with([schema(), one, state(1), two, state(2)])
    assert good == (0, {"bookmark": 2}, "--config tap.json --config ENV --catalog catalog.json")
    bad = run_with([schema(), one, state(3), "broken\n", state(4)])
    assert bad == (1, {"bookmark": 3}, f"{good[2]} --state state.json")
    assert len(sandbox.entries) == 3
    assert list(tmp_path.glob("states.*")) == []


def test_the_script_for_cron_lets_one_run_through_at_a_time(tmp_path: Path) -> None:
    script = tmp_path / "deliver.sh"
    script.write_text(recipe_block("cron", "script"), encoding="utf-8")
    script.chmod(0o700)
    (tmp_path / "state.json").write_text('{"bookmark": 1}', encoding="utf-8")
    with (tmp_path / "deliver.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([str(script)], check=False, timeout=60, capture_output=True)
    assert (done.returncode, done.stderr) == (75, b"the last run is still at work\n")
    assert (tmp_path / "state.json").read_text(encoding="utf-8") == '{"bookmark": 1}'


def defined() -> dict[str, str]:
    """The settings that Meltano knows of, with their kinds, once the target is added."""
    definition = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    return {each["name"]: each["kind"] for each in definition["settings"]}


def test_a_loader_of_the_documentation_leaves_its_settings_to_the_definition() -> None:
    loaders = [loader(block.text) for block in BLOCKS if block.part == "meltano"]
    assert [set(each) for each in loaders] == [{"name", "config"}]
    assert {*settings_schema.BRAKES, "resend", *loaders[0]["config"]} <= defined().keys()


def test_every_variable_of_a_command_is_a_setting_that_the_definition_has() -> None:
    prefix = settings_module.ENV_PREFIX
    used = {
        variable.lower()
        for block in BLOCKS
        if block.language == "bash"
        for variable in re.findall(rf"{prefix}(\w+)=", block.text)
    }
    assert {"dry_run", "baseline", "max_profiles", "api_url"} <= used
    assert used <= defined().keys()
