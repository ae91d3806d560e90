"""Run a transformers model with continuous batching, in one thread.

Each step adds a token to every sequence whose prompt has been read. Sequences join and leave between steps. A
step also reads up to `READ` tokens of new prompts, so that a long prompt does not block the other sequences.
A prefix that prompts share is read once. Each sequence has its own seed. The other sequences of a batch
change only the last bits of a sequence's logits. Temperature is applied before top-p, as in the other
engines. llguidance enforces forms (`Sampling.form`).
"""

from __future__ import annotations

import importlib.util
import logging
import math
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from redraft.chain import Finish
from redraft.engines.base import Delta, Likeliest, Sampling
from redraft.engines.hf.cache import Pass, Slots, Windows, common_start, forward
from redraft.engines.text import FinalText, Spelling, Tokenizer
from redraft.errors import EngineError

_warn = lru_cache(logging.getLogger(__name__).warning)  # logs each message once

READ = 512  # tokens of prompts that one step reads. Larger parts are no faster, and delay other sequences.
WORTH = 16  # a prompt waits while another reads at least this many of the same tokens; waiting costs a pass
_PADDING = 0  # pads the shorter prompts of a pass. No token sees it, and the next pass overwrites it.


Chances = tuple[float, Likeliest]
"""The log-probability of a token, and the most probable tokens at the same position."""


def installed() -> bool:
    """Return whether llguidance is installed, which enforces `Sampling.form`."""
    return importlib.util.find_spec("llguidance") is not None


class Guide:
    """Tells which tokens a grammar allows next in one text. If llguidance fails (`lost`), all are allowed."""

    def __init__(self, grammar: str, tokenizer: Tokenizer, ends: frozenset[int]) -> None:
        from llguidance import LLMatcher

        self._name = tokenizer.name
        self.lost = False
        try:
            known = tokenizer.for_grammars(ends)
        except ValueError as error:  # the tokenizer's tokens do not spell bytes
            self._lose(str(error))
        else:
            self._matcher = LLMatcher(known, grammar, log_level=0)

    def take(self, token: int) -> None:
        """Advance by an allowed token."""
        if not self.lost:
            self._matcher.consume_token(token)

    def allowed(self, size: int) -> torch.Tensor:
        """Return the mask of the tokens that may come next, of shape (size,)."""
        mask = b"" if self.lost else self._matcher.compute_bitmask()
        if not self.lost and (error := self._matcher.get_error()):
            self._lose(error)
        if self.lost:
            return torch.ones(size, dtype=torch.bool)
        bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")
        return torch.from_numpy(bits[:size]).bool()

    def _lose(self, error: str) -> None:
        self.lost = True
        _warn("checks cannot steer %s, only test its answers: %.200s", self._name, error)


def guided(logits: torch.Tensor, guides: Sequence[Guide | None]) -> torch.Tensor:
    """Return the logits with -inf for tokens that the guides forbid, shape (sequences, vocabulary)."""
    if not any(guides):
        return logits
    size = logits.shape[-1]
    every = torch.ones(size, dtype=torch.bool)
    allowed = torch.stack([guide.allowed(size) if guide else every for guide in guides])
    return logits.masked_fill(~allowed.to(logits.device), -torch.inf)


@dataclass
class Slot:
    """A slot of the cache, for one sequence."""

    number: int
    # The computed tokens. They stay after the sequence ends, for another sequence with this prefix.
    tokens: list[int] = field(default_factory=list)
    used: int = 0


