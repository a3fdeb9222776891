"""Calls over real HTTP to the web server as a process."""

import asyncio
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PLAIN = "0123456789abcdef" * 4
OTHER = "whsec_YW5vdGhlciBzZWNyZXQgdGhhdCBpcyBsb25nIGVub3VnaA=="


def test_a_signed_call_starts_the_connector(console: Any) -> None:
    answer = console.call("drop", "msg_first", webhook_caller="SAP\tfeed")
    assert answer.status_code == 202
    number = answer.json()["number"]
    assert answer.json() == {
        "number": number,
        "url": f"{console.url}/runs?q%5B0%5D=tag%3Aaiia%2Fjob%3D{number}",
    }
    row = console.row(number)
    assert (row.connector, row.type, row.state) == ("drop", "sync", "Pending")
    assert (row.trigger, row.triggered_by) == ("webhook", "SAPfeed (msg_first)")
    assert (row.streams, row.full_read) == (["orders", "customers"], False)
    assert httpx.get(answer.json()["url"]).status_code == 200


def test_a_call_may_choose_streams_and_a_full_read(console: Any) -> None:
    body = {"type": "file.written", "data": [1], "streams": ["customers"], "full": True}
    answer = console.call("drop", "msg_chosen", body)
    assert answer.status_code == 202, answer.text
    row = console.row(answer.json()["number"])
    assert (row.streams, row.full_read, row.triggered_by) == (["customers"], True, "msg_chosen")
    assert console.run_tags(row.number)["aiia/full"] == "true"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"no json", "The body must be a JSON object, or empty."),
        (b"[" * 60_000, "The body must be a JSON object, or empty."),
        (b'"text"', "The body must be a JSON object, or empty."),
        (b'{"full": 1}', "full must be true or false."),
        (b'{"streams": "orders"}', "streams must be a list of at least one name"),
        (b'{"streams": []}', "streams must be a list of at least one name"),
        (b'{"streams": [1]}', "streams must be a list of at least one name"),
        (b'{"streams": ["orders", "ordres"]}', "streams may hold orders, customers."),
    ],
)
def test_a_body_that_asks_for_nonsense_is_refused(console: Any, body: bytes, sentence: str) -> None:
    before = console.count()
    answer = console.call("drop", body=body)
    assert (answer.status_code, console.count()) == (400, before)
    assert answer.json()["error"].startswith(sentence)


def test_the_same_call_again_answers_with_the_same_number_and_starts_nothing(console: Any) -> None:
    first = console.call("drop", "msg_twice", {"full": True})
    before = console.count()
    again = console.call("drop", "msg_twice", late=5)
    assert (first.status_code, again.status_code, console.count()) == (202, 200, before)
    assert again.json() == first.json()
    assert console.call("turning", "msg_twice").status_code == 202, "another connector's call"


def test_of_the_same_calls_at_once_one_starts_the_connector(console: Any) -> None:
    before = console.count()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: console.call("drop", "msg_at_once"), range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [202]
    assert len({answer.json()["number"] for answer in answers}) == 1
    assert console.count() == before + 1


def test_a_call_whose_run_was_made_before_the_server_died_is_carried_on(console: Any) -> None:
    first = console.call("drop", "msg_died")
    # As when it died after it made the run, and before it noted the call.
    with console.store.engine.begin() as db:
        db.exec_driver_sql("delete from aiia.webhook_calls where call_id = 'msg_died'")
    again = console.call("drop", "msg_died")
    assert (again.status_code, again.json()) == (200, first.json())


def changed(call_id: str) -> Iterator[dict[str, str]]:
    yield {"webhook_id": f"{call_id}x"}
    yield {"webhook_timestamp": str(int(time.time()) + 1)}
    yield {"webhook_timestamp": "soon"}
    yield {"webhook_signature": "v1,AAAA"}
    yield {"webhook_signature": ""}


def test_a_call_that_was_changed_on_its_way_is_refused(console: Any) -> None:
    before = console.count("aiia.webhook_calls"), console.count()
    for headers in changed("msg_changed"):
        answer = console.call("drop", "msg_changed", **headers)
        assert answer.status_code == 401, headers
    right = console.call("drop", "msg_of_tamper")
    request = right.request
    headers = {k: v for k, v in request.headers.items() if k.startswith("webhook-")}
    assert console.post("drop", b'{"full": true}', headers).status_code == 401
    assert console.post("turning", b"", headers).status_code == 202, "the secret is shared here"
    assert (console.count("aiia.webhook_calls"), console.count()) == (before[0] + 2, before[1] + 2)


