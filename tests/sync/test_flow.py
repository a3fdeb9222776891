import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.sync.flow import Abandoned, Channel

SOON = 10.0  # seconds after which a thread counts as stuck


class Broken(Exception):
    pass


def fill(channel: Channel[int], items: list[tuple[int, int]], *, breaks: bool = False) -> None:
    with channel.filling():
        for item, size in items:
            channel.put(item, size)
        if breaks:
            raise Broken


@given(
    st.lists(st.tuples(st.integers(), st.integers(min_value=0, max_value=40)), max_size=60),
    st.integers(min_value=1, max_value=50),
)
def test_everything_arrives_in_order(items: list[tuple[int, int]], limit: int) -> None:
    channel: Channel[int] = Channel(limit)
    with ThreadPoolExecutor(1) as threads:
        filling = threads.submit(fill, channel, items)
        assert list(channel) == [item for item, _ in items]
        filling.result(SOON)


def test_no_more_bytes_wait_than_the_limit() -> None:
    channel: Channel[int] = Channel(100)
    with ThreadPoolExecutor(1) as threads:
        filling = threads.submit(fill, channel, [(n, 40) for n in range(10)])
        found = []
        for item in channel:
            found.append(item)
            assert channel._held <= 100
        filling.result(SOON)
    assert all(left < right for left, right in pairwise(found))


def test_an_item_larger_than_the_limit_goes_through_alone() -> None:
    channel: Channel[int] = Channel(10)
    with ThreadPoolExecutor(1) as threads:
        filling = threads.submit(fill, channel, [(1, 500), (2, 500)])
        assert list(channel) == [1, 2]
        filling.result(SOON)


def test_what_came_before_a_fault_does_not_pass_for_everything() -> None:
    channel: Channel[int] = Channel(1000)
    with pytest.raises(Broken):
        fill(channel, [(1, 1)], breaks=True)
    with pytest.raises(Abandoned):
        list(channel)


def test_a_producer_that_waits_for_room_wakes_up_when_nobody_takes_items_any_more() -> None:
    channel: Channel[int] = Channel(1)
    with ThreadPoolExecutor(1) as threads:
        filling = threads.submit(fill, channel, [(n, 1) for n in range(5)])
        assert next(iter(channel)) == 0
        channel.abandon()
        with pytest.raises(Abandoned):
            filling.result(SOON)


def test_a_consumer_that_waits_for_items_wakes_up_when_the_channel_is_abandoned() -> None:
    channel: Channel[int] = Channel(1)
    with ThreadPoolExecutor(1) as threads:
        taking = threads.submit(list, channel)
        threading.Timer(0.05, channel.abandon).start()
        with pytest.raises(Abandoned):
            taking.result(SOON)
