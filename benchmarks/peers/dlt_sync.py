"""The table by dlt, in the set-up that its documentation calls the fastest: `python dlt_sync.py SOURCE DESTINATION BACKEND`."""

import os
import sys

SOURCE, DESTINATION, BACKEND = sys.argv[1:4]
os.environ |= {
    "DESTINATION__POSTGRES__CREDENTIALS": DESTINATION,
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "4",
    "DATA_WRITER__FILE_MAX_ITEMS": "200000",
    "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
}

import dlt  # noqa: E402 - reads its settings from the environment when imported
from dlt.sources.sql_database import sql_table  # noqa: E402

if __name__ == "__main__":
    options = {"return_type": "arrow"} if BACKEND == "connectorx" else {}
    table = sql_table(
        SOURCE, table="ledger_lines", schema="public", backend=BACKEND, chunk_size=200_000,
        reflection_level="full_with_precision", backend_kwargs=options,
    )  # fmt: skip
    pipeline = dlt.pipeline(
        "bench",
        destination="postgres",
        dataset_name="bench",
        pipelines_dir=os.environ["BENCH_WORK"],
    )
    pipeline.run(table, write_disposition="replace", loader_file_format="csv")
