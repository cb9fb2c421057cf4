"""What `part` measures: a script each, a process of its own.

Run as `python -m bench.loops.NAME BOOTSTRAP TOPIC RECORDS GROUP`.

Each reads RECORDS messages once and prints one line of JSON; see `bench.loops.report`.
"""
