"""Whether and when a job run that failed tries again by itself: a decision without side effects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Self

# Policies with a rhythm of their own: every five minutes, and one that starts at once gives up after thirty.
RHYTHM = timedelta(minutes=5)
LIFETIME = timedelta(minutes=30)
_FACTOR = 3
_JITTER = 0.2  # a wait is up to so much longer or shorter


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The key `retry` of a connector file; waits are seconds.

    `max_attempts` bounds the attempts that committed nothing, `max_with_progress` those that committed something, and
    `max_in_a_row` how often it tries again without anything being committed between.
    """

    policy: str = "standard"
    max_attempts: int = 10
    max_in_a_row: int = 5
    max_with_progress: int = 20
    first_wait: float = 10
    longest_wait: float = 1800

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> Self:
        """Read the policy from a connector's configuration as it was recorded."""
        told = (config or {}).get("retry") or {}
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in told.items() if name in known})


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended; one that was paused or parked is no attempt that failed."""

    code: str
    progressed: bool
    most_retries: int  # that its class is worth


def next_attempt(
    policy: RetryPolicy,
    ended: Sequence[Ended],
    *,
    now: datetime,
    expires_at: datetime | None = None,
    rhythm: bool = False,
    chance: float = 0.5,
) -> datetime | None:
    """Say when to try again, None when not any more; `ended` are the failed attempts, the last one last.

    `rhythm` asks for five minutes between attempts, as in the windows of a connector; `chance`, from 0 to 1, decides
    about the jitter.
    """
    if policy.policy == "never" or not ended or ended[-1].most_retries == 0:
        return None
    fire = policy.policy == "fire_and_forget"
    if fire or rhythm:
        at = now + RHYTHM
        bounded = expires_at is not None
        if bounded or _within(policy, ended):
            return None if expires_at is not None and at > expires_at else at
        return None
    if not _within(policy, ended) or _same(ended) > ended[-1].most_retries:
        return None
    spread = 1 + _JITTER * (2 * chance - 1)
    exponent = min(max(_barren(ended) - 1, 0), 40)
    seconds = min(policy.first_wait * _FACTOR**exponent * spread, policy.longest_wait)
    at = now + timedelta(seconds=seconds)
    return None if expires_at is not None and at > expires_at else at


def most_attempts(policy: RetryPolicy, *, rhythm: bool = False) -> int | None:
    """Tell how many attempts a job run has at most that commits nothing; None when only time limits them."""
    if policy.policy == "never":
        return 1
    if policy.policy == "fire_and_forget" or rhythm:
        return None
    return policy.max_attempts


def _within(policy: RetryPolicy, ended: Sequence[Ended]) -> bool:
    fruitful = sum(each.progressed for each in ended)
    return (
        fruitful < policy.max_with_progress
        and len(ended) - fruitful < policy.max_attempts
        and _barren(ended) <= policy.max_in_a_row
    )


def _barren(ended: Sequence[Ended]) -> int:
    """Count the attempts since the last one that committed something."""
    return next((n for n, each in enumerate(reversed(ended)) if each.progressed), len(ended))


def _same(ended: Sequence[Ended]) -> int:
    """Count the attempts in a row that ended alike, and committed nothing."""
    code = ended[-1].code
    alike = (n for n, each in enumerate(reversed(ended)) if each.progressed or each.code != code)
    return next(alike, len(ended))
