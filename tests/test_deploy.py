"""`deploy/`: the unit and the image say what redraft understands, and nothing that is not there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.serve.running import started

ROOT = Path(__file__).resolve().parent.parent
HADOLINT = shutil.which("hadolint", path=Path(sys.executable).parent)  # a package of [dev]
UNIT, DOCKERFILE = ROOT / "deploy" / "redraft.service", ROOT / "deploy" / "Dockerfile"
REDRAFT = [sys.executable, "-m", "redraft"]
KEY = "a-key-that-is-long-enough"


@pytest.fixture(autouse=True)
def _folder(here: Path) -> None:
    Path("rain.jsonl").write_text('"Rain is water."\n')
    Path("models.yaml").write_text("rain: {model: script:rain.jsonl, max-revisions: 0}\n")
    Path("redraft.keys").write_text(f"{KEY} name=alice\n")


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


def instructions(name: str) -> list[str]:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return [
        line.partition(" ")[2].strip() for line in text.splitlines() if line.strip().startswith(f"{name} ")
    ]


@pytest.mark.slow
def test_the_unit_starts_a_server() -> None:
    (line,) = settings("ExecStart")
    for what, here in (("/etc/redraft/", ""), ("%S/redraft/", ""), ("--port 8321", "--port 0")):
        assert what in line
        line = line.replace(what, here)
    command, verb, *words = shlex.split(line)
    assert (command, verb) == ("/opt/redraft/bin/redraft", "serve")
    with started(*words) as (root, _):
        headers = {"Authorization": f"Bearer {KEY}"}
        body = {"model": "rain", "messages": [{"role": "user", "content": "Hi."}]}
        assert httpx.get(f"{root}/v1/models").status_code == 401
        assert httpx.post(f"{root}/v1/chat/completions", headers=headers, json=body).status_code == 200


def test_the_unit_waits_longer_than_the_server_drains() -> None:
    (line,), (patience,), (kill,) = settings("ExecStart"), settings("TimeoutStopSec"), settings("KillMode")
    words = shlex.split(line)
    assert int(patience) > int(words[words.index("--drain") + 1]) + 5 + 5  # --linger, and for the last pieces
    assert kill == "mixed"  # SIGTERM to the models would cut their answers


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_unit_and_finds_it_hardened() -> None:
    unit = Path("redraft.service")
    [sed] = re.findall(r"^sed -i .* deploy/redraft.service", (ROOT / "docs/operate.md").read_text(), re.M)
    unit.write_text(UNIT.read_text().replace("/opt/redraft/bin/redraft", shutil.which("true") or ""))
    subprocess.run(shlex.split(sed.replace("deploy/", "")), check=True)
    assert re.search(r"^ExecStartPre=\S+ model get default\nTimeoutStartSec=", unit.read_text(), re.M)
    for command in (["verify", "--man=no"], ["security", "--offline=yes", "--threshold=20"]):
        done = subprocess.run(
            ["systemd-analyze", *command, f"./{unit}"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_image_has_pinned_versions_no_root_rights_and_only_what_is_in_the_repository() -> None:
    assert instructions("USER") == ["10001"]
    copied = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    files = {name for names in copied for name in names}
    assert {name for name in files if not (ROOT / name).exists()} == set()
    assert files == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src"}  # no key, no model
    (install,) = [line for line in instructions("RUN") if "pip install" in line]
    assert "--constraint constraints.txt" in install


@pytest.mark.skipif(not HADOLINT, reason="hadolint is not installed")
def test_hadolint_finds_no_fault() -> None:
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_the_image_serves_and_knows_whether_it_is_healthy() -> None:
    (entry,), (model,) = map(json.loads, instructions("ENTRYPOINT")), map(json.loads, instructions("CMD")[:1])
    command, verb, *words = entry
    assert (command, verb, model) == ("redraft", "serve", ["--model", "default"])
    words = [word.replace(f"{instructions('VOLUME')[0]}/", "") for word in words]  # the rest may be read-only
    words = [word.replace("/run/secrets/redraft/", "").replace("8321", "0") for word in words]
    (health,) = [re.search(r'CMD (\["python".*\])', line) for line in instructions("HEALTHCHECK")]
    assert health
    _, *check = json.loads(health[1])
    check = [sys.executable, *check]
    with started(*words, "--model", "script:rain.jsonl") as (root, _):
        check[-1] = check[-1].replace("http://127.0.0.1:8321", root)
        assert subprocess.run(check, check=False).returncode == 0
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1


@pytest.mark.slow
def test_without_keys_the_image_does_not_start() -> None:
    os.unlink("redraft.keys")  # noqa: PTH108
    (entry,) = map(json.loads, instructions("ENTRYPOINT"))
    words = [word.replace("/run/secrets/redraft/", "") for word in entry[1:]]
    done = subprocess.run([*REDRAFT, *words, "--model", "script:rain.jsonl"], capture_output=True, text=True)
    assert (done.returncode, "redraft.keys cannot be read" in done.stderr) == (2, True)
