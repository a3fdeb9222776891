from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLE = """\
name: sap_erp
title: SAP ERP DB
tier: critical
source:
  kind: sql
  url: postgresql://sap_read@10.140.2.14:5432/production
  password: ${env:SAP_PASSWORD}
destination: warehouse
schedule: "0 2 * * *"
timezone: Europe/Berlin
streams:
  - name: journal_entries
    table: public.journal_entries
    mode: upsert
    key: [doc_no, line_no]
    columns:
      doc_no: {from: BELNR, type: string, nullable: false, checks: {str_matches: "^[0-9]{10}$"}}
      amount:
        type: decimal(18,2)
        checks: {ge: 0}
      currency: {type: string, checks: {isin: [EUR, NO, SAR], str_length: {max_value: 3}}}
      booked_on:
        type: date
        nullable: false
        checks: {in_range: {min_value: 2020-01-01, max_value: 2030-12-31}}
    checks:
      unique: [doc_no, line_no]
      row_count:
        min: 1
"""


@pytest.fixture(scope="session")
def sample() -> str:
    return SAMPLE


@pytest.fixture
def place_file(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    folder = tmp_path / "connectors"
    folder.mkdir()

    def place(name: str, text: str | bytes) -> Path:
        data = text.encode() if isinstance(text, str) else text
        (folder / name).write_bytes(data)
        return folder

    return place
