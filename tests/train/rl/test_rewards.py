from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForSequenceClassification

from redraft.chain import Chain, Prompt, Step
from redraft.engines.hf.reward import RewardModel
from redraft.errors import CheckError, CheckSyntaxError, RedraftError, UsageError
from redraft.train.rl.rewards import parse_rewards
from tests.plugin_packages import install
from tests.train.tiny import SHAPE
from tests.train.tokenizer_kinds import tokenizer

PROMPTS = [Prompt(instruction="Say a."), Prompt(instruction="Say b.", input="Loudly.")]


def chains(*answers: str) -> list[Chain]:
    return [
        Chain(prompt=prompt, steps=(Step(answer=answer),), best=0, meta={"reference": "b"})
        for prompt, answer in zip(PROMPTS, answers, strict=True)
    ]


def judged(*forms: str, answers: tuple[str, ...] = ("a", "b b")) -> list[float]:
    return [sum(each.values()) for each in asyncio.run(parse_rewards(forms)(chains(*answers)))]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mine_of_rewards.py").write_text(
        "import numpy as np\n"
        "def length(answer): return len(answer)\n"
        "def minus(answer, prompt): return -len(prompt.text)\n"
        "async def later(answer): return 0.5\n"
        "def numpy(answer): return np.float32(0.25)\n"
        "def tensor(answer): import torch; return torch.tensor([0.5])\n"
        "def truth(answer): return np.bool_(True)\n"
        "def several(answer): return np.ones(2)\n"
        "def tensors(answer): import torch; return torch.ones(2)\n"
        "def nan(answer): return float('nan')\n"
        "def text(answer): return 'good'\n"
        "def nothing(answer): return None\n"
        "def crash(answer): return 1 / 0\n"
        "def gold(chain): return chain.answer == chain.meta['reference']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine_of_rewards", None)
    return "python:mine_of_rewards"


def test_a_check_gives_its_score() -> None:
    assert judged("words<=1") == [1.0, pytest.approx(judged("words<=1")[1])]
    assert judged("contains:b") == [0.0, 1.0]


def test_an_empty_answer_has_no_reward_from_a_check_that_only_forbids() -> None:
    assert judged("lacks:z", answers=("", "b")) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("length", [1.0, 3.0]), ("minus", [-6.0, -15.0]), ("later", [0.5, 0.5]), ("numpy", [0.25, 0.25]),
        ("tensor", [0.5, 0.5]), ("truth", [1.0, 1.0]), ("gold", [0.0, 0.0]),
    ],
)  # fmt: skip
def test_a_function_may_return_any_number(mine: str, name: str, expected: list[float]) -> None:
    assert judged(f"{mine}.{name}") == expected


def test_a_reward_is_not_added_twice() -> None:
    with pytest.raises(UsageError, match="words<=3 is given twice") as raised:
        parse_rewards(("words<=3", " words<=3"))
    assert "add up the weights" in str(raised.value.hint)


def test_rewards_add_up_with_their_weights(mine: str) -> None:
    assert judged(f"2*{mine}.length", "contains:b", "0.5 * contains:a") == [2.5, 7.0]
    assert judged("contains:b", "-.5*contains:a") == [-0.5, 1.0]


@pytest.mark.parametrize("name", ["nan", "text", "nothing", "several", "tensors"])
def test_what_is_no_finite_number_stops(mine: str, name: str) -> None:
    with pytest.raises(CheckError, match=rf"{name} is .* for the answer '(a|b b)'"):
        judged(f"{mine}.{name}")


def test_a_crash_says_where(mine: str) -> None:
    with pytest.raises(CheckError, match=r"crashed: mine_of_rewards\.py:\d+, in crash: ZeroDivisionError"):
        judged(f"{mine}.crash")


def test_no_reward_and_an_unknown_one_are_errors() -> None:
    with pytest.raises(UsageError, match="no reward to judge"):
        parse_rewards(())
    with pytest.raises(CheckSyntaxError, match="no check is called"):
        parse_rewards(("wrods<=3",))
    with pytest.raises(UsageError, match="cannot be a reward"):
        parse_rewards(("2*judge[reasoning]:kind",))
    with pytest.raises(UsageError, match="too large"):
        parse_rewards(("1e999*words<=3",))


def test_a_reward_model_gives_its_number(tmp_path: Path) -> None:
    made = tokenizer("bytes")
    config = LlamaConfig(vocab_size=len(made), **SHAPE, num_labels=1, pad_token_id=0)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    made.save_pretrained(tmp_path)
    expected = RewardModel.load(str(tmp_path)).score(list(zip(PROMPTS, ("a", "b b"), strict=True)))
    assert judged(f"2*reward:{tmp_path}") == pytest.approx([2 * each for each in expected])
    assert expected[0] != expected[1]


@pytest.mark.parametrize(
    ("body", "why"),
    {
        "return [1.0]": "the reward 'odd' of the package redraft-odd 1.0 returned 1 number for 2 answers.",
        "return [1.0, float('nan')]": "the reward odd:x is nan for the answer 'b b'.",
        "return ['x', 1.0]": "the reward odd:x is 'x' for the answer 'a'.",
        "return 1 / 0": "crashed: redraft_odd.py:4, in reward: ZeroDivisionError: division by zero.",
    }.items(),
)
def test_a_reward_of_another_package_gives_a_finite_number_for_each_answer(
    body: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"""from redraft.train.rl.rewards import RewardKind
def make(form):
    async def reward(chains):
        {body}
    return reward
kind = RewardKind(make)
"""
    install(tmp_path, "redraft-odd", {"redraft.rewards": {"odd": "redraft_odd:kind"}}, code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "redraft_odd", raising=False)
    with pytest.raises(RedraftError) as caught:
        judged("odd:x")
    assert caught.value.message.endswith(why)
