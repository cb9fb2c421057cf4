"""Slow work by key as Java does it: Confluent's Parallel Consumer."""

from bench.work.java.parallel_consumer import answered

__all__ = ["answered"]
