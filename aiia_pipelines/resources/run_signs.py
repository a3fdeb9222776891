"""Signs of the runs that Celery workers execute, kept in the broker: who took a run, and that it lives."""

import threading
from collections.abc import Callable
from typing import Self

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry

PULSE = 3.0  # seconds between two signs of life
SILENCE = 15  # seconds after which a sign of life is forgotten
_TAKEN_FOR = 7 * 86_400  # seconds; a broker delivers nothing that is older
_PATIENCE = 10.0  # seconds to wait for an answer


class RunSigns:
    """The signs of all runs at one broker."""

    def __init__(self, broker: str) -> None:
        """Remember where the broker is; the first question connects."""
        self._redis = Redis.from_url(
            broker,
            decode_responses=True,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            # A broker that is started anew is back within seconds.
            retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=1), 6, (NoConnection, NoAnswer)),
        )

    def answers(self) -> bool:
        """Tell whether the broker is there."""
        try:
            return bool(self._redis.ping())
        except RedisError:
            return False

    def take(self, run_id: str, who: str) -> bool:
        """Take a run once, as PID@HOST: a broker may deliver it twice."""
        # An answer may get lost and the question be asked again: then the taker is who asks.
        first = self._redis.set(_taken(run_id), who, nx=True, ex=_TAKEN_FOR)
        return bool(first) or self.taker(run_id) == who

    def taker(self, run_id: str) -> str | None:
        """Give the process that took a run out of its queue, as PID@HOST."""
        found = self._redis.get(_taken(run_id))
        return str(found) if found is not None else None

    def beat(self, run_id: str, who: str) -> None:
        """Give a sign of life."""
        self._redis.set(_pulse(run_id), who, ex=SILENCE)

    def stop(self, run_id: str) -> None:
        """Take the sign of life back: the run is over."""
        self._redis.delete(_pulse(run_id))

    def lives(self, run_id: str) -> bool:
        """Tell whether a run gave a sign of life; of a broker that just started, nothing can be told."""
        if self._redis.exists(_pulse(run_id)):
            return True
        return int(self._redis.info("server")["uptime_in_seconds"]) < SILENCE

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


class Pulse:
    """A thread that gives signs of life while a run is executed, and looks whether it is to stop."""

    def __init__(self, signs: RunSigns, run_id: str, who: str, look: Callable[[], None]) -> None:
        """Prepare the thread; `look` is called after each sign."""
        self._signs, self._run_id, self._who, self._look = signs, run_id, who, look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"run-{run_id}-pulse", daemon=True)

    def __enter__(self) -> Self:
        """Give the first sign before the run begins."""
        self._signs.beat(self._run_id, self._who)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; a sign that cannot be taken back is forgotten by itself."""
        self._over.set()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while not self._over.wait(PULSE):
            self._look()
            try:
                self._signs.beat(self._run_id, self._who)
            except RedisError:
                # The run goes on without its broker; the job history has its own sign of life.
                continue


def _taken(run_id: str) -> str:
    return f"aiia:run:{run_id}:taken"


def _pulse(run_id: str) -> str:
    return f"aiia:run:{run_id}:pulse"
