"""Names of settings that nobody knows, and what was meant by them."""

from __future__ import annotations

import difflib
import typing as t

from target_altcraft.settings_schema import BRAKES, SIZES

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that is most like a wrong one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def misspelt(name: str, known: Iterable[str], among: Iterable[str] = (*BRAKES, *SIZES)) -> str:
    """Return which brake or size an unknown name looks like, or nothing.

    Args:
        name: The unknown name.
        known: All names that are known.
        among: Those that must not be ignored.
    """
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return close[0] if close and close[0] in set(among) else ""


def misspelt_names(config: Mapping[str, t.Any], schema: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield an error for each top-level setting that nobody reads and that looks like a brake.

    Args:
        config: Settings by name.
        schema: JSON schema of all settings.
    """
    known = schema["properties"]
    for name in config:
        if name not in known and (meant := misspelt(name, known)):
            yield (
                f"unknown setting '{name}' (did you mean '{meant}'?): a brake or a size must not "
                "be ignored"
            )


def unknown_names(config: Mapping[str, t.Any], schema: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield a warning for each other top-level setting that nobody reads.

    Args:
        config: Settings by name.
        schema: JSON schema of all settings.
    """
    known = schema["properties"]
    for name in config:
        if name not in known and not misspelt(name, known):
            yield f"unknown setting '{name}' is ignored{nearest(name, known)}"
