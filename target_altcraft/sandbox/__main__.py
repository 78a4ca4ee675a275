"""`altcraft-sandbox`: the sandbox as a command."""

from __future__ import annotations

import argparse
import contextlib
import errno
import signal
import sys
import threading
import typing as t
import webbrowser
from importlib.metadata import version

from target_altcraft.sandbox.faults import FaultError, parse_fault
from target_altcraft.sandbox.scenarios import SetupError, parse_resource, parse_workflow

try:
    from target_altcraft.sandbox.server import HostError, Sandbox
    from target_altcraft.sandbox.world import DEFAULT_BODY_LIMIT, DEFAULT_TOKEN
except ModuleNotFoundError as error:
    sys.exit(
        f"altcraft-sandbox: {error.name} is missing; the extra 'sandbox' has it: in a clone, "
        "pip install '.[sandbox]'"
    )

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.requestlog import RequestSeen
    from target_altcraft.sandbox.scenarios import Resource, Workflow

_DEFAULT_PORT = 8765
_MAX_PORT = 65_535
_EXAMPLES = """\
Its page shows what has arrived; GET /_sandbox/state has all of it as JSON.

examples:
  altcraft-sandbox --open
  altcraft-sandbox --workflow 12:Welcome --workflow 34:Orders:channel=sms
  altcraft-sandbox --fault submit:http,status=503,times=3 --fault task:failed,after=2
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        0 when a signal ended it, 1 when it cannot listen. A wrong argument exits with 2.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        sandbox = Sandbox(
            host=options.host,
            port=options.port,
            token=options.token,
            task_seconds=options.task_seconds,
            body_limit=options.body_limit,
            close_on_too_large=options.close_on_too_large,
            forbid_list=options.forbid_list,
            workflows=options.workflow,
            resources=options.resource,
            remember=not options.count_only,
            on_done=None if options.quiet else _print_request,
        )
    except HostError as error:
        parser.error(f"argument --host: {error}")
    except SetupError as error:
        parser.error(f"argument --workflow: {error}")
    for fault in options.fault:
        sandbox.add_fault(fault)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        sandbox.start()
    except OSError as error:
        reason = (
            "is in use: choose another with --port"
            if error.errno == errno.EADDRINUSE
            else f"cannot be used: {error.strerror}"
        )
        print(f"altcraft-sandbox: port {options.port} {reason}", file=sys.stderr)
        return 1
    print(f"Altcraft sandbox on {sandbox.url} (token: {options.token})", flush=True)
    if options.open:
        # Some browsers return only when they are closed.
        threading.Thread(target=_open, args=(sandbox.url,), daemon=True).start()
    ended.wait()
    sandbox.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="altcraft-sandbox",
        description="A local stand-in for the Altcraft marketing platform.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--version",
        action="version",
        version=f"%(prog)s v{version('target-altcraft')}",
        help="say its version and exit",
    )
    add("--host", default="127.0.0.1", help="loopback only (default: %(default)s)")
    add("--port", type=_port, default=_DEFAULT_PORT, help="0: any (default: %(default)s)")
    add("--token", default=DEFAULT_TOKEN, help="the one let in (default: %(default)s)")
    add(
        "--task-seconds",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="how long a task takes (default: %(default)s)",
    )
    add(
        "--body-limit",
        type=_bytes,
        default=DEFAULT_BODY_LIMIT,
        metavar="BYTES",
        help="largest request body (default: %(default)s)",
    )
    add(
        "--close-on-too-large",
        action="store_true",
        help="cut the connection in mid-body instead of answering",
    )
    _add_setup(parser)
    add("--forbid-list", action="store_true", help="answer workflows/list with error 403")
    add(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="SPEC",
        help="a fault, such as submit:http,status=503,times=2 or task:failed,after=1; repeatable",
    )
    add(
        "--count-only",
        action="store_true",
        help="keep tasks and counters only: no profiles, entries, requests",
    )
    add("--open", action="store_true", help="open its page in the default browser")
    add("--quiet", action="store_true", help="no line per request on stderr")
    return parser


def _add_setup(parser: argparse.ArgumentParser) -> None:
    """Add what the account is set up with."""
    parser.add_argument(
        "--workflow",
        type=_workflow,
        action="append",
        metavar="ID:NAME[:inactive][:resource=ID][:channel=CHANNEL][:mode=MODE]",
        help="a scenario; repeatable (default: three examples that send e-mail)",
    )
    parser.add_argument(
        "--resource",
        type=_resource,
        action="append",
        metavar="ID:CHANNEL[+CHANNEL]...:NAME",
        help="what customers subscribe to; repeatable (default: 7:email+sms:Newsletter and "
        "8:telegram_bot+push:Bot)",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and {_MAX_PORT}")
    return int(text)


def _bytes(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes")
    return int(text)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(text)) < float("inf"):
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")


def _workflow(text: str) -> Workflow:
    try:
        return parse_workflow(text)
    except SetupError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _resource(text: str) -> Resource:
    try:
        return parse_resource(text)
    except SetupError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _open(url: str) -> None:
    if not webbrowser.open(url):
        print(f"altcraft-sandbox: no browser found: open {url} yourself", file=sys.stderr)


def _print_request(seen: RequestSeen) -> None:
    """Say what came and went, without a value of any profile."""
    words = [seen.endpoint]
    if seen.endpoint == "submit":
        words.append(f"{seen.entries} entries, {seen.bytes} bytes")
    words.append("no answer" if seen.status is None else f"HTTP {seen.status}")
    if seen.error:
        words.append(f"error {seen.error}")
    if seen.task_id:
        words.append(f"task {seen.task_id}")
    if seen.fault:
        words.append(f"fault {seen.fault}")
    with contextlib.suppress(OSError):  # nobody reads any more: no reason to stop serving
        print(*words, sep=", ", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
