"""Makes the pictures of `docs/images/`: pages with the data of `examples/`, in a real browser.

Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver`) and the `dev`
extra. With names of pictures as arguments it makes only those.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import requests
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from target_altcraft.sandbox import Sandbox

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from selenium.webdriver.remote.webelement import WebElement

Json = dict[str, t.Any]

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
CONFIG = ROOT / "examples" / "config.json"
INPUT = ROOT / "examples" / "customers.singer"
TARGET = Path(sys.executable).with_name("target-altcraft")

WIDTH, MAX_HEIGHT = 1280, 1240
SCALE = 1
MAX_BYTES = 300_000
LAST_TASK_SECONDS = 15.0
SHOWN_PROGRESS = 40
REJECTED_CUSTOMER = 42
RUN_SECONDS = 120.0
WAIT_SECONDS = 30.0

_BROWSER_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-lcd-text",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-proxy-server",
)


def main() -> int:
    """Make the pictures; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PAGES)}")
    names = parser.parse_args().names or list(PAGES)
    if unknown := set(names) - set(PAGES):
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name in names:
            with PAGES[name](browser) as height:
                size = photograph(browser, IMAGES / f"{name}.png", height)
            print(f"docs/images/{name}.png, {size:,} bytes")
            if size > MAX_BYTES:
                print(f"over {MAX_BYTES:,} bytes: show less of it", file=sys.stderr)
                return 1
    return 0


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Start a headless browser with an empty profile, and end it.

    Raises:
        SystemExit: There is none.
    """
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        raise SystemExit("no Chromium here: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for option in (*_BROWSER_OPTIONS, f"--user-data-dir={folder}"):
            options.add_argument(option)
        browser = webdriver.Chrome(options, Service(driver))
        try:
            yield browser
        finally:
            browser.quit()


def photograph(browser: webdriver.Chrome, path: Path, height: int) -> int:
    """Save what the page shows from its top, so many CSS pixels high; return the file's size."""
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": min(height, MAX_HEIGHT), "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
    return path.write_bytes(base64.b64decode(shot["data"]))


def resize(browser: webdriver.Chrome, height: int) -> None:
    """Give the page its width, and a height that hides nothing of what is to be shown."""
    metrics = {"width": WIDTH, "height": height, "deviceScaleFactor": SCALE, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def wait(browser: webdriver.Chrome, condition: Callable[[], t.Any]) -> t.Any:  # noqa: ANN401
    """Return the condition's first true value."""
    return WebDriverWait(browser, WAIT_SECONDS, poll_frequency=0.05).until(lambda _: condition())


# The sandbox's page


@contextlib.contextmanager
def sandbox_page(browser: webdriver.Chrome) -> Iterator[int]:
    """Show the sandbox after a run over the example data, and after what must not happen."""
    with Sandbox(port=0, task_seconds=0.4) as sandbox:
        sandbox.add_fault("submit:http,status=503,text=Try again,retry_after=0,times=1,after=2")
        run_target(sandbox, {})
        misuse(sandbox)
        resize(browser, MAX_HEIGHT)
        browser.get(sandbox.url)
        find(browser, "#profiles tr.profile")
        click(browser, "tr.alike .toggle")
        find(browser, "tr.details")
        wait(browser, lambda: sandbox.tasks[-1].progress(time.monotonic()) >= SHOWN_PROGRESS)
        yield bottom(browser)


@contextlib.contextmanager
def report_page(browser: webdriver.Chrome) -> Iterator[int]:
    """Show the report of a run over the example data in which not everything went well."""
    seconds = random.Random(1)
    with Sandbox(port=0) as sandbox, tempfile.TemporaryDirectory() as folder:
        sandbox.task_seconds = lambda _number, _entries: seconds.uniform(0.3, 1.5)
        sandbox.fail_where = lambda entry: entry["data"].get("customer_id") == REJECTED_CUSTOMER
        sandbox.add_fault("submit:http,status=502,times=1,after=4")
        path = Path(folder) / "report.html"
        more = {
            "report_path": str(path),
            "rejects_path": f"{folder}/rejects",
            "batch_size_rows": 25,
            "max_in_flight": 4,
        }
        run_target(sandbox, more)
        resize(browser, MAX_HEIGHT)
        browser.get(path.as_uri())
        find(browser, "svg")
        yield bottom(browser)


def run_target(sandbox: Sandbox, more: Json) -> None:
    """Pipe the example input through the installed target.

    Args:
        sandbox: Where it delivers to.
        more: Settings beside those of the example.

    Raises:
        SystemExit: It failed.
    """
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    config.update(api_url=sandbox.url, token=sandbox.token, **more)
    with tempfile.TemporaryDirectory() as folder, INPUT.open("rb") as messages:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        done = subprocess.run(
            [TARGET, "--config", path],
            stdin=messages,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"target-altcraft failed:\n{done.stderr}")


def misuse(sandbox: Sandbox) -> None:
    """Send what the target would not: wrong requests, and one customer's entry a second time."""
    submit(sandbox, [{"data": {"_fname": "Ada"}}])
    submit(sandbox, [{"data": {"email": "ada@example.com"}}], workflow_id=99)
    submit(sandbox, [{"data": {"email": "ada@example.com"}}], token="expired")  # noqa: S106
    newest_first = reversed(sandbox.profiles)
    customer = next(each for each in newest_first if each["runs"] == {1: 1, 2: 1})
    first = customer["history"][0]
    envelope = next(task.envelope for task in sandbox.tasks if task.id == first["task_id"])
    submit(sandbox, [first["entry"]], **envelope)
    sandbox.add_fault("task:failed,code=500,text=Internal error")
    submit(sandbox, [{"data": {"email": "ada@example.com"}}])
    while any(task.outcome == "running" for task in sandbox.tasks):
        time.sleep(0.05)
    sandbox.task_seconds = LAST_TASK_SECONDS
    submit(sandbox, [{"data": {"email": f"guest{number}@example.com"}} for number in range(40)])


def submit(sandbox: Sandbox, entries: list[Json], **root: object) -> None:
    """Submit entries as they are."""
    body = {"token": sandbox.token, "workflow_id": 1, "matching": "email", **root, "data": entries}
    with requests.Session() as session:
        session.trust_env = False
        url = f"{sandbox.url}/api/v1.1/workflows/import_and_start_batch_task"
        session.post(url, json=body, timeout=WAIT_SECONDS).raise_for_status()


def find(browser: webdriver.Chrome, selector: str) -> WebElement:
    """Return the first element of that kind, as soon as there is one."""
    return t.cast(
        "WebElement",
        wait(browser, lambda: next(iter(browser.find_elements(By.CSS_SELECTOR, selector)), None)),
    )


def click(browser: webdriver.Chrome, selector: str) -> None:
    """Click on the first element of that kind; the page may be redrawing it just now."""
    corner = {"type": "mouseMoved", "x": 0, "y": 0}

    def clicked() -> bool:
        try:
            find(browser, selector).click()
        except StaleElementReferenceException:
            return False
        return True

    wait(browser, clicked)
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", corner)  # nothing is pointed at any more


def bottom(browser: webdriver.Chrome) -> int:
    """Return how high the page is."""
    return int(browser.execute_script("return document.documentElement.scrollHeight"))


PAGES: dict[str, Callable[[webdriver.Chrome], AbstractContextManager[int]]] = {
    "sandbox": sandbox_page,
    "report": report_page,
}
"""Name of the picture: what brings the browser to the page and yields the height to show."""


if __name__ == "__main__":
    sys.exit(main())
