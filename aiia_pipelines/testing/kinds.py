"""The conformance suite of connector kinds."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

import pytest
from pydantic import BaseModel, ValidationError

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import (
    Batch,
    Reading,
    Source,
    SourceFault,
    kind_names,
    open_source,
    source_problems,
)
from aiia_pipelines.jobs.classify import classify
from aiia_pipelines.sync.contract import Contract, agree
from aiia_pipelines.sync.sieve import Sieve

# What the offered stream holds: the columns as a connector file declares them, and the rows.
COLUMNS = {"id": "int64", "name": "string", "amount": "decimal(12,2)", "active": "bool"}
SAMPLE: tuple[tuple[int, str, str, bool | None], ...] = tuple(
    (n, ("", "a,b", 'say "hi"', "Zürich", "🙂", "نص")[n % 6] + str(n), f"{n}.25", (True, False, None)[n % 3])
    for n in range(1, 48)
)  # fmt: skip
HUNG = 10.0  # seconds after which a read that was cancelled counts as hung


class Offer(Protocol):
    """A place where the kind under test finds data; made by its author."""

    kind: str
    secret: (
        str  # a text that stands in the options as a password or key; "" when the kind knows none
    )

    def options(self) -> dict[str, Any]:
        """Give the `source:` part of a connector file, secrets resolved."""
        ...

    def stream(self, name: str = "sample") -> dict[str, Any]:
        """Give the place of the stream `name` as a connector file says it, such as `{"table": name}`.

        `sample` holds `SAMPLE`, `empty` the same columns without rows, `missing` does not exist.
        """
        ...

    def refused(self) -> dict[str, Any]:
        """Give options with which the source cannot be reached or refuses."""
        ...


class KindSuite:
    """What every connector kind does; subclass it with a fixture `offer`."""

    @pytest.fixture
    def offer(self) -> Offer:
        """Give the place with the data."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, offer: Offer) -> Iterator[Source]:
        """Open the source and connect."""
        with closing(open_source(offer.options())) as opened:
            opened.connect()
            yield opened

    # -- before anything is connected -------------------------------------------------------

    def test_the_kind_is_found_by_its_name(self, offer: Offer) -> None:
        """The registry lists it."""
        assert offer.kind in kind_names()
        assert source_problems(offer.kind, offer.options()) == []

    def test_an_unknown_option_is_a_mistake_with_a_sentence(self, offer: Offer) -> None:
        """Options are closed, and mistakes name what is allowed."""
        found = source_problems(offer.kind, offer.options() | {"no_such_option": 1})
        assert [place for place, _ in found] == [("no_such_option",)]
        assert "allowed" in found[0][1]

    def test_opening_connects_to_nothing(self, offer: Offer) -> None:
        """A source that cannot be reached is opened all the same."""
        with closing(open_source(offer.refused())) as opened:
            assert opened.describe()
            assert opened.place()

    def test_importing_the_kind_imports_no_driver(self, offer: Offer) -> None:
        """Definitions load in every process of Dagster."""
        code = (
            "import sys; from aiia_pipelines.connectors.base import source_problems;"
            f"source_problems({offer.kind!r}, {{}});"
            "print(sorted({'pyarrow', 'pandas', 'psycopg', 'boto3', 'httpx', 'duckdb', 'requests'} & set(sys.modules)))"
        )
        found = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == "[]"

    def test_no_secret_is_shown(self, offer: Offer) -> None:
        """Neither the description nor a refusal holds the password."""
        if not offer.secret:
            return
        texts = []
        for options in (offer.options(), offer.refused()):
            with closing(open_source(options)) as opened:
                texts += [opened.describe(), opened.place(), repr(opened)]
                try:
                    opened.connect()
                    opened.columns(stream_of(offer))
                except SourceFault as fault:
                    texts += [str(fault), repr(fault), repr(fault.__cause__)]
        assert [text for text in texts if offer.secret in text] == []

    # -- faults -----------------------------------------------------------------------------

    def test_a_refusal_has_a_place_in_the_catalogue(self, offer: Offer) -> None:
        """Whoever is called at night learns the cause."""
        with closing(open_source(offer.refused())) as opened:
            assert_told(lambda: read_anyhow(connected(opened), stream_of(offer)))

    def test_a_missing_stream_has_a_place_in_the_catalogue(
        self, offer: Offer, source: Source
    ) -> None:
        """So does what is not there."""
        missing = stream_of(offer, "missing")
        assert_told(lambda: read_anyhow(source, missing))

    # -- reading ----------------------------------------------------------------------------

    def test_every_row_arrives_exactly(self, offer: Offer, source: Source) -> None:
        """Nothing is changed, doubled or left out."""
        assert read(offer, source) == expected()

    def test_batches_are_never_larger_than_asked(self, offer: Offer, source: Source) -> None:
        """Memory is bounded by batch_rows."""
        stream = stream_of(offer, batch_rows=5)
        contract = contract_of(stream, source)
        sizes = [len(batch) for batch in source.batches(stream, reading_of(contract))]
        assert sum(sizes) == len(SAMPLE)
        assert max(sizes) <= 5

    def test_columns_come_in_the_order_asked_for(self, offer: Offer, source: Source) -> None:
        """A reading names its columns."""
        stream = stream_of(offer)
        source.columns(stream)
        found = [
            row
            for batch in source.batches(stream, Reading(names=["name", "id"]))
            for row in rows_of(batch)
        ]
        assert sorted(str(row[0]) for row in found) == sorted(row[1] for row in SAMPLE)

    def test_a_stream_without_rows_has_its_columns(self, offer: Offer, source: Source) -> None:
        """Nothing is no fault of the kind; the guards decide about it."""
        assert read(offer, source, "empty") == []

    def test_a_stream_can_be_read_twice(self, offer: Offer, source: Source) -> None:
        """A second reading begins anew."""
        assert read(offer, source) == read(offer, source)

    def test_a_reading_that_is_given_up_leaves_the_source_usable(
        self, offer: Offer, source: Source
    ) -> None:
        """Another stream goes on after one that failed."""
        stream = stream_of(offer, batch_rows=5)
        batches = source.batches(stream, reading_of(contract_of(stream, source)))
        next(batches)
        batches.close()  # type: ignore[attr-defined] # an iterator that holds something open is a generator
        assert read(offer, source) == expected()

    def test_it_can_be_closed_twice_and_cancelled_at_any_time(self, offer: Offer) -> None:
        """Ends are never in order."""
        opened = open_source(offer.options())
        opened.cancel()
        opened.connect()
        opened.cancel()
        opened.close()
        opened.cancel()
        opened.close()

    def test_a_cancelled_reading_ends(self, offer: Offer, source: Source) -> None:
        """Cancelling from another thread never hangs."""
        stream = stream_of(offer, batch_rows=1)
        batches = source.batches(stream, reading_of(contract_of(stream, source)))
        next(batches)
        source.cancel()
        rest = threading.Thread(target=_drain, args=(batches,), daemon=True)
        rest.start()
        rest.join(HUNG)
        assert not rest.is_alive()

    # -- going on ---------------------------------------------------------------------------

    def test_a_checkpoint_leads_to_the_rest(self, offer: Offer, source: Source) -> None:
        """Whatever a kind says is delivered is not delivered again, and nothing else is left out."""
        stream = stream_of(offer, batch_rows=5, mode="upsert", key=["id"], cursor="id")
        contract = contract_of(stream, source)
        reading = reading_of(contract, cursor="id")
        until = source.position(stream, reading)
        reading = reading_of(contract, cursor="id", until=as_stored(until))
        batches = list(source.batches(stream, reading))
        marks = [place for place, batch in enumerate(batches) if batch.checkpoint is not None]
        for place in marks:
            after = as_stored(batches[place].checkpoint)
            rest = source.batches(
                stream, reading_of(contract, cursor="id", until=as_stored(until), after=after)
            )
            delivered = [row for batch in batches[: place + 1] for row in rows_of(batch)]
            assert len(delivered) + sum(len(batch) for batch in rest) == len(SAMPLE)

    def test_nothing_new_is_nothing_or_matched_on_the_key(
        self, offer: Offer, source: Source
    ) -> None:
        """A position is JSON, and what it covers is at most read again, never more."""
        stream = stream_of(offer, mode="upsert", key=["id"], cursor="id")
        contract = contract_of(stream, source)
        until = as_stored(source.position(stream, reading_of(contract, cursor="id")))
        if until is None:
            return
        again = reading_of(contract, cursor="id", since=until, until=until)
        known = set(expected())
        found = [
            row for batch in source.batches(stream, again) for row in converted(contract, [batch])
        ]
        assert set(found) <= known

    # -- Connection Test --------------------------------------------------------------------

    def test_the_stages_of_a_connection_test_go_well_in_order(self, offer: Offer) -> None:
        """Each stage gives a note; the last ones look at the streams."""
        with closing(open_source(offer.options())) as opened:
            names = [(name, check()) for name, check in opened.stages([stream_of(offer)])]
        assert [name for name, _ in names][-1].partition(" ")[0] == "query"
        assert all(isinstance(note, str) for _, note in names)

    def test_a_stage_says_what_is_wrong(self, offer: Offer) -> None:
        """A Connection Test stops at the first stage that fails."""
        with closing(open_source(offer.refused())) as opened:
            stages = opened.stages([stream_of(offer)])
            assert_told(lambda: [check() for _, check in stages])

    def test_options_keep_their_secrets(self, offer: Offer) -> None:
        """A model that is printed shows stars."""
        module = sys.modules.get(f"aiia_pipelines.connectors.{offer.kind}")
        if module is None or not offer.secret:
            return
        model: type[BaseModel] = module.Options
        try:
            shown = repr(model.model_validate(offer.options()))
        except ValidationError as wrong:
            shown = str(wrong)
        assert offer.secret not in shown


