"""What is kept of the columns of a stream, and how its history grows."""

from typing import Any

import pytest

from aiia_pipelines.jobs import contracts
from aiia_pipelines.jobs.contracts import LearnedColumn, Profile
from aiia_pipelines.jobs.store import JobStore

pytestmark = pytest.mark.integration
OF = ("crm", "orders")


def column(name: str, kind: str = "int32", **facts: Any) -> LearnedColumn:
    return LearnedColumn(name=name, type=kind, **{"nullable": True, **facts})


def profile(values: int) -> Profile:
    return Profile(
        values=values, nulls=0, distinct=1, sketch=[1], first=[1], common={}, shapes={}, levels=[]
    )


def learn(
    store: JobStore, columns: list[LearnedColumn], *, number: int, stream: str = OF[1]
) -> None:
    store.transact(lambda db: contracts.learn(db, OF[0], stream, columns, number=number))


def changes(store: JobStore) -> list[str]:
    return [version.change for version in contracts.versions(store, *OF)]


def test_nothing_is_known_before_the_first_sync(store: JobStore) -> None:
    assert contracts.learned(store, *OF) is None
    assert contracts.versions(store, *OF) == []


def test_what_a_sync_learned_is_the_first_version(store: JobStore) -> None:
    columns = [column("a"), column("b", "string", nullable=False)]
    learn(store, columns, number=7)
    assert contracts.learned(store, *OF) == columns
    (version,) = contracts.versions(store, *OF)
    assert (version.connector, version.stream, version.version) == (*OF, 1)
    assert (version.change, version.learned_by, version.accepted_by) == ("learned", 7, None)
    assert version.columns == columns


def test_learning_the_same_again_is_no_new_version(store: JobStore) -> None:
    for number in (7, 8):
        learn(store, [column("a")], number=number)
    assert changes(store) == ["learned"]


def test_each_change_is_a_version_that_says_what_changed(store: JobStore) -> None:
    learn(store, [column("a"), column("b"), column("c")], number=1)
    learn(store, [column("a", "int64"), column("b"), column("d")], number=2)
    contracts.accept(store, *OF, [column("a", "int64", nullable=False), column("b")], by="sara@cli")
    gone = [column("a", "int64", nullable=False), column("b", absent=True)]
    learn(store, gone, number=4)
    learn(store, [column("a", "int64"), column("b")], number=5)
    assert changes(store) == [
        "a may be NULL, b back at the source",
        "b gone at the source",
        "d removed, a is never NULL",
        "d added, c removed, a int32 → int64",
        "learned",
    ]
    latest, _, accepted, *_ = contracts.versions(store, *OF)
    assert (latest.version, latest.learned_by, latest.accepted_by) == (5, 5, None)
    assert (accepted.learned_by, accepted.accepted_by) == (None, "sara@cli")


def test_profiles_travel_with_the_columns_and_make_no_version(store: JobStore) -> None:
    learn(store, [column("a", profile=profile(1)), column("b")], number=1)
    assert contracts.learned(store, *OF) == [column("a", profile=profile(1)), column("b")]
    learn(store, [column("a", profile=profile(2)), column("b")], number=2)
    assert changes(store) == ["learned"]
    contracts.accept(store, *OF, [column("a"), column("b"), column("c")], by="sara")
    assert contracts.learned(store, *OF) == [
        column("a", profile=profile(2)),
        column("b"),
        column("c"),
    ]
    assert "profile" not in contracts.versions(store, *OF)[1].columns[0]


def test_streams_have_histories_of_their_own(store: JobStore) -> None:
    learn(store, [column("a")], number=1)
    learn(store, [column("b")], number=1, stream="lines")
    assert [version.stream for version in contracts.versions(store, "crm", "lines")] == ["lines"]
