from collections.abc import Callable
from typing import Any

import pytest

from aiia_pipelines.connectors.base import Reading, SourceFault

pytestmark = pytest.mark.integration
ROWS = [{"id": n, "name": f"n{n}"} for n in range(1, 8)]
Asked, Reply = Any, Any


def part(query: dict[str, str], begin: int, size: int) -> list[Any]:
    return ROWS[begin : begin + int(query.get("limit", size))]


def by_page(asked: Asked) -> dict[str, Any]:
    number = int(asked.query.get("page", 1))
    found = ROWS[(number - 1) * 3 : number * 3]
    return {"items": found, "meta": {"total": len(ROWS), "pages": 3, "more": number < 3}}


def by_offset(asked: Asked) -> dict[str, Any]:
    begin = int(asked.query.get("skip", 0))
    found = part(asked.query, begin, 3)
    return {"items": found, "meta": {"total": 7, "more": begin + len(found) < 7}}


def by_cursor(asked: Asked) -> dict[str, Any]:
    token = asked.query.get("after") or asked.headers.get("X-After") or "t0"
    if asked.method == "POST":
        import json

        token = json.loads(asked.body).get("after", "t0")
    begin = int(str(token).removeprefix("t"))
    following = f"t{begin + 3}" if begin + 3 < len(ROWS) else None
    found = ROWS[begin : begin + 3]
    return {"items": found, "meta": {"next": following, "more": following is not None}}


def by_last(asked: Asked) -> dict[str, Any]:
    begin = int(asked.query.get("after", 0))
    return {"items": ROWS[begin : begin + 3], "meta": {"more": begin + 3 < 7}}


def by_link(asked: Asked) -> dict[str, Any]:
    begin = int(asked.query.get("from", 0))
    following = f"/rows?from={begin + 3}&kept=yes" if begin + 3 < 7 else None
    return {"items": ROWS[begin : begin + 3], "meta": {"next": following}}


WAYS: list[tuple[str, Callable[[Any], dict[str, Any]], dict[str, Any], int]] = [
    ("one page", lambda _: {"items": ROWS}, {"type": "none"}, 1),
    ("page until empty", by_page, {"type": "page"}, 4),
    ("page until short", by_page, {"type": "page", "size": 3, "stop": "short"}, 3),
    ("page until total", by_page, {"type": "page", "total": "meta.total"}, 3),
    ("page until pages", by_page, {"type": "page", "total_pages": "meta.pages"}, 3),
    ("page until no more", by_page, {"type": "page", "more": "meta.more"}, 3),
    ("offset until empty", by_offset, {"type": "offset", "param": "skip"}, 4),
    (
        "offset until short",
        by_offset,
        {"type": "offset", "param": "skip", "size_param": "limit", "size": 2, "stop": "short"},
        4,
    ),
    (
        "offset until total",
        by_offset,
        {"type": "offset", "param": "skip", "total": "meta.total"},
        3,
    ),
    (
        "offset until no more",
        by_offset,
        {"type": "offset", "param": "skip", "more": "meta.more"},
        3,
    ),
    ("cursor", by_cursor, {"type": "cursor", "param": "after", "next": "meta.next"}, 3),
    (
        "cursor with more",
        by_cursor,
        {"type": "cursor", "param": "after", "next": "meta.next", "more": "meta.more"},
        3,
    ),
    (
        "cursor in a header",
        by_cursor,
        {"type": "token", "param": "X-After", "next": "meta.next", "send": "header"},
        3,
    ),
    ("cursor of the last record", by_last, {"type": "cursor", "param": "after", "last": "id"}, 4),
    (
        "last record with more",
        by_last,
        {"type": "cursor", "param": "after", "last": "id", "more": "meta.more"},
        3,
    ),
    ("link in the body", by_link, {"type": "link", "next": "meta.next"}, 3),
]


def read(source: Any, stream: Any, after: Any = None) -> tuple[list[Any], list[Any]]:
    names = [column.name for column in source.columns(stream)]
    batches = list(source.batches(stream, Reading(names=names, after=after)))
    return [row[0] for batch in batches for row in batch.rows], [b.checkpoint for b in batches]


def rest_stream(stream: Any, pagination: dict[str, Any], **more: Any) -> Any:
    options = {"records": "items", "pagination": pagination} | more
    return stream(endpoint="/rows", options=options)


@pytest.mark.parametrize("case", WAYS, ids=lambda case: case[0])
def test_every_way_through_the_pages_reads_each_record_once(
    open_rest: Any, web: Any, stream: Any, case: Any
) -> None:
    _, server, rules, pages = case
    web.answers["/rows"] = lambda asked: web.reply(server(asked))
    ids, marks = read(open_rest(), rest_stream(stream, rules))
    assert ids == [row["id"] for row in ROWS]
    assert len(web.asked) == 1 + pages, "one for the columns"
    assert marks[-1] is not None