def stream_of(offer: Offer, name: str = "sample", **more: Any) -> Stream:  # noqa: ANN401 - keys of a connector file
    """Make a stream whose columns are declared."""
    columns = {column: {"type": kind} for column, kind in COLUMNS.items()}
    return Stream.model_validate({"name": name, "columns": columns} | offer.stream(name) | more)


def contract_of(stream: Stream, source: Source) -> Contract:
    """Agree on the columns as a first sync does."""
    return agree(stream, source.columns(stream), None)


def reading_of(contract: Contract, **more: Any) -> Reading:  # noqa: ANN401 - the parts of a reading
    """Read all columns."""
    return Reading(names=[column.source for column in contract.read_columns], **more)


def rows_of(batch: Batch) -> Sequence[Sequence[Any]]:
    """Give the rows of a batch of either form."""
    if isinstance(batch.rows, Sequence):
        return batch.rows
    columns = [column.to_pylist() for column in batch.rows.columns]
    return list(zip(*columns, strict=True))


def converted(contract: Contract, batches: Sequence[Batch]) -> list[tuple[Any, ...]]:
    """Convert batches as a sync does."""
    sieve = Sieve(contract, quarantine=False, schema=None)
    found: list[tuple[Any, ...]] = []
    for batch in batches:
        rows = sieve.sift(sieve.parse(batch)).rows
        found += zip(*(column.to_pylist() for column in rows.columns), strict=True)
    assert sieve.violations == []
    return found


