"""How soon a process is at work, and what it takes while there is nothing to do: see `part`."""
