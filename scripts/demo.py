"""The demonstration: `examples/` through Meltano into the sandbox, and what has become of it.

It starts the sandbox, has Meltano run the tap and the target, reports what arrived and which STATE
Meltano saved, and stops what it started. Exit status 0 means that every record arrived exactly
once and that the STATE saved is the last one of the export.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import requests

if t.TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, t.Any]

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "examples" / "config.json"
MELTANO = Path(sys.executable).with_name("meltano")
TAP, TARGET = "tap-singer-jsonl", "target-altcraft"
STATE = f"demo:{TAP}-to-{TARGET}"

PORT = 8765
TOKEN = "demo-token"  # noqa: S105 - the sandbox's, on loopback
TASK_SECONDS = 1.0
START_SECONDS = 30.0
STOP_SECONDS = 10.0
INSTALL_SECONDS = 900.0
RUN_SECONDS = 300.0
SAMPLES = 3

_FOREIGN = ("MELTANO_", "TARGET_ALTCRAFT_", "TAP_SINGER_JSONL_")
# Settings by which the caller's environment could turn the demonstration on something real.


class DemoError(Exception):
    """The demonstration failed; the text says how."""


@dataclasses.dataclass
class Export:
    """What the files of `examples/` hold."""

    records: collections.Counter[str]
    emails: set[str]
    without_email: int
    state: t.Any


class Signals:
    """Ends the demonstration on a signal, save where a process would be left behind."""

    def __init__(self) -> None:
        self._held = False
        self._pending = 0

    def install(self) -> None:
        """Take the signals over."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: object) -> None:
        if not self._held:
            sys.exit(128 + number)
        self._pending = number

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Put a signal off until the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            sys.exit(128 + self._pending)


SIGNALS = Signals()


def main() -> int:
    """Run the demonstration; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    SIGNALS.install()
    try:
        run()
    except DemoError as error:
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """Run it, step by step.

    Raises:
        DemoError: If something did not work, or did not arrive.
    """
    export = read_export()
    heading("Installing the tap and the target (meltano install)")
    meltano("install", seconds=INSTALL_SECONDS)
    again = STATE in saved_states()
    with sandbox() as url:
        heading(f"meltano run {TAP} {TARGET}")
        if again:
            print(
                f"Meltano has the STATE of an earlier run. {TAP} reads its files from the start\n"
                "whatever the STATE, so everything is sent again, to a sandbox that is empty again."
                "\nA tap that asks its source for changes would go on from there.\n"
            )
        meltano("run", "--force", TAP, TARGET, seconds=RUN_SECONDS, url=url)
        view = get_view(url)
    faults = [*report(view, export), *report_state(export)]
    if faults:
        raise DemoError("; ".join(faults))
    print("\nEverything arrived, once each.")


def heading(text: str) -> None:
    """Print the heading of a step."""
    print(f"\n== {text}\n")


def read_export() -> Export:
    """Return what the tap will find."""
    export = Export(collections.Counter(), set(), 0, None)
    for path in sorted(CONFIG.parent.glob("*.singer")):
        with path.open(encoding="utf-8") as lines:
            for message in map(json.loads, lines):
                if message["type"] == "STATE":
                    export.state = message["value"]
                elif message["type"] == "RECORD":
                    record = message["record"]
                    export.records[message["stream"]] += 1
                    email = record["customer_email" if "order_id" in record else "email"]
                    if email:
                        export.emails.add(email)
                    else:
                        export.without_email += 1
    return export


@contextlib.contextmanager
def process(*command: str | Path, **options: t.Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401
    """Start a process in a group of its own, and end the whole group on the way out."""
    started = None
    try:
        with SIGNALS.held():
            started = subprocess.Popen(
                command, cwd=ROOT, text=True, encoding="utf-8", start_new_session=True, **options
            )
        yield started
    finally:
        with SIGNALS.held():
            if started:
                end(started)


def end(started: subprocess.Popen[str]) -> None:
    """End a process and its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(STOP_SECONDS)
            break
    for pipe in (started.stdout, started.stderr):
        if pipe:
            pipe.close()


@contextlib.contextmanager
def sandbox() -> Iterator[str]:
    """Run the sandbox, on its own port or, should that be taken, on a free one; yield its URL.

    Raises:
        DemoError: If it does not start.
    """
    command = (sys.executable, "-m", "target_altcraft.sandbox", "--quiet", "--token", TOKEN)
    options = ("--task-seconds", str(TASK_SECONDS))
    problem = "it says nothing"
    for port in (PORT, 0):
        with (
            tempfile.TemporaryFile("w+") as errors,
            process(
                *command, *options, "--port", str(port), stdout=subprocess.PIPE, stderr=errors
            ) as server,
        ):
            assert server.stdout is not None  # noqa: S101 - a pipe was asked for
            readable, _, _ = select.select([server.stdout], [], [], START_SECONDS)
            greeting = server.stdout.readline().strip() if readable else ""
            if greeting:
                heading("A stand-in for Altcraft")
                print(greeting)
                if port != PORT:
                    print(f"(port {PORT} is taken, so it has another one)")
                yield next(word for word in greeting.split() if word.startswith("http://"))
                return
            errors.seek(0)
            problem = errors.read().strip() or problem
    raise DemoError(f"the sandbox does not start: {problem}")


