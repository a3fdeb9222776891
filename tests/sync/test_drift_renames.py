"""Which column is proposed for which: the cases a person would decide at once, and those nobody could."""

import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.jobs.contracts import Profile
from aiia_pipelines.sync.profiles import profile_of
from aiia_pipelines.sync.renames import Known, Rename, proposed

_CHANCE = random.Random(7)
ROWS = 400


def drawn(make: Any) -> list[Any]:
    return [make(row) for row in range(ROWS)]


def word(least: int, most: int) -> str:
    size = _CHANCE.randint(least, most)
    return "".join(_CHANCE.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(size))


DAY = dt.date(2024, 1, 1)
VALUES: dict[str, list[Any]] = {
    "id": drawn(lambda row: row + 1),
    "first": drawn(lambda _: word(3, 8).title()),
    "last": drawn(lambda _: word(4, 12).title()),
    "city": drawn(lambda _: _CHANCE.choice(["Bonn", "Köln", "Ulm", "Genf", "Riyadh"])),
    "email": drawn(lambda _: f"{word(4, 9)}@{word(4, 7)}.com"),
    "iban": drawn(lambda _: f"DE{_CHANCE.randrange(10**20):020}"),
    "phone": drawn(lambda _: f"+49 {_CHANCE.randrange(10**9)}"),
    "note": drawn(lambda row: None if row % 3 else f"{word(5, 9)} {word(2, 9)} {word(3, 20)}"),
    "amount": drawn(lambda _: Decimal(_CHANCE.randrange(10**6)) / 100),
    "tax": drawn(lambda _: Decimal(_CHANCE.randrange(10**4)) / 100),
    "quantity": drawn(lambda _: _CHANCE.randrange(1, 50)),
    "serial": drawn(lambda _: _CHANCE.randrange(10**9, 10**10)),
    "active": drawn(lambda _: _CHANCE.random() < 0.95),
    "deleted": drawn(lambda _: _CHANCE.random() < 0.05),
    "born": drawn(lambda _: DAY - dt.timedelta(_CHANCE.randrange(8000, 25_000))),
    "ordered": drawn(lambda _: DAY + dt.timedelta(_CHANCE.randrange(300))),
    "shipped": drawn(lambda _: DAY + dt.timedelta(_CHANCE.randrange(300))),
    "score": drawn(lambda _: _CHANCE.random()),
    "empty": [None] * ROWS,
}
TYPES = {
    "id": "int64", "amount": "decimal(12,2)", "tax": "decimal(12,2)", "quantity": "int32",
    "serial": "int64", "active": "bool", "deleted": "bool", "born": "date", "ordered": "date",
    "shipped": "date", "score": "float64",
}  # fmt: skip


@cache
def profile(of: str) -> Profile:
    return profile_of(VALUES[of])


def known(
    name: str, of: str, kind: str | None = None, values: Sequence[Any] | None = None
) -> Known:
    found = profile(of) if values is None else profile_of(values)
    return Known(name, ColumnType.parse(kind or TYPES.get(of, "string")), found)


def bare(*columns: str) -> list[Known]:
    """Columns of which no value is known, as `name:type`."""
    found = (column.partition(":") for column in columns)
    return [Known(name, ColumnType.parse(kind or "string")) for name, _, kind in found]


def same(*names: str) -> list[Known]:
    return [known(name, name) for name in names]


def told(renames: list[Rename]) -> dict[str, str]:
    return {rename.old: rename.new for rename in renames}


@dataclass
class Case:
    before: list[Known]
    now: list[Known]
    right: dict[str, str]


def text(values: Sequence[Any]) -> list[str]:
    return [str(value) for value in values]


