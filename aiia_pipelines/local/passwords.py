"""The passwords of the embedded server: one file each, and one for libpq."""

import re
import secrets
from pathlib import Path

from aiia_pipelines.local.files import make_folder, write_whole

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class Passwords:
    """The passwords kept in one home."""

    def __init__(self, home: Path) -> None:
        """Only remembers where they are."""
        self.folder = home / "secrets"
        self.pgpass = home / "pgpass"

    def path(self, user: str) -> Path:
        """Gives the file of a user's password.

        Raises:
            ValueError: the name could not be a plain role name, or leads out of the folder.
        """
        if not _NAME.fullmatch(user):
            raise ValueError(f"{user!r} is no role name: use small letters, digits and _ only.")
        return self.folder / user

    def known(self, user: str) -> str | None:
        """Gives the stored password, None when there is none."""
        try:
            return self.path(user).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def of(self, user: str) -> str:
        """Gives the stored password, making one up the first time, and lets libpq find it."""
        password = self.known(user)
        if password is None:
            password = secrets.token_urlsafe(32)
            make_folder(self.folder, 0o700)
            write_whole(self.path(user), password + "\n")
        self._tell_libpq(user, password)
        return password

    def _tell_libpq(self, user: str, password: str) -> None:
        # any port and database: the server may move, its users stay
        begin = f"127.0.0.1:*:*:{user}:"
        wanted = begin + password
        try:
            lines = self.pgpass.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            lines = []
        # libpq ignores a password file that others may read
        if wanted not in lines or self.pgpass.stat().st_mode & 0o077:
            kept = [line for line in lines if not line.startswith(begin)]
            write_whole(self.pgpass, "\n".join([*kept, wanted, ""]))
