"""Job queues: where messages wait for `karafka worker`; one module each, over one port."""
