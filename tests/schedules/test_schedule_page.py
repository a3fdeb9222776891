import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.ticks import ticks_between
from aiia_pipelines.schedules.due import GRACE, LONGEST_OUTAGE, MOST

PAGE = (Path(__file__).parents[2] / "docs/how-to/schedule-a-connector.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \| (\w+/\w+) \| (\S+), .*? \| ([0-9:, ]+) \|$", re.MULTILINE)


def test_the_table_of_clock_changes_is_true() -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) == 8
    for cron, zone, day, ticks in rows:
        start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
        # The whole day by the clock, which is not one of 24 hours.
        end = (start + timedelta(days=1)).astimezone(UTC)
        start = start.astimezone(UTC) - timedelta(seconds=1)
        found = ticks_between(cron, zone, start, end - timedelta(seconds=1))
        assert [f"{tick:%H:%M}" for tick in found] == ticks.split(", "), (cron, zone, day)


def test_the_keys_at_the_top_are_read() -> None:
    sample = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert sample is not None
    keys = yaml.safe_load(sample[1])
    streams = [{"name": "orders", "table": "orders"}]
    file = {"name": "crm", "title": "CRM", "source": {"kind": "sql"}, "streams": streams}
    connector = Connector.model_validate(file | keys)
    assert connector.public() == file | keys


def test_the_bounds_of_making_up_are_as_written() -> None:
    assert f"the latest {MOST}, of the last {LONGEST_OUTAGE.days} days" in PAGE
    assert timedelta(minutes=5) == GRACE
    assert "more than five minutes late" in PAGE
