"""A certificate authority of the tests, and servers' certificates of every sort."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


@dataclass(frozen=True)
class Authority:
    """Signs certificates; who trusts `path` trusts them."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "ca.pem"

    def found(self) -> "Authority":
        self._run(f"req -x509 {_KEY} -days 2 -subj /CN=tests -keyout ca.key -out ca.pem")
        return self

    def sign(self, name: str, host: str = "IP:127.0.0.1", days: int = 2) -> Path:
        """Make a certificate for a host; the key lies beside it. Negative days are over."""
        self._run(
            f"req {_KEY} -subj /CN={name} -addext subjectAltName={host}"
            f" -keyout {name}.key -out {name}.csr"
        )
        self._run(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days {days}"
            f" -copy_extensions copy -out {name}.pem"
        )
        return self.folder / f"{name}.pem"

    def _run(self, command: str) -> None:
        subprocess.run(
            ["openssl", *command.split()], cwd=self.folder, check=True, capture_output=True
        )
