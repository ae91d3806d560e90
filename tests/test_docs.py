"""The code in README.md and docs/ runs, page by page, from top to bottom, as CONTRIBUTING.md describes.

Each Python block has to work when it is copied alone; all blocks of a page share one folder. `redraft` is the
real command line. What the default model generates is shown in the pages but not compared, since it differs
between machines.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import itertools
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redraft import errors
from redraft.data.clean_rules import NAMES
from redraft.options import Flags, options_of
from redraft.revision.options import RevisionOptions
from tests.doc_blocks import Block, Command, blocks_of, matches
from tests.engines.batch_server import BatchServer
from tests.engines.fake_server import chat_reply, raw_reply
from tests.warm import TORCH, USUAL, Warm

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


# What a page calls its server; in the test it is one that gives the page's canned replies.
SERVER = "http://localhost:8000"
# What a page calls the server of `redraft serve`; in the test it has a free port.
SERVED = "http://127.0.0.1:8321"
# Where `redraft` and `python` are.
REAL = Path(sys.executable).parent
MODEL = ("<!-- model -->", "<!-- model: exact -->")
# Pages that train models, convert weights, work on real data or load several engines, for a minute each.
LONG = [
    f"docs/{name}.md"
    for name in (
        "architecture", "chat", "checks", "cluster", "data", "diagnose", "engines", "evaluate", "extending",
        "generate", "generate_instructions", "python", "rlhf", "run", "self", "self_tasks", "serve", "train",
        "weights", "api/train",
        *(f"start/{name}" for name in ("terminal", "browser", "python", "evaluate")),
        *(f"tutorials/{name}" for name in ("agents", "application", "training", "research", "operating")),
    )
]  # fmt: skip
# Commands that import torch.
WITH_TORCH = ("redraft train ", "redraft weights ")


class PageRun:
    def __init__(self, folder: Path, server: BatchServer, commands: Path = REAL) -> None:
        self.folder, self.server, self.commands = folder, server, commands
        self.printed = ""
        self.names: dict[str, Any] = {}
        self.serving: subprocess.Popen[str] | None = None
        self.served = SERVED

    def run(self, block: Block) -> None:
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
        if "replies" in block.directives:
            self.server.on("POST /v1/chat/completions", *map(chat_reply, block.replies))
            self.server.on("POST /v1/completions", *map(raw_reply, block.replies))
            replies = itertools.chain(block.replies, itertools.repeat(block.replies[-1]))
            self.server.says = lambda _: next(replies)
        if "serve" in block.directives:
            self.serve(block)
        elif "output" in block.directives:
            self.compare(block, block.body)
        elif block.runs and block.language == "python":
            self.python(block)
        elif block.runs and block.language == "js":
            (self.folder / "block.mjs").write_text(self.real(block.body), encoding="utf-8")
            self.shell(block, Command("node block.mjs"))
        elif block.runs:
            for command in block.commands:
                self.shell(block, command)

    def real(self, text: str) -> str:
        return text.replace(SERVER, self.server.root).replace(SERVED, self.served)

    def serve(self, block: Block) -> None:
        (command,) = block.commands
        line = f"exec {self.real(command.line)} --port 0"
        env = {**os.environ, "PATH": os.pathsep.join([str(REAL), os.environ["PATH"]])}
        self.serving = subprocess.Popen(["bash", "-c", line], env=env, stderr=subprocess.PIPE, text=True)
        assert self.serving.stderr
        said = ""
        for line in self.serving.stderr:  # until it is ready, or has ended
            said += line
            if found := re.search(r" at (http://\S+)/v1$", line):
                self.served = found[1]
                return
        raise AssertionError(f"{block.where}: {said}")

    def close(self) -> None:
        if self.serving:
            self.serving.send_signal(signal.SIGINT)  # SIGTERM lingers
            log = self.serving.communicate(timeout=60)[1]
            assert self.serving.returncode == 0, log

    def python(self, block: Block) -> None:
        code = compile(self.real(block.body), block.where, "exec", dont_inherit=True)
        self.names = {"__name__": "__main__"}
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            exec(code, self.names)  # noqa: S102  (running the page is the test)
        self.printed = stdout.getvalue()

    def shell(self, block: Block, command: Command) -> None:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", self.real(command.line)],
            cwd=self.folder,
            env={**os.environ, "PATH": os.pathsep.join([str(self.commands), str(REAL), os.environ["PATH"]])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,  # pages train, on a busy machine too
        )
        expected = [int(status) for status in block.directives.get("exit", "0").split(" or ")]
        said = f"{block.where}: $ {command.line}\n{done.stdout}{done.stderr}"
        assert done.returncode in expected, f"{said}\nexit status {done.returncode}, the page says {expected}"
        self.printed = (done.stdout + done.stderr).replace(self.server.root, SERVER)
        if command.output and block.compared:
            self.compare(block, command.output)

    def compare(self, block: Block, shown: str) -> None:
        assert matches(self.printed, shown), (
            f"{block.where} shows\n{shown}\nand this was printed\n{self.printed}"
        )


def run_page(
    page: Path,
    folder: Path,
    *,
    with_model: bool,
    shared: Path | None = None,
    commands: Path = REAL,
    sandbox: bool = True,
    node: bool = True,
) -> int:
    """Runs a page's blocks in order, without those that need something that is not there. How many it ran."""
    needs = (("model", with_model), ("shared", shared), ("sandbox", sandbox))
    lacking = {name for name, there in needs if not there}
    if shared:
        (folder / "data").symlink_to(shared)
    with contextlib.chdir(folder), BatchServer(swift=True) as server:
        run = PageRun(folder, server, commands)
        with contextlib.closing(run):
            skipped, ran = False, 0
            for block in blocks_of(page):
                skipped = (skipped and "output" in block.directives) or (block.language == "js" and not node)
                if not (skipped or lacking & block.directives.keys()):
                    run.run(block)
                    ran += 1
    return ran


