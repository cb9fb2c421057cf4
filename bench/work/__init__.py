"""Lanes beside what is possible: see `part`."""
