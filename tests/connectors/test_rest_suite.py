"""The kinds that go over the web, held to the conformance suite."""

import csv
import io
import json
from dataclasses import dataclass
from typing import Any

import pytest

from aiia_pipelines.testing import SAMPLE, KindSuite, Offer

pytestmark = pytest.mark.integration
CANARY = "canary-Passw0rd-51c7"
NAMES = ("id", "name", "amount", "active")


@dataclass
class Offered:
    """An offer put together by a fixture."""

    kind: str
    good: dict[str, Any]
    bad: dict[str, Any]
    streams: dict[str, dict[str, Any]]
    secret: str

    def options(self) -> dict[str, Any]:
        return self.good

    def refused(self) -> dict[str, Any]:
        return self.bad

    def stream(self, name: str = "sample") -> dict[str, Any]:
        return self.streams[name]


class TestREST(KindSuite):
    @pytest.fixture
    def offer(self, web: Any) -> Offer:
        records = [dict(zip(NAMES, row, strict=True)) for row in SAMPLE]

        def serve(held: list[Any]) -> Any:
            def answer(asked: Any) -> Any:
                if asked.headers.get("Authorization") != f"Bearer {CANARY}":
                    return web.reply({}, status=401)
                begin = int(asked.query["offset"])
                return web.reply({"data": held[begin : begin + 7], "total": len(held)})

            return answer

        web.answers["/sample"], web.answers["/empty"] = serve(records), serve([])
        options = {"records": "data", "pagination": {"type": "offset", "total": "total"}}
        streams = {
            n: {"endpoint": f"/{n}", "options": options} for n in ("sample", "empty", "missing")
        }
        good = {"kind": "rest", "url": web.url, "auth": {"type": "bearer", "token": CANARY}}
        bad = good | {"auth": {"type": "bearer", "token": f"{CANARY}-not"}}
        return Offered("rest", good, bad, streams, CANARY)


class TestRESTWithTheNewestAsked(TestREST):
    @pytest.fixture
    def offer(self, web: Any) -> Offer:
        records = [dict(zip(NAMES, row, strict=True)) for row in SAMPLE]

        def answer(asked: Any) -> Any:
            held = records[::-1] if asked.query.get("sort") else records
            page = int(asked.query["page"])
            return web.reply(held[page * 10 - 10 : page * 10])

        web.answers["/sample"], web.answers["/empty"] = answer, [web.reply([])]
        options = {"pagination": {"type": "page"}, "newest": {"sort": "-id"}}
        streams = {
            n: {"endpoint": f"/{n}", "options": options} for n in ("sample", "empty", "missing")
        }
        good = {"kind": "rest", "url": web.url}
        return Offered("rest", good, good | {"url": "http://127.0.0.1:1"}, streams, "")


class TestS3(KindSuite):
    ending = "csv"

    def body(self, rows: Any) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(NAMES)
        for *values, active in rows:
            writer.writerow([*values, {True: "true", False: "false", None: None}[active]])
        return text.getvalue().encode()

    @pytest.fixture
    def offer(self, s3_server: Any) -> Offer:
        bucket, client = s3_server.make_bucket(), s3_server.client()
        for name, rows in (("sample/1", SAMPLE[:20]), ("sample/2", SAMPLE[20:]), ("empty/1", ())):
            client.put_object(Bucket=bucket, Key=f"{name}.{self.ending}", Body=self.body(rows))
        streams: dict[str, dict[str, Any]] = {
            n: {"path": f"{n}/*.{self.ending}"} for n in ("sample", "empty", "missing")
        }
        # A file of JSON lines without lines does not even have names.
        streams["empty"]["options"] = {"empty_ok": self.ending == "jsonl"}
        good = {
            "kind": "s3",
            "bucket": bucket,
            "endpoint_url": s3_server.endpoint,
            "access_key_id": s3_server.access_key,
            "secret_access_key": s3_server.secret_key,
        }
        bad = good | {"secret_access_key": f"{s3_server.secret_key}-not"}
        return Offered("s3", good, bad, streams, s3_server.secret_key)


class TestS3JSONLines(TestS3):
    ending = "jsonl"

    def body(self, rows: Any) -> bytes:
        lines = (json.dumps(dict(zip(NAMES, row, strict=True))) for row in rows)
        return "".join(f"{line}\n" for line in lines).encode()
