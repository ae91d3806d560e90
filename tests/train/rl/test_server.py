"""Rollouts from a server: a small one over HTTP, which loads adapters with peft and generates greedily."""

from __future__ import annotations

import asyncio
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from redraft.engines.base import Sampling
from redraft.errors import ServerError
from redraft.train.rl import rewards
from redraft.train.rl.samples import ADAPTER, Response, ServerSampler
from tests.engines import fake_server
from tests.engines.fake_server import FakeServer, Request
from tests.train.rl.tiny_policy import TOKENIZER, policy, rollouts, shaken

Reply = tuple[int, Any]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down is not waited for."""
    monkeypatch.setattr(rewards, "OUTAGE_SECONDS", 0.0)


@contextmanager
def serving(reply: Callable[[str, Any], Reply]) -> Iterator[str]:
    """A server with these replies to a path and a body."""

    def says(request: Request) -> fake_server.Reply:
        status, said = reply(request.path, request.json)
        text = said if isinstance(said, str) else json.dumps(said)
        return fake_server.Reply(status, pieces=[text.encode()])

    with FakeServer() as made:
        yield made.on("POST *", says).url


class Served:
    """The tiny model with the adapters that it was told to load. It draws the likeliest tokens."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}
        self.asked: list[Any] = []
        self.paths: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, path: str, body: Any) -> Reply:
        """Reply as vLLM does."""
        with self._lock:
            return getattr(self, path.removeprefix("/v1/"))(body)  # type: ignore[no-any-return]

    def load_lora_adapter(self, body: Any) -> Reply:
        """Load an adapter, unless one of its name is there."""
        if body["lora_name"] in self.loaded:
            return 400, {"message": f"The lora adapter '{body['lora_name']}' has already been loaded."}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft does not know redraft's fields
            made = PeftModel.from_pretrained(policy(lora=False).model, body["lora_path"])
        self.loaded[body["lora_name"]] = made.eval()
        self.paths.append(body["lora_path"])
        return 200, "Success"

    def unload_lora_adapter(self, body: Any) -> Reply:
        """Forget an adapter."""
        return (200, "Success") if self.loaded.pop(body["lora_name"], None) else (404, "not found")

    def completions(self, body: Any) -> Reply:
        """Write a response."""
        self.asked.append(body)
        ids, end = list(body["prompt"]), TOKENIZER.eos_token_id
        drawn: list[int] = []
        said: list[float] = []
        with torch.no_grad():
            while len(drawn) < body["max_tokens"] and drawn[-1:] != [end]:
                logits = self.loaded[body["model"]](torch.tensor([ids + drawn])).logits[0, -1]
                drawn.append(int(logits.argmax()))
                said.append(float(logits.log_softmax(-1).max()))
        finish = "stop" if drawn[-1] == end else "length"
        text = TOKENIZER.decode(drawn, skip_special_tokens=True)
        choice = {"text": text, "token_ids": drawn, "finish_reason": finish}
        more = {"logprobs": {"token_logprobs": said}} if "logprobs" in body else {}
        return 200, {"choices": [choice | more]}


def test_the_server_writes_with_the_adapter_of_each_rollout_batch(tmp_path: Path) -> None:
    served = Served()
    with serving(served) as url:
        made = policy(rollout_url=url, min_new_tokens=2)
        source = rollouts(tmp_path, made)
        names = []
        for epoch in range(3):
            shaken(made)
            for batch in source.batches(epoch):
                for ids, start, mask in zip(batch["input_ids"], batch["starts"], batch["mask"], strict=True):
                    end = int(start + mask.sum())
                    likeliest = made.model(ids[None, : end - 1]).logits[0, start - 1 :].argmax(-1)
                    assert likeliest.tolist() == ids[start:end].tolist()
            names += served.loaded
    assert len(set(names)) == 3  # one at a time, each under a name of its own
    sent = served.asked[0]
    assert (sent["temperature"], sent["top_p"], sent["top_k"], sent["min_tokens"]) == (1.0, 1.0, -1, 2)
    assert sent["stop_token_ids"] == [TOKENIZER.eos_token_id]
    assert len({each["seed"] for each in served.asked}) == len(served.asked) == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == [ADAPTER, "samples.jsonl"]


