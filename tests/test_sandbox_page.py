"""The sandbox's page shows what happened, in a real browser, and lets nobody's text do anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t

import pytest
import requests
from browser import (
    DESKTOP,
    LEGIBLE,
    PHONE,
    broken_words,
    contrast,
    printed_pages,
    scroll_bars,
    seen,
    sideways,
)
from harness import DEADLINE_SECONDS, TOKEN, wait_for
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from target_altcraft.sandbox import Resource, Sandbox, Workflow
from target_altcraft.sandbox.pages import is_local
from target_altcraft.sandbox.shown import TASKS

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium import webdriver

Json = dict[str, t.Any]

SUBMIT = "api/v1.1/workflows/import_and_start_batch_task"


def post(sandbox: Sandbox, *entries: Json, **root: object) -> requests.Response:
    body = {"token": TOKEN, "workflow_id": 1, "matching": "email", "data": entries, **root}
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{sandbox.url}/{SUBMIT}", json=body, timeout=DEADLINE_SECONDS)


def submit(sandbox: Sandbox, *entries: Json, **root: object) -> None:
    assert post(sandbox, *entries, **root).json()["error"] == 0


def get(sandbox: Sandbox, path: str = "", **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"{sandbox.url}/{path}", headers=headers, timeout=DEADLINE_SECONDS)


def customer(name: str, **fields: object) -> Json:
    return {"data": {"email": f"{name}@example.com", **fields}}


# What it is served with


def test_page_may_run_and_load_nothing_but_its_own(sandbox: Sandbox) -> None:
    first, second = get(sandbox), get(sandbox)
    policy = first.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
    assert nonce not in second.headers["Content-Security-Policy"]
    assert first.text.count(f'nonce="{nonce}"') == 2
    assert "{nonce}" not in first.text
    assert first.headers["Content-Type"] == "text/html; charset=utf-8"


def test_page_holds_no_address_and_builds_no_markup_from_text(sandbox: Sandbox) -> None:
    page = get(sandbox).text
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:)\w""", page)
    assert "https://" not in page
    assert "@import" not in page
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", page)


@pytest.mark.parametrize("path", ["", "_sandbox/overview", "_sandbox/profiles", "_sandbox/state"])
def test_own_pages_are_for_this_machine_only(sandbox: Sandbox, path: str) -> None:
    right = get(sandbox, path)
    assert right.status_code == 200
    assert right.headers["X-Content-Type-Options"] == "nosniff"
    assert right.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    wrong = get(sandbox, path, Host=f"altcraft.example:{sandbox.port}")
    assert (wrong.status_code, wrong.headers["Content-Type"]) == (421, "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("header", "local"),
    [
        ("localhost", True),
        ("LOCALHOST:8765", True),
        ("127.0.0.1:8765", True),
        ("127.8.0.1", True),
        ("[::1]:8765", True),
        ("my-machine:8765", True),
        ("", False),
        ("altcraft.example", False),
        ("localhost.altcraft.example:8765", False),
        ("127.0.0.1.altcraft.example", False),
        ("0.0.0.0:8765", False),
        ("[::1", False),
    ],
)
def test_names_of_this_machine_are_told_from_others(header: str, local: bool) -> None:  # noqa: FBT001
    assert is_local(header, "My-Machine") is local


# What it asks for


def test_profiles_are_searched_and_cut_where_they_are(sandbox: Sandbox) -> None:
    submit(sandbox, *(customer(f"c{index}", age=index) for index in range(10_000)))
    every = get(sandbox, "_sandbox/profiles?limit=7").json()
    assert (every["found"], every["total"], len(every["rows"])) == (10_000, 10_000, 7)
    assert [row["number"] for row in every["rows"][:2]] == [10_000, 9_999]
    some = get(sandbox, "_sandbox/profiles?search=C77@EXAMPLE").json()
    assert [row["number"] for row in some["rows"]] == [78]
    assert len(get(sandbox, "_sandbox/profiles?limit=999999").json()["rows"]) == 1000
    assert get(sandbox, "_sandbox/profiles?limit=-1").json()["rows"] == []
    assert len(get(sandbox, "_sandbox/profiles?limit=x").json()["rows"]) == 100
    assert get(sandbox, "_sandbox/profiles/78").json()["fields"][1]["text"] == "77"
    for number in ("0", "10001"):
        assert get(sandbox, f"_sandbox/profiles/{number}").status_code == 404


