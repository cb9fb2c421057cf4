"""One perspective a file, and the collector of what they find."""