CASES = {
    "one renamed in place": Case(
        same("id", "email"), [*same("id"), known("mail", "email")], {"email": "mail"}
    ),
    "one renamed and moved to the end": Case(
        same("id", "email", "city"),
        [*same("id", "city"), known("contact", "email")],
        {"email": "contact"},
    ),
    "two of one type in place": Case(
        same("id", "first", "last"),
        [*same("id"), known("given", "first"), known("family", "last")],
        {"first": "given", "last": "family"},
    ),
    "two of one type that swapped places": Case(
        same("id", "first", "last"),
        [*same("id"), known("family", "last"), known("given", "first")],
        {"first": "given", "last": "family"},
    ),
    "two of one type that took names like the other's": Case(
        same("id", "first", "last"),
        [*same("id"), known("first_name", "last"), known("last_name", "first")],
        {"first": "last_name", "last": "first_name"},
    ),
    "three of one type in another order": Case(
        same("id", "email", "iban", "phone"),
        [*same("id"), known("c", "phone"), known("a", "email"), known("b", "iban")],
        {"email": "a", "iban": "b", "phone": "c"},
    ),
    "two amounts that swapped places": Case(
        same("id", "amount", "tax"),
        [*same("id"), known("vat", "tax"), known("total", "amount")],
        {"amount": "total", "tax": "vat"},
    ),
    "two dates of the same span that swapped places": Case(
        same("id", "ordered", "shipped"),
        [*same("id"), known("sent_on", "shipped"), known("placed_on", "ordered")],
        {"ordered": "placed_on", "shipped": "sent_on"},
    ),
    "two flags that swapped places": Case(
        same("id", "active", "deleted"),
        [*same("id"), known("is_gone", "deleted"), known("is_live", "active")],
        {"active": "is_live", "deleted": "is_gone"},
    ),
    "renamed and a wider type": Case(
        same("id", "quantity", "city"),
        [*same("id"), known("pieces", "quantity", "int64"), *same("city")],
        {"quantity": "pieces"},
    ),
    "renamed and a number that became text": Case(
        same("id", "serial", "city"),
        [*same("id"), known("device", "serial", "string", text(VALUES["serial"])), *same("city")],
        {"serial": "device"},
    ),
    "renamed and a date that became a timestamp": Case(
        same("id", "born"),
        [
            *same("id"),
            known("birth", "born", "timestamp", [dt.datetime.combine(d, dt.time()) for d in VALUES["born"]]),
        ],
        {"born": "birth"},
    ),
    "renamed and a decimal of more digits": Case(
        same("id", "amount"),
        [*same("id"), known("gross", "amount", "decimal(20,4)", [d.quantize(Decimal("1.0000")) for d in VALUES["amount"]])],
        {"amount": "gross"},
    ),
    "one renamed and one dropped": Case(
        same("id", "email", "city"), [*same("id"), known("mail", "email")], {"email": "mail"}
    ),
    "one renamed and one added of the same type": Case(
        same("id", "email"),
        [*same("id"), known("x", "iban"), known("y", "email")],
        {"email": "y"},
    ),
    "one renamed with few values": Case(
        same("id", "city", "email"),
        [*same("id"), known("town", "city"), *same("email")],
        {"city": "town"},
    ),
    "mostly NULL": Case(
        same("id", "note", "email"),
        [*same("id"), known("remark", "note"), *same("email")],
        {"note": "remark"},
    ),
    "the rows come in another order": Case(
        same("id", "email", "iban"),
        [known("id", "id", values=VALUES["id"][::-1]), known("x", "iban", values=VALUES["iban"][::-1]), known("y", "email", values=VALUES["email"][::-1])],
        {"email": "y", "iban": "x"},
    ),
    "the table has grown since": Case(
        [known("id", "id", values=VALUES["id"][:300]), known("email", "email", values=VALUES["email"][:300])],
        [*same("id"), known("mail", "email")],
        {"email": "mail"},
    ),
    "the samples are of other rows": Case(
        [known("id", "id", values=VALUES["id"][:200]), known("iban", "iban", values=VALUES["iban"][:200]), known("phone", "phone", values=VALUES["phone"][:200])],
        [known("id", "id", values=VALUES["id"][200:]), known("number", "phone", values=VALUES["phone"][200:]), known("account", "iban", values=VALUES["iban"][200:])],
        {"iban": "account", "phone": "number"},
    ),
    "no values known, one of its type": Case(
        bare("id:int64", "a"), bare("id:int64", "b"), {"a": "b"}
    ),
    "no values known, one of its type that moved": Case(
        bare("a", "id:int64"), bare("id:int64", "b"), {"a": "b"}
    ),
    "no values known, two in place": Case(
        bare("id:int64", "a", "n:int32", "b"), bare("id:int64", "c", "n:int32", "d"),
        {"a": "c", "b": "d"},
    ),
    "no values known, two next to each other": Case(
        bare("id:int64", "a", "b"), bare("id:int64", "c", "d"), {"a": "c", "b": "d"}
    ),
    "no values known, told apart by type": Case(
        bare("id:int64", "a", "b:date"), bare("id:int64", "d:date", "c"), {"a": "c", "b": "d"}
    ),
    "no values known, a wider type in place": Case(
        bare("id:int64", "a:int32", "z"), bare("id:int64", "b:int64", "z"), {"a": "b"}
    ),
    "both empty": Case(
        same("id", "empty", "city"), [*same("id"), known("void", "empty"), *same("city")],
        {"empty": "void"},
    ),
}  # fmt: skip
NOBODY_KNOWS = {
    "nothing is new": Case(same("id", "email"), same("id"), {}),
    "nothing is gone": Case(same("id"), same("id", "email"), {}),
    "dropped, and another one added at its place": Case(
        same("id", "first"), [*same("id"), known("mail", "email")], {}
    ),
    "names dropped, cities added": Case(
        same("id", "first"), [*same("id"), known("town", "city")], {}
    ),
    "another number of the same type": Case(
        same("id", "serial"), [*same("id"), known("n", "quantity", "int64")], {}
    ),
    "other dates": Case(same("id", "born"), [*same("id"), known("due", "ordered")], {}),
    "a full one dropped, an empty one added": Case(
        same("id", "email"), [*same("id"), known("mail", "empty")], {}
    ),
    "two copies of what is gone": Case(
        same("id", "email"), [*same("id"), known("a", "email"), known("b", "email")], {}
    ),
    "two that were the same": Case(
        [*same("id"), known("a", "email"), known("b", "email")],
        [*same("id"), known("c", "email")],
        {},
    ),
    "no values known, two added where one is gone": Case(
        bare("id:int64", "a"), bare("id:int64", "b", "c"), {}
    ),
    "no values known, one added where two are gone": Case(
        bare("id:int64", "a", "b"), bare("id:int64", "c"), {}
    ),
    "no values known, names against places": Case(
        bare("id:int64", "street", "city"), bare("id:int64", "city_name", "street_name"), {}
    ),
    "no values known, another type": Case(bare("id:int64", "a"), bare("id:int64", "b:date"), {}),
    "no values known, a wider type elsewhere": Case(
        bare("a:int32", "id:int64"), bare("id:int64", "b:int64"), {}
    ),
    "no values known, all of them": Case(bare("a", "b"), bare("c", "d", "e"), {}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_clear_rename_is_proposed(case: Case) -> None:
    assert told(proposed(case.before, case.now)) == case.right


@pytest.mark.parametrize("case", NOBODY_KNOWS.values(), ids=list(NOBODY_KNOWS))
def test_nothing_is_proposed_where_nobody_could_tell(case: Case) -> None:
    assert proposed(case.before, case.now) == []


def test_a_proposal_tells_how_sure_it_is_and_why() -> None:
    case = CASES["one renamed in place"]
    (rename,) = proposed(case.before, case.now)
    assert rename.confidence > 0.9
    assert rename.margin > 0.5
    assert rename.why == ("the same values", "same type", "same place", "a similar name")


def test_the_type_of_a_column_may_be_unknown() -> None:
    before = [*bare("id:int64"), Known("a", None)]
    assert told(proposed(before, bare("id:int64", "b"))) == {"a": "b"}


@given(st.randoms(), st.integers(1, 5))
def test_any_renames_of_columns_with_values_of_their_own_are_found(
    chance: random.Random, count: int
) -> None:
    unlike = ["first", "email", "iban", "phone", "amount", "serial", "born", "score", "note"]
    gone = chance.sample(unlike, count)
    now = [known(f"new_{place}", name) for place, name in enumerate(gone)]
    chance.shuffle(now)
    stayed = same(*(name for name in ("id", *unlike) if name not in gone))
    right = {name: f"new_{place}" for place, name in enumerate(gone)}
    assert told(proposed(same("id", *unlike), [*stayed, *now])) == right
