"""The report's page tells what happened to a person, on a phone, on a screen and on paper."""

from __future__ import annotations

import itertools
import typing as t

import pytest
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
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from target_altcraft.report_page import as_html, headline
from target_altcraft.report_timeline import axis, span, timeline

if t.TYPE_CHECKING:
    from pathlib import Path

    from selenium import webdriver

Json = dict[str, t.Any]

TWICE = "a first attempt was not answered: it may have entered the scenario twice"
ID = "995b99dc-97da-4208-8765-8a7e2c79{:04d}"
WIDTHS = pytest.mark.parametrize("width", [PHONE, DESKTOP])


def fake_task(number: int, stream: str = "customers", **more: t.Any) -> Json:
    return {
        "batch": number,
        "stream": stream,
        "profiles": 10_000,
        "bytes": 2_000_000,
        "state": "completed",
        "outcome": "delivered",
        "submitted": number * 0.5,
        "accepted": number * 0.5 + 0.2,
        "finished": number * 0.5 + 2.0,
        "task_id": ID.format(number),
        "polls": 4,
        "retries": 0,
        "rejected": 0,
        "was_in_doubt": False,
        **more,
    }


def fake_tasks(number: int, stream: str = "customers") -> list[Json]:
    return [fake_task(n, stream) for n in range(number)]


def counts(**more: t.Any) -> Json:
    return {
        "read": 300,
        "delivered": 300,
        "rejected": {},
        "skipped": {},
        "in_doubt": {},
        "not_sent": 0,
        "resent": 0,
        "with_subscription": 300,
        "without_subscription": 0,
        **more,
    }


def content_of(tasks: list[Json], text: str = "customers", **more: t.Any) -> Json:
    return {
        "exit_status": 0,
        "message": None,
        "host": "altcraft.example",
        "started_at": "2025-03-01T06:15:02.5Z",
        "ended_at": "2025-03-01T06:20:02Z",
        "seconds": len(tasks) * 0.5 + 2,
        "scenarios": {text: {"workflow_id": 12, "name": "Welcome series"}},
        "state": {"printed_at": "2025-03-01T06:20:01Z", "covers": 300, "records": 300},
        "streams": {text: counts()},
        "tasks": tasks,
        "settings": {"api_url": "https://altcraft.example", "report_path": f"/srv/{'crm/' * 40}x"},
        "versions": {"python": "3.11.7", "target-altcraft": "0.2.0"},
        **more,
    }


TROUBLED = [
    fake_task(0),
    fake_task(1, rejected=3, outcome="partly rejected"),
    fake_task(2, state="refused", outcome="not accepted", task_id=None, accepted=None),
    fake_task(3, state="unfinished", outcome="in flight", finished=None),
    fake_task(4, was_in_doubt=True, profiles=25),
    fake_task(5, state="vanished", outcome="unknown"),
    fake_task(6, state="failed", outcome="failed"),
    fake_task(7),
]
TROUBLE = content_of(
    TROUBLED,
    exit_status=1,
    message=f"stream 'customers', task {ID.format(6)} ended as 'failed', error 500, No room. "
    "Its profiles may have been imported or not. STATE stays before this batch",
    streams={
        "customers": counts(),
        "orders": counts(read=1200, rejected={"error 422": 1, "no_match_value": 1}, resent=25),
    },
    scenarios={
        "customers": {"workflow_id": 12, "name": "Welcome series"},
        "orders": {"workflow_id": 34, "name": ""},
    },
    state={"printed_at": "2025-03-01T06:20:01Z", "covers": 300, "records": 1500},
)


def show(driver: webdriver.Chrome, folder: Path, content: Json) -> None:
    path = folder / "report.html"
    path.write_text(as_html(content), encoding="utf-8")
    driver.get(path.as_uri())


def texts(driver: webdriver.Chrome, selector: str) -> list[str]:
    found = driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText)", selector
    )
    return [" ".join(text.split()) for text in found]


# The headline


