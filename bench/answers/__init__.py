"""What it costs that each message is answered, and finished only when its answer is confirmed."""