def test_tasks_are_cut_into_pages_where_they_are(sandbox: Sandbox) -> None:
    for index in range(TASKS + 5):
        submit(sandbox, customer(f"c{index}"))
    for query, numbers in (
        ("", range(105, 5, -1)),
        ("skip=100", range(5, 0, -1)),
        ("skip=2&limit=3", range(103, 100, -1)),
        ("skip=-1&limit=1", [105]),
        ("limit=-1", []),
        ("skip=x&limit=x", range(105, 5, -1)),
        ("skip=105", []),
        ("limit=1000000000", range(105, 0, -1)),
        ("outcome=failed", []),
    ):
        tasks = get(sandbox, f"_sandbox/overview?{query}").json()["tasks"]
        assert [row["number"] for row in tasks["rows"]] == list(numbers), query
        assert tasks["found"] == (0 if "failed" in query else 105)


@pytest.mark.parametrize("value", ["x" * 100_000 + "needle", "Straße" + "ß" * 100 + "needle"])
def test_what_was_found_in_a_long_value_is_what_is_shown_of_it(
    sandbox: Sandbox, value: str
) -> None:
    submit(sandbox, customer("ada", bio=value))
    (row,) = get(sandbox, "_sandbox/profiles?search=needle").json()["rows"]
    assert row["hit"]["name"] == {"text": "bio"}
    assert "needle" in row["hit"]["text"]
    assert len(row["hit"]["text"]) < 200
    assert len(json.dumps(row)) < 2000


def test_deeply_nested_value_is_searched_and_shown(sandbox: Sandbox) -> None:
    value: t.Any = "needle"
    for _ in range(400):
        value = [value, {"deep": value}] if isinstance(value, str) else [value]
    submit(sandbox, customer("ada", deep=value))
    assert get(sandbox, "_sandbox/profiles?search=needle").json()["found"] == 1
    assert get(sandbox, "_sandbox/profiles/1").json()["fields"][1]["text"].startswith("[[[")


def test_exactly_the_same_entry_is_told_from_another_one(sandbox: Sandbox) -> None:
    for content in ({"order": 1}, {"order": 2}):
        submit(sandbox, customer("ada"), customer("bob"), workflow_id=2, content=content)
    submit(sandbox, customer("bob"), workflow_id=2, content={"order": 1})
    submit(sandbox, customer("cy"), workflow_id=3)
    submit(sandbox, customer("cy"), workflow_id=3)
    overview = get(sandbox, "_sandbox/overview").json()
    assert (overview["totals"]["again"], overview["totals"]["alike"]) == (2, 1)
    assert [(each["again"], each["alike"]) for each in overview["workflows"]] == [
        (0, 0),
        (2, 1),
        (0, 0),  # inactive: imported twice, entered never
    ]
    for query, numbers in (
        ("entered=again", [2, 1]),
        ("entered=alike", [2]),
        ("entered=again&workflow=2", [2, 1]),
        ("entered=alike&workflow=2&search=ada", []),
        ("entered=again&workflow=1", []),
        ("workflow=2", [2, 1]),
        ("workflow=3", []),
    ):
        rows = get(sandbox, f"_sandbox/profiles?{query}").json()["rows"]
        assert [row["number"] for row in rows] == numbers, query
    imports = get(sandbox, "_sandbox/profiles/2").json()["imports"]
    assert [(each["number"], each["same_as"]) for each in imports] == [(3, 1), (2, None), (1, None)]
    assert imports[0]["shared"]["fields"] == [{"name": {"text": "content.order"}, "text": "1"}]


# In the browser


