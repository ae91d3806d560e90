"""The manifests of `deploy/`: their commands are run, and each keeps the rules for what others can reach.

Kubernetes' and Compose's own schemas (`tests/schemas`) know every field. That programs read the files is in
`tests/engines/servers/test_deploy_tools.py`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

import redraft as package
from tests.cli.verbs import lines, redraft, script
from tests.conftest import ROOT
from tests.serve.running import HI, both, served, started

DEPLOY = ROOT / "deploy"
POD_FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = sorted((DEPLOY / "compose").glob("*.yaml"))
KEY = "a-key-that-is-long-enough"
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD")


@pytest.fixture(autouse=True)
def _prompts(here: Path) -> None:
    Path("prompts.jsonl").write_text("".join(json.dumps(f"Describe thing {n}.") + "\n" for n in range(8)))
    script("A gull over the grey sea.")


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def found(value: Any, key: str) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == key:
                yield each
            yield from found(each, key)
    if isinstance(value, list):
        for each in value:
            yield from found(each, key)


def command(path: Path, **replaced: str) -> list[str]:
    [[container]] = found(documents(path), "containers")
    program, *words = [*container["command"], *container["args"]]
    assert program == "redraft"
    return [replaced.get(word.lstrip("-"), word) for word in words]


PODS = [(path, pod) for path in POD_FILES for pod in found(documents(path), "template")]
CONTAINERS = [
    pytest.param(pod["spec"], container, id=f"{path.stem}-{container['name']}")
    for path, pod in PODS
    for container in pod["spec"]["containers"]
]


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_a_pod_has_no_more_rights_than_it_needs(pod: Any, container: Any) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # that of the Dockerfile
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    assert pod["terminationGracePeriodSeconds"] > 60  # `redraft serve --drain`, or the last lines of a share
    if "--linger" in (words := container.get("command", ())):
        told = sum(int(words[words.index(each) + 1]) for each in ("--linger", "--drain"))
        assert pod["terminationGracePeriodSeconds"] > told + 5
    assert all("value" not in each for each in container.get("env", ()) if SECRET.search(each["name"]))
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


OF_KIND = {
    "ConfigMap": "core.v1.ConfigMap",
    "Deployment": "apps.v1.Deployment",
    "Job": "batch.v1.Job",
    "PodDisruptionBudget": "policy.v1.PodDisruptionBudget",
    "Service": "core.v1.Service",
}


def faults(name: str, value: Any, of: str = "") -> list[str]:
    """What a schema of `tests/schemas` finds wrong, by place. `of` is one of its definitions."""
    schema = json.loads((ROOT / "tests" / "schemas" / f"{name}.json").read_text("utf-8"))
    if of:
        schema = {**schema, "$ref": f"#/$defs/io.k8s.api.{of}"}
    return [f"{each.json_path}: {each.message}" for each in Draft202012Validator(schema).iter_errors(value)]


def test_kubernetes_and_compose_know_every_field() -> None:
    for path in POD_FILES:
        for each in documents(path):
            assert not faults("kubernetes", each, OF_KIND[each["kind"]]), path
    for path, pod in PODS:
        assert not faults("kubernetes", pod, "core.v1.PodTemplateSpec"), path
    for path in COMPOSE:
        assert not faults("compose", documents(path)[0]), path


SERVICES = [
    pytest.param(path, service, id=f"{path.stem}-{name}")
    for path in COMPOSE
    for name, service in documents(path)[0]["services"].items()
]


@pytest.mark.parametrize(("path", "service"), SERVICES)
def test_a_service_of_compose_has_no_more_rights_than_it_needs(path: Path, service: Any) -> None:
    assert service["user"] != "0"
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
    assert service["healthcheck"]["test"]
    given = service.get("environment", {})
    assert all(value.startswith("/run/secrets/") for name, value in given.items() if SECRET.search(name))
    assert all(port.startswith(("127.0.0.1:", "${ADDRESS:?")) for port in service.get("ports", ()))
    assert set(service.get("secrets", ())) <= set(documents(path)[0].get("secrets", {}))


def places(service: Any) -> list[str]:
    mounts = service.get("volumeMounts") or service.get("volumes", ())
    return [each["mountPath"] if isinstance(each, dict) else each.split(":")[1] for each in mounts]


def test_a_key_that_is_deleted_is_revoked_everywhere() -> None:
    """The server reads its file again when it changes. A copy, or one mounted file, never would."""
    seen = "/run/secrets/redraft"
    unit, image = ((DEPLOY / name).read_text() for name in ("redraft.service", "Dockerfile"))
    assert "LoadCredential" not in unit.replace("(LoadCredential)", "")
    assert "--api-key-file /etc/redraft/redraft.keys" in unit
    assert f'"--api-key-file", "{seen}/redraft.keys"' in image
    servers = [service.values[1] for service in SERVICES if service.id in ("front-front", "model-model")]
    pods = [each.values[1] for each in CONTAINERS if each.id.startswith("serve-")]
    assert [seen in places(each) for each in (*servers, *pods)] == [True] * 3
    assert all("subPath" not in mount for each in pods for mount in each["volumeMounts"])
    assert all("redraft.keys" not in each.get("secrets", ()) for each in servers)
    assert "./keys:/run/secrets/redraft:ro" in (ROOT / "docs" / "operate.md").read_text()


@pytest.mark.parametrize("path", [*POD_FILES, *COMPOSE], ids=lambda path: path.stem)
def test_images_are_of_one_version(path: Path) -> None:
    for image in found(documents(path), "image"):
        _, _, tag = image.rpartition(":")
        assert re.match(r"v?\d+\.\d+\.\d+", tag), image
        if "redraft" in image:
            assert tag.partition("-")[0] == package.__version__


def ask(root: str, model: str) -> httpx.Response:
    headers, body = {"Authorization": f"Bearer {KEY}"}, {"model": model, "messages": HI}
    return httpx.post(f"{root}/v1/chat/completions", headers=headers, json=body, timeout=60)


@pytest.mark.slow
def test_the_server_of_kubernetes_starts_and_answers_its_probes() -> None:
    path = DEPLOY / "kubernetes" / "serve.yaml"
    [models] = [each["data"]["models.yaml"] for each in documents(path) if each["kind"] == "ConfigMap"]
    assert list(yaml.safe_load(models)) == ["qwen", "qwen-revise"]
    Path("models.yaml").write_text(re.sub(r"http\S+", "script:script.jsonl", models))
    Path("redraft.keys").write_text(f"{KEY} name=alice\n")
    words = [Path(word).name if word.startswith("/") else word for word in command(path)]
    [container] = next(found(documents(path), "containers"))
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    with started(*words[1:]) as (root, _):
        asked = ask(root, "qwen-revise")
        assert asked.status_code == 200, asked.text
        assert [httpx.get(f"{root}{probe['path']}").status_code for probe in probes] == [200] * 3
    assert {probe["port"] for probe in probes} == {"http"}
    [service] = [each for each in documents(path) if each["kind"] == "Service"]
    [deployment] = [each for each in documents(path) if each["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels


def test_the_indexed_job_makes_all_shares() -> None:
    path = DEPLOY / "kubernetes" / "answer.yaml"
    [job] = documents(path)
    words = [word.replace("s3://bucket/", "") for word in command(path)]
    words[words.index("--model") + 1] = "script:script.jsonl"
    completions = job["spec"]["completions"]
    assert f"$(JOB_COMPLETION_INDEX)/{completions}" in words  # which Kubernetes fills in
    for index in range(completions):
        done = redraft(*(word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in words))
        assert done.exit_code == 0, done.output
    assert redraft("merge", "out.jsonl", *sorted(Path().glob("out-*-of-00008.jsonl"))).exit_code == 0
    assert len(lines("out.jsonl")) == 8
    [rule] = [each for each in job["spec"]["podFailurePolicy"]["rules"] if each["action"] == "FailJob"]
    assert [redraft(*words, "--shard", "9/8").exit_code] == rule["onExitCodes"]["values"]


def programs(**scripts: str) -> dict[str, str]:
    for name, text in scripts.items():
        Path(name).write_text(f"#!/bin/bash\n{text}\n")
        Path(name).chmod(0o755)
    return {**os.environ, "PATH": f"{Path().absolute()}:{os.environ['PATH']}"}


REDRAFT = f'exec {sys.executable} -m redraft "$@"'


def array_task(index: int) -> dict[str, str]:
    return {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_JOB_ID": "7"}


SBATCH = ["bash", str(DEPLOY / "slurm" / "answer.sbatch"), "prompts.jsonl", "out.jsonl"]


@pytest.mark.slow
def test_the_tasks_of_a_slurm_array_make_shares() -> None:
    surroundings = programs(redraft=REDRAFT)
    for index in range(8):
        task = surroundings | array_task(index)
        done = subprocess.run([*SBATCH, "--model", "script:script.jsonl"], env=task, check=False)
        assert done.returncode == 0
    assert redraft("merge", "out.jsonl", *sorted(Path().glob("out-*-of-00008.jsonl"))).exit_code == 0
    assert len(lines("out.jsonl")) == 8


def test_a_task_of_slurm_whose_time_is_over_is_queued_again() -> None:
    ends = "trap 'kill $!; touch ended; exit 143' TERM; sleep 60 & echo begun; wait"
    surroundings = programs(redraft=ends, scontrol='echo "$@"') | array_task(3)
    with subprocess.Popen(SBATCH, env=surroundings, stdout=subprocess.PIPE, text=True) as task:
        assert task.stdout
        assert task.stdout.readline() == "begun\n"
        task.send_signal(signal.SIGUSR1)
        assert task.stdout.read() == "requeue 7_3\n"
    assert task.returncode == 0
    assert Path("ended").exists()


@pytest.mark.parametrize("status", [0, 2])
def test_a_task_of_slurm_ends_as_its_share_does(status: int) -> None:
    surroundings = programs(redraft=f"exit {status}", scontrol="touch queued") | array_task(3)
    assert subprocess.run(SBATCH, env=surroundings, check=False).returncode == status
    assert not Path("queued").exists()


def test_a_job_of_skypilot_makes_its_share() -> None:
    [task] = documents(DEPLOY / "skypilot" / "answer.yaml")
    Path("venv/bin").mkdir(parents=True)
    surroundings = programs(**{"venv/bin/redraft": REDRAFT}) | {"HOME": str(Path().absolute())}
    surroundings |= {"SKYPILOT_JOB_RANK": "1", "SKYPILOT_NUM_JOBS": "2"}
    surroundings |= {"PROMPTS": "prompts.jsonl", "OUT": "out.jsonl", "MODEL": "script:script.jsonl"}
    assert set(task["envs"]) <= set(surroundings)
    assert subprocess.run(["bash", "-c", task["run"]], env=surroundings, check=False).returncode == 0
    assert Path("out-00001-of-00002.jsonl").exists()


@pytest.mark.slow
def test_the_front_of_compose_starts_with_models_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    front, model = (documents(path)[0] for path in COMPOSE)
    Path("redraft.keys").write_text(f"{KEY} name=alice\n")
    models = model["configs"]["models"]["content"]
    Path("models.yaml").write_text(models.replace("default-base", "script:script.jsonl"))
    [name] = yaml.safe_load(models)
    behind = [word.replace("/etc/redraft/", "") for word in model["services"]["model"]["command"]]
    keys = ["--host", "0.0.0.0", "--api-key-file", "redraft.keys"]  # noqa: S104 - the image's own
    with started(*keys, *behind) as (machine, _):
        port = machine.rpartition(":")[2]
        Path("redraft.toml").write_text(f'[keys]\n"127.0.0.1:{port}" = "{KEY}"\n')
        words = front["services"]["front"]["command"]
        words = [word.replace("/var/lib/redraft/", "") for word in words]
        words = [f"{machine}/v1#{name}" if word.startswith("${MODELS:?") else word for word in words]
        monkeypatch.setenv("REDRAFT_CONFIG", "redraft.toml")
        with started(*keys, *words) as (root, _):
            answer = ask(root, f"{name}-revise")
    assert answer.json()["choices"][0]["message"]["content"] == "A gull over the grey sea."


METRIC = re.compile(r"\bredraft_\w+")
MATCHED = re.compile(r"(redraft_\w+)\{([^}]*)\}")
OF_PROMETHEUS = {"instance", "job", "le"}  # labels that Prometheus adds, and that of buckets


def exported() -> dict[str, set[str]]:
    with served(both()) as behind, started("--model", f"{behind.url}#plain,{behind.url}#plain") as (root, _):
        ask(root, "plain-revise")
        text = httpx.get(f"{root}/metrics", timeout=60).text
    seen: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(redraft_\w+)(?:\{(.*)\})? ", text, re.M):
        seen.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    return seen


@pytest.mark.slow
def test_the_dashboard_shows_what_a_server_exports() -> None:
    board = json.loads((DEPLOY / "grafana" / "redraft.json").read_text("utf-8"))
    asked = [*found(board, "expr"), *(each for each in found(board, "query") if "label_values" in each)]
    names, shown = exported(), {name for text in asked for name in METRIC.findall(text)}
    assert shown == {name for name in names if not name.endswith("_created")}
    for text in asked:
        for name, matchers in MATCHED.findall(text):
            assert set(re.findall(r"(\w+)(?:=|!=|=~)\"", matchers)) <= names[name] | OF_PROMETHEUS, text
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)
