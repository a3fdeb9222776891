"""A MariaDB server for all tests of one process: the one installed here, or Debian's, unpacked and not installed.

Loaded by `tests/conftest.py`, so that every folder of tests can ask for `maria`.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from aiia_pipelines.local.ports import free_port

_NUMBER = count(1)
_PASSWORD = "canary-Maria-5e1f"
READER = "canary_reader"
# The C library and its like must be those that this machine's loader fits.
_OF_THE_MACHINE = ("libc6", "libcrypt1", "libgcc-s1", "libstdc++6")
_TABLES = ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data")


@dataclass(frozen=True)
class MariaServer:
    """A running server; `root` is where its files lie, `/` when it is installed."""

    home: Path
    root: Path
    port: int

    @property
    def _program(self) -> str:
        installed = shutil.which("mariadbd", path=os.environ.get("PATH", "") + ":/usr/sbin")
        return str(installed if self.root == Path("/") else self.root / "usr/sbin/mariadbd")

    def _run(self, *more: str, **how: Any) -> "subprocess.Popen[bytes]":
        share = self.root / "usr/share/mysql"
        command = [
            self._program, "--no-defaults", f"--datadir={self.home / 'data'}",
            f"--lc-messages-dir={share}", f"--character-sets-dir={share / 'charsets'}",
            f"--plugin-dir={self.root / 'usr/lib/mysql/plugin'}", f"--tmpdir={self.home}",
            "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync",
            "--innodb-doublewrite=0", "--innodb-use-native-aio=0", "--performance-schema=off",
            *(["--user=root"] if os.geteuid() == 0 else []), *more,
        ]  # fmt: skip
        libraries = ":".join(str(found) for found in self.root.glob("**/lib/*-linux-gnu"))
        environment = os.environ | ({"LD_LIBRARY_PATH": libraries} if self.root.name else {})
        with (self.home / "server.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment, **how)

    def bootstrap(self) -> None:
        """Make the system tables, as mariadb-install-db does."""
        (self.home / "data").mkdir()
        share = self.root / "usr/share/mysql"
        script = "create database mysql;\nuse mysql;\nset @auth_root_socket=null;\n" + "".join(
            (share / f"{name}.sql").read_text() for name in _TABLES
        )
        started = self._run("--bootstrap", stdin=subprocess.PIPE)
        started.communicate(script.encode(), timeout=60)
        assert started.returncode == 0, (self.home / "server.log").read_text()[-2000:]

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it, wait until it answers, and let the tests in."""
        started = self._run(
            "--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.home / 's'}",
            "--max-connections=40", "--character-set-server=utf8mb4",
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not (self.home / "s").exists():
            log = (self.home / "server.log").read_text()[-2000:]
            assert started.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)
        with closing(self.connect(unix_socket=str(self.home / "s"), password="")) as admin:
            admin.cursor().execute(f"set password = password('{_PASSWORD}')")
            admin.cursor().execute(f"create user {READER} identified by '{_PASSWORD}'")
        return started

    @contextmanager
    def secured(self, certificate: Path) -> Iterator[int]:
        """Start another server that offers TLS, with no tables and nobody to log in; give its port."""
        home = Path(tempfile.mkdtemp(prefix="aiia-", dir="/tmp"))
        other = replace(self, home=home, port=free_port())
        other.bootstrap()
        started = other._run(
            "--bind-address=127.0.0.1", f"--port={other.port}", f"--socket={home / 's'}",
            f"--ssl-cert={certificate}", f"--ssl-key={certificate.with_suffix('.key')}",
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while not (home / "s").exists():
                assert started.poll() is None, (home / "server.log").read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield other.port
        finally:
            started.terminate()
            started.wait(timeout=30)
            shutil.rmtree(home)

    def connect(self, **facts: Any) -> Any:
        """Connect as the administrator."""
        import pymysql

        how: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "user": "root"}
        return pymysql.connect(**how | {"password": _PASSWORD, "autocommit": True} | facts)


