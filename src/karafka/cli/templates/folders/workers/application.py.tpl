"""What the workers have in common."""

from karafka import Worker


class ApplicationWorker(Worker):
    """The base of all workers, of those too that nobody wrote: a controller in the background without one gets one."""

    max_retries = 10
