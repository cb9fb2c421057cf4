"""Slow work by key as Java does it: Confluent's Parallel Consumer."""

from bench.work.java.parallel_consumer import WARM, answered

__all__ = ["WARM", "answered"]
