import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import EmbeddedPostgres


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A home any account can reach, other than the private folders of pytest."""
    home = Path(tempfile.mkdtemp(prefix="aiia-home-"))
    home.chmod(0o755)
    yield home
    EmbeddedPostgres(home).stop()
    shutil.rmtree(home)


@pytest.fixture
def server(open_home: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(open_home, preferred_port=free_port())
