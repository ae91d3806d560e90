"""Define the policy with its value head, the reference policy, and the sampler of responses.

The value head reads the policy's last hidden state (a shared trunk). The reference policy is the same model
with the adapter switched off, so that no weights are stored twice. While responses are sampled, `unwrapped`
replaces peft's layers by plain layers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear

from redraft.chain import Chain, Finish, Step
from redraft.engines.base import Sampling, Tokens
from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.load import ends_of
from redraft.jobs.lines import LineFile, parse_line, read_lines
from redraft.train import SAMPLES, attention
from redraft.train.loss import has_plain_head
from redraft.train.options import PpoOptions
from redraft.train.rl.algorithm import log_probs_and_entropy
from redraft.train.verb import bare_of


class Seen(NamedTuple):
    """A policy's outputs for given responses, each of shape [sequences, tokens] and 0 at padding."""

    log_probs: Tensor
    entropy: Tensor
    values: Tensor


class Policy(nn.Module):
    """A policy in training, with a value head."""

    def __init__(self, model: PeftModel, own: PpoOptions) -> None:
        super().__init__()
        self.model, self.own, self.config = model, own, model.config
        self._plain = has_plain_head(bare_of(model))  # False if the model bounds or scales its logits
        # Zeros: an untrained head then changes no advantage.
        self.value_head = nn.Linear(model.config.get_text_config().hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.value_head.requires_grad_(own.algorithm == "ppo")  # the other algorithms have no value loss

    def see(self, input_ids: Tensor, starts: Tensor, mask: Tensor) -> Seen:
        """Compute log-probabilities, entropy and values of responses.

        Args:
            input_ids: Prompts and responses, [sequences, length], padded on the right.
            starts: The index of each response's first token, [sequences].
            mask: Real tokens of the responses, bool [sequences, tokens].
        """
        places = starts[:, None] + torch.arange(mask.shape[1], device=mask.device)
        rows = torch.arange(len(mask), device=mask.device)[:, None].expand_as(places)
        tokens = input_ids[rows[mask], places[mask]]
        # Read the state from which each real token was drawn.
        lengths = (starts + mask.sum(1) - 1).clamp(min=1).tolist()  # the last tokens are not read
        before, logits = self._computed(input_ids, lengths, (rows[mask], places[mask] - 1))
        log_probs, entropy = log_probs_and_entropy(logits[None], tokens[None], self.own.temperature)
        values = self.value_head(before.to(self.value_head.weight.dtype))[:, 0]
        empty = torch.zeros(mask.shape, device=mask.device)
        found = (each.float() for each in (log_probs[0], entropy[0], values))
        return Seen(*(empty.masked_scatter(mask, each) for each in found))  # 0 at padding

    def _computed(
        self, input_ids: Tensor, lengths: list[int], at: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        bare = bare_of(self.model)
        inputs: dict[str, Any] = {"input_ids": input_ids}
        if self.branches:
            tree = tree_of([row[:length] for row, length in zip(input_ids.tolist(), lengths, strict=True)])
            inputs = {"input_ids": tree.ids, "position_ids": tree.positions, "branches": tree.branches}
            at = (torch.zeros_like(at[0]), tree.places[at])
        if self._plain:
            hidden = bare.base_model(**inputs, use_cache=False).last_hidden_state[at]
            return hidden, bare.get_output_embeddings()(hidden)
        whole = bare(**inputs, use_cache=False, output_hidden_states=True)
        return whole.hidden_states[-1][at], whole.logits[at]

    @property
    def branches(self) -> bool:
        """Whether a prefix shared by several rows is computed once."""
        bare = bare_of(self.model)
        attends: str = bare.config._attn_implementation  # noqa: SLF001 - the only way to ask
        return bare.device.type == "cpu" and attends == attention.NAME  # on a GPU, once per row is faster

    def see_reference(self, input_ids: Tensor, starts: Tensor, mask: Tensor) -> Tensor:
        """Return the responses' log-probabilities under the policy before training."""
        with self.model.disable_adapter():
            return self.see(input_ids, starts, mask).log_probs


@contextmanager
def unwrapped(model: Any) -> Iterator[Any]:
    """Yield the model with plain layers in place of peft's layers. Restore peft's layers at the end."""
    bare = bare_of(model)
    adapted = [(name, each) for name, each in bare.named_modules() if isinstance(each, LoraLayer)]
    with swapped(bare, {name: _plain(each) for name, each in adapted}):
        yield bare


class _Beside(nn.Module):
    def __init__(self, base: Any, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.base = base
        self.down: Tensor
        self.up: Tensor
        self.register_buffer("down", down.to(base.weight.dtype), persistent=False)
        self.register_buffer("up", up.to(base.weight.dtype), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        found: Tensor = self.base(states) + linear(linear(states, self.down), self.up)
        return found


@torch.no_grad()
def _plain(layer: Any) -> nn.Module:
    base, names = layer.get_base_layer(), layer.active_adapters
    down = torch.cat([layer.lora_A[name].weight for name in names])
    up = torch.cat([layer.lora_B[name].weight * layer.scaling[name] for name in names], 1)
    # Merging is fastest, but 16 bits are too coarse: after a step with a learning rate of 2e-4, 95 % of the
    # weights would stay unchanged.
    if base.weight.dtype != torch.float32:
        return _Beside(base, down, up)
    plain = nn.Linear(1, 1, bias=False, device="meta")
    plain.weight = nn.Parameter(torch.addmm(base.weight, up, down), requires_grad=False)
    plain.bias = base.bias
    return plain


@contextmanager
def swapped(model: Any, others: Mapping[str, nn.Module]) -> Iterator[Any]:
    """Replace modules of a model by the modules in `others`, by name. Restore the old modules at the end."""
    own = {name: model.get_submodule(name) for name in others}
    try:
        for name, each in others.items():
            model.set_submodule(name, each)
        yield model
    finally:
        for name, each in own.items():
            model.set_submodule(name, each)


# The rows of a batch as a tree: a prefix that several rows share is computed once. All prompts of a template
# begin alike, and all rows of one prompt contain it. The tokens of the tree are one row: each branch
# attends to itself and to the branches above it (`attention`).

WORTH = 4  # minimum tokens of a shared prefix, because each branch costs a call of attention per layer


class Branch(NamedTuple):
    """A branch of a `Tree`: consecutive tokens that one row, or a group of rows, contains."""

    tokens: int  # the number of tokens
    above: tuple[int, ...]  # the indices of the branches before them


class Tree(NamedTuple):
    """Rows of tokens in which each shared prefix is stored once, before the tokens that follow."""

    ids: Tensor  # int64 [1, tokens]
    positions: Tensor  # the position of each token in its rows, int64 [1, tokens]
    places: Tensor  # the index in `ids` of each row's tokens, int64 [rows, length]; 0 at padding
    branches: tuple[Branch, ...]


def tree_of(rows: Sequence[Sequence[int]]) -> Tree:
    """Convert rows of tokens to a tree, which stores long shared prefixes once."""
    ids: list[int] = []
    positions: list[int] = []
    branches: list[Branch] = []
    places = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)

    def grow(numbers: list[int], at: int, above: tuple[int, ...]) -> None:
        row = rows[numbers[0]]
        end = at + _common(rows, numbers, at)
        if end > at:
            for number in numbers:
                places[number, at:end] = torch.arange(len(ids), len(ids) + end - at)
            above = (*above, len(branches))
            branches.append(Branch(end - at, above[:-1]))
            ids.extend(row[at:end])
            positions.extend(range(at, end))
        for group in _groups(rows, [number for number in numbers if len(rows[number]) > end], end):
            grow(group, end, above)

    grow(list(range(len(rows))), 0, ())
    return Tree(torch.tensor([ids]), torch.tensor([positions]), places, tuple(branches))


def _common(rows: Sequence[Sequence[int]], numbers: Sequence[int], at: int) -> int:
    columns = zip(*(rows[number][at:] for number in numbers), strict=False)
    return sum(1 for _ in takewhile(lambda column: len({*column}) == 1, columns))


def _groups(rows: Sequence[Sequence[int]], numbers: Sequence[int], at: int) -> Iterator[list[int]]:
    found: dict[int, list[int]] = {}
    for number in numbers:
        found.setdefault(rows[number][at], []).append(number)
    for group in found.values():
        if _common(rows, group, at) >= WORTH:
            yield group
        else:
            yield from ([number] for number in group)


DIGITS = 6  # decimal places of a sampler's log-probability: about the precision of −10 in 32 bits


@dataclass(frozen=True)
class Response:
    """A response of the policy."""

    tokens: Tokens  # the ids that were drawn, with the stop token
    text: str  # their text, without the stop token
    ended: bool
    log_probs: tuple[float, ...] = ()  # the sampler's, one per token, in nats; or empty


class Sampler:
    """Samples responses with the transformers engine and the weights that are being trained.

    A rollout batch that is repeated after a stop has the same responses. A prompt and its response together
    have at most `ctx` tokens. A response has at least `least` tokens.
    """

    ended = tokens = 0  # counts of all responses
    on_token: Callable[[], object] = staticmethod(lambda: None)  # called after each piece of a response

    def __init__(self, model: Any, tokenizer: Any, *, ctx: int, parallel: int, least: int = 0) -> None:
        # The end tokens of inference. Chat turns may end with other tokens than plain texts.
        ends = ends_of(tokenizer, model.config.to_dict(), model.generation_config.to_dict())
        self._engine = HfEngine(
            model, tokenizer, name="policy", ctx=ctx, parallel=parallel, ends=ends, least=least, tempered=True
        )
        self._begun: list[asyncio.Task[Response]] = []

    async def begin(self, asked: Iterable[tuple[Tokens, Sampling]]) -> list[asyncio.Task[Response]]:
        """Begin to sample a response to each prompt, up to `parallel` at a time. Call this only once."""
        async with self._engine.paused():  # the cache is empty, and no prompt begins before all are queued
            self._begun = [asyncio.create_task(self._one(*each)) for each in asked]
            await asyncio.sleep(0)
        return self._begun

    async def _one(self, prompt: Tokens, sampling: Sampling) -> Response:
        tokens: list[int] = []
        texts: list[str] = []
        log_probs: list[float] = []
        ended = False
        async with aclosing(self._engine.stream(prompt, replace(sampling, logprobs=True))) as deltas:
            async for delta in deltas:
                tokens += delta.tokens
                texts.append(delta.text)
                log_probs += delta.logprobs
                ended = delta.finish == "stop"
                self.tokens += len(delta.tokens)
                self.ended += delta.finish is not None
                self.on_token()
        said = tuple(round(each, DIGITS) for each in log_probs)
        return Response(tuple(tokens), "".join(texts), ended, said)

    async def aclose(self) -> None:
        """Cancel the unfinished responses, and close the engine."""
        for task in self._begun:
            task.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)
        await self._engine.aclose()


def recorded(record: Chain, response: Response) -> Chain:
    """Return a copy of a record with the response as the answer."""
    finish: Finish = "stop" if response.ended else "max_tokens"
    return record.model_copy(update={"steps": (Step(answer=response.text, finish=finish),), "best": 0})


class Samples:
    """Writes `samples.jsonl`, which contains every response of a run with its reward.

    A resumed run keeps the lines of earlier rollout batches. Call `open` in the first process only.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SAMPLES
        self._file: LineFile | None = None

    def open(self, since: int) -> None:
        """Open the file, and delete the lines of rollout batch `since` and all later batches."""
        if self._file:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = 0
        for line in read_lines(self._path):
            rollout = (parse_line(line) or {}).get("rollout")
            if not isinstance(rollout, int) or rollout >= since:
                break  # rollout batches are in order
            kept += len(line)
        self._file = LineFile(self._path, made_up=True)
        self._file.cut(kept)

    def add(
        self,
        rollout: int,
        rows: Sequence[int],
        records: Sequence[Chain],
        responses: Sequence[Response],
        scores: Sequence[Mapping[str, float]],
    ) -> None:
        """Write responses of a rollout batch. `scores` map each value of `--reward` to a weighted reward."""
        lines = [
            {
                "rollout": rollout,
                "row": row,
                "id": record.id,
                "prompt": record.prompt.said,
                "answer": response.text,
                "reward": sum(score.values()),
                **({"rewards": score} if len(score) > 1 else {}),
                "ended": response.ended,
                "tokens": response.tokens,
                **({"log_probs": response.log_probs} if response.log_probs else {}),
            }
            for row, record, response, score in zip(rows, records, responses, scores, strict=True)
        ]
        if self._file:
            self._file.append(*(json.dumps(line, ensure_ascii=False) for line in lines))