@pytest.mark.parametrize("late", [310, -310])
def test_a_call_of_another_time_is_refused(console: Any, late: int) -> None:
    assert console.call("drop", late=late).status_code == 401
    assert console.call("drop", late=late // 2).status_code == 202


def test_a_stranger_cannot_tell_which_connectors_there_are(console: Any) -> None:
    unsigned = [console.post(name, b"", {}) for name in ("drop", "quiet", "nobody")]
    assert {(a.status_code, a.text) for a in unsigned} == {(404, '{"error":"Not found."}')}
    wrong = [console.call(n, secret=OTHER) for n in ("drop", "quiet", "unset", "nobody")]
    assert {a.status_code for a in wrong} == {401}
    assert len({a.text for a in wrong}) == 1
    assert len({tuple(sorted(a.headers.keys())) for a in wrong}) == 1


def test_headers_that_come_twice_are_no_signature(console: Any) -> None:
    headers = [("webhook-id", "a"), ("webhook-id", "b"), ("webhook-timestamp", "1")]
    headers.append(("webhook-signature", "v1,AAAA"))
    answer = httpx.post(f"{console.url}/hooks/drop", headers=headers)
    assert answer.status_code == 404


def test_a_connector_without_a_usable_secret_accepts_nothing_and_the_log_says_why(
    console: Any,
) -> None:
    assert console.call("unset").status_code == 401
    assert "The webhook of unset accepts no call: ${env:NOBODY_SETS_THIS}" in console.said()


def test_a_secret_is_replaced_without_a_call_being_lost(console: Any) -> None:
    file = console.home / "secrets" / "hook"
    assert console.call("turning", secret=OTHER).status_code == 401
    file.write_text(f"{OTHER} {console.secret}\n")
    assert console.call("turning", secret=OTHER).status_code == 202
    assert console.call("turning").status_code == 202
    file.write_text(f"{OTHER}\n")
    assert console.call("turning").status_code == 401
    file.write_text(console.secret)


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(console: Any) -> None:
    assert console.call("drop", body=b" " * 65_536).status_code == 202
    assert console.call("drop", body=b" " * 65_537).status_code == 413
    headers = {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 4096

    assert console.post("drop", endless(), headers).status_code == 413


def test_a_caller_that_hangs_up_or_is_slow_stops_nobody(console: Any) -> None:
    place = urlsplit(console.url)
    head = (
        "POST /hooks/drop HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nwebhook-id: a\r\n"
        "webhook-timestamp: 1\r\nwebhook-signature: v1,AAAA\r\n\r\n"
    )
    slow = socket.create_connection((place.hostname, place.port))
    slow.sendall(head.encode())
    gone = socket.create_connection((place.hostname, place.port))
    gone.sendall(head.encode() + b"{")
    gone.close()
    assert console.call("drop").status_code == 202
    with slow:
        slow.settimeout(60)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert "Traceback" not in console.said()


def test_many_calls_at_a_time_leave_the_pages_alone(console: Any) -> None:
    async def both() -> list[int]:
        async with httpx.AsyncClient(timeout=60) as client:
            hooks = [
                client.post(f"{console.url}/hooks/drop", headers={
                    "webhook-id": f"a{n}", "webhook-timestamp": "1", "webhook-signature": "v1,A",
                })
                for n in range(60)
            ]  # fmt: skip
            flood = asyncio.gather(*hooks)
            page = await client.get(f"{console.url}/server_info")
            assert page.status_code == 200
            return [answer.status_code for answer in await flood]

    assert set(asyncio.run(both())) == {401}


def test_calls_that_come_too_often_are_sent_away_for_a_while(console: Any) -> None:
    for _ in range(3):
        assert console.call("paced", webhook_signature="v1,wrong").status_code == 401
    assert [console.call("paced").status_code for _ in range(2)] == [202, 202]
    told = console.call("paced")
    assert told.status_code == 429
    assert told.json()["error"].startswith("paced takes 2 calls a minute; there is room in ")
    assert 1 <= int(told.headers["retry-after"]) <= 60
    assert console.call("turning").status_code == 202, "each has a minute of its own"


def test_a_connector_file_that_is_new_must_be_loaded_first(
    console: Any, wait: Callable[..., Any]
) -> None:
    file = console.write("late", "triggers: { webhook: { secret: '${env:HOOK}' } }\n")
    before = console.count("aiia.webhook_calls")
    answer = wait(lambda: (a := console.call("late")).status_code != 401 and a, 20)
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("The connector is not loaded; reload")
    assert answer.headers["retry-after"] == "10"
    assert console.count("aiia.webhook_calls") == before, "the same call may come again"
    file.unlink()
    assert wait(lambda: console.call("late").status_code == 401, 20)


def test_dagsters_own_pages_are_as_they_were(console: Any) -> None:
    assert httpx.get(f"{console.url}/server_info").json()["dagster_version"]
    assert "<html" in httpx.get(f"{console.url}/runs").text
    query = {"query": "{ workspaceOrError { __typename } }"}
    assert "errors" not in httpx.post(f"{console.url}/graphql", json=query).json()
    assert httpx.put(f"{console.url}/hooks/drop").status_code == 405


def test_the_call_that_the_documentation_shows_starts_a_sync(console: Any) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "start-a-sync-from-outside.md"
    (script,) = re.findall(r"```bash\n(# URL is .*?)```", page.read_text(), re.DOTALL)
    given = {"URL": console.url, "CONNECTOR": "plain", "SECRET": PLAIN, "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    row = console.row(json.loads(done.stdout)["number"])
    assert (row.connector, row.streams, row.full_read) == ("plain", ["orders"], False)
    assert row.triggered_by.startswith("nightly export (nightly-")


def test_no_secret_is_told(console: Any) -> None:
    said = console.said()
    for secret in (console.secret, OTHER):
        assert secret not in said
        assert secret.removeprefix("whsec_") not in said
    with console.store.engine.connect() as db:
        for table in ("aiia.job_runs", "runs", "run_tags", "event_logs", "aiia.webhook_calls"):
            found = db.exec_driver_sql(f"select t::text from {table} t").scalars().all()
            assert not [row for row in found if "Y2FuYXJ5" in row or "YW5vdGhl" in row], table


def test_the_server_stops_when_it_is_told_to(console: Any) -> None:
    console.process.terminate()
    assert console.process.wait(30) in {0, -15}
    assert "Traceback" not in console.said()
