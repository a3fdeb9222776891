"""The conformance suite of destinations: what reaches a reader, in every mode, and what never does."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from aiia_pipelines.jobs.run import Changes
from aiia_pipelines.sync.destinations.base import DELETED_AT, REJECTED, VALID_FROM, VALID_TO
from aiia_pipelines.sync.reconcile import compare
from aiia_pipelines.sync.totals import Totals
from aiia_pipelines.testing._people import (
    CONNECTOR,
    PEOPLE,
    STREAM,
    Ground,
    arrow,
    batch,
    committed,
    contract_of,
    held,
    landed,
    plain,
    put,
    rivals,
    seen,
)

_EPOCH = dt.datetime(2026, 1, 31, 23, 59, 59, 999_999)  # noqa: DTZ001 - a value without a zone

# One value of every type that a contract knows, and a NULL of each.
HARD: dict[str, Any] = {
    "bool": True,
    "int16": -32768,
    "int32": 2**31 - 1,
    "int64": -(2**63),
    "float32": 1.5,
    "float64": -0.0,
    "decimal(38,10)": Decimal("-1234567890123456789012345678.0123456789"),
    "decimal(18,2)": Decimal("0.10"),
    "string": 'نص 🙂\n"quoted", \\back\t',
    "binary": b"\x00\xff\x27",
    "date": dt.date(1, 1, 1),
    "time": dt.time(23, 59, 59, 999_999),
    "timestamp": _EPOCH,
    "timestamptz": _EPOCH.replace(tzinfo=dt.UTC),
    "uuid": "0b0e7e0c-4b5b-4a5e-9d3e-1f2a3b4c5d6e",
    "json": '{"b": 1.10, "a": [null]}',
    "list<int64>": [1, None, 3],
    "list<string>": ["", "a,b", None, '"}'],
}


class DestinationSuite:
    """What every destination does; subclass it with a fixture `ground`."""

    @pytest.fixture
    def ground(self) -> Ground:
        """Give an empty place."""
        raise NotImplementedError

    # -- seen and unseen --------------------------------------------------------------------

    def test_nothing_is_seen_before_the_commit(self, ground: Ground) -> None:
        """Staged rows, matches and figures leave no trace."""
        with landed(ground) as landing:
            landing.stage(batch([(1, "a")]))
            landing.match(complete=True)
            landing.figures([("", "rows")])
            assert ground.rows(CONNECTOR, STREAM) == []
            landing.discard()
        assert ground.rows(CONNECTOR, STREAM) == []

    def test_a_commit_is_seen_whole(self, ground: Ground) -> None:
        """What was staged is what is there."""
        assert put(ground, [(1, "a"), (2, None), (3, "")]) == Changes(
            inserted=3, updated=0, unchanged=0, deleted=0
        )
        assert seen(ground) == [(1, "a"), (2, None), (3, "")]

    def test_discarding_may_happen_at_any_time(self, ground: Ground) -> None:
        """Before anything is staged, twice, and after a commit."""
        with landed(ground) as landing:
            landing.discard()
            landing.discard()
        put(ground, [(1, "a")])
        assert seen(ground) == [(1, "a")]

    def test_an_empty_stream_can_be_committed(self, ground: Ground) -> None:
        """No rows are a result, too."""
        put(ground, [(1, "a")])
        put(ground, [])
        assert seen(ground) == []

    @pytest.mark.parametrize("kind", HARD)
    def test_a_value_arrives_exactly_or_is_refused(self, ground: Ground, kind: str) -> None:
        """A destination holds a type, or says that it does not before a row is staged."""
        contract = contract_of([("id", "int64"), ("value", kind)], key=("id",))
        rows = arrow(contract, [[1, 2], [HARD[kind], None]])
        refusal = held(ground, contract, rows)
        if refusal:
            assert "value" in refusal
            assert ground.rows(CONNECTOR, STREAM) == []
            return
        found = sorted(ground.rows(CONNECTOR, STREAM), key=lambda row: row["id"])
        assert repr(plain(found[0]["value"], kind)) == repr(HARD[kind])
        assert found[1]["value"] is None

    # -- modes ------------------------------------------------------------------------------

    def test_replace_leaves_what_the_source_has(self, ground: Ground) -> None:
        """With a key only what differs is written."""
        put(ground, [(1, "a"), (2, "b"), (3, "c")])
        changes = put(ground, [(2, "b"), (3, "C"), (4, "d")])
        assert changes == Changes(inserted=1, updated=1, unchanged=1, deleted=1)
        assert seen(ground) == [(2, "b"), (3, "C"), (4, "d")]

    def test_replace_without_a_key_takes_equal_rows(self, ground: Ground) -> None:
        """Rows that nothing tells apart are all kept."""
        put(ground, [(1, "a"), (1, "a")], key=())
        put(ground, [(1, "a"), (1, "a"), (2, "b")], key=())
        assert seen(ground) == [(1, "a"), (1, "a"), (2, "b")]

    def test_append_adds(self, ground: Ground) -> None:
        """Also what is there already."""
        put(ground, [(1, "a")], mode="append", key=())
        put(ground, [(1, "a"), (2, "b")], mode="append", key=(), complete=False)
        assert seen(ground) == [(1, "a"), (1, "a"), (2, "b")]

    def test_upsert_matches_on_the_key(self, ground: Ground) -> None:
        """What the batch does not name stays."""
        put(ground, [(1, "a"), (2, "b")], mode="upsert")
        changes = put(ground, [(2, "B"), (3, "c")], mode="upsert", complete=False)
        assert changes == Changes(inserted=1, updated=1, unchanged=0, deleted=0)
        assert seen(ground) == [(1, "a"), (2, "B"), (3, "c")]

    def test_hard_deletes_follow_the_keys_of_the_source(self, ground: Ground) -> None:
        """Of an incremental reading the keys tell, of a whole one the rows."""
        put(ground, [(1, "a"), (2, "b"), (3, "c")], mode="upsert", delete="hard")
        changes = put(ground, [(3, "C")], mode="upsert", delete="hard", keys=[1, 3])
        assert changes == Changes(inserted=0, updated=1, unchanged=0, deleted=1)
        assert seen(ground) == [(1, "a"), (3, "C")]
        put(ground, [(3, "C")], mode="upsert", delete="hard")
        assert seen(ground) == [(3, "C")]

    def test_soft_deletes_mark_and_come_back(self, ground: Ground) -> None:
        """A row that is gone keeps its values and bears the time."""
        put(ground, [(1, "a"), (2, "b")], mode="upsert", delete="soft")
        assert put(ground, [(1, "a")], mode="upsert", delete="soft").deleted == 1
        rows = {row["id"]: row for row in ground.rows(CONNECTOR, STREAM)}
        assert rows[2]["name"] == "b"
        assert rows[2][DELETED_AT] is not None
        assert rows[1][DELETED_AT] is None
        again = put(ground, [(1, "a")], mode="upsert", delete="soft")
        assert again.deleted == 0
        put(ground, [(1, "a"), (2, "b")], mode="upsert", delete="soft")
        assert [row[DELETED_AT] for row in ground.rows(CONNECTOR, STREAM)] == [None, None]

    def test_history_keeps_every_version(self, ground: Ground) -> None:
        """A changed row ends and begins anew at the same moment."""
        put(ground, [(1, "a"), (2, "b")], mode="history", delete="soft")
        changes = put(ground, [(1, "A")], mode="history", delete="soft")
        assert (changes.updated, changes.deleted, changes.inserted) == (1, 1, 0)
        rows = sorted(ground.rows(CONNECTOR, STREAM), key=lambda row: (row["id"], row[VALID_FROM]))
        assert [(row["id"], row["name"], row[VALID_TO] is None) for row in rows] == [
            (1, "a", False),
            (1, "A", True),
            (2, "b", False),
        ]
        assert rows[0][VALID_TO] == rows[1][VALID_FROM]
        same = put(ground, [(1, "A")], mode="history", delete="soft")
        assert same == Changes(inserted=0, updated=0, unchanged=1, deleted=0)
        put(ground, [(1, "A"), (2, "b")], mode="history", delete="soft")
        assert len(ground.rows(CONNECTOR, STREAM)) == 4

    def test_live_rows_leave_out_what_is_gone(self, ground: Ground) -> None:
        """Guards count what readers take for present."""
        with landed(ground) as landing:
            assert landing.live_rows() == 0
        put(ground, [(1, "a"), (2, "b")], mode="upsert", delete="soft")
        put(ground, [(1, "a")], mode="upsert", delete="soft")
        with landed(ground, mode="upsert", delete="soft") as landing:
            assert landing.live_rows() == 1

    # -- proof ------------------------------------------------------------------------------

    def test_figures_are_those_of_the_staged_rows(self, ground: Ground) -> None:
        """Source and destination compute them apart and agree."""
        rows = [(n, None if n % 7 == 0 else f"name {n}") for n in range(-50, 450)]
        with landed(ground) as landing:
            totals = Totals(contract_of(PEOPLE), "full")
            for start in range(0, len(rows), 100):
                landing.stage(batch(rows[start : start + 100]))
                totals.add(batch(rows[start : start + 100]))
            wanted = totals.figures()
            figures = compare(wanted, landing.figures(list(wanted)))
        assert [figure for figure in figures if not figure.agrees] == []
        assert len(figures) > 5

    def test_a_staged_row_that_is_lost_or_changed_shows_in_the_figures(
        self, ground: Ground
    ) -> None:
        """The comparison can fail."""
        totals = Totals(contract_of(PEOPLE), "full")
        totals.add(batch([(1, "a"), (2, "b")]))
        for wrong in ([(1, "a")], [(1, "a"), (2, "c")], [(1, "a"), (2, None)]):
            with landed(ground) as landing:
                landing.stage(batch(wrong))
                wanted = totals.figures()
                figures = compare(wanted, landing.figures(list(wanted)))
            assert [figure for figure in figures if not figure.agrees] != []

    def test_duplicates_are_counted_and_shown_masked(self, ground: Ground) -> None:
        """Rows with a NULL among the columns are no duplicates."""
        with landed(ground, key=()) as landing:
            landing.stage(batch([(1, "secret"), (1, "secret"), (2, None), (2, None), (3, "x")]))
            assert landing.duplicates(["id"])[0] == 4
            count, samples = landing.duplicates(["id", "name"])
        assert count == 2
        assert samples
        assert "secret" not in "".join(samples)

    # -- again and again --------------------------------------------------------------------

    def test_an_attempt_after_a_commit_learns_of_it(self, ground: Ground) -> None:
        """The ledger knows a task by its run key."""
        key = uuid4().hex
        changes = put(ground, [(1, "a")], run_key=key)
        with landed(ground, run_key=key) as landing:
            assert landing.committed_before() == (1, changes)
        with landed(ground) as landing:
            assert landing.committed_before() is None

    def test_the_position_moves_with_the_rows(self, ground: Ground) -> None:
        """It is what the last commit said, and nothing before the first."""
        with landed(ground, mode="upsert") as landing:
            assert landing.position() is None
        position = {"cursor": "2026-01-01T00:00:00.000001Z", "seen": ["ä", 1, None]}
        put(ground, [(1, "a")], mode="upsert", position=position)
        with landed(ground, mode="upsert") as landing:
            assert landing.position() == position
            landing.stage(batch([(2, "b")]))
            landing.discard()
        with landed(ground, mode="upsert") as landing:
            assert landing.position() == position

    def test_of_two_attempts_one_commits(self, ground: Ground) -> None:
        """Two attempts that began with the same rows cannot both replace them."""
        put(ground, [(1, "a")])
        done = []
        with rivals(ground) as (first, second):
            for name, landing in (("first", first), ("second", second)):
                if landing is not None and committed(landing, [(1, name)]):
                    done.append(name)
        assert len(done) == 1
        assert seen(ground) == [(1, done[0])]

    def test_a_checkpoint_comes_back_with_its_rows(self, ground: Ground) -> None:
        """Where staging outlives an attempt, the next one of the same plan goes on."""
        with landed(ground, mode="upsert", plan="p") as landing:
            landing.stage(batch([(1, "a")]), {"after": 1})
            landing.stage(batch([(2, "b")]), {"after": 2})
            landing.discard(keep=True)
        with landed(ground, mode="upsert", plan="p") as landing:
            mark = landing.resume()
            assert mark in (None, {"after": 2})
            rest = [(3, "c")] if mark else [(1, "a"), (2, "b"), (3, "c")]
            landing.stage(batch(rest), {"after": 3})
            landing.commit(3, landing.match(complete=True), {"cursor": "3"})
            landing.discard()
        assert seen(ground) == [(1, "a"), (2, "b"), (3, "c")]

    def test_another_plan_takes_nothing_over(self, ground: Ground) -> None:
        """What was staged under another contract is not looked at."""
        with landed(ground, mode="upsert", plan="p") as landing:
            landing.stage(batch([(1, "a")]), {"after": 1})
            landing.discard(keep=True)
        with landed(ground, mode="upsert", plan="q") as landing:
            assert landing.resume() is None
            landing.stage(batch([(2, "b")]))
            landing.commit(1, landing.match(complete=True), None)
        assert seen(ground) == [(2, "b")]

    # -- quarantine and columns -------------------------------------------------------------

    def test_rejected_rows_are_seen_with_the_commit(self, ground: Ground) -> None:
        """They stand beside the stream, with the run that set them aside."""
        rejected = pa.RecordBatch.from_pylist(
            [{"row": 7, "place": "a.csv, line 8", "rules": "amount: ge(0)", "record": '{"amount": -1}'}], REJECTED
        )  # fmt: skip
        key = uuid4().hex
        with landed(ground, run_key=key) as landing:
            landing.reject(rejected)
            landing.stage(batch([(1, "a")]))
            assert ground.rows(CONNECTOR, f"{STREAM}__quarantine") == []
            landing.commit(1, landing.match(complete=True), None)
            landing.discard()
        (row,) = ground.rows(CONNECTOR, f"{STREAM}__quarantine")
        assert (row["row"], row["place"], row["rules"]) == (7, "a.csv, line 8", "amount: ge(0)")
        assert row["run_key"] == key
        assert row["at"] is not None

    def test_a_column_more_is_taken_up(self, ground: Ground) -> None:
        """Rows that were there have none of its values."""
        put(ground, [(1, "a")], mode="upsert")
        wider = contract_of([*PEOPLE, ("city", "string")], key=("id",))
        with landed(ground, mode="upsert", contract=wider) as landing:
            landing.stage(arrow(wider, [[2], ["b"], ["Riyadh"]]))
            landing.commit(1, landing.match(complete=False), None)
            landing.discard()
        rows = sorted(ground.rows(CONNECTOR, STREAM), key=lambda row: row["id"])
        assert [(row["id"], row["city"]) for row in rows] == [(1, None), (2, "Riyadh")]
