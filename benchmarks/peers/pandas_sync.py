"""The first rows of the table by SQLAlchemy and pandas: `python pandas_sync.py SOURCE DESTINATION ROWS`."""

import sys

import pandas as pd
import sqlalchemy as sa

if __name__ == "__main__":
    source, destination, rows = sys.argv[1:4]
    query = sa.text(f"select * from ledger_lines where id <= {int(rows)}")
    with sa.create_engine(source).connect() as read, sa.create_engine(destination).begin() as write:
        write.execute(sa.text("create schema if not exists bench"))
        chunks = pd.read_sql_query(
            query, read.execution_options(stream_results=True), chunksize=20_000
        )
        for place, chunk in enumerate(chunks):
            # to_sql cannot write JSON objects by itself.
            chunk["attributes"] = chunk["attributes"].map(
                lambda value: None if value is None else __import__("json").dumps(value)
            )
            chunk.to_sql(
                "ledger_lines", write, schema="bench", if_exists="append" if place else "replace",
                index=False, chunksize=10_000,
            )  # fmt: skip
