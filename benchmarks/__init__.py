"""How fast the target is, beside a target made from the SDK's template and beside a bare loop.

`make bench` runs all of it; `python -m benchmarks --help` says how to run a part.
"""
