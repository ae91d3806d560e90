"""Write greedy texts with log-probabilities in llama.cpp and in transformers, and compare them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from material import QUESTIONS
from redraft.engines.llamacpp.engine import Child

TOP = 20
LISTED = 3 * TOP
"""The number of requested log-probabilities. It exceeds 20, because one side's top 20 may be further down in
the list of the other."""

WAYS = ("{}", "Answer in one sentence. {}", "Explain it to a child. {}")


@dataclass(frozen=True)
class Step:
    token: int  # its id
    top: dict[int, float]  # the most likely tokens and their log-probabilities, from the first down


Text = list[Step]


@dataclass(frozen=True)
class Agreement:
    same: float  # the share of texts that have the same tokens on both sides
    common: float  # the share of tokens before the texts of both sides differ
    # The largest difference of a log-probability in one side's top 20, in nats, up to the first token that
    # differs.
    difference: float


def questions(count: int) -> list[str]:
    return [way.format(question) for way in WAYS for question in QUESTIONS][:count]


def agreement(ours: Sequence[Text], theirs: Sequence[Text]) -> Agreement:
    pairs = list(zip(ours, theirs, strict=True))
    shared = [common(one, other) for one, other in pairs]
    return Agreement(
        sum(n == len(one) == len(other) for n, (one, other) in zip(shared, pairs, strict=True)) / len(pairs),
        sum(shared) / sum(len(one) for one in ours),
        max(
            difference(a, b)
            for n, (one, other) in zip(shared, pairs, strict=True)
            for a, b in zip(one[: n + 1], other[: n + 1], strict=False)
        ),
    )


def common(one: Text, other: Text) -> int:
    parts = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a.token != b.token)
    return next(parts, min(len(one), len(other)))


def difference(one: Step, other: Step) -> float:
    """Return the largest difference in the top 20 of `one`. Tokens that `other` lacks get its least value."""
    floor = min(other.top.values())
    return max(abs(value - other.top.get(token, floor)) for token, value in list(one.top.items())[:TOP])


def in_llamacpp(model: Path, adapters: Sequence[Path], asked: Sequence[str], tokens: int) -> list[Text]:
    return asyncio.run(_in_llamacpp(model, adapters, asked, tokens))


async def _in_llamacpp(
    model: Path, adapters: Sequence[Path], asked: Sequence[str], tokens: int
) -> list[Text]:
    child = await Child.start(
        {
            "model": str(model),
            "adapters": [str(path) for path in adapters],
            "context": 1024,
            "parallel": 1,
            "threads": None,
            "gpu_layers": 0,
            "gpu": False,
            "speculate": False,
            "key": "",
        }
    )
    async with aclosing(child):
        return [await _answer(child, question, tokens) for question in asked]


async def _answer(child: Child, question: str, tokens: int) -> Text:
    template = {"messages": [{"role": "user", "content": question}]}
    prompt = (await child.post("/apply-template", template))["prompt"]
    request = {"prompt": prompt, "n_predict": tokens, "temperature": 0.0, "n_probs": LISTED}
    reply = await child.post("/completion", request | {"ignore_eos": True, "cache_prompt": False})
    return [
        Step(step["id"], {each["id"]: each["logprob"] for each in step["top_logprobs"]})
        for step in reply["completion_probabilities"]
    ]


def in_transformers(model: Any, tokenizer: Any, tokens: int) -> Callable[[str], Text]:
    import torch

    def write(question: str) -> Text:
        message = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        feed = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        text: Text = []
        cache = None
        with torch.inference_mode():
            while len(text) < tokens:
                out = model(feed, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
                text.append(_step(out.logits[0, -1]))
                feed = torch.tensor([[text[-1].token]])
        return text

    return write


def _step(logits: Any) -> Step:
    values, ids = logits.float().log_softmax(-1).topk(LISTED)
    top = dict(zip(ids.tolist(), values.tolist(), strict=True))
    return Step(next(iter(top)), top)
