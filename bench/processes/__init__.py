"""What several processes do more than one: see `__main__`."""