@dataclass(eq=False)
class Request:
    """A sequence to continue."""

    tokens: list[int]  # the prompt and the generated tokens
    sampling: Sampling
    room: int
    limit: Finish
    spelling: Spelling
    # Takes each delta, or the error that ended the sequence. Called in the batch's thread.
    deliver: Callable[[Delta | BaseException], None]
    guide: Guide | None = None
    cancelled: bool = False
    slot: Slot = field(default_factory=lambda: Slot(-1))
    cached: int = 0

    def __post_init__(self) -> None:
        self.asked = len(self.tokens)
        self._chances: list[Chances] = []
        self.random = random.Random(self.sampling.seed)  # noqa: S311  (not for secrets)

    @property
    def left(self) -> int:
        """Number of tokens that the model has not read yet; 1 during generation."""
        return len(self.tokens) - len(self.slot.tokens)

    @property
    def made(self) -> int:
        """Number of tokens generated so far."""
        return len(self.tokens) - self.asked

    def take(self, token: int, chances: Chances | None, *, ends: bool) -> bool:
        """Add a token, and deliver the text that is now final. Return whether the sequence is complete.

        `chances` is None if the caller did not ask for log-probabilities.
        """
        self.tokens.append(token)
        if self.guide:
            self.guide.take(token)
        if chances is not None and self.sampling.logprobs:
            self._chances.append(chances)
        made = self.made
        piece = self.spelling.end(token) if ends else self.spelling.add(token)
        finish: Finish | None = "stop" if ends or piece.stop_text is not None else None
        if finish is None and made >= self.room:
            rest = self.spelling.end()
            piece = FinalText(piece.text + rest.text, piece.tokens + rest.tokens, rest.stop_text)
            finish = self.limit if rest.stop_text is None else "stop"
        # Tokens are released in order, so the oldest chances belong to them.
        released = self._chances[: len(piece.tokens)]
        del self._chances[: len(piece.tokens)]
        most = self.sampling.top_logprobs
        likeliest = tuple(each[:most] for _, each in released) if most else ()
        logprobs = tuple(number for number, _ in released)
        delta = Delta(piece.text, piece.tokens, logprobs=logprobs, likeliest=likeliest)
        if finish:
            delta = replace(delta, finish=finish, stop_text=piece.stop_text, prompt_tokens=self.asked)
            self.deliver(replace(delta, cached_tokens=self.cached, completion_tokens=made))
        elif piece.tokens:
            self.deliver(delta)
        return finish is not None


