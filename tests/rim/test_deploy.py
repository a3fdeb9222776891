"""The examples in `deploy`: Dagster takes them, and they differ from dagster.yaml in the launcher alone."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import Shape, process_config
from dagster._core.instance import InstanceRef
from dagster._core.launcher import ResumeRunContext
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster_k8s import K8sRunLauncher
from kubernetes import client

from aiia_pipelines import celery_worker
from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.resources.celery_launcher import CeleryLauncher, step_of

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FOLDERS = [DEPLOY / "celery", DEPLOY / "kubernetes"]
VALKEY = "redis://broker.example.com:6379/0"


def read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_only_the_launcher_differs_from_the_project(folder: Path) -> None:
    ours, theirs = read(ROOT / "dagster.yaml"), read(folder / "dagster.yaml")
    assert ours.pop("run_launcher", None) != theirs.pop("run_launcher")
    assert ours == theirs


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_dagster_takes_the_instance(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIIA_BROKER_URL", VALKEY)
    ref = InstanceRef.from_dir(str(folder))
    assert ref.run_launcher_data is not None
    assert ref.run_launcher_data.class_name in {"CeleryLauncher", "K8sRunLauncher"}


def test_the_celery_launcher_is_made_of_its_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIIA_BROKER_URL", VALKEY)
    launcher = InstanceRef.from_dir(str(DEPLOY / "celery")).run_launcher
    assert isinstance(launcher, CeleryLauncher)
    assert launcher.celery.conf.broker_url == VALKEY
    assert not launcher.supports_resume_run


def test_the_kubernetes_launcher_takes_its_configuration() -> None:
    config = read(DEPLOY / "kubernetes/dagster.yaml")["run_launcher"]["config"]
    found = process_config(Shape(K8sRunLauncher.config_type()), config)
    assert found.success, found.errors


# -- manifests ---------------------------------------------------------------------------------


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes/aiia.yaml").read_text()))


def misfits(value: Any, kind: str, place: str) -> Iterator[str]:
    """Name what the model of the Kubernetes client does not know or misses; the model reads its own types."""
    if kind.startswith("list["):
        for index, each in enumerate(value):
            yield from misfits(each, kind[5:-1], f"{place}[{index}]")
    elif kind.startswith("dict("):
        for key, each in value.items():
            yield from misfits(each, kind[5:-1].split(", ")[1], f"{place}.{key}")
    elif hasattr(client, kind):
        yield from _misfits_of_model(value, getattr(client, kind), place)
    elif kind in {"str", "int", "bool"} and type(value).__name__ != kind:
        yield f"{place}: {value!r} is no {kind}"


def _misfits_of_model(value: dict[str, Any], model: Any, place: str) -> Iterator[str]:
    names = {theirs: ours for ours, theirs in model.attribute_map.items()}
    known = {names[key]: each for key, each in value.items() if key in names}
    yield from (f"{place}: {key} is not known" for key in value if key not in names)
    try:
        model(**known)
    except ValueError as missing:
        yield f"{place}: {missing}"
    for ours, each in known.items():
        yield from misfits(each, model.openapi_types[ours], f"{place}.{ours}")


@pytest.mark.parametrize(
    "manifest", manifests(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}"
)
def test_a_manifest_is_of_its_kind(manifest: dict[str, Any]) -> None:
    version = "".join(part.title() for part in manifest["apiVersion"].split("/")[-1:])
    model = f"{version}{manifest['kind']}"
    assert hasattr(client, model)
    assert list(misfits(manifest, model, manifest["kind"])) == []
    assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "aiia"


def test_a_wrong_manifest_is_told() -> None:
    wrong = {"metadata": {"name": 1}, "spec": {"template": {}, "replica": 1}}
    assert list(misfits(wrong, "V1Deployment", "it")) == [
        "it.metadata.name: 1 is no str",
        "it.spec: replica is not known",
        "it.spec: Invalid value for `selector`, must not be `None`",
    ]


def test_everything_that_pods_and_runs_mount_is_there_or_made_by_the_commands_of_the_page() -> None:
    made = {(each["kind"], each["metadata"]["name"]) for each in manifests()}
    page = (ROOT / "docs/how-to/run-on-more-machines.md").read_text()
    config = read(DEPLOY / "kubernetes/dagster.yaml")["run_launcher"]["config"]
    pods = [
        each["spec"]["template"]["spec"] for each in manifests() if each["kind"] == "Deployment"
    ]
    volumes = [volume for pod in pods for volume in pod["volumes"]] + config["volumes"]
    maps = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    for name in maps | {config["instance_config_map"], *config["env_config_maps"]}:
        assert ("ConfigMap", name) in made or f"configmap {name}" in page
    for secret in (volume["secret"]["secretName"] for volume in volumes if "secret" in volume):
        assert ("Secret", secret) in made
    assert ("ServiceAccount", config["service_account_name"]) in made
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert images == {config["job_image"]}


def test_the_workspace_leads_to_the_service_of_the_code_location() -> None:
    (found,) = location_origins_from_yaml_paths([str(DEPLOY / "kubernetes/workspace.yaml")])
    assert isinstance(found, GrpcServerCodeLocationOrigin)
    (service,) = [
        each
        for each in manifests()
        if each["metadata"]["name"] == found.host and each["kind"] == "Service"
    ]
    assert service["spec"]["ports"][0]["port"] == found.port


# -- the launcher's own keys -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"broker": "amqp://broker.example.com"}, "broker must name a Redis or Valkey server"),
        ({"broker": "redis://:secret@broker.example.com"}, "broker must not hold a password"),
        ({"broker": VALKEY, "backend": "rpc://"}, "rpc:// keeps what became of a run"),
        ({"broker": VALKEY, "backend": "db+sqlite:///x"}, "backend must name a Redis or Valkey"),
        ({"broker": VALKEY, "password_file": "/nowhere/it"}, "No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(keys: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigInvalid) as told:
        CeleryLauncher(default_queue="dagster", **keys)
    assert sentence in str(told.value)
    assert "secret" not in str(told.value)


def test_a_password_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("p@ss/word\n")
    keys = {
        "broker": "redis://aiia@broker.example.com/0",
        "password_file": str(tmp_path / "broker"),
    }
    launcher = CeleryLauncher(default_queue="dagster", **keys)
    assert launcher.celery.conf.broker_url == "redis://aiia:p%40ss%2Fword@broker.example.com/0"


@pytest.mark.parametrize(
    ("priority", "step"), [("20", 0), ("10", 3), ("0", 6), ("", 6), ("-10", 9), ("99", 0), ("x", 6)]
)
def test_the_greater_priority_waits_in_the_earlier_list(priority: str, step: int) -> None:
    assert step_of(priority) == step


def test_a_run_goes_to_the_queue_of_its_tag_or_of_its_connector() -> None:
    launcher = CeleryLauncher(VALKEY, default_queue="dagster", queues={"sap": "plant"})

    def queue(job: str, *keys: str, **tags: str) -> str:
        selection = frozenset(dg.AssetKey(key.split("/")) for key in keys) or None
        return launcher.queue_of(dg.DagsterRun(job_name=job, asset_selection=selection, tags=tags))

    assert queue("sync__sap") == "plant"
    assert queue("sync__shop") == "dagster"
    assert queue("__ASSET_JOB", "sap/a", "sap/b") == "plant"
    assert queue("__ASSET_JOB", "sap/a", "shop/b") == "dagster", (
        "no worker of the plant reaches both"
    )
    assert queue("sync__sap", **{"dagster-celery/queue": "other"}) == "other"


def test_a_run_is_not_resumed() -> None:
    launcher = CeleryLauncher(VALKEY, default_queue="dagster")
    run = dg.DagsterRun(job_name="sync__sap", run_id="3f1c")
    with pytest.raises(ConfigInvalid, match="run 3f1c cannot be resumed"):
        launcher.resume_run(ResumeRunContext(run, None))


@pytest.mark.parametrize(
    ("home", "sentence"),
    [("/nowhere", "has no dagster.yaml"), (str(ROOT), "run_launcher is no CeleryLauncher")],
)
def test_a_worker_without_its_launcher_says_so(
    home: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", home)
    with pytest.raises(ConfigInvalid, match=sentence):
        _ = celery_worker.app


def test_only_children_of_a_worker_are_killed_by_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        celery_worker.kill_child([], f"{child.pid}@{socket.gethostname()}")
        celery_worker.kill_child([child.pid], f"{child.pid}@elsewhere")
        assert child.poll() is None
        celery_worker.kill_child([child.pid], f"{child.pid}@{socket.gethostname()}")
        assert child.wait(30) == -signal.SIGKILL