@pytest.mark.parametrize(("temperature", "known"), [(1.0, True), (0.5, False)])
def test_the_server_says_how_likely_its_tokens_were(
    tmp_path: Path, temperature: float, *, known: bool
) -> None:
    """It says it before temperature, so with another one than 1 there is nothing to compare."""
    with serving(Served()) as url:
        source = rollouts(tmp_path, shaken(policy(rollout_url=url, temperature=temperature)))
        list(source.batches(0))
    numbers = source.metrics()
    assert ("sampler_kl" in numbers) == known
    assert numbers.get("sampler_kl", 0.0) < 1e-6


@pytest.mark.parametrize("said", [None, {}, {"token_logprobs": [None]}, {"token_logprobs": [-1.0, -2.0]}])
def test_a_server_that_does_not_say_it_writes_too(tmp_path: Path, said: Any) -> None:
    choice = {"text": "a", "finish_reason": "stop", "token_ids": [5], "logprobs": said}

    async def one(url: str) -> Response:
        (found,) = await ServerSampler(url, tmp_path).chunk([(1, 2)], [Sampling(1.0, max_tokens=2)])
        return found

    with serving(lambda *_: (200, {"choices": [choice]})) as url:
        assert asyncio.run(one(url)) == Response((5,), "a", ended=True)


def test_a_run_that_is_resumed_unloads_the_adapter_of_the_session_before(tmp_path: Path) -> None:
    served = Served()
    with serving(served) as url:
        for made in (policy(), policy(), shaken(policy()), policy(lora_alpha=99)):
            asyncio.run(ServerSampler(url, tmp_path).load(made.model))
            (name,) = served.loaded
            served.asked.append(name)
    first, again, *others = served.asked
    assert first == again
    assert len({first, *others}) == 3  # by the weights, and by what they are multiplied with


def test_an_adapter_is_loaded_from_the_folder_of_this_run(tmp_path: Path) -> None:
    """The server may go on reading it there, and an estimate before had a folder that is gone."""
    served = Served()
    with serving(served) as url:
        for folder in (tmp_path / "a", tmp_path / "b"):
            asyncio.run(ServerSampler(url, folder).load(policy().model))
    assert served.paths == [str(tmp_path / each / ADAPTER) for each in "ab"]
    assert len(served.loaded) == 1


@pytest.mark.slow
def test_a_load_whose_reply_was_lost_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "OUTAGE_SECONDS", 5.0)
    served, lost = Served(), iter([True])

    def reply(path: str, body: Any) -> Reply:
        found = served(path, body)
        return (504, "gateway timeout") if "/load" in path and next(lost, False) else found

    with serving(reply) as url:
        asyncio.run(ServerSampler(url, tmp_path).load(policy().model))
    assert len(served.loaded) == 1


def completed(url: str, folder: Path) -> None:
    """Load an adapter and ask for a response."""

    async def both() -> None:
        server = ServerSampler(url, folder)
        await server.load(policy().model)
        await server.chunk([(1, 2)], [Sampling(max_tokens=2, seed=1)])

    asyncio.run(both())


@pytest.mark.parametrize("status", [400, 404])
def test_a_server_that_loads_no_adapters_says_how_to_start_it(tmp_path: Path, status: int) -> None:
    with (
        serving(lambda *_: (status, "no LoRA, already")) as url,
        pytest.raises(ServerError, match=f"status {status}, no LoRA, already") as raised,
    ):
        completed(url, tmp_path)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora" in str(raised.value.hint)
    assert str(tmp_path / ADAPTER) in str(raised.value.hint)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"choices": [{"text": "a", "finish_reason": "stop"}]}, "without the token ids"),
        (
            {"choices": [{"text": "a", "finish_reason": "stop", "token_ids": ["token_id:5"]}]},
            "without the token ids",
        ),
        ({"choices": [{"text": None, "finish_reason": "stop", "token_ids": [5]}]}, "no completion"),
        ({"choices": []}, "no completion"),
        ([1], "no completion"),
        ("hello", "not JSON"),
    ],
)
def test_what_a_server_should_not_reply_is_said(tmp_path: Path, reply: Any, said: str) -> None:
    with serving(lambda *_: (200, reply)) as url, pytest.raises(ServerError, match=said):
        completed(url, tmp_path)