def meltano(*arguments: str, seconds: float, url: str = "", capture: bool = False) -> str:
    """Run Meltano in this project; return its standard output if that is captured.

    Args:
        arguments: Of the command line.
        seconds: Deadline.
        url: Where the sandbox listens.
        capture: Show nothing, and return the output.

    Raises:
        DemoError: If it fails, or takes too long.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    environment["MELTANO_ENVIRONMENT"] = "demo"
    environment["PYTHONWARNINGS"] = "ignore"
    if url:
        environment["TARGET_ALTCRAFT_API_URL"] = url
        environment["TARGET_ALTCRAFT_TOKEN"] = TOKEN
    name = f"meltano {' '.join(arguments)}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} if capture else {}
    with process(MELTANO, *arguments, env=environment, stdin=subprocess.DEVNULL, **pipes) as child:
        try:
            output, errors = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise DemoError(f"'{name}' was not done after {seconds:.0f} s") from None
        if child.returncode:
            raise DemoError(f"'{name}' failed with exit status {child.returncode}. {errors or ''}")
    return output or ""


def saved_states() -> list[str]:
    """Return the names under which Meltano keeps STATE."""
    listed = meltano("state", "list", seconds=RUN_SECONDS, capture=True)
    return [line.strip() for line in listed.splitlines() if line.strip()]


def get_view(url: str) -> Json:
    """Return what the sandbox knows."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"{url}/_sandbox/state", timeout=START_SECONDS)
        answer.raise_for_status()
        return t.cast("Json", answer.json())


def report(view: Json, export: Export) -> list[str]:
    """Print what arrived; return what is wrong with it."""
    heading("What arrived")
    tasks, totals = view["tasks"], view["totals"]
    print(
        f"{totals['profiles']} profiles, {totals['runs']} scenario runs, {totals['messages']} "
        f"messages, {totals['tasks']} tasks, {totals['requests']} requests\n"
    )
    print("task  scenario         matching    profiles  messaged     bytes  outcome")
    names = {workflow["id"]: workflow["name"] for workflow in view["workflows"]}
    for task in tasks:
        print(
            f"{task['number']:4}  {names[task['workflow_id']]:15}  {task['matching']:10} "
            f"{task['delivered']:9} {task['messaged']:9} {task['body_bytes']:9}  {task['outcome']}"
        )
    show_samples(view["profiles"], names)
    return [*faults_of(view, export), *faults_of_messages(view, export)]


def show_samples(profiles: list[Json], names: dict[int, str]) -> None:
    """Print some profiles that were messaged, and some that only entered a scenario."""
    by_runs = sorted(profiles, key=lambda profile: len(profile["history"]), reverse=True)
    unheard = [profile for profile in by_runs if not profile["messages"]]
    heard = [profile for profile in by_runs if profile["messages"]]
    print(
        f"\n{len(heard)} customers were messaged, {len(unheard)} entered a scenario and were not: "
        "Altcraft sends\nto subscriptions, and without an address there is none. Some of both:"
    )
    for profile in [*heard[:SAMPLES], *unheard[:1]]:
        print(f"\n  {json.dumps(profile['fields'], ensure_ascii=False)}")
        for entered in profile["history"]:
            content = entered["entry"].get("content", {})
            what = f", order {content['order_id']} of {content['total']:.2f}" if content else ""
            message = (
                f"messaged by {entered['channel']} to {entered['address']}"
                if entered["channel"]
                else f"not messaged: {entered['reason']}"
            )
            print(f"    entered {names[entered['workflow_id']]}{what}; {message}")


def faults_of_messages(view: Json, export: Export) -> list[str]:
    """Return what is wrong with who was messaged: all who have an address, and nobody else."""
    unheard = sum(not profile["messages"] for profile in view["profiles"])
    faults = []
    if unheard != export.without_email:
        faults.append(f"{unheard} customers were not messaged, {export.without_email} expected")
    wanted = export.records.total() - export.without_email
    if view["totals"]["messages_by_channel"] != {"email": wanted}:
        faults.append(f"{view['totals']['messages_by_channel']} messages, {wanted} expected")
    return faults


def faults_of(view: Json, export: Export) -> list[str]:
    """Return what is wrong with profiles, scenario runs and tasks."""
    tasks, faults = view["tasks"], []
    streams = json.loads(CONFIG.read_text(encoding="utf-8"))["streams"]
    for stream, settings in streams.items():
        runs = sum(
            workflow["runs"]
            for workflow in view["workflows"]
            if workflow["id"] == settings["workflow_id"]
        )
        if runs != export.records[stream]:
            faults.append(f"{export.records[stream]} {stream} made {runs} scenario runs")
    emails = [profile["fields"].get("email") for profile in view["profiles"]]
    if {*filter(None, emails)} != export.emails or emails.count(None) != export.without_email:
        wanted = len(export.emails) + export.without_email
        faults.append(f"{len(emails)} of {wanted} profiles arrived")
    unfinished = [task["id"] for task in tasks if task["outcome"] != "completed"]
    if unfinished:
        faults.append(f"tasks not completed: {', '.join(unfinished)}")
    return faults


def report_state(export: Export) -> list[str]:
    """Print the STATE saved; return what is wrong with it."""
    heading("The STATE that Meltano saved")
    print("$ meltano state list", *saved_states(), "", sep="\n")
    saved = json.loads(meltano("state", "get", STATE, seconds=RUN_SECONDS, capture=True) or "{}")
    print(f"$ meltano state get {STATE}\n{json.dumps(saved, indent=2, ensure_ascii=False)}")
    is_last = saved.get("singer_state") == export.state
    return [] if is_last else ["the STATE saved is not the export's last"]


if __name__ == "__main__":
    sys.exit(main())
