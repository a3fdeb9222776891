"""What the tables of this folder provoke, all of them together."""

import importlib.util
from pathlib import Path

from provoked import Provoked

from aiia_pipelines.jobs.failures import CATALOGUE

# No sync meets these: what starts syncs does, and what looks at them from outside.
ELSEWHERE = {
    "broker-unavailable", "code-location-broken", "daemon-down", "history-unavailable", "time-limit",
}  # fmt: skip


def _provoked() -> list[Provoked]:
    """Read the tables themselves: which tests ran before, and in which process, says nothing."""
    found: list[Provoked] = []
    for path in sorted(Path(__file__).parent.glob("test_*_fail*.py")):
        spec = importlib.util.spec_from_file_location(f"table_of_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += module.provokes
    return found


def test_at_least_forty_codes_are_provoked_and_not_imagined() -> None:
    codes = {case.code for case in _provoked() if not case.missing}
    assert codes <= set(CATALOGUE)
    assert len(codes) >= 40


def test_a_code_that_nothing_provokes_is_left_out_on_purpose() -> None:
    assert set(CATALOGUE) - {case.code for case in _provoked()} == ELSEWHERE


def test_every_case_has_a_name_of_its_own() -> None:
    names = [(case.provoke.__module__, str(case)) for case in _provoked()]
    assert len(names) == len(set(names))
