"""What partitions cost: see `part`."""
