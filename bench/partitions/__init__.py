"""What partitions cost: see `__main__`."""