class Page:
    """The page of one sandbox. Each look at it is one call, because it redraws itself all the time.

    A selector finds an element; `texts` are what a person reads, not what is in the source.
    """

    def __init__(self, driver: webdriver.Chrome, sandbox: Sandbox) -> None:
        self.driver = driver
        self.sandbox = sandbox

    def open(self) -> None:
        self.driver.get(self.sandbox.url)
        self.until(lambda: self.text("#live") == "live", "the page is live")

    def ask(self, script: str, *arguments: object) -> t.Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def texts(self, selector: str) -> list[str]:
        found = self.ask(
            "[...document.querySelectorAll(arguments[0])].map(each => each.innerText)", selector
        )
        return [" ".join(text.split()) for text in found]

    def text(self, selector: str) -> str:
        return " | ".join(self.texts(selector))

    def count(self, selector: str) -> int:
        return len(self.texts(selector))

    def until(self, condition: Callable[[], t.Any], what: str) -> None:
        try:
            wait_for(condition, what, seconds=20)
        except AssertionError as error:
            raise AssertionError(f"{error}; the page says:\n{self.text('body')}") from None

    def shows(self, selector: str, *words: str) -> None:
        """Wait until the element's text has all the words."""
        self.until(
            lambda: all(word in self.text(selector) for word in words),
            f"{selector} shows {words}",
        )

    def click(self, selector: str) -> None:
        def clicked() -> bool:
            try:
                self.driver.find_element(By.CSS_SELECTOR, selector).click()
            except (
                ElementClickInterceptedException,
                NoSuchElementException,
                StaleElementReferenceException,
            ):
                return False  # it is being redrawn
            return True

        self.until(clicked, f"{selector} can be clicked")

    def search(self, text: str) -> None:
        field = self.driver.find_element(By.ID, "search")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text or Keys.DELETE)

    def finds(self, values: list[str]) -> None:
        """Wait until the profiles shown are those with these values in the first column."""
        selector = "#profiles tr.profile td:nth-child(2)"
        self.until(lambda: self.texts(selector) == values, f"the profiles shown are {values}")

    def console(self) -> t.Any:
        """Return what the browser complained of since the last time."""
        return self.driver.execute("getLog", {"type": "browser"})["value"]

    def choose(self, selector: str, value: str) -> None:
        Select(self.driver.find_element(By.CSS_SELECTOR, selector)).select_by_value(value)


@pytest.fixture
def page(driver: webdriver.Chrome, sandbox: Sandbox) -> Page:
    shown = Page(driver, sandbox)
    shown.open()
    return shown


def test_tasks_appear_live_with_progress_and_outcome(sandbox: Sandbox, page: Page) -> None:
    assert f"Set the target's api_url to {sandbox.url}" in page.text("#tasks-none")
    sandbox.task_seconds = 3.0
    submit(sandbox, customer("ada"), customer("bob"))
    progress = "document.querySelector('#tasks progress')?.value"
    page.until(lambda: 0 < (page.ask(progress) or 0) < 100, "the task is under way")
    page.shows("#tasks tbody tr", "1 Welcome series 2", "running")
    assert page.text("#n-tasks-text") == "tasks, 1 running"
    assert page.text("#profiles-none").startswith("No profile yet")
    before = page.ask(progress)
    page.until(lambda: page.ask(progress) > before, "the task goes on")
    page.shows("#tasks tbody tr", "100%", "completed", "3.0")
    page.shows("#n-profiles", "2")
    page.shows("#profiles tbody", "ada@example.com", "bob@example.com")
    assert page.text("#profiles-found") == "2"


def test_task_that_went_wrong_says_why_and_can_be_picked_out(sandbox: Sandbox, page: Page) -> None:
    sandbox.add_fault("task", "failed", code=500, text="Disk full")
    sandbox.add_fault("task", "partial", after=1, indexes=(1,), text="Bad phone")
    sandbox.add_fault("task", "stuck", after=2)
    for _ in range(4):
        submit(sandbox, customer("ada"), customer("bob"))
    page.shows("#outcomes", "completed 2", "failed 1", "stuck 1")
    page.shows("[data-task='1']", "failed", "500: Disk full")
    page.shows(
        "[data-task='2']",
        "completed 1 not imported",
        "422: Bad phone: profile bob@example.com was not imported",
    )
    page.shows("[data-task='3']", "40%", "stuck")
    assert page.count("#tasks .trouble") == 3
    assert page.ask(
        "getComputedStyle(document.querySelector('.trouble td')).backgroundColor"
        " != getComputedStyle(document.querySelector('#tasks tr:not(.trouble) td')).backgroundColor"
    )
    page.click("#outcomes button:first-child")
    page.until(lambda: page.count("#tasks tbody tr") == 1, "only one task is shown")
    page.shows("#tasks tbody", "failed")
    page.click("#outcomes [aria-pressed=true]")
    page.until(lambda: page.count("#tasks tbody tr") == 4, "all tasks are shown")


