"""A PostgreSQL server of the tests' own that is made to fail."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certificates import Authority
from provoked import READER

from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import APPLICATION_ROLE, EmbeddedPostgres


@dataclass
class Hostile:
    """A PostgreSQL server that is made to fail."""

    server: EmbeddedPostgres
    authority: Authority

    @property
    def data(self) -> Path:
        return self.server.log.parent / "data"

    def execute(self, *statements: str, database: str = "shop") -> list[tuple[Any, ...]]:
        with closing(self.server.connect(database)) as db, db.cursor() as cursor:
            db.autocommit = True
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def options(self, user: str = READER, query: str = "", **more: Any) -> dict[str, Any]:
        url = self.server.url("shop", user, "postgresql") + query
        given = {"kind": "sql", "url": url, "password": self.server.passwords.of(READER)}
        return given | {"connect_timeout": 2} | more

    def role(self, name: str, how: str = "") -> str:
        """Make a role with the password of the reader."""
        self.execute(
            f"drop role if exists {name}",
            f"create role {name} login {how} password '{self.server.passwords.of(READER)}'",
        )
        return name

    def reload(self) -> None:
        self.execute("select pg_reload_conf()")
        time.sleep(0.1)

    def admit(self, lines: str) -> None:
        """Put lines before those that say who may come in from where."""
        path = self.data / "pg_hba.conf"
        path.write_text(f"{lines}\n{path.read_text()}")
        self.reload()

    @contextmanager
    def soon(self, statement: str, when: str) -> Iterator[None]:
        """Do something as soon as a query has rows, from another session."""

        def act() -> None:
            deadline = time.monotonic() + 10
            while not self.execute(when) and time.monotonic() < deadline:
                time.sleep(0.02)
            self.execute(statement)

        thread = threading.Thread(target=act)
        thread.start()
        yield
        thread.join()


SHOP = """
create table public.rows (id int primary key, name text);
insert into public.rows select n, 'name ' || n from generate_series(1, 60000) n;
create table public.secret (id int);
create function public.slow() returns int language plpgsql as
  $$ begin perform pg_sleep(30); return 1; end $$;
create domain public.positive as int check (value > 0);
grant select on public.rows to canary_reader;
"""


@contextmanager
def serving(folder: Path) -> Iterator[Hostile]:
    """Start a server with a shop in it; `folder` is for certificates."""
    home = Path(tempfile.mkdtemp(prefix="aiia-", dir="/tmp"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home, preferred_port=free_port())
    server.bootstrap()
    server.ensure_role(READER)
    server.ensure_database("shop", APPLICATION_ROLE)
    found = Hostile(server, Authority(folder).found())
    found.execute(SHOP)
    yield found
    server.stop()
    shutil.rmtree(server.log.parent, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