PYTHON = [block for page in PAGES for block in blocks_of(page) if block.language == "python"]


def is_installed(code: str) -> bool:
    return all(map(importlib.util.find_spec, re.findall(r"^(?:from|import) (\w+)", code, re.M)))


def test_python_blocks_are_typed(tmp_path: Path) -> None:
    """With the settings and the cache of `make lint`, which has read redraft and its libraries before.

    A block with peft is left out: the types of peft do not fit those of transformers.
    """
    files = [path for path in (ROOT / "examples").glob("*.py") if is_installed(path.read_text("utf-8"))]
    for block in PYTHON:
        if "from peft" in block.body or not is_installed(block.body):
            continue
        files.append(tmp_path / (re.sub(r"\W", "_", block.where) + ".py"))
        files[-1].write_text(block.body)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def having(*texts: str) -> list[Path]:
    return [page for page in PAGES if any(text in page.read_text("utf-8") for text in texts)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with Warm(tmp_path_factory.mktemp("warm"), USUAL) as process:
        yield process.folder


@pytest.fixture(scope="module")
def warm_with_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with Warm(tmp_path_factory.mktemp("warm"), TORCH) as process:
        yield process.folder


@pytest.fixture(scope="session")
def node() -> str:
    return shutil.which("node") or pytest.skip("node is not installed (Debian: apt install nodejs)")


@pytest.fixture
def one_core() -> Iterator[None]:
    """Commands that start no processes of their own, and models that compute on one thread.

    The result is the same for any number, as the tests of `parallel` and of the verbs show.
    """
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "redraft" / "config.toml"
    config.parent.mkdir()
    config.write_text("[defaults]\nthreads = 1\n")
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            marks=[
                *([pytest.mark.model] if page in having(*MODEL) else []),
                *([pytest.mark.slow] if name_of(page) in LONG else []),
            ],
        )
        for page in PAGES
        if page.parent.name != "cli"  # which has nothing to run
    ],
    ids=name_of,
)
def test_the_page_runs(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    missing = []

    def needed(fixture: str, *comments: str) -> Path | None:
        if page not in having(*comments):
            return None
        try:
            return Path(request.getfixturevalue(fixture))
        except pytest.skip.Exception as skipped:
            missing.append(str(skipped))
            return None

    model, shared = needed("default_model", *MODEL), needed("shared_data", "<!-- shared -->")
    commands = request.getfixturevalue("warm_with_torch" if page in having(*WITH_TORCH) else "warm")
    sandbox = bool(needed("a_sandbox", "<!-- sandbox -->"))
    node = bool(needed("node", "```js"))
    ran = run_page(
        page, tmp_path, with_model=bool(model), shared=shared, commands=commands, sandbox=sandbox, node=node
    )
    if missing:
        pytest.skip("; ".join(missing))
    assert ran == len(blocks_of(page))


@functools.cache
def anchors_of(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text("utf-8"))
    places = [(page.parent / path if path else page, anchor) for path, anchor in links]
    assert [str(path) for path, _ in places if not path.exists()] == []
    assert [f"{path}#{name}" for path, name in places if name and name not in anchors_of(path)] == []


def test_what_a_stranger_reads_first_is_short() -> None:
    lines = {name_of(page): page.read_text("utf-8").count("\n") for page in PAGES}
    assert lines["README.md"] <= 90
    assert [name for name, count in lines.items() if name.startswith("docs/start/") and count >= 60] == []


def test_each_picture_is_drawn_by_the_script_shown_and_no_older_than_what_it_shows() -> None:
    """If one is older: `python scripts/pictures.py`, with the names of those to draw."""
    pytest.importorskip("playwright")
    script = runpy.run_path(str(ROOT / "scripts" / "pictures.py"))
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    drawn = {path.name for path in (ROOT / "docs").glob("*.*g") if path.suffix in (".png", ".svg")}
    assert drawn == set(script["SHOWS"])
    assert [name for name in drawn if f"{name})" not in pages] == []
    marks = {name: script["mark_of"](name).encode() for name in drawn}
    assert [name for name, mark in marks.items() if mark not in (ROOT / "docs" / name).read_bytes()] == []


def test_each_page_is_listed_on_the_site() -> None:
    listed = set(re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert {name_of(page).removeprefix("docs/") for page in PAGES} - {"README.md"} - listed == set()


def test_the_pages_written_by_hand_have_forty_thousand_words_at_most() -> None:
    made = re.compile(r"docs/(?:cli\b|api/|options\.md)")
    pages = [page for page in (ROOT / "docs").rglob("*.md") if not made.match(name_of(page))]
    assert sum(len(page.read_text("utf-8").split()) for page in pages) <= 40_000


def keys_in(page: str, heading: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text("utf-8")
    table = re.search(r"^\|(?:.*\n\|)*.*", text[text.index(heading) :], re.M)
    assert table
    return re.findall(r"^\| `([\w-]+)`", table[0], re.M)


def test_every_option_is_told() -> None:
    parts = ("## Revising and sampling", "## Waiting for a server", "## One chain")
    told = [name for part in parts for name in keys_in("options.md", part)]
    assert told == list(RevisionOptions.model_fields)


def test_every_error_is_told() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    named = [
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert [name for name in named if f"`{name}`" not in page and name != "RedraftError"] == []


def test_every_key_of_a_recipe_and_every_recipe_is_told() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    keys = {name.replace("_", "-") for name in options_of(Flags)}
    shipped = {path.stem for path in (ROOT / "src" / "redraft" / "recipes").glob("*.yaml")}
    assert {name for name in keys | shipped if f"`{name}`" not in page} == set()


def test_every_rule_of_cleaning_and_every_mix_is_told() -> None:
    shipped = (ROOT / "src" / "redraft" / "recipes" / "data").glob("*.yaml")
    assert keys_in("data.md", "## clean") == list(NAMES)
    assert set(keys_in("data.md", "### The four mixes")) == {path.stem for path in shipped}


PAGE = """\
<!-- replies: ["A first.", "A second."] -->
```python
print(len("ab"), "replies")
```

<!-- output -->
```text
2 replies
```

Save `note.txt`:

```text
hello
```

```python
import redraft
print(redraft.revise("Hi.", model="http://localhost:8000/v1#qwen", checks=["words<=2"]).answer)
```

<!-- output -->
```text
A first.
```

<!-- exit: 2 -->
```console
$ redraft \\
  --version && cat note.txt && exit 2
…
hello
```
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [("2 replies\n", "3 replies\n"), ("exit: 2", "exit: 1"), ("…\nhello", "…\nbye"), ("len(", "missing(")],
)
def test_a_page_that_is_wrong_fails(old: str, new: str, tmp_path: Path) -> None:
    assert old in PAGE
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace(old, new))
    with pytest.raises((AssertionError, NameError)):
        run_page(page, tmp_path, with_model=False)