def test_all_tasks_are_shown_page_by_page(sandbox: Sandbox, page: Page) -> None:
    sandbox.add_fault("task", "failed", code=500, text="Disk full", after=2, times=1)
    for index in range(TASKS + 30):
        submit(sandbox, customer(f"c{index}"))
    page.shows("#tasks-range", f"1 to {TASKS} of {TASKS + 30}")
    assert page.count("#tasks tbody tr") == TASKS
    assert page.text("#tasks tbody tr:first-child").startswith(f"{TASKS + 30} ")
    page.click("#older")
    page.shows("#tasks-range", f"{TASKS + 1} to {TASKS + 30} of {TASKS + 30}")
    assert [text.split()[0] for text in page.texts("#tasks tbody tr")] == [
        str(number) for number in range(30, 0, -1)
    ]
    assert page.ask("document.querySelector('#older').disabled")
    page.click("#outcomes button:first-child")
    page.until(lambda: page.count("#tasks tbody tr") == 1, "the failed one is found on any page")
    page.shows("#tasks tbody", "failed", "500: Disk full")
    page.click("#outcomes [aria-pressed=true]")
    page.shows("#tasks-range", f"1 to {TASKS} of {TASKS + 30}")
    page.click("#older")
    page.click("#newer")
    page.shows("#tasks-range", f"1 to {TASKS} of {TASKS + 30}")
    page.shows("#profiles-found", f"{TASKS + 29}, newest 100 shown")
    assert page.ask("document.querySelector('#task-list').offsetHeight") < 600


def test_scenario_runs_are_counted_per_workflow(sandbox: Sandbox, page: Page) -> None:
    submit(sandbox, customer("ada"), customer("bob"))
    submit(sandbox, customer("ada"), workflow_id=2)
    submit(sandbox, customer("ada"), workflow_id=3)
    page.shows("#n-runs", "3")
    assert page.texts("#workflows tbody tr") == [
        "1 Welcome series email, Newsletter 2 0 2 0 0",
        "2 Order follow-up email, Newsletter 1 0 1 0 0",
        "3 Winter sale inactive email, Newsletter 0 0 0 0 0",
    ]
    page.choose("#workflow", "2")
    page.until(lambda: page.count("#profiles tr.profile") == 1, "one customer entered that one")
    page.shows("#profiles tr.profile", "ada@example.com")


def subscribed(name: str, **more: object) -> Json:
    address = f"{name}@example.com"
    subscription = {"channel": "email", "resource_id": 7, "email": address, **more}
    return customer(name, subscriptions=[subscription])


def test_profiles_are_chosen_by_whether_they_were_messaged(sandbox: Sandbox) -> None:
    submit(sandbox, subscribed("ada"), customer("bob"))
    submit(sandbox, customer("ada"), workflow_id=3)
    submit(sandbox, subscribed("cy"), workflow_id=2)
    submit(sandbox, customer("dan"), workflow_id=3)
    for query, numbers in (
        ("entered=messaged", [3, 1]),
        ("entered=unmessaged", [2]),
        ("entered=messaged&workflow=1", [1]),
        ("entered=unmessaged&workflow=1", [2]),
        ("entered=messaged&workflow=3", []),
        ("entered=unmessaged&workflow=3", []),
    ):
        rows = get(sandbox, f"_sandbox/profiles?{query}").json()["rows"]
        assert [row["number"] for row in rows] == numbers, query
    totals = get(sandbox, "_sandbox/overview").json()["totals"]
    assert (totals["runs"], totals["messages"], totals["channels"]) == (3, 2, [["email", 2]])


def test_page_tells_entered_from_messaged(sandbox: Sandbox, page: Page) -> None:
    submit(sandbox, subscribed("ada"), customer("bob"))
    page.shows("#n-runs", "2")
    page.until(lambda: page.text(".tile:nth-child(3)") == "1 messages: email 1", "one message")
    assert page.text("[data-task='1']").startswith("1 Welcome series 2 1 100% completed")
    assert page.text("[data-workflow='1']") == "1 Welcome series email, Newsletter 2 1 2 0 0"
    page.until(lambda: page.count("#profiles tr.profile") == 2, "both are shown")
    messaged = "#profiles tr.profile td:nth-last-child(3)"
    assert page.texts(messaged) == ["no", "email"]

    page.choose("#entered", "unmessaged")
    page.finds(["bob@example.com"])
    page.click("#profiles .toggle")
    page.shows("tr.details", "none: no scenario can message this customer")
    page.shows("tr.details .imports", "entered, not messaged: no subscription to email")

    sandbox.unsubscribe("ada@example.com")
    submit(sandbox, subscribed("ada"))
    page.choose("#entered", "messaged")
    page.finds(["ada@example.com"])
    page.click("#profiles .toggle")
    page.shows("tr.details .subscriptions", "email ada@example.com to Newsletter unsubscribed")
    newest, oldest = page.texts("tr.details .imports li")
    assert "entered, not messaged: unsubscribed from email of resource 7" in newest
    assert "messaged by email at ada@example.com" in oldest


