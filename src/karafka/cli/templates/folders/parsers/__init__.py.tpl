"""Bytes to objects and back, where they are not JSON."""
