"""Tries features in redraft and in others, and writes the table of docs/peers.md.

    python benchmarks/peers.py                   # all of them; installs what is missing, one after the other
    python benchmarks/peers.py instructor dspy   # only these; the others keep what was found last

Each peer has an environment of its own in ~/.cache/redraft/peers, and a script in `peers_tried` that does
what each feature says with the peer's own functions. A server here gives canned replies (`tried.py`).

A cell is "yes" if that worked, and "partly" if it worked as far as the note says. "no" means that the try
failed, that we read the code and it lacks the feature (`LACKS`), or that the code has none of the words of
`FEATURES`. "?" means that the feature, or a word of it, is there, and nobody tried it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "peers_tried"
FOUND = FOLDER / "found.json"
PAGE = HERE.parent / "docs" / "peers.md"
ENVIRONMENTS = Path.home() / ".cache" / "redraft" / "peers"
SECONDS = 1800  # for the tries of a peer, on a busy machine too


class Peer(NamedTuple):
    """A package that is tried.

    Attributes:
        install: What pip is told to install. Empty: it is in the environment that runs this script.
        module: The folder of its code.
        about: What it is for, in its own words.
    """

    package: str
    install: tuple[str, ...]
    module: str
    about: str


PEERS = {
    "redraft": Peer("redraft", (), "redraft", "models that check and rewrite their own answers"),
    "instructor": Peer("instructor", ("instructor", "tqdm"), "instructor", "structured outputs"),
    "mellea": Peer("mellea", ("mellea",), "mellea", "generative programs"),
    "guardrails": Peer("guardrails-ai", ("guardrails-ai",), "guardrails", "guards for outputs"),
    "pydantic-ai": Peer(
        "pydantic-ai-slim", ("pydantic-ai-slim[openai]", "opentelemetry-sdk"), "pydantic_ai", "agents, typed"
    ),
    "DSPy": Peer("dspy", ("dspy",), "dspy", "programs of prompts, optimised"),
    "optillm": Peer(
        "optillm",
        ("optillm",),
        "optillm",
        "a proxy that spends more tokens; tried without the packages of its plugins",
    ),
    "guidance": Peer("guidance", ("guidance", "openai", "pillow"), "guidance", "programs with grammars"),
    "Outlines": Peer("outlines", ("outlines", "openai"), "outlines", "structured generation"),
    "langgraph-reflection": Peer(
        "langgraph-reflection",
        ("langgraph-reflection", "langchain-openai"),
        "langgraph_reflection",
        "a graph that criticises and revises",
    ),
    "TextGrad": Peer("textgrad", ("textgrad",), "textgrad", "criticism as a gradient"),
    "FastChat": Peer("fschat", ("fschat", "psutil", "tqdm"), "fastchat", "Vicuna's training and serving"),
    "TRL": Peer("trl", (), "trl", "training by preferences and rewards"),
}

FEATURES: dict[str, dict[str, str]] = {
    "An answer": {
        "an object of a pydantic type": r"response_model|output_type|pydantic",
        "a failed answer goes back with what is wrong": r"reask|retry|feedback|repair",
        "the best answer is kept if none passes": r"best_|best of|loop_budget",
        "a function of yours as a check": r"valid|requirement|reward_fn|metric",
        "checks by a short name, such as words<=50": r"words<=|min_words|ValidLength",
        "a model judges an answer by a sentence": r"llm_valid|judge|critic",
        "the model criticises itself, then revises": r"critique|criticis|self.?refine|reflect|feedback",
        "another model criticises": r"critic|backward_engine|judge",
        "best of several samples": r"best.?of|num_generations|n_samples",
        "a new draft that is told what failed, without the draft": r"repair",
        "the next text is chosen by what failed": r"adaptive",
        "form is mended without the model": r"on_fail.*fix|OnFailAction|fix_",
        "the invalid part is filtered out": r"OnFailAction\.FILTER|\bFILTER\b",
        "a check steers the model word by word": r"grammar|logits_processor|guided",
        "a grammar or regular expression of yours steers": r"grammar|regex",
        "a program of fixed text and generated parts": r"\bgen\(|assistant\(",
        "tools are called, and their results go back": r"tool",
        "a conversation of several turns": r"history|thread|conversation|multi.?turn",
        "pictures in a prompt": r"image",
        "partial objects while they are written": r"partial",
        "a text while it is written": r"stream",
        "async": r"\basync def",
        "searches such as trees or majority votes": r"mcts|majority|self.?consistency",
        "prompts are optimised on examples": r"optimi[sz]e|teleprompt|mipro",
        "a graph of steps with kept state": r"StateGraph|checkpointer",
    },
    "A call": {
        "protocols of providers other than OpenAI's": r"anthropic",
        "a budget of tokens for one answer": r"usage_limit|token_budget|max_total_tokens|budget",
        "a budget of money": r"max_cost|limit_usd|usd",
        "a call is ended from outside and keeps what it has": r"cancel",
        "every draft is kept, with what was said of it": r"sample_generations|steps|history|trajectory",
        "a busy server is asked again": r"retr",
        "replies are cached in a file": r"diskcache|cache",
        "tests without a model": r"TestModel|DummyLM|scripted|mock",
        "traces by OpenTelemetry": r"opentelemetry",
    },
    "Many answers": {
        "a file of prompts becomes a file of answers": r"batch|parallel",
        "goes on after kill -9 without paying twice": r"resume|checkpoint",
        "batches of a provider at half the price": r"/batches|batch_api|create_batch|BatchProcessor",
        "runs a GGUF file": r"gguf|llama_cpp|llamacpp",
        "a command for the terminal": r"argparse|typer|click",
    },
    "A server": {
        "an API like OpenAI's": r"chat/completions",
        "the API's answers are checked and revised": r"chat/completions",
        "a web page to chat": r"gradio|<textarea|index\.html",
        "keys for users": r"api_key|Bearer",
        "tools for agents by MCP": r"\bmcp\b|FastMCP",
    },
    "Evaluation": {
        "published tasks, scored": r"gsm8k|humaneval|mmlu|ifeval",
        "scores with intervals": r"confidence|bootstrap|wilson|interval",
        "a judge compares two models, in both orders": r"judge.*pair|pairwise|win_rate",
        "votes by people": r"vote",
        "a ranking of models (Elo, Bradley–Terry)": r"\belo\b|bradley",
        "whether revising pays at equal tokens": r"equal.?tokens",
        "a share of answers as a test of pytest": r"pytest11|pytest\.mark",
    },
    "Training": {
        "supervised fine-tuning": r"SFT|\bTrainer\b",
        "a reward model": r"RewardTrainer|reward model",
        "DPO": r"\bDPO",
        "PPO, RLOO or GRPO": r"\bPPO|GRPO|RLOO",
        "training on chains of answer, criticism and revision": r"revision|SelfEval",
        "instructions are generated from seeds": r"self.?instruct|seed_tasks",
        "conversations are cleaned and deduplicated": r"dedup|clean_sharegpt",
        "deltas of weights, GGUF files": r"delta|gguf",
        "a whole system by one recipe, resumed": r"recipe",
    },
}
"""Group, feature, and the words that it is looked for by in the code of a peer without a try."""


def environment(name: str) -> Path:
    """The Python of a peer, which is installed if it is not there."""
    peer = PEERS[name]
    if not peer.install:
        return Path(sys.executable)
    folder = ENVIRONMENTS / name.lower()
    python = folder / "bin" / "python"
    if not (folder / ".done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *peer.install]
        subprocess.run(pip, check=True)
        (folder / ".done").touch()
    return python


def tried(name: str, python: Path) -> dict[str, dict[str, str]]:
    """What the tries of a peer found, by feature."""
    script = FOLDER / f"of_{re.sub(r'[^a-z]', '_', name.lower())}.py"
    env = {**os.environ, "PYTHONPATH": str(FOLDER), "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    env |= {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "GUARDRAILS_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [python, script], env=env, cwd=ENVIRONMENTS, capture_output=True, text=True, timeout=SECONDS
    )
    print(done.stderr[-4000:], file=sys.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"feature"')]
    unknown = {line["feature"] for line in lines} - {f for group in FEATURES.values() for f in group}
    assert not unknown, f"{name}: {unknown}"
    return {line.pop("feature"): line for line in lines}


def code_of(python: Path, module: str) -> str:
    """All of a package's own code, without its tests."""
    ask = f"import importlib.util as u; print(u.find_spec({module!r}).submodule_search_locations[0])"
    folder = Path(
        subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    )
    files = [path for path in sorted(folder.rglob("*.py")) if "tests" not in path.parts]
    return "\n".join(path.read_text("utf-8", "replace") for path in files)


