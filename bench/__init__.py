"""The figures: ours beside what a user would write instead, in one run, on one broker, with the same records."""
