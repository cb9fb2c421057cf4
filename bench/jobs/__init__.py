"""Background jobs, from the topic through the server and the queue to the worker."""
