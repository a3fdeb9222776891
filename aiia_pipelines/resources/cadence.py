"""How often the processes of `aiia up` ask each other whether something has changed."""

from dagster._daemon import controller
from dagster._grpc import server_watcher

WATCH = 5  # seconds; Dagster asks the code server each second
ATTEMPTS = 4  # that fail until the code server counts as gone
REFRESH = 240  # seconds; Dagster loads all definitions anew each minute, changed or not


def slow_down() -> None:
    """Set the intervals of this process; before Dagster's threads start.

    A code server that is reloaded or dies is still seen, by its number, five seconds later at most.
    """
    server_watcher.WATCH_INTERVAL = WATCH
    server_watcher.MAX_RECONNECT_ATTEMPTS = ATTEMPTS
    controller.RELOAD_WORKSPACE_INTERVAL = REFRESH
