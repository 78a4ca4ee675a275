"""Names of streams and columns, as they may be shown, and the name that somebody may have meant."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN_CHARACTERS = 100


def visible(name: object) -> str:
    r"""Return a name of the input on one line, with what cannot be seen made visible.

    A byte order mark becomes `\ufeff`. What is no text is not quoted: it may be anything.
    """
    if not isinstance(name, str):
        return "?"
    if len(name) > _SHOWN_CHARACTERS:
        name = name[: _SHOWN_CHARACTERS - 1] + "…"
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in name)


def near(name: str, names: Iterable[str]) -> str:
    """Return a hint at a name that is nearly the one looked for, or nothing.

    Case, marks and what cannot be seen make no difference: `E-mail` is nearly `email`, and so is
    one with a byte order mark before it.
    """
    wanted = _bare(name)
    for other in names:
        if other != name and len(other) <= _SHOWN_CHARACTERS and _bare(other) == wanted:
            return f"; there is a column '{visible(other)}'"
    return ""


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