@dataclass(frozen=True)
class MariaDatabase:
    """One database of the server; `execute` speaks as its administrator."""

    server: MariaServer
    name: str
    password: str = _PASSWORD

    @property
    def port(self) -> int:
        return self.server.port

    def url(self, user: str = READER) -> str:
        return f"mysql://{user}@127.0.0.1:{self.port}/{self.name}"

    def execute(self, *statements: str, **facts: Any) -> tuple[tuple[Any, ...], ...]:
        how = {"database": self.name, "charset": "utf8mb4"} | facts
        with closing(self.server.connect(**how)) as db, db.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())

    def options(self, user: str = READER, **more: Any) -> dict[str, Any]:
        """Give the `source:` part of a connector that reads this database."""
        facts = {"kind": "sql", "url": self.url(user), "password": self.password}
        return facts | {"connect_timeout": 2} | more


def _installed() -> bool:
    return shutil.which("mariadbd", path=os.environ.get("PATH", "") + ":/usr/sbin") is not None


def _can_be_had() -> bool:
    return _installed() or all(map(shutil.which, ("apt-get", "apt-cache", "dpkg")))


def _unpacked() -> Path:
    """Fetch the server's packages once per machine and unpack them where only tests look."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = cache / "aiia-pipelines-tests" / "mariadb"
    if found.is_dir():
        return found
    found.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=found.parent))
    for folder in ("lists/partial", "cache/archives/partial", "debs", "root"):
        (work / folder).mkdir(parents=True)
    # Lists of its own: those of the machine may be missing, and only root may renew them.
    own = ("-o", f"Dir::State::lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}")
    own = (*own, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=")

    def run(*command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=work / "debs", check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    run("apt-get", *own, "update")
    told = run("apt-cache", *own, "depends", "--important", "mariadb-server-core")
    needed = {line.split()[-1] for line in told.splitlines() if "Depends:" in line}
    wanted = ["mariadb-server-core", *sorted(needed.difference(_OF_THE_MACHINE))]
    run("apt-get", *own, "download", *wanted)
    for package in (work / "debs").iterdir():
        run("dpkg", "-x", str(package), str(work / "root"))
    # Another process may have been quicker; its copy is as good.
    if not found.is_dir():
        (work / "root").rename(found)
    shutil.rmtree(work)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let the names of tests say so where no server can be had."""
    if "mariadb" in metafunc.fixturenames and not _can_be_had():
        missing = "checked nothing: neither mariadbd nor apt-get here"
        metafunc.parametrize("mariadb", [None], ids=[missing], indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Leave out the body of a test whose name says that it checked nothing."""
    return True if pyfuncitem.funcargs.get("mariadb", ...) is None else None


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaServer | None]:
    """A server with an administrator and a reader; None where there is none to be had."""
    if not _can_be_had():
        yield None
        return
    root = Path("/") if _installed() else _unpacked()
    # The path of a socket is short.
    home = Path(tempfile.mkdtemp(prefix="aiia-", dir="/tmp"))
    server = MariaServer(home, root, free_port())
    server.bootstrap()
    started = server.start()
    yield server
    started.terminate()
    started.wait(timeout=30)
    shutil.rmtree(home)


@pytest.fixture
def maria(mariadb: MariaServer | None) -> Iterator[MariaDatabase | None]:
    """An empty database that the reader may read."""
    if mariadb is None:
        yield None
        return
    found = MariaDatabase(mariadb, f"source_{next(_NUMBER)}")
    with closing(mariadb.connect()) as admin:
        admin.cursor().execute(f"create database {found.name} character set utf8mb4")
        admin.cursor().execute(f"grant select on {found.name}.* to {READER}")
        yield found
        with admin.cursor() as cursor:
            cursor.execute(
                "select id from information_schema.processlist where user <> 'system user'"
            )
            for (session,) in cursor.fetchall():
                # A snapshot that is still open would hold the tables.
                if session != admin.thread_id():
                    _ended(cursor, session)
            cursor.execute(f"drop database {found.name}")
            cursor.execute(f"revoke select on {found.name}.* from {READER}")


def _ended(cursor: Any, session: int) -> None:
    import pymysql

    with suppress(pymysql.err.OperationalError):
        cursor.execute(f"kill connection {session}")
