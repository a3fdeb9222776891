import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]


def test_syncs_run_on_this_machine_and_exit_as_documented(down, exit_codes) -> None:
    exit_codes(down)
    served = down.query(
        "select count(*) from runs where run_body::json ->> 'remote_job_origin' is not null"
    )
    assert served == [(0,)]
    assert list((down.home / "logs" / "runs").glob("*.log"))


def test_no_password_is_found_anywhere(down) -> None:
    codes = down.query("select failure_code from aiia.job_runs where failure_code is not null")
    assert {code for (code,) in codes} >= {"invalid-credentials", "column-mismatch"}
    assert down.leaks() == []
