"""The command `target-altcraft`, also as `python -m target_altcraft`."""

from __future__ import annotations

from target_altcraft.target import TargetAltcraft

main = TargetAltcraft.cli

if __name__ == "__main__":
    main()