def read(offer: Offer, source: Source, name: str = "sample") -> list[tuple[Any, ...]]:
    """Read a stream whole, sorted by its first column."""
    stream = stream_of(offer, name)
    contract = contract_of(stream, source)
    columns = [column.name for column in contract.columns]
    found = converted(contract, list(source.batches(stream, reading_of(contract))))
    place = [columns.index(column) for column in COLUMNS]
    return sorted(tuple(row[i] for i in place) for row in found)


def expected() -> list[tuple[Any, ...]]:
    """Give the rows of the sample as they must arrive."""
    from decimal import Decimal  # noqa: PLC0415 - only here

    return [(number, name, Decimal(amount), active) for number, name, amount, active in SAMPLE]


def as_stored(position: Any) -> Any:  # noqa: ANN401 - JSON
    """Send a position through JSON, as a destination does."""
    return None if position is None else json.loads(json.dumps(position))


def connected(source: Source) -> Source:
    """Connect a source."""
    source.connect()
    return source


def read_anyhow(source: Source, stream: Stream) -> list[Batch]:
    """Read a stream without agreeing on its columns."""
    source.columns(stream)
    return list(source.batches(stream, Reading(names=list(COLUMNS))))


def assert_told(doing: Callable[[], object]) -> None:
    """A fault has a row of the catalogue, and its text is one line that ends."""
    with pytest.raises(SourceFault) as caught:
        doing()
    text = str(caught.value)
    assert classify(caught.value, side="source").code != "unclassified", text
    assert "\n" not in text
    assert re.search(r"[.!?]$", text), text


def _drain(batches: Iterator[Batch]) -> None:
    try:
        for _ in batches:
            pass
    except SourceFault:
        return
