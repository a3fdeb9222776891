"""Faults of the configuration, met by real Dagster runs."""

from typing import Any

import pytest
from provoked import Ended, Provocations, Provoked, Stage, check, neighbour

_rim = neighbour("rim")
rim, rim_server, rim_connectors = _rim.rim, _rim.rim_server, _rim.rim_connectors
rim_environment, _environment = _rim.rim_environment, _rim._environment

pytestmark = [pytest.mark.integration, pytest.mark.slow]
provokes = Provocations()


class Warehouse:
    """The destination of the installation."""

    def __init__(self, rim: Any) -> None:
        self.execute = rim.warehouse


@pytest.mark.parametrize("case", provokes, ids=str)
def test_a_fault_that_a_dagster_run_meets_has_its_code_line_and_retries(
    rim: Any, monkeypatch: pytest.MonkeyPatch, case: Provoked
) -> None:
    stage = Stage(rim.store, None, Warehouse(rim), rim.create)
    stage.secrets.add(rim.server.passwords.of("shop_read"))
    stage.facts["home"] = rim.server.home
    check(stage, case, rim, monkeypatch)


def _ended(rim: Any, run: Any) -> Ended:
    return Ended(rim.store, rim.number(run.run_id))


@provokes(
    "secret-missing",
    "Secret Missing: ${{file:secrets/shop_read}}: the file cannot be read: No such file or directory",
)
def a_secret_that_is_gone(stage: Stage, rim: Any, monkeypatch: pytest.MonkeyPatch) -> Ended:
    path = rim.server.home / "secrets/shop_read"
    kept = path.rename(path.with_suffix(".kept"))
    try:
        return _ended(rim, rim.run())
    finally:
        kept.rename(path)


@provokes(
    "config-invalid",
    "The destination warehouse has no URL; set AIIA_DESTINATION_WAREHOUSE.",
)
def a_destination_that_nobody_has_named(
    stage: Stage, rim: Any, monkeypatch: pytest.MonkeyPatch
) -> Ended:
    monkeypatch.delenv("AIIA_DESTINATION_WAREHOUSE")
    return _ended(rim, rim.run())
