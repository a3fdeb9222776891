from typing import Any

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]


def test_syncs_run_on_this_machine_and_exit_as_documented(down: Any, exit_codes: Any) -> None:
    exit_codes(down, "shop", "typo", "locked", "mixed", "astray")
    assert list((down.home / "logs" / "runs").glob("*.log"))


def test_no_password_is_found_anywhere(down: Any) -> None:
    codes = down.query("select failure_code from aiia.job_runs where failure_code is not null")
    assert {code for (code,) in codes} >= {"invalid-credentials", "column-mismatch"}
    assert down.leaks() == []
