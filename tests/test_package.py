"""The built wheel, installed in an empty environment with nothing but what the core needs, works.

Building and installing are the package installer's work: those two commands run outside the wall that keeps
tests on this machine. Everything after them runs in a folder that has nothing to do with the checkout.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
END_TO_END = """
import redraft

engine = redraft.ScriptedEngine(["The sun is a very bright star.", "A bright star."])
chain = redraft.revise("What is the sun?", model=engine, checks=["words<=3"])
print(chain.answer, chain.stop, chain.revisions)
"""


def typed(*words: object, cwd: Path, walled: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command and gives what it printed; `walled=False` is for the package installer alone."""
    env = {name: value for name, value in os.environ.items() if walled or name != "PYTHONPATH"}
    return subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def installer(*words: object, cwd: Path) -> None:
    done = typed(*PIP, *words, cwd=cwd, walled=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    installer("wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("redraft-*.whl")
    return built


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    installer(
        "--python",
        folder / "bin" / "python",
        "install",
        "--no-compile",
        "--constraint",
        ROOT / "constraints.txt",
        wheel,
        cwd=folder,
    )
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_holds_what_it_should(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "redraft/py.typed" in names
    in_source = {path.name for path in (ROOT / "src" / "redraft" / "recipes").glob("*.yaml")}
    assert {Path(name).name for name in names if name.startswith("redraft/recipes/")} >= in_source
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith(("redraft/", "redraft-"))]


@pytest.mark.slow
def test_no_extra_came_along(bin_folder: Path, tmp_path: Path) -> None:
    for extra in ("xllamacpp", "torch", "rapidfuzz", "pytest"):
        assert typed(bin_folder / "python", "-c", f"import {extra}", cwd=tmp_path).returncode == 1, extra


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["doctor"], ["ask", "--help"]], ids=" ".join)
def test_the_command_line_works(words: list[str], bin_folder: Path, tmp_path: Path) -> None:
    done = typed(bin_folder / "redraft", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "redraft" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_answer_is_revised_from_the_command_line(bin_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('"The sun is a very bright star."\n"A bright star."\n')
    words = ["ask", "What is the sun?", "--model", "script:replies.jsonl", "--check", "words<=3", "--json"]
    done = typed(bin_folder / "redraft", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    chain = json.loads(done.stdout)
    assert [step["answer"] for step in chain["steps"]] == ["The sun is a very bright star.", "A bright star."]
    assert (chain["stop"], chain["best"]) == ("passed", 1)


@pytest.mark.slow
def test_an_answer_is_revised_from_python(bin_folder: Path, tmp_path: Path) -> None:
    done = typed(bin_folder / "python", "-W", "error", "-c", END_TO_END, cwd=tmp_path)
    assert done.stdout == "A bright star. passed 1\n", done.stderr


@pytest.mark.slow
def test_a_model_that_needs_an_extra_says_which(bin_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    done = typed(bin_folder / "redraft", "ask", "hi", "--model", "tiny.gguf", cwd=tmp_path)
    assert done.returncode in (2, 3)
    assert "Traceback" not in done.stderr
    assert "pip install '.[local]'" in done.stderr


@pytest.mark.slow
def test_a_release_is_built_twice_alike_and_tried(tmp_path: Path) -> None:
    done = typed(
        sys.executable, ROOT / "scripts" / "dist.py", "--out", tmp_path / "dist", cwd=ROOT, walled=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installed and tested: Python 3.1" in done.stdout
    assert [path.suffix for path in sorted((tmp_path / "dist").iterdir())] == [".whl", ".json", ".gz"]


def test_the_workflows_run_what_make_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    ran: set[str] = set()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
        steps = [step.get("run", "") for job in jobs for step in job.get("steps", [])]
        ran |= {target for step in steps for target in re.findall(r"make (?:\w+=\w+ )?([a-z-]+)", step)}
    assert {"lint", "test", "test-slow", "docs", "dist"} <= ran <= targets
