"""How often something may happen in a minute, counted in the memory of one process."""

import math
import threading
import time
from collections import defaultdict, deque

_MINUTE = 60.0  # seconds


class Pace:
    """What happened in the last minute, by name."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._lock = threading.Lock()
        self._seen: defaultdict[str, deque[float]] = defaultdict(deque)

    def wait(self, name: str, most: int) -> int:
        """Count one more; or, if there were as many as may be, give the seconds until there is room."""
        now = time.monotonic()
        with self._lock:
            seen = self._seen[name]
            while seen and seen[0] <= now - _MINUTE:
                seen.popleft()
            if len(seen) >= most:
                # With a limit that was lowered meanwhile, more than one has to become old.
                return math.ceil(seen[len(seen) - most] + _MINUTE - now)
            seen.append(now)
            return 0
