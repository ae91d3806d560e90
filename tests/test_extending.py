"""The package of docs/extending.md, installed into an environment of its own, does what the page says.

The environment finds redraft, and what redraft needs, in the environment of the tests. Installing is the
package installer's work, outside the wall that keeps tests on this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.doc_blocks import blocks_of
from tests.test_package import installer, typed

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas")
    for block in blocks_of(ROOT / "docs" / "extending.md"):
        if name := block.file:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(block.body, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def python(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    installer("--python", python, "install", "--no-compile", "--no-deps", package, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "redraft.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'src'}\n")
    return python


def redraft(python: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return typed(python, "-W", "error", "-m", "redraft", *words, cwd=cwd)


def test_each_module_is_short(package: Path) -> None:
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in package.rglob("*.py")}
    assert {"links.py", "engine.py", "capitals.py", "cards.py", "short.py", "places.py"} <= {*lengths}
    assert max(lengths.values()) < 45


@pytest.mark.slow
def test_doctor_shows_them_with_their_package(python: Path, tmp_path: Path) -> None:
    shown = [line for line in redraft(python, "doctor", cwd=tmp_path).stdout.splitlines() if "plugin" in line]
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    assert shown
    assert [line for line in shown if f"\n{line}\n" not in page] == []


@pytest.mark.slow
def test_the_check_guides_a_revision(python: Path, tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('"See https://a.net/x."\n"See https://example.org/x."\n')
    ask = ("ask", "Where?", "--model", "script:replies.jsonl", "--check", "all(words<=9; links:example.org)")
    done = redraft(python, *ask, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    chain = json.loads(done.stdout)
    assert chain["steps"][0]["feedback"]["checks"][0]["message"] == "The answer links to a.net."
    assert chain["best"] == 1
    assert " links" in redraft(python, *ask[:-1], "misspelled", cwd=tmp_path).stderr
    wrong = redraft(python, *ask[:-1], "links:a/b", cwd=tmp_path)
    assert (wrong.returncode, "'a/b' is no host" in wrong.stderr) == (2, True)


def test_the_engine_answers(python: Path, tmp_path: Path) -> None:
    (tmp_path / "places.json").write_text('{"Rome": "In Italy."}')
    ask = ("ask", "Where is Rome?", "--model", "atlas:places.json", "--check", "words<=9")
    done = redraft(python, *ask, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "In Italy.\n"), done.stderr


def test_the_task_scores_a_model(python: Path, tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('"Rome."\n"Paris, I think."\n')
    records = [{"instruction": "Italy", "output": "Rome"}, {"instruction": "Peru", "output": "Lima"}]
    (tmp_path / "capitals.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    command = ("eval", "capitals", "capitals.jsonl", "--model", "script:replies.jsonl", "-o", "answers.jsonl")
    done = redraft(python, *command, "--max-revisions", 0, "--parallel", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 2" in done.stdout
    first = json.loads((tmp_path / "answers.jsonl").read_text("utf-8").splitlines()[0])
    assert first["prompt"]["instruction"] == "What is the capital of Italy? Answer with its name alone."


@pytest.mark.slow
def test_the_tests_of_the_page_pass(python: Path, package: Path) -> None:
    done = typed(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=package)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_command_lists_places(python: Path, tmp_path: Path) -> None:
    (tmp_path / "places.json").write_text('{"Rome": "In Italy."}')
    assert redraft(python, "places", "places.json", cwd=tmp_path).stdout == "Rome\n"
    (tmp_path / "places.json").write_text("[]")
    wrong = redraft(python, "places", "places.json", cwd=tmp_path)
    assert (wrong.returncode, "places.json is no table" in wrong.stderr) == (2, True)
    assert "  places    List the places of a table." in redraft(python, "--help", cwd=tmp_path).stdout


@pytest.mark.slow
def test_its_types_are_checked_strictly(package: Path, tmp_path: Path) -> None:
    files = sorted(package.rglob("*.py"))
    mypy = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path)
    done = typed(*mypy, *files, cwd=package)
    assert done.returncode == 0, done.stdout
    assert f"no issues found in {len(files)} source files" in done.stdout
    code = (package / "redraft_atlas" / "links.py").read_text("utf-8")
    (tmp_path / "wrong.py").write_text(code.replace("written.text)", "written.texts)"))
    done = typed(*mypy, tmp_path / "wrong.py", cwd=package)
    assert '"Written" has no attribute "texts"' in done.stdout
