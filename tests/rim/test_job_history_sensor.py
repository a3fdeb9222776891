import dagster as dg
import pytest

from aiia_pipelines.sensors.job_history import job_history, sweep

pytestmark = pytest.mark.integration


def started(rim) -> tuple[dg.DagsterRun, int]:
    """Make a run whose process began and now is gone."""
    run = rim.create()
    number = rim.number(run.run_id)
    rim.instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", "sync__shop"), run.run_id)
    with rim.store.engine.begin() as db:
        # Process ids end at 2^22: nobody has this one.
        db.exec_driver_sql(
            "update aiia.attempts set pid = 99999999, host = (%s)::text,"
            f" heartbeat_at = now() - interval '10 seconds' where number = {number}",
            (__import__("socket").gethostname(),),
        )
    return run, number


def test_a_lost_worker_ends_as_failed_in_both_stores(rim) -> None:
    run, number = started(rim)
    assert number in sweep(rim.instance, rim.store)
    row = rim.store.row(number)
    assert (row.state, row.failure_code) == ("Failed", "worker-lost")
    assert rim.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    assert rim.tags(run.run_id)["aiia/badge"] == "Failed"
    lines = rim.log(number)
    assert lines[-2].startswith("ERROR: Worker lost. Process 99999999 on ")
    assert lines[-1] == "FATAL: Job aborted with state FAILED."
