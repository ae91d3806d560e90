"""What judges answers: checks, functions, a server, and sums of them."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForSequenceClassification

from redraft.chain import Chain, Prompt, Step
from redraft.engines.hf.reward import RewardModel
from redraft.errors import CheckError, CheckSyntaxError, RedraftError, ServerError, UsageError
from redraft.train.rl import rewards
from redraft.train.rl.rewards import parse_rewards
from tests.engines.fake_server import FakeServer, Reply, Request, json_reply
from tests.plugin_packages import install
from tests.train.tiny import SHAPE
from tests.train.tokenizer_kinds import tokenizer

PROMPTS = [Prompt(instruction="Say a."), Prompt(instruction="Say b.", input="Loudly.")]


def chains(*answers: str) -> list[Chain]:
    """Answers to the prompts."""
    return [
        Chain(prompt=prompt, steps=(Step(answer=answer),), best=0, meta={"reference": "b"})
        for prompt, answer in zip(PROMPTS, answers, strict=True)
    ]


def judged(*forms: str, answers: tuple[str, ...] = ("a", "b b")) -> list[float]:
    """The rewards of two answers."""
    return [sum(each.values()) for each in asyncio.run(parse_rewards(forms)(chains(*answers)))]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user."""
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


@contextmanager
def server(*replies: tuple[int, Any], port: int = 0) -> Iterator[tuple[str, list[Any]]]:
    """A server with these statuses and bodies, the last one again and again. It notes what it was asked.

    With None as a body, it says nothing until it is closed.
    """
    asked: list[Any] = []

    def reply(request: Request) -> Reply:
        asked.append(request.json)
        status, said = replies[min(len(asked), len(replies)) - 1]
        if said is None:
            return Reply(0, pieces=[60.0])
        return Reply(status, pieces=[said]) if isinstance(said, bytes) else json_reply(said, status)

    with FakeServer(port) as made:
        made.on("POST /judge", reply)
        yield f"{made.root}/judge", asked


def test_a_check_gives_its_score() -> None:
    assert judged("words<=1") == [1.0, pytest.approx(judged("words<=1")[1])]
    assert judged("contains:b") == [0.0, 1.0]


def test_an_empty_answer_has_no_reward_from_a_check_that_only_forbids() -> None:
    assert judged("lacks:z", answers=("", "b")) == [0.0, 1.0]


def test_a_function_may_return_any_number(mine: str) -> None:
    assert judged(f"{mine}.length") == [1.0, 3.0]
    assert judged(f"{mine}.minus") == [-6.0, -15.0]
    assert judged(f"{mine}.later") == [0.5, 0.5]
    assert judged(f"{mine}.numpy") == [0.25, 0.25]


def test_a_reward_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from redraft.train.rl.rewards import RewardKind
def make(form):
    async def rewards(chains):
        return [chain.answer.count(form.partition(":")[2]) for chain in chains]
    return rewards