def test_scenario_that_skips_says_whom_it_ignored(driver: webdriver.Chrome) -> None:
    workflows = [Workflow(1, "Once", mode="skip")]
    with Sandbox(token=TOKEN, workflows=workflows) as sandbox:
        submit(sandbox, subscribed("ada"))
        submit(sandbox, subscribed("ada"))
        page = Page(driver, sandbox)
        page.open()
        page.shows("[data-workflow='1']", "1 Once skip, 1 ignored email, Newsletter 1 1 1 0 0")
        page.click("#profiles .toggle")
        page.shows("tr.details .imports", "not entered: already in the scenario (mode skip)")


def test_search_finds_by_any_value(sandbox: Sandbox, page: Page) -> None:
    submit(
        sandbox,
        customer("ada", _fname="Ада", age=36, score=12.50, tags=["Analyst", {"of": "engines"}]),
        customer("bob", _fname="Bob", vip=True, notes="likes ADA"),
    )
    augusta = {**customer("ada", _fname="Augusta"), "content": {"order": "A-7"}}
    submit(sandbox, augusta, workflow_id=2)

    for text, names in {
        "": ["bob", "ada"],
        "ADA@example": ["ada"],
        "36": ["ada"],
        "12.5": ["ada"],
        "ANALYST": ["ada"],
        "engines": ["ada"],
        "likes ada": ["bob"],
        "true": ["bob"],
        "ада": ["ada"],
        "a-7": ["ada"],
        "000002": ["bob"],
    }.items():
        page.search("nobody")
        page.shows("#profiles-none", "No profile like that.")
        assert page.text("#profiles-found") == "0 of 2"
        page.search(text)
        page.finds([f"{name}@example.com" for name in names])


def test_search_shows_where_it_found(sandbox: Sandbox, page: Page) -> None:
    submit(sandbox, customer("ada", city="Marylebone"))
    submit(sandbox, {**customer("ada", city="Horsley"), "content": {"order": "A-7"}})
    page.search("hors")
    page.shows("#profiles tr.profile mark", "Hors")
    page.search("mary")
    page.shows("#profiles tr.found", "found in city Marylebone")
    page.search("a-7")
    page.shows("#profiles tr.found", "found in content.order A-7")
    page.click("#profiles .toggle")
    page.shows("tr.details mark", "A-7")


def test_profile_shows_its_history_of_imports(sandbox: Sandbox, page: Page) -> None:
    submit(sandbox, {**customer("ada", city="London"), "content": {"code": "X1"}})
    submit(sandbox, customer("ada", city="Paris"), workflow_id=2, skip_triggers=True)
    page.click("#profiles .toggle")
    page.shows("tr.details", "city Paris")
    newest, oldest = page.texts("tr.details .imports li")
    assert re.fullmatch(
        r"2\. Order follow-up [\d:]{8}, task 2, by email "
        r"entered, not messaged: no subscription to email of resource 7 "
        r"email ada@example.com city Paris "
        r"for every profile of the task skip_triggers true",
        newest,
    )
    assert oldest.startswith("1. Welcome series ")
    assert oldest.endswith("email ada@example.com city London content.code X1")

    submit(sandbox, customer("ada", city="Rome"), workflow_id=2)
    page.shows("tr.details .imports li:first-child", "3. Order follow-up", "city Rome")
    page.click("#profiles .toggle")
    page.until(lambda: not page.count("tr.details"), "the details are closed")


def test_customer_who_got_the_same_entry_twice_is_the_alarm_and_not_one_with_several(
    sandbox: Sandbox, page: Page
) -> None:
    submit(sandbox, customer("ada"), customer("bob"), customer("cy"), customer("dan"))
    submit(sandbox, customer("ada"), customer("bob", points=1), workflow_id=2)
    page.shows("#n-runs", "6")
    assert page.text("#tile-alike") == "0 got the same entry twice"

    submit(sandbox, customer("BOB", points=2))
    page.shows("#tile-alike", "0 got the same entry twice 1 entered more than once")
    page.shows("#profiles", "Welcome series \u00d72 Order follow-up")
    assert not page.count("#tile-alike.alarm, #profiles .alike, #profiles .chip.bad, .chip.warn")

    submit(sandbox, customer("cy"))
    page.shows("#tile-alike.alarm", "1 got the same entry twice 2 entered more than once")
    page.shows("#profiles tr.alike", "cy@example.com", "Welcome series \u00d72, 1 the same")
    assert page.count("#profiles tr.profile") == 4
    assert page.ask(
        "getComputedStyle(document.querySelector('tr.alike td')).backgroundColor != "
        "getComputedStyle(document.querySelector('.profile:not(.alike) td')).backgroundColor"
    )

    page.click("#tile-alike")
    page.until(lambda: page.count("#profiles tr.profile") == 1, "only this one is shown")
    assert page.text("#profiles-found") == "1 of 4"
    page.click("#profiles .toggle")
    page.shows("tr.details .imports li.alike", "2. Welcome series", "the same as import 1")
    page.click("[data-workflow='1'] td:nth-child(6) .chip")
    page.until(lambda: page.count("#profiles tr.profile") == 2, "those of the scenario")


