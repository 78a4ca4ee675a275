"""The page for people at `GET /`, and the JSON it lives on, under `/_sandbox/`."""

from __future__ import annotations

import ipaddress
import secrets
import typing as t
from http import HTTPStatus
from importlib import resources
from urllib.parse import urlsplit

from flask import Response, request

from target_altcraft.sandbox.shown import MAX_PROFILES, TASKS, Wanted

if t.TYPE_CHECKING:
    from flask import Flask

    from target_altcraft.sandbox.shown import ShownWorld

OWN = "/_sandbox/"

_JSON = "application/json"
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Besides the page's own script and style, nothing runs, loads or frames it; and not even that
# script may turn text into markup (trusted types).
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def add_pages(app: Flask, world: ShownWorld, host: str) -> None:
    """Add the page and what it asks for to the application.

    Args:
        app: The WSGI application.
        world: What to show.
        host: The name it listens under, in case that is one of the machine's own.
    """
    page = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")

    @app.before_request
    def guard() -> Response | None:
        if not _is_own(request.path) or is_local(request.environ.get("HTTP_HOST", ""), host):
            return None
        text = "The sandbox answers to this machine's own names only, such as localhost.\n"
        return Response(text, HTTPStatus.MISDIRECTED_REQUEST, mimetype="text/plain")

    @app.after_request
    def harden(response: Response) -> Response:
        if _is_own(request.path):
            response.headers.update(_HEADERS)
        return response

    @app.get("/")
    def index() -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = {"Content-Security-Policy": _POLICY.format(nonce=nonce)}
        return Response(page.replace("{nonce}", nonce), headers=policy, mimetype="text/html")

    @app.get(f"{OWN}overview")
    def overview() -> Response:
        asked = request.args
        found = world.overview_json(
            asked.get("outcome", ""),
            max(0, asked.get("skip", 0, int)),
            max(0, asked.get("limit", TASKS, int)),
        )
        return Response(found, mimetype=_JSON)

    @app.get(f"{OWN}profiles")
    def profiles() -> Response:
        asked = request.args
        wanted = Wanted(
            asked.get("search", ""),
            asked.get("workflow", None, int),
            asked.get("entered", ""),
            min(max(0, asked.get("limit", 100, int)), MAX_PROFILES),
        )
        return Response(world.profiles_json(wanted), mimetype=_JSON)

    @app.get(f"{OWN}profiles/<int:number>")
    def profile(number: int) -> Response:
        found = world.profile_json(number)
        if found is None:
            return Response("null", HTTPStatus.NOT_FOUND, mimetype=_JSON)
        return Response(found, mimetype=_JSON)


def is_local(header: str, own: str) -> bool:
    """Whether a `Host` header names this machine.

    A page of another site can have its own name resolve to 127.0.0.1 (DNS rebinding), and would
    then be let in to read what the sandbox knows.
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", own.lower()):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_own(path: str) -> bool:
    return path == "/" or path.startswith(OWN)
