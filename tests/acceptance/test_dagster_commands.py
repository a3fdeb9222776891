from typing import Any

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

MODULE = ("-m", "aiia_pipelines.definitions")


def test_dagster_and_dg_accept_the_definitions(down: Any) -> None:
    validate = down.start("dagster", "definitions", "validate", "-w", "workspace.yaml")
    check = down.start("dg", "check", "defs")
    for process in (validate, check):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err


def test_dagsters_own_commands_make_job_runs_and_tell_how_they_ended(down: Any) -> None:
    """Two at a time: each costs seconds of imports."""
    good = [
        down.start("dagster", "asset", "materialize", "--select", "shop/orders", *MODULE),
        down.start("dagster", "job", "execute", *MODULE, "-j", "sync__locked"),
    ]
    told = [process.communicate(timeout=120) for process in good]
    assert good[0].returncode == 0, told[0]
    assert good[1].returncode != 0
    bad = [
        down.start("dagster", "asset", "materialize", "--select", "group:typo", *MODULE),
        down.start("dagster", "job", "execute", *MODULE, "-j", "sync__shop"),
    ]
    told = [process.communicate(timeout=120) for process in bad]
    assert bad[0].returncode != 0
    assert bad[1].returncode == 0, told[1]

    locked = down.latest("locked")
    assert (locked["state"], locked["failure_code"]) == ("Failed", "invalid-credentials")
    assert down.tags(locked["run_id"])["aiia/badge"] == "Failed"
    assert down.log(locked["number"])[-1] == "50 Job aborted with state FAILED."
    typo = down.latest("typo")
    assert (typo["state"], typo["failure_code"]) == ("Error", "column-mismatch")
    assert down.tags(typo["run_id"])["aiia/badge"] == "Error"
    shop = down.latest("shop")
    assert (shop["state"], shop["records"], shop["trigger"]) == ("Completed", 500, "manual")
    tags = down.tags(shop["run_id"])
    assert (tags["aiia/badge"], tags["aiia/job"]) == ("Completed", str(shop["number"]))
    lines = down.log(shop["number"])
    assert lines[0] == f"20 Starting data refresh job run #{shop['number']} (shop DB)"
    assert lines[-1] == "20 Job finished with state COMPLETED. 500 records ingested."
    ((number, streams),) = down.query(
        "select number, streams from aiia.job_runs where connector = 'shop' order by number limit 1"
    )
    assert (streams, number < shop["number"]) == (["orders"], True)
