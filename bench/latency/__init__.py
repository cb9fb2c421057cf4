"""How long from produce to perform, where messages come steadily and nothing is behind: see `part`."""