@pytest.mark.parametrize(
    ("status", "streams", "tasks", "expected"),
    [
        (0, [counts()], [], ("ok", "ended well")),
        (0, [counts(skipped={"delivered before": 9})], [], ("ok", "ended well")),
        (0, [counts(rejected={"a": 1})], [], ("warn", "ended, with 1 reject")),
        (
            0,
            [counts(rejected={"a": 1}), counts(rejected={"b": 1}, resent=50)],
            [fake_task(1, profiles=25, was_in_doubt=True)],
            ("warn", "ended, with 2 rejects and 25 in doubt"),
        ),
        (
            0,
            [counts(skipped={"in doubt, taken as delivered": 1500})],
            [],
            ("warn", "ended, with 1,500 in doubt"),
        ),
        (1, [], [], ("bad", "failed")),
        (
            1,
            [counts(rejected={"a": 2}, in_doubt={"unanswered": 20, "its task failed": 5})],
            [],
            ("bad", "failed, with 2 rejects and 25 in doubt"),
        ),
        (
            143,
            [counts(rejected={"a": 2}, in_doubt={"unanswered": 1}, not_sent=7)],
            [],
            ("bad", "stopped by signal 15, with 2 rejects, 1 in doubt and 7 not sent"),
        ),
    ],
)
def test_headline_tells_what_needs_a_look(
    status: int, streams: list[Json], tasks: list[Json], expected: tuple[str, str]
) -> None:
    shown = {str(number): each for number, each in enumerate(streams)}
    content = content_of(tasks, exit_status=status, streams=shown)
    assert headline(content) == expected
    assert f"<title>target-altcraft: {expected[1]}</title>" in as_html(content)


def test_a_batch_that_went_out_again_in_parts_is_in_doubt_once() -> None:
    whole = fake_task(1, state="split", outcome="unknown", profiles=25, was_in_doubt=True)
    parts = [fake_task(1, profiles=number, was_in_doubt=True) for number in (12, 13)]
    content = content_of([whole, *parts])
    assert headline(content) == ("warn", "ended, with 25 in doubt")
    assert '<td class="n" data-label="Profiles">25</td>' in as_html(content).partition("<tfoot>")[2]


# What it shows


def test_head_has_host_scenario_and_state(driver: webdriver.Chrome, tmp_path: Path) -> None:
    show(driver, tmp_path, TROUBLE)
    assert texts(driver, ".facts > div") == [
        "Host altcraft.example",
        "Scenario Welcome series (12) for customers 34 for orders",
        "Ran 2025-03-01 06:15:02 to 06:20:02 UTC, 6 s",
        "STATE last printed 06:20:01 UTC covers the first 300 of 1,500 records",
    ]
    show(driver, tmp_path, content_of([], state={"printed_at": None, "covers": 0, "records": 7}))
    assert texts(driver, ".facts .state") == ["STATE none printed 7 records read"]


def test_streams_have_totals_and_those_with_rejects_come_first(
    driver: webdriver.Chrome, tmp_path: Path
) -> None:
    show(driver, tmp_path, TROUBLE)
    assert texts(driver, ".streams tr") == [
        "Stream Read Delivered Rejected Skipped In doubt Sent again Subscribed",
        "orders 1,200 300 2 error 422: 1 no_match_value: 1 0 0 25 300",
        "customers 300 300 0 0 0 0 300",
        "Total 1,500 600 2 0 0 25 600",
    ]


def test_failed_and_doubtful_tasks_come_first_coloured_and_named(
    driver: webdriver.Chrome, tmp_path: Path
) -> None:
    show(driver, tmp_path, TROUBLE)
    assert texts(driver, ".task .outcome") == [
        "failed its profiles may have been imported or not",
        f"delivered, in doubt {TWICE}",
        "unknown Altcraft no longer knows its task",
        "in flight its task did not end in time",
        "partly rejected",
        "not accepted refused by Altcraft",
        "delivered",
        "delivered",
    ]
    colours = driver.execute_script(
        "return [...document.querySelectorAll('.task .outcome')]"
        ".map(each => getComputedStyle(each).backgroundColor)"
    )
    assert len(set(colours)) == 6  # the two in doubt have one colour, the two delivered none
    assert colours[-1] == colours[-2] == "rgba(0, 0, 0, 0)"
    assert texts(driver, ".tasks tfoot tr") == ["Total 70,025 3 16.0 MB 32 0"]
    assert texts(driver, ".legend span") == [
        "failed 1",
        "in doubt 2",
        "in flight 1",
        "partly rejected 1",
        "not accepted 1",
        "delivered 2",
    ]