def test_rejected_requests_show_their_reason(sandbox: Sandbox, page: Page) -> None:
    assert page.text("#requests-none") == "None so far."
    sandbox.add_fault("submit", "http", status=503, text="Try later", after=3)
    sandbox.add_fault("submit", "timeout", accept=True, after=4)
    submit(sandbox, customer("ada"))
    post(sandbox, {"data": {"_fname": "Ada"}})
    post(sandbox, customer("ada"), token="expired")
    post(sandbox, customer("ada"), customer("bob"))
    body = {"token": TOKEN, "workflow_id": 1, "matching": "email", "data": [customer("ada")]}
    with pytest.raises(requests.Timeout):
        requests.post(f"{sandbox.url}/{SUBMIT}", json=body, timeout=0.2)
    page.until(lambda: page.count("#requests li") == 4, "four requests are shown")
    unanswered, later, token, invalid = page.texts("#requests li")
    assert "no answer fault timeout task 2 was made all the same" in unanswered
    assert "2 profiles HTTP 503 error 503 fault http Try later" in later
    assert "HTTP 200 error 401 Token required: invalid token" in token
    assert "HTTP 200 error 400 Invalid request: entry 0 has no value for matching email" in invalid
    assert page.text("#tile-refused") == "4 rejected requests"


def test_page_says_when_the_sandbox_is_gone_and_goes_on_when_it_is_back(
    sandbox: Sandbox, page: Page
) -> None:
    sandbox.stop()
    page.shows("#live", "the sandbox does not answer")
    sandbox.start()
    submit(sandbox, customer("ada"))
    page.shows("#profiles tr.profile", "ada@example.com")
    assert page.text("#live") == "live"


def test_sandbox_that_only_counts_says_so(driver: webdriver.Chrome) -> None:
    with Sandbox(token=TOKEN, remember=False) as sandbox:
        page = Page(driver, sandbox)
        page.open()
        submit(sandbox, customer("ada"), customer("bob"))
        post(sandbox, {"data": {}})
        page.shows("#n-profiles", "2")
        page.shows("#tile-refused", "1 rejected")
        for part in ("#profiles-none", "#requests-none"):
            assert "only counts (--count-only)" in page.text(part)


# Foreign text

SCRIPT = "<script>window.pwned=1</script>"
IMAGE = "<img src=x onerror='window.pwned=2'>"
LONG = "W" * 100_000
HOSTILE: Json = {
    "_fname": SCRIPT,
    "_lname": IMAGE,
    "</td></tr></table><h1 onclick=window.pwned=3>": "'\"><svg onload=window.pwned=4>",
    "{nonce}": "{{nonce}} ${window.pwned=5} javascript:window.pwned=6",
    "long": LONG,
    "N" * 5000: {"deep": [LONG, SCRIPT]},
    "file": "invoice\u202egnp.exe",
    "marks": "\u202e\u2066\u200f" * 50,
    "stack": "e" + "\u0301" * 3000,
    "lines": "\r\n" * 500 + "\0\x1b[2J",
    "__proto__": {"pwned": 7},
    "constructor": "toString",
}


@pytest.fixture
def hostile(driver: webdriver.Chrome) -> Iterator[Page]:
    """The page of a sandbox in which everything that can be foreign text is hostile."""
    channel = IMAGE + LONG
    workflows = (
        Workflow(1, SCRIPT, channel=channel, mode="\u202e" + SCRIPT + LONG),
        Workflow(2, "\u202e" + IMAGE + LONG),
    )
    resources = (Resource(7, "\u202e" + SCRIPT + LONG, ("email", channel)),)
    with Sandbox(token=TOKEN, workflows=workflows, resources=resources) as sandbox:
        sandbox.add_fault("task", "failed", name=IMAGE, text=SCRIPT + LONG, after=3)
        sandbox.add_fault("task", "partial", text=IMAGE, after=4)
        sandbox.add_fault("submit", "error", text="\u202e" + SCRIPT + LONG, after=5)
        for entry in (
            customer("ada"),
            {"data": {"email": f"{IMAGE}@example.com", **HOSTILE}, "content": HOSTILE},
            {"data": {"email": f"{LONG}@example.com", "_fname": "\u05e9\u05dc\u05d5\u05dd"}},
            customer("failed"),
            customer(IMAGE),
            customer("refused"),
        ):
            post(sandbox, entry, workflow_id=2, custom_data=HOSTILE)
        subscription = {
            "channel": channel,
            "resource_id": 7,
            "email": "\u202e" + IMAGE + LONG,
        }
        subscriptions = [subscription, {**subscription, "email": "x", "status": SCRIPT + LONG}]
        submit(
            sandbox,
            {
                "data": {
                    "email": f"{IMAGE}@example.com",
                    "subscriptions": subscriptions,
                    **HOSTILE,
                }
            },
        )
        assert len(sandbox.messages) == 1
        page = Page(driver, sandbox)
        page.console()
        page.open()
        page.until(lambda: page.count("#profiles tr.profile") == 3, "the profiles are shown")
        yield page


