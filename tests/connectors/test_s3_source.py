import gzip
import io
import json
from typing import Any

import pytest

from aiia_pipelines.connectors.base import (
    Reading,
    Source,
    SourceFault,
    open_source,
    source_problems,
    stream_problems,
)
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.integration
KEYS = ("access_key_id", "secret_access_key")


class Bucket:
    """A bucket of the test's own, and sources that read it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.name = server.make_bucket()
        self.client = server.client()
        self.opened: list[Source] = []

    def put(self, **bodies: bytes) -> None:
        for key, body in bodies.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def source(self, **more: Any) -> Source:
        server = self.server
        given = {
            "kind": "s3",
            "bucket": self.name,
            "endpoint_url": server.endpoint,
            "access_key_id": server.access_key,
            "secret_access_key": server.secret_key,
            "connect_timeout": 2,
            "read_timeout": 5,
        }
        source = open_source(given | more)
        self.opened.append(source)
        source.connect()
        return source


@pytest.fixture
def bucket(s3_server: Any) -> Any:
    found = Bucket(s3_server)
    yield found
    for source in found.opened:
        source.close()


def rows_of(source: Source, rows: Any, **reading: Any) -> list[Any]:
    names = [column.name for column in source.columns(rows)]
    found: list[Any] = []
    for batch in source.batches(rows, Reading(names=names, **reading)):
        found += batch.rows if isinstance(batch.rows, list | tuple) else batch.rows.to_pylist()
    return [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in found]


def csv(begin: int, end: int) -> bytes:
    return b"id,name\n" + b"".join(b"%d,n%d\n" % (n, n) for n in range(begin, end))


def parquet(begin: int, end: int) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    ids = list(range(begin, end))
    pq.write_table(pa.table({"id": ids, "name": [f"n{n}" for n in ids]}), sink, row_group_size=1000)
    return sink.getvalue()


def jsonl(begin: int, end: int) -> bytes:
    return b"".join(
        json.dumps({"id": n, "name": f"n{n}"}).encode() + b"\n" for n in range(begin, end)
    )


FORMATS = [
    ("csv", csv),
    ("csv.gz", lambda a, b: gzip.compress(csv(a, b))),
    ("parquet", parquet),
    ("jsonl", jsonl),
]


@pytest.mark.parametrize("case", FORMATS, ids=lambda case: case[0])
def test_objects_of_each_format_are_read_in_the_order_of_their_keys(
    bucket: Bucket, stream: Any, case: Any
) -> None:
    ending, write = case
    bucket.put(**{
        f"in/b.{ending}": write(5000, 9000),
        f"in/a.{ending}": write(0, 5000),
        f"in/sub/c.{ending}": write(0, 5),
        "in/other.txt": b"no",
    })  # fmt: skip
    rows = stream(path=f"in/*.{ending}", columns={"id": {"type": "int64"}})
    found = rows_of(bucket.source(), rows)
    assert [int(row[0]) for row in found] == list(range(9000))
    assert found[-1][1] == "n8999"


PATTERNS = [
    ("a.csv", ["a.csv"]),
    ("*.csv", ["a.csv", "b+c d.csv"]),
    ("**/*.csv", ["2026/01/x.csv", "2026/y.csv", "a.csv", "b+c d.csv", "ä/x.csv"]),
    ("2026/**", ["2026/01/x.csv", "2026/y.csv"]),
    ("2026/?.csv", ["2026/y.csv"]),
    ("[a-b]*.csv", ["a.csv", "b+c d.csv"]),
    ("[!b]*.csv", ["a.csv"]),
    ("/a.csv", ["a.csv"]),
    ("ä/[x].csv", ["ä/x.csv"]),
]


def test_a_pattern_means_keys_below_the_prefix(bucket: Bucket, stream: Any) -> None:
    from aiia_pipelines.connectors._s3_objects import objects

    keys = ["a.csv", "b+c d.csv", "2026/y.csv", "2026/01/x.csv", "ä/x.csv", "a.csv.bak"]
    bucket.put(**{f"data/{key}": csv(0, 1) for key in keys}, **{"a.csv": b"", "data/2026/": b""})
    reader: Any = bucket.source(prefix="data")._open  # type: ignore[attr-defined]
    for pattern, expected in PATTERNS:
        found = [one.key for one in reader._listed(stream(path=pattern))]
        assert found == [f"data/{key}" for key in expected], pattern
    assert objects(reader._client, "nothing/*") == []


def test_only_new_and_changed_objects_are_read(bucket: Bucket, stream: Any) -> None:
    bucket.put(**{"a.csv": csv(0, 2), "b.csv": csv(2, 4)})
    rows = stream(path="*.csv", options={"only_new": True}, mode="append")
    source = bucket.source()
    names = [column.name for column in source.columns(rows)]

    def synced(since: Any) -> tuple[list[str], Any]:
        reading = Reading(names=names, since=since)
        until = source.position(rows, reading)
        assert source.rows_until(rows, reading) is None
        found = rows_of(source, rows, since=since, until=until)
        return [str(row[0]) for row in found], json.loads(json.dumps(until))

    found, position = synced(None)
    assert found == ["0", "1", "2", "3"]
    assert synced(position) == ([], position)
    bucket.put(**{"c.csv": csv(4, 5), "a.csv": csv(7, 8)})
    bucket.client.delete_object(Bucket=bucket.name, Key="b.csv")
    found, position = synced(position)
    assert found == ["7", "4"]
    assert synced(position)[0] == []


def test_what_arrives_after_the_position_waits_for_the_next_sync(
    bucket: Bucket, stream: Any
) -> None:
    bucket.put(**{"a.csv": csv(0, 2)})
    rows = stream(path="*.csv", options={"only_new": True}, mode="append")
    source = bucket.source()
    until = source.position(rows, Reading(names=["id"]))
    bucket.put(**{"b.csv": csv(2, 4)})
    assert len(rows_of(source, rows, until=until)) == 2
    bucket.put(**{"a.csv": csv(5, 9)})
    with pytest.raises(SourceFault, match=r"a\.csv was overwritten or removed") as caught:
        rows_of(source, rows, until=until)
    assert caught.value.signals[0] == "source:changed"
    assert classify(caught.value).transient
    bucket.client.delete_object(Bucket=bucket.name, Key="a.csv")
    with pytest.raises(SourceFault, match="overwritten or removed"):
        rows_of(source, rows, until=until)


def test_a_broken_reading_goes_on_after_the_last_whole_object(bucket: Bucket, stream: Any) -> None:
    bucket.put(**{f"{n}.csv": csv(n * 3, n * 3 + 3) for n in range(4)})
    rows = stream(path="*.csv", batch_rows=2)
    source = bucket.source()
    names = [column.name for column in source.columns(rows)]
    marks = [batch.checkpoint for batch in source.batches(rows, Reading(names=names))]
    keys = [mark["key"] for mark in marks if mark is not None]
    assert keys == ["0.csv", "1.csv", "2.csv", "3.csv"]
    rest = rows_of(source, rows, after={"key": "1.csv"})
    assert [int(row[0]) for row in rest] == [6, 7, 8, 9, 10, 11]


def test_a_stream_that_was_read_in_another_way_goes_on_only_with_a_key(
    bucket: Bucket, stream: Any
) -> None:
    bucket.put(**{"a.csv": csv(0, 2)})
    source, since = bucket.source(), {"files": {}}
    rows = stream(path="a.csv", options={"only_new": True}, mode="append")
    with pytest.raises(SourceFault, match="read in another way"):
        rows_of(source, rows, since=since)
    keyed = stream(path="a.csv", options={"only_new": True}, mode="upsert", key=["id"])
    assert len(rows_of(source, keyed, since=since)) == 2


def test_a_parquet_object_is_read_in_parts(bucket: Bucket, stream: Any) -> None:
    from aiia_pipelines.connectors._s3_objects import ObjectStream, objects

    body = bytes(range(256)) * 40_000
    bucket.put(**{"x.bin": body})
    client: Any = bucket.source()._open._client  # type: ignore[attr-defined]
    [found] = objects(client, "x.bin")
    with io.BufferedReader(ObjectStream(client, found), 1 << 16) as opened:
        assert opened.read(1000) == body[:1000]
        opened.seek(-8, io.SEEK_END)
        assert opened.read() == body[-8:]
        for place in (5_000_000, 3, 9_999_999, 5_000_100):
            opened.seek(place)
            assert opened.tell() == place
            assert opened.read(3_000_000) == body[place : place + 3_000_000]
        opened.seek(0)
        assert opened.read() == body
        assert opened.read() == b""
        with pytest.raises(ValueError, match="before the first"):
            opened.seek(-1)


def test_a_pattern_without_objects_is_not_found_unless_that_is_fine(
    bucket: Bucket, stream: Any
) -> None:
    source = bucket.source()
    with pytest.raises(SourceFault, match=r"No object of bucket .* matches in/\*\.csv") as caught:
        source.columns(stream(path="in/*.csv"))
    assert classify(caught.value).code == "source-not-found"
    columns = {"id": {"type": "int64"}}
    quiet = stream(path="in/*.csv", columns=columns, options={"empty_ok": True})
    assert [column.name for column in source.columns(quiet)] == ["id"]
    assert rows_of(source, quiet) == []


def test_no_more_objects_than_allowed_are_listed(bucket: Bucket, stream: Any) -> None:
    bucket.put(**{f"{n}.csv": csv(0, 1) for n in range(4)})
    with pytest.raises(SourceFault, match=r"max_objects \(3\)"):
        bucket.source(max_objects=3).columns(stream(path="*.csv"))


def test_other_places_than_a_path_are_refused(bucket: Bucket, stream: Any) -> None:
    with pytest.raises(SourceFault, match="needs path"):
        bucket.source().columns(stream(table="x"))


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"access_key_id": "NOBODY"}, "invalid-credentials"),
        ({"secret_access_key": "canary-wrong"}, "invalid-credentials"),
        ({"bucket": "no-such-bucket"}, "source-not-found"),
        ({"bucket": "Not/Valid"}, "config-invalid"),
    ],
)
def test_a_login_that_is_wrong_says_so_and_nothing_secret(
    bucket: Bucket, forgetful: None, more: dict[str, Any], code: str
) -> None:
    with pytest.raises(SourceFault) as caught:
        bucket.source(**more)
    assert classify(caught.value).code == code, caught.value.signals
    told = f"{caught.value} {caught.value!r} {bucket.opened[-1].describe()}"
    assert "canary" not in told
    assert bucket.server.secret_key not in told


def test_anonymous_requests_are_refused_by_a_private_bucket(bucket: Bucket) -> None:
    with pytest.raises(SourceFault) as caught:
        bucket.source(login="anonymous", access_key_id=None, secret_access_key=None)
    assert caught.value.signals[0] == "aws:AccessDenied"


def test_a_connection_test_goes_from_the_name_to_a_row(bucket: Bucket, stream: Any) -> None:
    bucket.put(**{"a.csv": csv(0, 2)})
    source = bucket.source()
    source.close()
    done = {name: stage() for name, stage in source.stages([stream(path="*.csv")])}
    assert list(done) == ["dns", "tcp", "login", "permission rows", "query rows"]
    assert done["login"] == f"as {bucket.server.access_key}"
    assert (done["permission rows"], done["query rows"]) == ("1 object", "one row read")


def test_cancel_and_close_do_no_harm_at_any_time(bucket: Bucket, stream: Any) -> None:
    bucket.put(**{"a.csv": csv(0, 2)})
    source = bucket.source()
    source.cancel()
    source.close()
    source.cancel()
    source.connect()
    source.cancel()
    assert len(rows_of(source, stream(path="a.csv"))) == 2
    source.close()
    source.close()


SOUND = {"kind": "s3", "bucket": "b", "access_key_id": "k", "secret_access_key": "${env:S}"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"access_key_id": None}, "needs access_key_id and secret_access_key"),
        ({"login": "ambient"}, "takes no keys"),
        ({"login": "anonymous"}, "takes no keys"),
        ({"endpoint_url": "store.example.com"}, "not an endpoint"),
        ({"endpoint_url": "https://h/path"}, "not an endpoint"),
        ({"endpoint_url": "https://u:p@h"}, "must not stand in the URL"),
        ({"bucket": ""}, "at least 1 character"),
        ({"color": 1}, "unknown key"),
    ],
)
def test_mistakes_in_a_source_are_told(options: dict[str, Any], words: str) -> None:
    problems = source_problems("s3", SOUND | options)
    assert len(problems) == 1
    assert words in problems[0][1]


def test_what_is_right_is_accepted() -> None:
    assert source_problems("s3", SOUND | {"endpoint_url": "${env:STORE}", "max_bytes": 10}) == []
    assert source_problems("s3", {"kind": "s3", "bucket": "b", "login": "ambient"}) == []
    assert stream_problems("s3", {"only_new": True, "delimiter": ";"}) == []
    [(loc, _)] = stream_problems("s3", {"only_old": True})
    assert loc == ("only_old",)