@pytest.mark.parametrize("case", WAYS, ids=lambda case: case[0])
def test_a_broken_reading_goes_on_after_any_of_its_pages(
    open_rest: Any, web: Any, stream: Any, case: Any
) -> None:
    way, server, rules, _ = case
    web.answers["/rows"] = lambda asked: web.reply(server(asked))
    source, rows = open_rest(), rest_stream(stream, rules)
    names = [column.name for column in source.columns(rows)]
    done: list[int] = []
    for batch in source.batches(rows, Reading(names=names)):
        done += [row[0] for row in batch.rows]
        rest, _ = read(open_rest(), rows, after=batch.checkpoint)
        assert done + rest == [row["id"] for row in ROWS], way


def test_a_token_goes_into_the_body_of_a_post(open_rest: Any, web: Any, stream: Any) -> None:
    web.answers["/rows"] = lambda asked: web.reply(by_cursor(asked))
    rules = {"type": "token", "param": "after", "next": "meta.next", "send": "body"}
    rows = rest_stream(stream, rules, method="POST", body={"filter": {"open": True}})
    ids, _ = read(open_rest(), rows)
    assert ids == [1, 2, 3, 4, 5, 6, 7]
    assert web.asked[-1].body == b'{"filter":{"open":true},"after":"t6"}'
    assert web.asked[-1].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "link",
    [
        '<{url}/rows?from={n}>; rel="next"',
        "</rows?from={n}>; rel=next",
        '<?from={n}>; title="a, b"; rel="last next", </rows>; rel="first"',
        '</rows>; rel="first", <rows?from={n}#top>; REL="Next"',
    ],
)
def test_the_link_header_leads_on(open_rest: Any, web: Any, stream: Any, link: str) -> None:
    def answer(asked: Asked) -> Reply:
        begin = int(asked.query.get("from", 0))
        more = begin + 3 < 7
        headers = {"Link": link.format(url=web.url, n=begin + 3)} if more else {}
        return web.reply(ROWS[begin : begin + 3], headers=headers)

    web.answers["/rows"] = answer
    rows = stream(endpoint="/rows", options={"pagination": {"type": "link"}, "params": {"a": 1}})
    assert read(open_rest(), rows)[0] == [1, 2, 3, 4, 5, 6, 7]
    assert web.asked[0].query == {"a": "1"}


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://example.com/rows",
        "https://127.0.0.1:{port}/rows",
        "http://127.0.0.1:1/rows",
        "//example.com/rows",
        "http://localhost:{port}/rows",
        "file:///etc/passwd",
        "ftp://127.0.0.1/rows",
        "http://[::ffff:169.254.169.254]/",
    ],
)
def test_a_next_page_on_another_server_is_not_asked_for(
    open_rest: Any, web: Any, stream: Any, target: str
) -> None:
    web.answers["/rows"] = [web.reply({"items": ROWS, "next": target.format(port=web.port)})]
    rows = rest_stream(stream, {"type": "link", "next": "next"})
    source = open_rest()
    with pytest.raises(SourceFault) as caught:
        read(source, rows)
    assert {"address:refused", "protocol:error"} & set(caught.value.signals)
    assert len(web.asked) == 1


def test_a_listed_server_may_have_the_next_page(open_rest: Any, web: Any, stream: Any) -> None:
    other = f"http://localhost:{web.port}"
    web.answers["/rows"] = [web.reply({"items": ROWS[:3], "next": f"{other}/more"})]
    web.answers["/more"] = [web.reply({"items": ROWS[3:]})]
    rows = rest_stream(stream, {"type": "link", "next": "next"})
    assert read(open_rest({"origins": [other]}), rows)[0] == [1, 2, 3, 4, 5, 6, 7]
    assert web.asked[-1].headers["Host"] == f"localhost:{web.port}"


