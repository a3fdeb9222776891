"""The fast form of the chaos harness; `make chaos` is the long one."""

from collections.abc import Iterator

import pytest
from faults import EVERY_PHASE
from harness import Arena, arena
from mutations import MUTATIONS
from world import MODES

pytestmark = pytest.mark.acceptance

SEED = 20261122
FAULTS = {"postgres": 132, "duckdb": 36, "parquet": 24, "s3": 14}
# Which mode and which faults bring each mistake to light; the harness stops at the first violation.
SHOWN_BY = {
    "position_in_a_transaction_of_its_own": ("append", "kill_inside_the_commit"),
    "every_statement_commits": ("replace by key", "kill_inside_the_commit"),
    "the_ledger_is_not_asked": ("append", "kill_inside_the_commit"),
    "nobody_is_fenced_off": ("append", "zombie"),
    "a_cancel_is_not_looked_at": ("replace", "cancel"),
    "a_lost_answer_counts_as_a_commit": ("upsert", "network_cut"),
}
ENOUGH = 60  # faults within which a mistake must show


@pytest.fixture(scope="module")
def found() -> Iterator[Arena]:
    with arena() as opened:
        yield opened


def test_the_fast_form_strikes_two_hundred_times_and_every_mistake_has_its_turn() -> None:
    assert sum(FAULTS.values()) >= 200
    assert SHOWN_BY.keys() == MUTATIONS.keys()
    assert len(SHOWN_BY) >= 6


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_dies_at_whatever_moment_no_promise_is_broken(found: Arena, name: str) -> None:
    place = found.place(name)
    report = found.strike(place, FAULTS[name], seed=SEED)
    assert report.violations + report.looks.odd == [], "\n".join(report.lines())
    assert sum(report.faults.values()) == FAULTS[name]
    # The faults struck: some syncs were committed in spite of them, and some were not.
    assert report.committed > 0
    assert report.rolled_back > 0
    assert report.looks.reads > 0
    if place.served:
        assert report.phases == set(EVERY_PHASE)


@pytest.mark.parametrize("mistake", SHOWN_BY)
def test_the_harness_catches_a_mistake_in_the_protocol(found: Arena, mistake: str) -> None:
    mode, fault = SHOWN_BY[mistake]
    report = found.strike(
        found.warehouse,
        ENOUGH,
        seed=SEED,
        modes=[found_mode for found_mode in MODES if found_mode.name == mode],
        mutation=mistake,
        only=fault,
        stop_at=1,
    )
    assert report.violations + report.looks.odd != [], "\n".join(report.lines())