class Batch:
    """A thread that runs a model on a batch of sequences.

    Args:
        model: A causal language model that passed `load.check_model`.
        size: Size of the tokenizer's vocabulary. Token ids from `size` on are never sampled.
        windows: Window length of each type of attention layer, in tokens; None for full attention.
        least: Minimum number of generated tokens in a sequence.
        tempered: Whether to report log-probabilities after temperature. If so, no temperature may be 0.
    """

    def __init__(
        self,
        model: Any,
        *,
        slots: int,
        context: int,
        ends: frozenset[int],
        size: int,
        windows: Windows,
        threads: int | None = None,
        least: int = 0,
        tempered: bool = False,
    ) -> None:
        self._least, self._tempered = least, tempered
        self._model, self._ends, self._size, self._windows = model, ends, size, windows
        self._context, self._threads = context, threads
        self._slots = [Slot(number) for number in range(slots)]
        self._forget()
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._given = 0
        self._scoring = self._held = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="redraft-hf", daemon=True)
        self._thread.start()

    def add(self, request: Request) -> None:
        """Add a sequence. To cancel the sequence, set `request.cancelled` at any time."""
        with self._changed:
            self._check_open()
            self._waiting.append(request)
            self._changed.notify_all()

    def score(self, texts: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
        """Return the log-probability of each token after the first, for each text.

        This blocks the caller's thread.
        """
        with self._changed:
            while self._held and not self._closed:
                self._changed.wait()
            self._check_open()
            self._scoring += 1
        found: list[tuple[float, ...]] = [()] * len(texts)
        try:
            for group in alike([len(text) for text in texts], READ):
                scores = _scores(self._model, [texts[number] for number in group], self._size, self._windows)
                for number, row in zip(group, scores, strict=True):
                    found[number] = tuple(row[: len(texts[number]) - 1])
            return found
        finally:
            with self._changed:
                self._scoring -= 1

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine was closed.", hint="Load the model again.")

    def hold(self) -> None:
        """Start no new sequence or scoring until `release`. Active sequences continue (see `busy`)."""
        with self._changed:
            self._held += 1

    @property
    def busy(self) -> bool:
        """Whether any sequence or scoring is active."""
        with self._changed:
            return bool(self._running or self._scoring)

    def release(self) -> None:
        """Resume after `hold`. Empty the cache if no sequence is active."""
        with self._changed:
            self._held -= 1
            if not (self._held or self._running):  # the weights may have changed
                self._model.eval()
                self._forget()
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread, and all sequences, after the current step."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while self._admit():
            try:
                with torch.inference_mode():
                    # `_continue` reads the last tokens of prompts, and draws from them.
                    if prompts := self._next_prompts():
                        parts = [request.tokens[len(request.slot.tokens) : -1][:READ] for request in prompts]
                        self._forward(prompts, parts)
                    if ready := [request for request in self._running if request.left == 1]:
                        self._continue(sorted(ready, key=lambda request: request.slot.number))
            except Exception as error:  # noqa: BLE001  (streams must not wait for ever)
                self._fail(error)
        self._fail(EngineError("the engine was closed during an answer."))

    def _admit(self) -> bool:
        with self._changed:
            while not self._closed:
                self._waiting = [request for request in self._waiting if not request.cancelled]
                self._running = [request for request in self._running if not request.cancelled]
                while self._waiting and not self._held and len(self._running) < len(self._slots):
                    self._begin(self._waiting.pop(0))
                if self._running:
                    return True
                self._changed.wait()
        return False

    def _begin(self, request: Request) -> None:
        taken = {running.slot.number for running in self._running}
        free = [slot for slot in self._slots if slot.number not in taken]
        slot = max(free, key=lambda slot: (common_start(slot.tokens, request.tokens), -slot.used))
        self._given += 1
        slot.used = self._given
        # The last token of a prompt is always computed, because its logits give the next token.
        request.cached = min(common_start(slot.tokens, request.tokens), len(request.tokens) - 1)
        del slot.tokens[request.cached :]
        request.slot = slot
        self._running.append(request)

    def _next_prompts(self) -> list[Request]:
        chosen: list[Request] = []
        width = start = 0
        for request in self._running:
            if self._reads(request):
                wider = max(width, min(request.left - 1, READ))
                later = max(start, len(request.slot.tokens))
                if chosen and ((len(chosen) + 1) * wider > READ or later + wider > self._context):
                    break
                chosen.append(request)
                width, start = wider, later
        return sorted(chosen, key=lambda request: request.slot.number)

    def _reads(self, request: Request) -> bool:
        if request.left <= 1:
            return False
        for other in self._running[: self._running.index(request)]:
            have, tokens = len(request.slot.tokens), request.tokens
            if other.tokens[: have + WORTH] != tokens[: have + WORTH]:
                continue
            common = min(common_start(other.tokens, tokens), len(tokens) - 1)
            there = min(common, len(other.slot.tokens))
            if there > have:
                self._cache.copy(other.slot.number, request.slot.number, there)
                request.slot.tokens, request.cached = tokens[:there], there
            if there < common:
                return False
        return request.left > 1

    def _continue(self, requests: Sequence[Request]) -> None:
        parts = [request.tokens[-1:] for request in requests]
        logits = self._forward(requests, parts)[:, -1, : self._size].float()
        for row, request in enumerate(requests):
            early = request.made < self._least or request.sampling.unending
            logits[row, sorted(request.sampling.banned | (self._ends if early else frozenset()))] = -math.inf
            for likely, more in request.sampling.likelier:
                logits[row, likely] += more
        drawn = draw(
            guided(logits, [request.guide for request in requests]),
            [request.sampling for request in requests],
            [request.random.random() for request in requests],
        )
        wanted = any(request.sampling.logprobs for request in requests)
        if wanted and self._tempered:
            logits /= torch.tensor([[each.sampling.temperature] for each in requests], device=logits.device)
        most = max(request.sampling.top_logprobs for request in requests)
        found = _chances(logits, drawn, most) if wanted else [None] * len(requests)
        for request, token, chances in zip(requests, drawn, found, strict=True):
            if token is None:
                self._running.remove(request)
                request.slot.tokens.clear()
                read = len(request.tokens)
                said = f"the model's logits are not finite (NaN or infinity) after {read} tokens."
                hint = "Its training may have diverged. Count bad weights: redraft weights verify FOLDER"
                request.deliver(EngineError(said, hint=hint))
            elif request.take(token, chances, ends=token in self._ends):
                self._running.remove(request)

    def _forward(self, requests: Sequence[Request], parts: Sequence[list[int]]) -> torch.Tensor:
        width = max(map(len, parts))
        slots = [request.slot for request in requests]
        step = Pass(tuple(slot.number for slot in slots), tuple(len(slot.tokens) for slot in slots), width)
        ids = [part + [_PADDING] * (width - len(part)) for part in parts]
        logits = forward(self._model, self._cache, self._windows, ids, step)
        for request, part in zip(requests, parts, strict=True):
            request.slot.tokens.extend(part)
        return logits

    def _forget(self) -> None:
        self._cache = Slots(self._model, len(self._slots), self._context)
        for slot in self._slots:
            slot.tokens.clear()

    def _fail(self, error: Exception) -> None:
        reported = EngineError(f"transformers failed: {type(error).__name__}: {str(error)[:300]}")
        if isinstance(error, EngineError):
            reported = error
        elif isinstance(error, torch.OutOfMemoryError):
            reported = EngineError(
                "the GPU has too little memory for this many sequences of this length.",
                hint="Try a smaller --ctx, fewer streams (--parallel N), or --gpu-layers 0.",
            )
        with self._changed:
            self._forget()
            ended = [*self._running, *(self._waiting if self._closed else [])]
            self._running = []
        for request in ended:
            request.deliver(reported)


def alike(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group the indices of texts by length, with at most `most` tokens in a group, including padding."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * lengths[number] <= most:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _scores(model: Any, texts: Sequence[Sequence[int]], size: int, windows: Windows) -> list[list[float]]:
    rows, width = len(texts), max(map(len, texts))
    padded = [[*text, *[_PADDING] * (width - len(text))] for text in texts]
    cache, found = Slots(model, rows, width), [torch.zeros(rows, 0)]
    with torch.inference_mode():
        for start in range(0, width - 1, READ):
            ids = [row[start : min(start + READ, width - 1)] for row in padded]
            count = len(ids[0])
            step = Pass(tuple(range(rows)), (start,) * rows, count)
            logits = forward(model, cache, windows, ids, step, keep=count)[..., :size].float()
            following = torch.tensor([row[start + 1 : start + 1 + count] for row in padded])
            chosen = torch.log_softmax(logits, dim=-1).gather(-1, following[..., None].to(logits.device))
            found.append(chosen[..., 0].cpu())
    scores: list[list[float]] = torch.cat(found, dim=1).tolist()
    return scores


def draw(logits: torch.Tensor, samplings: Sequence[Sampling], numbers: Sequence[float]) -> list[int | None]:
    """Draw one token for each sequence, from logits of the shape (sequences, vocabulary).

    `numbers` are uniform random numbers in [0, 1), one for each sequence. Return token ids, with None where
    the logits are not finite.
    """
    drawn = logits.argmax(dim=-1)
    for nucleus in (False, True):
        rows = [row for row, how in enumerate(samplings) if how.temperature and (how.top_p < 1) == nucleus]
        if rows:
            chosen = [samplings[row] for row in rows]
            drawn[rows] = _drawn(logits[rows], chosen, [numbers[row] for row in rows])
    sound = logits.amax(dim=-1).isfinite().tolist()
    return [token if good else None for token, good in zip(drawn.tolist(), sound, strict=True)]


def _drawn(logits: torch.Tensor, samplings: Sequence[Sampling], numbers: Sequence[float]) -> torch.Tensor:
    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.double, device=logits.device)[:, None]

    chances = torch.softmax(logits.double() / column([how.temperature for how in samplings]), dim=-1)
    ids = None
    if samplings[0].top_p < 1:
        chances, ids = chances.sort(descending=True)
        # A token is in the nucleus if the likelier ones do not fill it.
        filled = chances.cumsum(-1) - chances >= column([how.top_p for how in samplings])
        chances = chances.masked_fill(filled, 0)
    sums = chances.cumsum(-1)
    at = torch.searchsorted(sums, column(numbers) * sums[:, -1:], right=True).clamp_(max=sums.shape[-1] - 1)
    return (at if ids is None else ids.gather(-1, at))[:, 0]


def _chances(logits: torch.Tensor, drawn: Sequence[int | None], most: int) -> list[Chances]:
    """Return each drawn token's log-probability, and the `most` most probable tokens at the same position.

    Where `drawn` is None, return the log-probability of token 0.
    """
    ids = torch.tensor([token or 0 for token in drawn], device=logits.device)
    logs = torch.log_softmax(logits, dim=-1)
    chosen: list[float] = logs.gather(-1, ids[:, None])[:, 0].tolist()
    best = logs.topk(min(most, logs.shape[-1]))
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(number, tuple(zip(*top, strict=True))) for number, top in zip(chosen, tops, strict=True)]
