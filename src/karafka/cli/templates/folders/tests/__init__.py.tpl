"""Tests of parts alone, and of the whole app on a broker of its own; no Kafka is needed."""
