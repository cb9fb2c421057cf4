"""How what is done in the background is done: `karafka worker` does it."""
