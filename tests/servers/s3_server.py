"""An S3 server for tests: SeaweedFS, from a wheel."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from aiia_pipelines.local.ports import free_port

_NUMBER = count(1)


@dataclass(frozen=True)
class S3Server:
    """A SeaweedFS server that speaks S3; its one user may do everything."""

    endpoint: str
    access_key: str = "AIIATESTKEY"
    secret_key: str = "canary-s3-secret"
    region: str = "us-east-1"

    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )

    def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket of this name, or of one that nobody has."""
        found = name or f"bucket-{next(_NUMBER)}"
        self.client().create_bucket(Bucket=found)
        return found

    def answers(self) -> bool:
        """Tell whether objects can be written, which is later than when buckets can be made."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client().create_bucket(Bucket="probe")
        except ClientError as refused:
            if refused.response["Error"]["Code"] != "BucketAlreadyExists":
                return False
        except BotoCoreError:
            return False
        try:
            self.client().put_object(Bucket="probe", Key="large", Body=b"-" * 100_000)
        except (BotoCoreError, ClientError):
            return False
        return True


def _weed_command(home: Path, ports: dict[str, int]) -> list[str]:
    switches = {
        "dir": home, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": home / "s3.json",
        "master.telemetry": "false", "master.electionTimeout": "1s", "volume.max": 1000,
        "master.volumeSizeLimitMB": 64, "volume.preStopSeconds": 0, "s3.port.iceberg": 0,
        "s3.port.lance": 0, "s3.autoCreateBucket": "false",
        "filer.localSocket": home / "filer.sock", "s3.localSocket": home / "s3.sock",
    }  # fmt: skip
    given = [f"-{name}={value}" for name, value in (switches | ports).items()]
    return [str(Path(sys.executable).with_name("weed")), "server", "-filer", "-s3", *given]


@contextmanager
def serving() -> Iterator[S3Server]:
    """Start a server, and stop and remove it."""
    home = Path(tempfile.mkdtemp(prefix="aiia-s3-", dir="/tmp"))
    parts = ("master", "volume", "filer", "s3")
    ports = {f"{part}.{port}": free_port() for part in parts for port in ("port", "port.grpc")}
    found = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
    keys = [{"accessKey": found.access_key, "secretKey": found.secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "tests", "credentials": keys, "actions": actions}
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    log = home / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(_weed_command(home, ports), stdout=out, stderr=out, cwd=home)
    try:
        deadline = time.monotonic() + 60
        while not found.answers():
            text = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            assert server.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        yield found
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(home, ignore_errors=True)
        for part in parts:
            Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock").unlink(True)
