"""Lanes beside what is possible: see `__main__`."""
