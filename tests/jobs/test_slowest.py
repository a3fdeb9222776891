from aiia_pipelines.jobs.slowest import Slow, slowest


def test_the_steps_that_took_most_are_named_with_their_share_of_the_time() -> None:
    busy = [
        ("orders", "extract", 6.0),
        ("orders", "parse", 1.0),
        ("orders", "commit", 3.0),
        ("items", "extract", 1.0),
        ("items", "commit", 2.0),
    ]
    assert slowest(busy, 10.0) == (
        Slow(step="extract", stream="orders", busy_seconds=7.0, share=0.7),
        Slow(step="commit", stream="orders", busy_seconds=5.0, share=0.5),
    )


def test_a_step_that_no_stream_has_most_of_names_none() -> None:
    busy = [(f"s{n}", "reconcile", 1.0) for n in range(4)]
    assert slowest(busy, 8.0) == (Slow(step="reconcile", stream="", busy_seconds=4.0, share=0.5),)


def test_what_streams_wait_for_together_counts_once() -> None:
    busy = [(name, "connect", 4.0) for name in ("a", "b", "c")]
    assert slowest(busy, 5.0) == (Slow(step="connect", stream="", busy_seconds=4.0, share=0.8),)


def test_a_share_is_at_most_the_whole() -> None:
    assert slowest([("a", "extract", 6.0)], 5.0)[0].share == 1.0


def test_nothing_is_slow_before_something_was_done() -> None:
    assert slowest([], 5.0) == ()
    assert slowest([("a", "extract", 0.0)], 5.0) == ()
    assert slowest([("a", "extract", 1.0)], None) == ()
    assert slowest([("", "login", 1.0)], 5.0) == ()
