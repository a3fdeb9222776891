import pickle
from pathlib import Path

from aiia_pipelines.config.faults import (
    ConfigInvalid,
    Problem,
    UnknownConnector,
    UnknownStream,
    nearest,
)


def test_a_problem_names_folder_file_and_line() -> None:
    assert str(Problem(Path("/a/connectors/x.yaml"), 12, "wrong")) == "connectors/x.yaml:12: wrong"
    assert str(Problem(Path("x.yaml"), None, "wrong")) == "x.yaml: wrong"


def test_a_configuration_fault_tells_the_first_mistake_and_counts_the_rest() -> None:
    problems = tuple(Problem(Path("c/x.yaml"), line, "wrong") for line in (1, 2, 3))
    assert str(ConfigInvalid.of(problems[:1])) == "c/x.yaml:1: wrong"
    assert str(ConfigInvalid.of(problems[:2])) == "c/x.yaml:1: wrong (and 1 more mistake)"
    assert str(ConfigInvalid.of(problems)) == "c/x.yaml:1: wrong (and 2 more mistakes)"
    assert ConfigInvalid.of(problems).problems == problems


def test_an_unknown_name_is_told_with_the_nearest_and_all_known() -> None:
    fault = UnknownConnector("sap_epr", ["sap_erp", "crm"])
    assert str(fault) == "no connector 'sap_epr'; did you mean 'sap_erp'? Known: crm, sap_erp"
    assert str(UnknownStream("x", [])) == "no stream 'x'. Known: none"


def test_faults_survive_the_way_to_another_process() -> None:
    fault = pickle.loads(pickle.dumps(UnknownStream("x", ["orders"])))
    assert (str(fault), fault.known) == ("no stream 'x'. Known: orders", ("orders",))
    problem = Problem(Path("x.yaml"), 1, "wrong")
    assert pickle.loads(pickle.dumps(ConfigInvalid.of((problem,)))).problems == (problem,)


def test_nothing_is_proposed_when_nothing_is_near() -> None:
    assert nearest("zzz", ["schedule"]) == ""