COUNT = RewardKind(make)
"""
    install(tmp_path, "redraft-count", {"redraft.rewards": {"count": "redraft_count:COUNT"}}, code)
    monkeypatch.syspath_prepend(tmp_path)
    assert judged("count:b", "2*words<=1") == [2, 3]
    with pytest.raises(CheckSyntaxError, match="no check is called 'count'"):
        parse_rewards(["count[2]:b"])


def test_a_program_that_is_not_there_is_named_as_it_was_given() -> None:
    with pytest.raises(CheckSyntaxError, match=r"score:\./nope") as raised:
        judged("score:./nope")
    assert "score:PROGRAM" in str(raised.value.hint)


def test_a_function_may_ask_for_the_record(mine: str) -> None:
    assert judged(f"{mine}.gold", answers=("a", "b")) == [0.0, 1.0]


def test_a_reward_may_be_a_scalar_of_torch_or_numpy(mine: str) -> None:
    assert judged(f"{mine}.tensor") == [0.5, 0.5]
    assert judged(f"{mine}.truth") == [1.0, 1.0]


def test_a_reward_is_not_added_twice() -> None:
    with pytest.raises(UsageError, match="words<=3 is there twice") as raised:
        parse_rewards(("words<=3", " words<=3"))
    assert "with the weight of both" in str(raised.value.hint)


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


def test_a_server_judges_a_batch() -> None:
    with server((200, {"rewards": [0.5, -2]})) as (url, asked):
        assert judged(url) == [0.5, -2.0]
        assert judged(f"2*{url}") == [1.0, -4.0]
    assert asked[0] == {"prompts": ["Say a.", "Say b.\n\nLoudly."], "answers": ["a", "b b"]}


@pytest.mark.parametrize("end", ["", "/", "?key=a/"])
def test_the_address_of_a_server_is_asked_as_it_was_given(end: str) -> None:
    with FakeServer() as made:
        made.on("POST *", json_reply([1, 2]))
        assert judged(f"{made.url}/score{end}") == [1.0, 2.0]
        assert made.requests[-1].path == f"/v1/score{end}"


def test_a_server_that_is_down_for_a_while_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "PAUSE", 0.0)
    with server((503, {}), (429, {}), (408, {}), (425, {}), (200, [1, 2])) as (url, asked):
        assert judged(url) == [1.0, 2.0]
    assert len(asked) == 5


def test_a_server_that_starts_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = asyncio.Event()
    monkeypatch.setattr(rewards, "backoff", lambda *_: refused.set() or 0.05)
    with server((200, [])) as (url, _):
        pass

    async def down_and_then_up() -> list[dict[str, float]]:
        waiting = asyncio.ensure_future(parse_rewards([url])(chains("a", "b b")))
        await refused.wait()
        assert not waiting.done()
        with server((200, [1, 2]), port=int(url.split(":")[2].split("/")[0])):
            return await waiting

    assert asyncio.run(down_and_then_up()) == [{url: 1.0}, {url: 2.0}]


def test_a_server_that_says_nothing_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "PAUSE", 0.0)
    monkeypatch.setattr(rewards, "REQUEST_SECONDS", 0.3)
    with server((200, None), (200, [1, 2])) as (url, asked):
        assert judged(url) == [1.0, 2.0]
    assert len(asked) == 2


def test_what_a_server_says_of_its_fault_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "OUTAGE_SECONDS", 0.0)
    with (
        server((500, b"KeyError: 'texts'")) as (url, _),
        pytest.raises(ServerError, match="status 500, \"KeyError: 'texts'\""),
    ):
        judged(url)


def test_an_address_that_is_not_there_says_what_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with server((404, {})) as (url, _), pytest.raises(ServerError, match="status 404") as raised:
        judged(url)
    assert "POST of prompts and answers" in str(raised.value.hint)


def test_a_server_that_stays_down_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "OUTAGE_SECONDS", 0.0)
    with server((200, [])) as (url, _):
        pass
    with pytest.raises(ServerError, match=r"no reward from http://127\.0\.0\.1") as raised:
        judged(url)
    assert "it resumes" in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("status", "reply", "said"),
    [
        (200, {"rewards": [1]}, "1 reward for 2 answers"),
        (200, {"score": 1}, "for 2 answers"),
        (200, b"hello", "not JSON"),
        (200, {"rewards": [1, "x"]}, "is 'x' for the answer 'b b'"),
        (200, b'{"rewards": [1, NaN]}', "is nan for the answer 'b b'"),
        (200, b'{"rewards": [1, 1%s]}' % (b"0" * 400), "is 1000.* for the answer 'b b'"),
        (404, {"detail": "no such page"}, "status 404: .*no such page"),
    ],
)
def test_what_a_server_should_not_reply_is_said(status: int, reply: Any, said: str) -> None:
    with server((status, reply)) as (url, _), pytest.raises((CheckError, ServerError), match=said):
        judged(url)


def test_no_reward_and_an_unknown_one_are_errors() -> None:
    with pytest.raises(UsageError, match="nothing that judges"):
        parse_rewards(())
    with pytest.raises(CheckSyntaxError, match="no check is called"):
        parse_rewards(("wrods<=3",))
    with pytest.raises(UsageError, match="too large"):
        parse_rewards(("1e999*words<=3",))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://", "is not the address"),
        ("https://host:port/x", "is not the address"),
        ("https://me:secret@host/x", "the address of host holds a name or password"),
    ],
)
def test_what_is_no_address_is_said_at_once(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        parse_rewards((url,))
    assert "secret" not in f"{raised.value} {raised.value.hint}"


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Write a Python program of the user, whose answer is in `text`. Return its command line."""

    def written(body: str) -> str:
        path = tmp_path / "judge.py"
        path.write_text(f"import sys, time\ntext = sys.stdin.read()\n{body}\n")
        return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"

    return written


def test_a_program_prints_the_reward_as_its_last_line(program: Callable[[str], str]) -> None:
    judge = program("print('tokens: 7', file=sys.stderr)\nprint(f'{-len(text) / 2}\\n')")
    assert judged(f"score:{judge}") == [-0.5, -1.5]
    assert judged(f"2 * score[20s]:{judge}") == [-1.0, -3.0]
    assert judged(f"command:{judge}") == [1.0, 1.0]  # as everywhere, its exit status


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('nan')", "is nan for the answer 'a'"),
        ("print('good')", "is 'good' for the answer 'a'"),
        ("pass", "is '' for the answer 'a'"),
        ("print(1); sys.exit(text == 'a' and 3)", "exit status 3.*for the answer 'a'.*\n1"),
        ("print(text.nothing)", "exit status 1.*for the answer 'a'(.*\n)*AttributeError"),
    ],
)
def test_a_program_that_gives_no_number_stops_the_run(
    program: Callable[[str], str], body: str, said: str
) -> None:
    with pytest.raises(CheckError, match=said):
        judged(f"score:{program(body)}", answers=("a", "a"))


def test_a_program_that_hangs_stops_the_run(program: Callable[[str], str]) -> None:
    with pytest.raises(CheckError, match=r"longer than 0\.3 s for the answer 'a'") as raised:
        judged(f"score[0.3s]:{program('time.sleep(60)')}", answers=("a", "a"))
    assert "score[60s]:" in (raised.value.hint or "")


def test_a_program_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(CheckSyntaxError, match="there is no program 'no-such-judge'"):
        parse_rewards(("score:no-such-judge",))
    with pytest.raises(CheckSyntaxError) as raised:
        parse_rewards(("score[10s",))
    assert "score[10s]:PROGRAM" in (raised.value.hint or "")


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
