from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.jobs.retry import Ended, RetryPolicy, most_attempts, next_attempt

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)
LOST = Ended("connection-lost", progressed=False, most_retries=5)
MOVED = Ended("connection-lost", progressed=True, most_retries=5)
STANDARD = RetryPolicy()


def wait(policy: RetryPolicy, *ended: Ended, chance: float = 0.5) -> float | None:
    at = next_attempt(policy, ended, now=NOW, chance=chance)
    return None if at is None else (at - NOW).total_seconds()


def test_waits_grow_threefold_up_to_half_an_hour() -> None:
    policy = RetryPolicy(max_in_a_row=9)
    many = Ended("connection-lost", progressed=False, most_retries=9)
    assert [wait(policy, *[many] * n) for n in range(1, 8)] == [10, 30, 90, 270, 810, 1800, 1800]


def test_a_wait_is_up_to_a_fifth_shorter_or_longer() -> None:
    assert wait(STANDARD, LOST, chance=0) == 8
    assert wait(STANDARD, LOST, chance=1) == 12


def test_five_in_a_row_without_progress_are_enough() -> None:
    assert wait(STANDARD, *[LOST] * 5) == 810
    assert wait(STANDARD, *[LOST] * 6) is None


def test_progress_starts_the_row_anew() -> None:
    assert wait(STANDARD, *[LOST] * 5, MOVED) == 10
    assert wait(STANDARD, *[LOST] * 5, MOVED, LOST) == 10
    assert wait(STANDARD, *[LOST] * 5, MOVED, LOST, LOST) == 30


def test_ten_attempts_without_progress_are_enough_in_all() -> None:
    broken_up = [LOST, LOST, LOST, MOVED] * 3
    assert wait(STANDARD, *broken_up) is not None
    assert wait(STANDARD, *broken_up, LOST) is None


def test_twenty_attempts_with_progress_are_enough() -> None:
    assert wait(STANDARD, *[MOVED] * 19) is not None
    assert wait(STANDARD, *[MOVED] * 20) is None


def test_a_class_may_be_worth_less() -> None:
    once = Ended("out-of-memory", progressed=False, most_retries=1)
    assert wait(STANDARD, once) == 10
    assert wait(STANDARD, once, once) is None
    assert wait(STANDARD, LOST, once) == 30


@pytest.mark.parametrize("most", [0])
def test_what_no_retry_can_help_is_not_tried_again(most: int) -> None:
    assert wait(STANDARD, Ended("invalid-credentials", False, most)) is None
    assert wait(RetryPolicy(policy="never"), LOST) is None
    assert next_attempt(STANDARD, [], now=NOW) is None


def test_fire_and_forget_tries_every_five_minutes_until_it_expires() -> None:
    policy = RetryPolicy(policy="fire_and_forget")
    expires = NOW + timedelta(minutes=12)
    first = next_attempt(policy, [LOST], now=NOW, expires_at=expires)
    assert first == NOW + timedelta(minutes=5)
    second = next_attempt(policy, [LOST] * 2, now=first, expires_at=expires)
    assert second == NOW + timedelta(minutes=10)
    assert next_attempt(policy, [LOST] * 3, now=second, expires_at=expires) is None


def test_in_windows_it_goes_on_to_the_end_of_the_range_or_the_budget() -> None:
    end = NOW + timedelta(days=1)
    often = [LOST] * 50
    assert next_attempt(STANDARD, often, now=NOW, expires_at=end, rhythm=True) == NOW + timedelta(
        minutes=5
    )
    assert next_attempt(STANDARD, often, now=NOW, rhythm=True) is None
    assert next_attempt(STANDARD, [LOST], now=NOW, rhythm=True) is not None


def test_no_attempt_begins_after_the_run_expired() -> None:
    assert next_attempt(STANDARD, [LOST], now=NOW, expires_at=NOW + timedelta(seconds=5)) is None


def test_the_budget_is_told() -> None:
    assert most_attempts(STANDARD) == 10
    assert most_attempts(RetryPolicy(policy="never")) == 1
    assert most_attempts(STANDARD, rhythm=True) is None
    assert most_attempts(RetryPolicy(policy="fire_and_forget")) is None


def test_a_policy_is_read_from_the_recorded_configuration() -> None:
    assert RetryPolicy.of(None) == STANDARD
    assert RetryPolicy.of({"retry": None}) == STANDARD
    told = {"retry": {"policy": "never", "max_attempts": 3, "of_later": 1}}
    assert RetryPolicy.of(told) == RetryPolicy(policy="never", max_attempts=3)


ENDED = st.builds(
    Ended,
    st.sampled_from(["connection-lost", "worker-lost", "rate-limited"]),
    progressed=st.booleans(),
    most_retries=st.sampled_from([1, 5]),
)


@given(st.lists(ENDED, max_size=60), st.floats(0, 1))
def test_waits_are_bounded_and_attempts_come_to_an_end(ended: list[Ended], chance: float) -> None:
    at = next_attempt(STANDARD, ended, now=NOW, chance=chance)
    barren = [each for each in ended if not each.progressed]
    if len(barren) >= 10 or len(ended) - len(barren) >= 20:
        assert at is None
    if at is not None:
        assert timedelta(seconds=8) <= at - NOW <= timedelta(minutes=30)
