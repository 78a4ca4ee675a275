from __future__ import annotations

import shutil
import subprocess
import typing as t

import absent
import pytest
from absent import pytest_terminal_summary  # noqa: F401 - found by pytest
from fork_server import ForkServer
from harness import TOKEN, run
from installed import MELTANO, TAP, installed
from nights import Nights
from real_parts import MissingPartError, database
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from wire import Clock

from target_altcraft.sandbox import Sandbox, Workflow

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Result
    from real_parts import Postgres


CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--window-size=1280,1000",
)


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands in for the time of all that calls Altcraft."""
    stands_in = Clock()
    for module in ("client", "answers", "delivery.retry"):
        monkeypatch.setattr(f"target_altcraft.{module}.time", stands_in)
    return stands_in


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture
def nights(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path, fork_server: ForkServer
) -> Nights:
    """One pipeline with a journal, to be run again and again."""
    return Nights(sandbox, config, tmp_path, fork_server)


@pytest.fixture(scope="session")
def tap(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tap's command; the first run of the suite installs it."""
    folder = tmp_path_factory.mktemp("tap-postgres")
    return installed(pytestconfig, folder, "tap-postgres", TAP) / "tap-postgres"


@pytest.fixture(scope="session")
def meltano(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Meltano's command; the first run of the suite installs it."""
    folder = tmp_path_factory.mktemp("meltano")
    try:
        return installed(pytestconfig, folder, "meltano", MELTANO) / "meltano"
    except subprocess.CalledProcessError as error:
        pytest.skip(f"Meltano cannot be installed here: pip's exit status was {error.returncode}")


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    try:
        with database() as server:
            yield server
    except MissingPartError:
        absent.skip("PostgreSQL")


@pytest.fixture
def crm() -> Iterator[Sandbox]:
    """A sandbox with the scenarios of README."""
    workflows = [Workflow(12, "Welcome"), Workflow(34, "Order follow-up")]
    with Sandbox(port=0, token=TOKEN, workflows=workflows) as running:
        yield running


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not CHROMIUM or not DRIVER:
        absent.skip("Chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options, Service(DRIVER))
    running.set_page_load_timeout(30)
    running.set_script_timeout(30)
    try:
        yield running
    finally:
        running.quit()