def look_at(name: str) -> dict[str, Any]:
    """Everything that is found out about a peer."""
    python, peer = environment(name), PEERS[name]
    ask = f"from importlib.metadata import version; print(version({peer.package!r}))"
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    cells, code = tried(name, python), code_of(python, peer.module)
    for group in FEATURES.values():
        for feature, pattern in group.items():
            there = re.search(pattern, code, re.I)
            cells.setdefault(feature, {"cell": "?" if there else "no", "note": ""})
    return {"version": found, "date": f"{datetime.now(UTC):%Y-%m-%d}", "cells": cells}


INTRODUCTION = """\
# Beside others

<!-- Made by benchmarks/peers.py: run it to change this page. -->

What redraft and other packages can do. Each has its own purpose and is good at it, so do not count the cells.
[A script](../benchmarks/peers.py) tried each feature on the day in the table, with the package as pip
installed it and a server of canned replies. So a cell says whether something can be done, not how well.

- **yes**: a few lines with the package's own functions did it.
- **partly**: it works as far as the note says.
- **no**: we tried and it failed; or, more often, a search of the package's code found nothing to try.
  We may have missed something: tell us.
- **?**: the package has it, or its code has words for it, but we did not try it. It may be a yes.

We repaired failing tries of redraft until they passed, and those of others less often. We set some cells by
hand: seven to ?, and a few of optillm, whose environment the script cannot make.

[Coming from](coming_from.md) shows what to type for the same task in some of them.
"""


