"""What sending costs, beside the client alone with the same settings: see `part`."""
