"""The command `target-altcraft`, also as `python -m target_altcraft`."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line."""
    gc.disable()  # what imports make is here to stay; looking for garbage in it costs start-up time
    from target_altcraft.target import TargetAltcraft  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    TargetAltcraft.cli()


if __name__ == "__main__":
    main()