@WIDTHS
def test_numbers_stand_to_the_right(driver: webdriver.Chrome, tmp_path: Path, width: int) -> None:
    with seen(driver, width):
        show(driver, tmp_path, TROUBLE)
        edges = driver.execute_script(
            """return [...document.querySelectorAll(".task td:nth-child(5)")].map(cell => {
                const range = document.createRange();
                range.selectNodeContents(cell);
                return Math.round(range.getBoundingClientRect().right);
            })"""
        )
        assert len(set(edges)) == 1
        assert {each.value_of_css_property("text-align") for each in numbers(driver)} == {"right"}


def numbers(driver: webdriver.Chrome) -> list[t.Any]:
    found = driver.find_elements(By.CSS_SELECTOR, "td")
    return [each for each in found if each.text.replace(",", "").isdigit()]


def test_page_shows_whatever_is_counted() -> None:
    page = as_html(content_of([], streams={"a": {"read": 7}, "b": {"new_count": 8}}))
    assert '<th class="n" scope="col">New count</th>' in page
    assert '<td class="n" data-label="New count"><b>8</b></td>' in page


def test_page_of_a_run_without_streams_and_tasks_is_whole(
    driver: webdriver.Chrome, tmp_path: Path
) -> None:
    show(driver, tmp_path, content_of([], streams={}, scenarios={}, seconds=0.0))
    assert texts(driver, ".streams tr")[-1] == "Total 0 0 0 0 0"
    assert driver.find_element(By.CSS_SELECTOR, ".more summary").is_displayed()


# The timeline


@pytest.mark.parametrize("number", [5, 5000])
def test_timeline_has_a_bar_per_task_and_a_lane_per_task_in_flight(number: int) -> None:
    svg = timeline(fake_tasks(number), number * 0.5 + 2, lambda _: "ok")
    assert svg.count("<g>") == number
    assert f'viewBox="0 0 1000 {4 * 18}"' in svg


def test_failed_task_is_seen_among_thousands() -> None:
    tasks = fake_tasks(5000)
    tasks[7] = fake_task(7, outcome="failed", finished=3.501, accepted=None)
    svg = timeline(tasks, 2502.0, lambda task: "bad" if task["outcome"] == "failed" else "ok")
    last = svg.rpartition("<g>")[2]
    assert 'width="3.00" class="bad"' in last


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (0.0, ["0 s"]),
        (0.35, ["0 s", "0.1 s", "0.2 s", "0.3 s"]),
        (12.0, ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s", "12 s"]),
        (340.0, ["0 s", "1 min", "2 min", "3 min", "4 min", "5 min"]),
        (8000.0, ["0 s", "30 min", "1 h", "1 h 30 min", "2 h"]),
        (200_000.0, ["0 s", "12 h", "24 h", "36 h", "48 h"]),
    ],
)
def test_axis_names_even_moments(seconds: float, labels: list[str]) -> None:
    shown = [part.partition("</span>")[0] for part in axis(seconds).split('%">')[1:]]
    assert shown == labels


@WIDTHS
def test_labels_of_the_axis_stand_below_their_moments(
    driver: webdriver.Chrome, tmp_path: Path, width: int
) -> None:
    with seen(driver, width):
        show(driver, tmp_path, content_of(fake_tasks(20)))
        places = driver.execute_script(
            """const box = document.querySelector("svg").getBoundingClientRect();
            return [...document.querySelectorAll(".axis span")].map(each => {
                const place = each.getBoundingClientRect();
                return [each.innerText, (place.left - box.left) / box.width,
                        (place.right - box.left) / box.width];
            })"""
        )
    assert [label for label, *_ in places] == ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s", "12 s"]
    for number, (label, left, right) in enumerate(places):
        assert left - 0.001 <= number * 2 / 12 <= right + 0.001, label
    for (_, _, right), (label, left, _) in itertools.pairwise(places):
        assert right < left, label


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0 s"), (9.96, "10 s"), (59.9, "59.9 s"), (65, "1 min 5 s"), (7260, "2 h 1 min")],
)
def test_length_of_time_is_said_in_two_units_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text


# On a phone, on a screen, on paper


@WIDTHS
def test_nothing_scrolls_sideways_and_no_word_breaks(
    driver: webdriver.Chrome, tmp_path: Path, width: int
) -> None:
    with seen(driver, width):
        show(driver, tmp_path, TROUBLE)
        assert sideways(driver) == []
        assert broken_words(driver) == []
        driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert ID.format(0) in texts(driver, ".id")
        assert sideways(driver) == []
        assert broken_words(driver) == []


