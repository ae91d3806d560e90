from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from redraft.chain import Prompt
from redraft.engines.hf import reward
from redraft.engines.hf.reward import RewardModel
from redraft.errors import RedraftError
from redraft.train.batches import joined
from tests.train.rewards import pairs, ready
from tests.train.tiny import model_folder

SUMS = [
    (Prompt(instruction=f"Add {n} and {n}."), answer)
    for n in range(9)
    for answer in ("It is 4.", "No! " * n + "No")
]


def run_of(folder: Path, name: str) -> Any:
    base = str(folder / "base")
    words = ["--model_name_or_path", base, "--output_dir", name, "--learning_rate", "1e-2"]
    return ready(base, *words, "--lora", str(name == "adapter"), "--max_steps", "8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("REDRAFT_CACHE", str(folder / "cache"))
        model_folder(folder / "base")
        pairs(folder / "pairs.jsonl")
        for name in ("adapter", "whole"):
            run_of(folder, name).train()
    return folder


@pytest.fixture(autouse=True)
def cache(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_CACHE", str(made / "cache"))


@pytest.mark.parametrize("name", ["adapter", "whole"])
def test_rewards_are_those_of_training(made: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    run = run_of(made, name)
    run.train()  # all steps are done: the weights of the checkpoint are loaded
    run.loop.trained.model.eval()
    rows = [[run.prepared[int(each)] for each in run.data.rows[number]] for number in range(4)]
    with torch.no_grad():
        expected = run.loop.trained.model(**{**joined(rows), "margins": torch.zeros(4)}).rewards
    asked = [
        (Prompt(instruction=f"Add {n} and {n}."), answer)
        for n in range(4)
        for answer in (f"It is {2 * n}.", f"I do not know {n}!")
    ]
    found = torch.tensor(RewardModel.load(str(made / name)).score(asked)).reshape(4, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_one_answer_is_computed_at_a_time(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RewardModel, "_rewards", lambda *_: torch.tensor([float(reward._ONE.locked())]))
    assert RewardModel.load(str(made / "adapter")).score(SUMS[:1]) == [1.0]


def test_a_reward_does_not_depend_on_what_is_scored_beside_it(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RewardModel.load(str(made / "adapter"))
    alone = [model.score([each])[0] for each in SUMS]
    assert model.score(SUMS) == pytest.approx(alone, abs=1e-5)
    monkeypatch.setattr(reward, "BATCH_TOKENS", 60)
    assert (model.score(SUMS), model.score([])) == (pytest.approx(alone, abs=1e-5), [])


def test_an_adapter_finds_its_base_or_is_told(made: Path) -> None:
    by_itself = RewardModel.load(str(made / "adapter")).score(SUMS)
    told = RewardModel.load(f"{made / 'base'}+{made / 'adapter'}").score(SUMS)
    assert told == pytest.approx(by_itself, abs=1e-6)


def test_a_model_that_was_trained_again_is_loaded_again(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "whole", tmp_path / "whole")
    first = RewardModel.load(str(folder))
    assert RewardModel.load(str(folder)) is first
    (folder / "config.json").touch()
    assert RewardModel.load(str(folder)) is not first


def changed(folder: Path, name: str, **fields: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def refused(ref: object, said: str) -> None:
    with pytest.raises(RedraftError, match=said):
        RewardModel.load(str(ref))


def test_what_is_no_reward_model_is_refused(made: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "there is no reward model")
    refused(f"{made / 'base'}+{tmp_path}", "there is no reward model")
    refused(made / "base", "is not a reward model: its kind is LlamaForCausalLM")
    refused(tmp_path, "is not a reward model: its kind is unknown")
    adapter = shutil.copytree(made / "adapter", tmp_path / "adapter")
    changed(adapter, "adapter_config.json", task_type="CAUSAL_LM")
    refused(adapter, "is not a reward model: its kind is CAUSAL_LM")
    changed(adapter, "adapter_config.json", base_model_name_or_path=None)
    refused(adapter, "does not name its base")


def test_damaged_reward_models_are_refused(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "whole", tmp_path / "whole")
    changed(folder, "config.json", redraft_reward={"format": "latin"})
    refused(folder, r"the field redraft_reward of .* is wrong")
    changed(folder, "config.json", redraft_reward=None, id2label={"0": "a", "1": "b"})
    refused(folder, "has 2 labels, but a reward model has one")
    shutil.copy(made / "whole" / "config.json", folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    refused(folder, "cannot be loaded")
    headless = shutil.copytree(made / "base", tmp_path / "headless")
    changed(headless, "config.json", architectures=["LlamaForSequenceClassification"])
    refused(headless, r"has no score\.weight")
