"""A real window that closes while a run is under way, and opens again."""

import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.integration, pytest.mark.slow]

ROWS = """
create table public.visits (id int primary key, at timestamptz not null, note text);
insert into public.visits select n, now() - interval '1 day' + n * interval '1 second', repeat('visit ', 1600)
  from generate_series(1, 400) n;
create index on public.visits (at, id);
grant select on public.visits to shop_read;
"""
FILE = """\
name: nightly
title: Nightly DB
window: {{ hours: "{opens:%H:%M}-{closes:%H:%M}" }}
source:
  kind: sql
  url: postgresql://shop_read@127.0.0.1:{port}/shop
  password: ${{file:secrets/shop_read}}
streams:
  - {{ name: visits, table: public.visits, mode: upsert, key: [id], cursor: at, batch_rows: 10 }}
"""


class SlowLine(socketserver.ThreadingTCPServer):
    """A line to the source on which what the source sends takes its time."""

    daemon_threads = True
    bytes_a_second = 32_000.0

    def __init__(self, port: int) -> None:
        self.source = ("127.0.0.1", port)
        super().__init__(("127.0.0.1", 0), Carrier)


class Carrier(socketserver.BaseRequestHandler):
    """Carries the bytes of one connection, both ways."""

    server: SlowLine

    def handle(self) -> None:
        with socket.create_connection(self.server.source) as source:
            there = threading.Thread(target=self._carry, args=(self.request, source), daemon=True)
            there.start()
            self._carry(source, self.request, slowly=True)

    def _carry(self, begin: socket.socket, end: socket.socket, *, slowly: bool = False) -> None:
        with suppress(OSError):
            while data := begin.recv(16_384):
                if slowly:
                    time.sleep(len(data) / self.server.bytes_a_second)
                end.sendall(data)
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def here(installations: Any) -> Any:
    found = installations()
    found.query(ROWS, "shop", "shop_owner")
    found.bring_up()
    return found


@pytest.fixture
def line(here: Any) -> Iterator[SlowLine]:
    with SlowLine(here.server.port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_run_whose_window_closes_goes_on_when_it_opens(
    here: Any, line: SlowLine, eventually: Any
) -> None:
    minute = timedelta(minutes=1)
    now = datetime.now(UTC)
    closes = now.replace(second=0, microsecond=0) + minute
    # The run must have read something by then.
    closes += minute if closes - now < timedelta(seconds=20) else timedelta()
    text = FILE.format(opens=closes + minute, closes=closes, port=line.server_address[1])
    (here.home / "connectors" / "nightly.yaml").write_text(text)
    here.ask(
        'mutation { reloadRepositoryLocation(repositoryLocationName: "aiia_pipelines") { __typename } }'
    )
    run_id = here.launch("sync__nightly")
    assert eventually(lambda: here.job(run_id)["state"] == "Paused", 100), here.job(run_id)
    paused = here.job(run_id)
    staged = paused["records"]
    assert 0 < staged < 400
    assert datetime.fromisoformat(paused["due_at"]) == closes + minute
    assert here.query("select to_regclass('nightly.visits')", "warehouse", "aiia_app") == [(None,)]

    line.bytes_a_second = 1e9
    done = here.ended(run_id, 90)
    assert done["state"] == "Completed", here.log(done["number"])
    assert datetime.fromisoformat(done["ended_at"]) > closes + minute
    told = "\n".join(here.log(done["number"]))
    going_on = re.search(r"visits: going on after (\d+) records", told)
    assert going_on, told
    assert 0 < int(going_on[1]) <= staged
    arrived = "select count(*), sum(id) from nightly.visits"
    assert here.query(arrived, "warehouse", "aiia_app") == [(400, 400 * 401 // 2)]
    ((attempts,),) = here.query(
        f"select count(*) from aiia.attempts where number = {done['number']}"
    )
    assert attempts == 2