@WIDTHS
def test_an_id_is_cut_in_the_middle_and_shown_whole_when_asked(
    driver: webdriver.Chrome, tmp_path: Path, width: int
) -> None:
    with seen(driver, width):
        show(driver, tmp_path, content_of(fake_tasks(3)))
        assert texts(driver, ".task .id") == [f"995b99dc…2c79{n:04d}" for n in range(3)]
        first, second, _ = driver.find_elements(By.CSS_SELECTOR, ".task .id summary")
        assert first.get_attribute("title") == ID.format(0)  # under a pointer
        first.click()  # at a tap
        assert texts(driver, ".task .id")[0] == ID.format(0)
        first.click()
        assert texts(driver, ".task .id")[0] == "995b99dc…2c790000"
        first.send_keys(Keys.TAB)  # at a key
        assert driver.switch_to.active_element == second
        second.send_keys(Keys.ENTER)
        assert texts(driver, ".task .id")[1] == ID.format(1)


def test_paper_has_all_tasks_with_their_whole_ids(driver: webdriver.Chrome, tmp_path: Path) -> None:
    tasks = [*TROUBLED, *(fake_task(number) for number in range(len(TROUBLED), 500))]
    show(driver, tmp_path, content_of(tasks))
    with seen(driver, 718, scheme="dark", media="print"):  # what A4 leaves between its margins
        ids = {task["task_id"] or "" for task in tasks}
        shown = texts(driver, ".task .id")
        assert (len(shown), set(shown)) == (500, ids)
        assert scroll_bars(driver) == []
        assert sideways(driver) == []
        assert broken_words(driver) == []
        assert contrast(driver, "h1") >= LEGIBLE
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == "rgba(0, 0, 0, 0)"  # the paper's, also where the screen is dark
        foot = driver.find_element(By.TAG_NAME, "tfoot").value_of_css_property("display")
        assert foot == "table-row-group"  # else the total would stand on each page
    assert printed_pages(driver) > 5


@WIDTHS
def test_the_screen_has_one_scroll_bar(
    driver: webdriver.Chrome, tmp_path: Path, width: int
) -> None:
    with seen(driver, width):
        show(driver, tmp_path, content_of(fake_tasks(500)))
        assert len(texts(driver, ".task")) == 500
        assert scroll_bars(driver) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(
    driver: webdriver.Chrome, tmp_path: Path, scheme: str
) -> None:
    with seen(driver, DESKTOP, scheme=scheme):
        show(driver, tmp_path, TROUBLE)
        selectors = ["h1", "small", "thead th", ".note", ".kicker", ".id summary", "td.warn"]
        tones = ("bad", "doubt", "busy", "warn", "idle", "ok")
        selectors += [f".chip.{tone}" for tone in tones] + [".task.doubt small"]
        for selector in selectors:
            assert contrast(driver, selector) >= LEGIBLE, selector
        for status in (0, 1):
            show(driver, tmp_path, content_of([], exit_status=status))
            assert contrast(driver, "h1") >= LEGIBLE, status


# Foreign text

HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\u202eabc"


def hostile_content(number: int, text: str) -> Json:
    return content_of(
        [{**task, "task_id": text} for task in fake_tasks(number, text)],
        text,
        exit_status=1,
        message=text,
        host=text,
        scenarios={text: {"workflow_id": 12, "name": text}},
        streams={text: counts(rejected={text: 1}, in_doubt={text: 2})},
        settings={"x": text, "y": {text: text}},
        versions={text: text},
    )


def test_names_on_the_page_are_escaped() -> None:
    page = as_html(hostile_content(2, HOSTILE))
    assert "<script" not in page
    assert "<img" not in page


@WIDTHS
@pytest.mark.parametrize(
    ("number", "text"), [(5, "customers"), (5000, "customers"), (5, HOSTILE), (5, "W" * 100_000)]
)
def test_page_is_readable_in_a_browser_and_runs_nobodys_text(
    driver: webdriver.Chrome, tmp_path: Path, number: int, text: str, width: int
) -> None:
    with seen(driver, width):
        show(driver, tmp_path, hostile_content(number, text))
        assert driver.execute_script("return window.pwned === undefined")
        count = "return document.querySelectorAll(arguments[0]).length"
        assert driver.execute_script(count, "svg g") == number
        assert driver.execute_script(count, "tr.task") == number
        assert sideways(driver) == []