CIRCLES: list[tuple[str, Any, dict[str, Any], str]] = [
    ("the page number is ignored", lambda _: {"items": ROWS}, {"type": "page"}, "protocol:error"),
    ("the offset is ignored", lambda _: {"items": ROWS}, {"type": "offset"}, "protocol:error"),
    (
        "the cursor stays",
        lambda _: {"items": ROWS, "next": "x"},
        {"type": "cursor", "param": "c", "next": "next"},
        "protocol:error",
    ),
    (
        "the link leads to itself",
        lambda _: {"items": ROWS, "next": "/rows"},
        {"type": "link", "next": "next"},
        "protocol:error",
    ),
    (
        "more without a way",
        lambda _: {"items": ROWS, "more": True},
        {"type": "cursor", "param": "c", "next": "next", "more": "more"},
        "protocol:error",
    ),
    (
        "more is no truth",
        lambda _: {"items": ROWS, "more": "yes"},
        {"type": "page", "more": "more"},
        "protocol:error",
    ),
    (
        "the total is no number",
        lambda _: {"items": ROWS, "total": "7"},
        {"type": "page", "total": "total"},
        "protocol:error",
    ),
    (
        "fewer than announced",
        lambda asked: {"items": ROWS if asked.query.get("page") == "1" else [], "total": 9},
        {"type": "page", "total": "total"},
        "reconcile:mismatch",
    ),
    (
        "fewer than announced by links",
        lambda _: {"items": ROWS, "total": 9},
        {"type": "link", "next": "next", "total": "total"},
        "reconcile:mismatch",
    ),
    (
        "more of nothing",
        lambda _: {"items": [], "more": True},
        {"type": "offset", "more": "more"},
        "protocol:error",
    ),
    (
        "total_pages is no number",
        lambda _: {"items": ROWS, "pages": None},
        {"type": "page", "total_pages": "pages"},
        "protocol:error",
    ),
    (
        "a cursor that is an object",
        lambda _: {"items": ROWS, "next": {"a": 1}},
        {"type": "cursor", "param": "c", "next": "next"},
        "protocol:error",
    ),
    ("no list", lambda _: {"rows": ROWS}, {"type": "none"}, "data:malformed"),
    ("a list of lists", lambda _: {"items": [[1]]}, {"type": "none"}, "data:malformed"),
]


@pytest.mark.parametrize("case", CIRCLES, ids=lambda case: case[0])
def test_pages_that_do_not_follow_end_the_reading(
    open_rest: Any, web: Any, stream: Any, case: Any
) -> None:
    _, server, rules, signal = case
    web.answers["/rows"] = lambda asked: web.reply(server(asked))
    source = open_rest()
    with pytest.raises(SourceFault) as caught:
        read(source, rest_stream(stream, rules))
    assert signal in caught.value.signals, str(caught.value)
    assert len(web.asked) <= 4


def test_a_circle_of_several_pages_is_noticed(open_rest: Any, web: Any, stream: Any) -> None:
    def answer(asked: Asked) -> Reply:
        number = int(asked.query.get("c", 0))
        return web.reply({"items": [ROWS[number]], "next": str((number + 1) % 4 or 1)})

    web.answers["/rows"] = answer
    source = open_rest()
    with pytest.raises(SourceFault, match="read before"):
        read(source, rest_stream(stream, {"type": "cursor", "param": "c", "next": "next"}))
    assert len(web.asked) < 8


def test_a_total_that_falls_means_that_pages_moved(open_rest: Any, web: Any, stream: Any) -> None:
    def answer(asked: Asked) -> Reply:
        return web.reply(by_page(asked) | {"total": 7 - int(asked.query["page"]) // 2})

    web.answers["/rows"] = answer
    source = open_rest()
    with pytest.raises(SourceFault, match="had 7 records and now has 6"):
        read(source, rest_stream(stream, {"type": "page", "total": "total"}))


def test_a_total_that_grows_is_read_to_its_new_end(open_rest: Any, web: Any, stream: Any) -> None:
    def answer(asked: Asked) -> Reply:
        page = int(asked.query["page"])
        return web.reply({"items": ROWS[(page - 1) * 3 : page * 3], "total": 5 + min(page, 2)})

    web.answers["/rows"] = answer
    assert len(read(open_rest(), rest_stream(stream, {"type": "page", "total": "total"}))[0]) == 7


def test_a_server_that_sends_fewer_than_asked_for_loses_nothing_under_stop_short(
    open_rest: Any, web: Any, stream: Any
) -> None:
    web.answers["/rows"] = lambda asked: web.reply(by_page(asked))
    rules = {"type": "page", "size_param": "per_page", "size": 100, "stop": "short"}
    assert len(read(open_rest(), rest_stream(stream, rules))[0]) == 7


def test_there_are_never_more_pages_than_allowed(open_rest: Any, web: Any, stream: Any) -> None:
    web.answers["/rows"] = lambda asked: web.reply([{"id": int(asked.query["page"])}])
    source = open_rest({"max_pages": 5})
    with pytest.raises(SourceFault, match=r"more than max_pages \(5\)"):
        read(source, stream(endpoint="/rows", options={"pagination": {"type": "page"}}))
    assert len(web.asked) == 1 + 5


@pytest.mark.parametrize("rules", [{"more": "more"}, {"total_pages": "pages"}])
def test_an_empty_page_in_the_middle_does_not_end_a_stream_that_says_more_follows(
    open_rest: Any, web: Any, stream: Any, rules: dict[str, str]
) -> None:
    served = {1: ROWS[:2], 2: [], 3: [], 4: ROWS[2:]}

    def answer(asked: Asked) -> Reply:
        page = int(asked.query["page"])
        return web.reply({"items": served[page], "more": page < 4, "pages": 4})

    web.answers["/rows"] = answer
    rows = rest_stream(stream, {"type": "page", **rules})
    assert read(open_rest(), rows)[0] == [1, 2, 3, 4, 5, 6, 7]