def assert_harmless(page: Page) -> None:
    assert page.ask("window.pwned") is None
    assert page.ask("({}).pwned") is None
    assert page.ask("document.querySelectorAll('script').length") == 1
    assert page.ask("document.querySelectorAll('body :is(img, svg, iframe, h1 ~ h1)').length") == 0
    assert page.ask(
        "[...document.querySelectorAll('*')].every(each =>"
        " each.getAttributeNames().every(name => !name.startsWith('on')))"
    )
    assert page.console() == []  # no error, and nothing the policy had to stop


def assert_in_shape(page: Page) -> None:
    assert page.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.ask(
        "[...document.querySelectorAll('.scroll')].every(each =>"
        " each.scrollWidth <= each.clientWidth)"
    )
    heights = page.ask("[...document.querySelectorAll('tr.profile')].map(row => row.offsetHeight)")
    assert max(heights) < 100
    assert page.ask("document.body.scrollHeight") < 4000
    assert page.ask("document.body.textContent.length") < 150_000
    edges = page.ask(
        "[...document.querySelectorAll('tr.profile')].map(row =>"
        " [...row.cells].map(cell => Math.round(cell.getBoundingClientRect().left)).join())"
    )
    assert len(set(edges)) == 1


def test_hostile_text_is_shown_as_text(hostile: Page) -> None:
    page = hostile
    page.shows("#workflows", SCRIPT)
    page.shows("#tasks", f"400: {SCRIPT}", IMAGE)
    page.shows("#requests", SCRIPT, "100,0")
    page.shows("#n-messages-text", f"messages: {IMAGE}")
    assert_harmless(page)
    assert_in_shape(page)
    with seen(page.driver, PHONE):
        assert sideways(page.driver) == []
    page.search("gnp.exe")
    page.until(lambda: page.count("#profiles tr.profile") == 1, "it is found")
    page.click("#profiles .toggle")
    page.shows(
        "tr.details", SCRIPT, IMAGE, "svg onload", "</td></tr></table>", "100,000 characters"
    )
    page.shows("tr.details .subscriptions", IMAGE, SCRIPT)
    page.shows("tr.details .imports", f"messaged by {IMAGE}")
    page.shows("tr.details", "__proto__", "constructor", "for every profile of the task")
    with seen(page.driver, PHONE):
        assert sideways(page.driver) == []
    assert_harmless(page)
    assert_in_shape(page)


def test_marks_that_reorder_text_are_shown_and_do_nothing(hostile: Page) -> None:
    page = hostile
    page.search("gnp.exe")
    page.until(lambda: page.count("#profiles tr.profile") == 1, "it is found")
    page.click("#profiles .toggle")
    page.shows("tr.details", "invoiceU+202Egnp.exe")
    assert page.ask("!/[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.textContent)")
    assert page.ask(
        "[...document.querySelectorAll('.value > *:first-child')].every(each =>"
        " each.localName == 'bdi' && getComputedStyle(each).unicodeBidi == 'isolate')"
    )


