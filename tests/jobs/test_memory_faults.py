"""What a process says itself when it gets no more memory: allocations really fail, in processes of their own."""

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.integration

CHILD = """
import json, resource, sys
from aiia_pipelines.jobs.failures import classify

def at_most(megabytes):
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

def python():
    at_most(400)
    bytearray(1 << 30)

def arrow():
    import pyarrow as pa
    at_most(2000)
    pa.allocate_buffer(8 << 30)

def numpy():
    import numpy as np
    at_most(2000)
    np.ones(1 << 30)

def duckdb():
    import duckdb
    db = duckdb.connect()
    db.execute("set memory_limit = '60MB'; set temp_directory = ''")
    db.execute("select count(distinct i::varchar || repeat('x', 20)) from range(20000000) t(i)").fetchall()

def libpq():
    import psycopg
    db = psycopg.connect(sys.argv[2])
    at_most(600)
    db.execute("select repeat('x', 1000) from generate_series(1, 2000000)")

def old_libpq():
    import psycopg2
    db = psycopg2.connect(sys.argv[2])
    at_most(600)
    db.cursor().execute("select repeat('x', 1000) from generate_series(1, 2000000)")

def value():
    import psycopg
    psycopg.connect(sys.argv[2]).execute("select repeat('x', 1000000000) || repeat('y', 1000000000)")

try:
    globals()[sys.argv[1]]()
except Exception as fault:
    found = classify(fault)
    print(json.dumps([type(fault).__name__, found.code, found.badge, found.kind.most_retries, found.headline]))
"""


@pytest.mark.parametrize(
    ("who", "name", "code"),
    [
        ("python", "MemoryError", "out-of-memory"),
        ("arrow", "ArrowMemoryError", "out-of-memory"),
        ("numpy", "MemoryError", "out-of-memory"),
        ("duckdb", "OutOfMemoryException", "out-of-memory"),
        ("libpq", "DatabaseError", "out-of-memory"),
        ("old_libpq", "DatabaseError", "out-of-memory"),
        ("value", "InternalError_", "resource-limit"),
    ],
)
def test_an_allocation_that_fails_is_told_as_what_it_is(
    source_db: Any, who: str, name: str, code: str
) -> None:
    url = source_db.url()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, who, url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, told, badge, retries, headline = json.loads(done.stdout)
    assert (found, told, badge) == (name, code, "Failed"), headline
    assert retries == (1 if code == "out-of-memory" else 0)
    assert len(headline) <= 200