def page(found: dict[str, Any]) -> str:
    """The whole page."""
    names = [name for name in PEERS if name in found]
    parts, notes = [INTRODUCTION], []
    rows = ["| | version | tried on | what it is for |", "|---|---|---|---|"]
    rows += [f"| {n} | {found[n]['version']} | {found[n]['date']} | {PEERS[n].about} |" for n in names]
    parts.append("\n".join(rows) + "\n")
    for group, features in FEATURES.items():
        rows = [f"| {group} | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
        for feature in features:
            cells = []
            for name in names:
                cell = found[name]["cells"].get(feature, {"cell": "?", "note": ""})
                if cell["note"]:
                    notes.append(f"{len(notes) + 1}. {name}, {feature}: {cell['note'].rstrip('.')}.")
                mark = f" ({len(notes)})" if cell["note"] else ""
                cells.append(f"{cell['cell']}{mark}")
            rows.append(f"| {feature} | {' | '.join(cells)} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join([*parts, "## Notes\n", "\n".join(notes)]) + "\n"


def main() -> None:
    """Try the peers that are named, or all, and write the page after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="PEER", help=", ".join(PEERS))
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().names or PEERS:
        looked = look_at(name)
        found = json.loads(FOUND.read_text("utf-8")) if FOUND.exists() else {}
        found[name] = looked
        FOUND.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
        PAGE.write_text(page(found), "utf-8")
        counts = [cell["cell"] for cell in found[name]["cells"].values()]
        print(name, {kind: counts.count(kind) for kind in ("yes", "partly", "no", "?")}, flush=True)


if __name__ == "__main__":
    main()
