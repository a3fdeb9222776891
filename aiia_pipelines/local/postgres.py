"""A PostgreSQL of one's own: the store and the sample destination of `aiia up` and `aiia demo`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from aiia_pipelines.local.binaries import SHARED, Account, find_binaries
from aiia_pipelines.local.cluster import HOST, SUPERUSER, Cluster
from aiia_pipelines.local.faults import EmbeddedFault, EmbeddedMissing, PortRefused
from aiia_pipelines.local.files import locked, make_folder, write_whole
from aiia_pipelines.local.passwords import Passwords
from aiia_pipelines.local.ports import free_port, port_taken

if TYPE_CHECKING:
    from psycopg2.extensions import connection

__all__ = ["EmbeddedFault", "EmbeddedMissing", "EmbeddedPostgres"]

APPLICATION_ROLE = "aiia_app"
STORE = "aiia"
WAREHOUSE = "warehouse"
_HERE = "here"


class EmbeddedPostgres:
    """The server of one home; it outlives the process that started it until it is stopped."""

    def __init__(self, home: Path, preferred_port: int = 54329) -> None:
        """Only remembers where everything is."""
        self.home = home.resolve()
        self.preferred_port = preferred_port
        self.passwords = Passwords(self.home)
        self._folder = self.home / "postgres"

    @property
    def data(self) -> Path | None:
        """The folder of the data; None before the server was made."""
        found = self._cluster().data
        return found if found.parent.is_dir() else None

    @property
    def port(self) -> int:
        """The port in use, or last in use.

        Raises:
            EmbeddedFault: the server was never started.
        """
        ports = self._stored_ports()
        if not ports:
            raise EmbeddedFault(f"The embedded PostgreSQL of {self.home} was never started.")
        return ports[0]

    @property
    def log(self) -> Path:
        """The file the server writes its messages to."""
        return self._cluster().log

    def bootstrap(self) -> bool:
        """Starts the server with its roles and databases; True when it was not running before."""
        with self._alone():
            started = self._start()
            self.ensure_role(APPLICATION_ROLE)
            for database in (STORE, WAREHOUSE):
                self.ensure_database(database, APPLICATION_ROLE)
        return started

    def start(self) -> bool:
        """Starts the server if need be; True when it was not running before.

        Raises:
            EmbeddedMissing: the wheel is not installed.
            EmbeddedFault: the server does not come up.
        """
        with self._alone():
            return self._start()

    def stop(self) -> None:
        """Stops the server if it runs."""
        if self._folder.is_dir():
            with self._alone():
                self._cluster().stop()

    def running(self) -> bool:
        """Tells whether the server takes logins."""
        return self._folder.is_dir() and self._cluster().answers

    def ensure_role(self, name: str, *, superuser: bool = False) -> None:
        """Makes a role that logs in with the password kept for it."""
        from psycopg2 import sql  # noqa: PLC0415 - nobody but those who connect pays for it
        from psycopg2.extensions import encrypt_password  # noqa: PLC0415

        password = self.passwords.of(name)
        with self._administering() as session, session.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
            verb = "ALTER" if cursor.fetchone() else "CREATE"
            cursor.execute(
                sql.SQL("{verb} ROLE {name} LOGIN {rights} PASSWORD %s").format(
                    verb=sql.SQL(verb),
                    name=sql.Identifier(name),
                    rights=sql.SQL("SUPERUSER" if superuser else ""),
                ),
                # made unreadable here, so that no log of statements ever shows it
                (encrypt_password(password, name, session, "scram-sha-256"),),
            )

    def ensure_database(self, name: str, owner: str) -> None:
        """Makes a database that belongs to a role."""
        from psycopg2 import sql  # noqa: PLC0415

        create = "CREATE DATABASE {name} OWNER {owner}"
        with self._administering() as session, session.cursor() as cursor:
            cursor.execute(
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (name,)
            )
            row = cursor.fetchone()
            if row and row[0] == owner:
                return
            statement = "ALTER DATABASE {name} OWNER TO {owner}" if row else create
            names = {"name": sql.Identifier(name), "owner": sql.Identifier(owner)}
            cursor.execute(sql.SQL(statement).format(**names))

    def url(self, database: str, user: str = SUPERUSER, driver: str = "postgresql+psycopg2") -> str:
        """Gives a URL without a password: libpq reads that from PGPASSFILE."""
        return f"{driver}://{user}@{HOST}:{self.port}/{database}"

    def connect(self, database: str, user: str = SUPERUSER) -> "connection":
        """Opens a session with the password kept for the user."""
        import psycopg2  # noqa: PLC0415

        return psycopg2.connect(
            host=HOST,
            port=self.port,
            dbname=database,
            user=user,
            password=self.passwords.known(user),
            connect_timeout=10,
            application_name="aiia",
            # PGSSLMODE and the like are meant for other servers
            sslmode="disable",
            gssencmode="disable",
        )

    def environment(self) -> dict[str, str]:
        """Gives the variables that lead a process to this server."""
        return {
            "PGPASSFILE": str(self.passwords.pgpass),
            "AIIA_POSTGRES_PORT": str(self.port),
            "AIIA_DATABASE_URL": self.url(STORE, APPLICATION_ROLE),
            "AIIA_DESTINATION_WAREHOUSE": self.url(WAREHOUSE, APPLICATION_ROLE),
        }

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            make_folder(self._folder)
            with locked(self._folder / "lock"):
                yield
        except OSError as fault:
            raise EmbeddedFault(
                f"The embedded PostgreSQL cannot use its files: {fault.strerror or fault}"
                f"{f' ({fault.filename})' if fault.filename else ''}."
            ) from fault

    @contextmanager
    def _administering(self) -> Iterator["connection"]:
        from psycopg2 import OperationalError  # noqa: PLC0415

        try:
            session = self.connect("postgres")
        except OperationalError as fault:
            raise EmbeddedFault(
                f"The embedded PostgreSQL does not let {SUPERUSER} in: {str(fault).strip()}."
            ) from fault
        with closing(session):
            session.autocommit = True
            yield session

    def _start(self) -> bool:
        cluster = self._cluster()
        if cluster.initialised and self.passwords.known(SUPERUSER) is None:
            raise EmbeddedFault(
                f"{self.passwords.path(SUPERUSER)} is gone, and with it the way into {cluster.data}"
                ": put it back, or move the data away to begin with empty databases."
            )
        if cluster.answers:
            # somebody may have lost the files since
            self.passwords.of(SUPERUSER)
            stored = self._stored_ports()
            if cluster.port is not None and (stored is None or stored[0] != cluster.port):
                self._store_port(cluster.port)
            return False
        # without a server nothing is worth deciding
        find_binaries(cluster.account)
        cluster = self._settled(cluster)
        cluster.initialise(self.passwords.of(SUPERUSER))
        self._launch(cluster)
        return True

    def _launch(self, cluster: Cluster) -> None:
        refused: PortRefused | None = None
        for port in self._candidates():
            if port_taken(HOST, port):
                continue
            try:
                cluster.start(port)
            except PortRefused as fault:
                refused = fault
                continue
            self._store_port(cluster.port or port)
            return
        raise refused or EmbeddedFault(f"No port of {HOST} is free for the embedded PostgreSQL.")

    def _candidates(self) -> Iterator[int]:
        port, preferred = self._stored_ports() or (self.preferred_port, self.preferred_port)
        # the port stays the same from start to start unless another one is asked for
        yield port if preferred == self.preferred_port else self.preferred_port
        yield from dict.fromkeys((self.preferred_port, port))
        for _ in range(3):
            yield free_port(HOST)

    def _stored_ports(self) -> tuple[int, int] | None:
        try:
            port, preferred = (self._folder / "port").read_text(encoding="ascii").split()
            return int(port), int(preferred)
        except (OSError, ValueError):
            return None

    def _store_port(self, port: int) -> None:
        if self._stored_ports() != (port, self.preferred_port):
            write_whole(self._folder / "port", f"{port}\n{self.preferred_port}\n", 0o644)

    def _cluster(self) -> Cluster:
        try:
            place = (self._folder / "place").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            place = _HERE
        return Cluster(self._folder if place == _HERE else Path(place))

    def _settled(self, cluster: Cluster) -> Cluster:
        """Decides once where the data live: in the home, or where root's helper account gets in."""
        note = self._folder / "place"
        if note.exists():
            if not cluster.folder.is_dir():
                raise EmbeddedFault(
                    f"The data folder {cluster.folder} is gone: put it back, "
                    f"or remove {note} to begin with empty databases."
                )
            return cluster
        place = _HERE
        if not cluster.data.exists() and not _reaches(Account.choose(), self._folder):
            place = str(SHARED / f"home-{token_hex(8)}")
            make_folder(Path(place))
            for folder in (SHARED, Path(place)):
                # made just now, perhaps under a tight umask
                folder.chmod(0o755)
            write_whole(Path(place) / "home", f"{self.home}\n", 0o644)
        write_whole(note, f"{place}\n", 0o644)
        return self._cluster()


def _reaches(account: Account, folder: Path) -> bool:
    return account.can("/bin/sh", "-c", 'cd "$1"', "sh", folder)
