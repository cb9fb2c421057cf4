"""Where the app runs, and what it reads."""
