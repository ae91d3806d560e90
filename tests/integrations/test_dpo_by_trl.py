"""The program of docs/rlhf.md that trains by TRL's DPO on pairs of redraft."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redraft.cli.commands import app
from tests.engines.servers.environments import environment
from tests.train.tiny import chains, model_folder

pytestmark = pytest.mark.slow
PAGE = Path(__file__).resolve().parents[2] / "docs" / "rlhf.md"


def test_the_program_of_the_page_trains_an_adapter(here: Path) -> None:
    model_folder(here / "model")
    chains(here / "chains.jsonl")
    words = ["data", "export", "chains.jsonl", "--to", "preference", "-o", "preferences.jsonl"]
    assert CliRunner().invoke(app, words, prog_name="redraft").exit_code == 0
    _, _, program = PAGE.read_text().partition("```python\nfrom datasets import load_dataset")
    program = "from datasets import load_dataset" + program.partition("```")[0]
    Path("direct.py").write_text(program.replace("HuggingFaceTB/SmolLM2-135M-Instruct", "model"))
    python = environment("trl", "trl", borrowing=True) / "python"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([python, "direct.py"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path("direct", "adapter_model.safetensors").exists()
