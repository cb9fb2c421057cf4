"""What several processes do more than one: see `part`."""