def test_page_loads_nothing_from_elsewhere(sandbox: Sandbox, page: Page) -> None:
    submit(sandbox, customer("ada"))
    page.click("#profiles .toggle")
    page.shows("tr.details", "ada@example.com")
    loaded = page.ask("performance.getEntriesByType('resource').map(each => each.name)")
    assert loaded
    assert all(name.startswith(f"{sandbox.url}/_sandbox/") for name in loaded)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(sandbox: Sandbox, page: Page, scheme: str) -> None:
    sandbox.add_fault("task", "failed", code=500, after=2)
    for _ in range(3):
        submit(sandbox, customer("ada"), customer("bob"))
    with seen(page.driver, DESKTOP, scheme=scheme):
        page.shows("#profiles tr.alike", "ada@example.com")
        page.shows("#tasks .trouble .reason", "500")
        ground = page.ask("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 200) is (scheme == "dark")
        for selector in (
            "body",
            ".dim",
            "td",
            "th",
            "#tile-alike",
            "#tile-alike .dim",
            "td .chip",
            ".chip.ok",
            ".chip.bad",
            ".trouble .reason",
        ):
            assert contrast(page.driver, selector) >= LEGIBLE, selector


# On a phone, on a screen, on paper


@pytest.fixture
def busy(sandbox: Sandbox, page: Page) -> Page:
    """The page with something in each of its parts, and a customer's details open."""
    sandbox.add_fault("task", "failed", code=500, text="Disk full", after=2)
    for workflow_id in (1, 1, 2):
        submit(sandbox, subscribed("ada", status="subscribed"), workflow_id=workflow_id)
    post(sandbox, {"data": {"_fname": "Ada"}})
    page.click("#profiles .toggle")
    page.shows("tr.details", "ada@example.com")
    page.shows("#requests", "error 400")
    return page


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_nothing_scrolls_sideways(busy: Page, width: int) -> None:
    with seen(busy.driver, width):
        assert sideways(busy.driver) == []


def test_no_word_breaks_on_a_phone_and_headings_stand_beside_their_values(busy: Page) -> None:
    with seen(busy.driver, PHONE):
        assert broken_words(busy.driver) == []
        shown = busy.ask(
            "[...document.querySelector('#tasks tbody tr').cells].map(cell =>"
            " getComputedStyle(cell, '::before').content)"
        )
        assert shown[:4] == ['"Task"', "none", '"Profiles"', '"Messaged"']


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_profile_id_is_cut_in_the_middle_and_shown_whole_when_asked(
    sandbox: Sandbox, busy: Page, width: int
) -> None:
    whole = sandbox.profiles[0]["id"]
    cut = f"{whole[:8]}…{whole[-8:]}"
    with seen(busy.driver, width):
        assert busy.text("tr.details .id") == cut
        assert busy.ask("document.querySelector('.id summary').title") == whole
        busy.click("tr.details .id summary")
        busy.shows("tr.details .id", whole)
        assert sideways(busy.driver) == []
        assert broken_words(busy.driver) == []
        busy.driver.switch_to.active_element.send_keys(Keys.ENTER)
        busy.until(lambda: busy.text("tr.details .id") == cut, "it is cut again")


def test_paper_has_all_tasks_and_no_scroll_bars(sandbox: Sandbox, page: Page) -> None:
    for index in range(2 * TASKS + 30):
        submit(sandbox, customer(f"c{index}"))
    page.shows("#tasks-range", f"1 to {TASKS} of")
    page.driver.execute_script(
        "addEventListener('beforeprint', () => {"
        " window.printed = document.querySelectorAll('#tasks tbody tr').length; })"
    )
    assert printed_pages(page.driver) > 4
    assert page.ask("window.printed") == 2 * TASKS + 30
    page.until(lambda: page.count("#tasks tbody tr") == TASKS, "the screen has its page again")
    with seen(page.driver, 700, media="print"):
        assert scroll_bars(page.driver) == []
        assert sideways(page.driver) == []
        cut = (
            "(list => list.scrollHeight > list.clientHeight)(document.querySelector('#task-list'))"
        )
        assert not page.ask(cut)


# The command


def start(browser: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "target_altcraft.sandbox", "--port=0", "--open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "BROWSER": browser, "PATH": str(folder)},
    )


def test_open_shows_the_page_in_the_default_browser(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    # It does not return while its window is open, as some do not.
    closed = tmp_path / "closed"
    os.mkfifo(closed)
    browser.write_text(f'#!/bin/sh\necho "$1" >"{opened}"\nread line <"{closed}"\n')
    browser.chmod(0o755)
    process = start(str(browser), tmp_path)
    try:
        assert process.stdout is not None
        url = next(word for word in process.stdout.readline().split() if "://" in word)
        wait_for(lambda: opened.exists() and opened.read_text().strip(), "the browser was called")
        assert opened.read_text().strip() == url
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        if opened.exists():
            closed.write_text("\n")
        process.communicate()


def test_open_without_a_browser_says_so_and_serves(tmp_path: Path) -> None:
    process = start("/bin/false", tmp_path)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        url = next(word for word in process.stdout.readline().split() if "://" in word)
        said = process.stderr.readline()
        assert said == f"altcraft-sandbox: no browser found: open {url} yourself\n"
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
