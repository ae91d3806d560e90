"""Write responses to prompts that are given as tokens: in this process, or with a server."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import isfinite
from pathlib import Path
from typing import Any

from redraft.chain import whole
from redraft.engines.base import Sampling, Tokens
from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.load import ends_of
from redraft.errors import ServerError, shown
from redraft.jobs.signals import unless_stopped
from redraft.train.model.load import save_weights
from redraft.train.processes import gathered, place
from redraft.train.rl.posting import Posted, content, posted
from redraft.weights.replace import replace_folder

ADAPTER = "rollout-adapter"  # the folder of the adapter, in the output folder
_LOADED = "already been loaded"  # what vLLM says of an adapter that it has
RESPONSE_SECONDS = 600.0  # the time limit of a response
DIGITS = 6  # decimal places of a sampler's log-probability: less than what 32 bits round of −10


@dataclass(frozen=True)
class Response:
    """What the policy wrote.

    Attributes:
        tokens: The ids that were drawn, the stop token too.
        text: Their text, without the stop token.
        log_probs: What the sampler said of each token at the temperature, in nats; none if it does not say.
    """

    tokens: Tokens
    text: str
    ended: bool
    log_probs: tuple[float, ...] = ()


def ends_of_model(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a response, as in use. Turns may end otherwise than texts."""
    return ends_of(tokenizer, model.config.to_dict(), model.generation_config.to_dict())


class Sampler:
    """Writes responses with the transformers engine, on the weights that are being trained.

    The engine takes the model as it is in memory, without peft for the time of a rollout batch. A chunk of
    prompts begins together and ends before the next begins, so that a chunk that is repeated after a stop is
    computed in the same batches, and gives the same responses.

    Args:
        model: A causal language model without peft (`policy.unwrapped`).
        ctx: The most tokens of prompt and response.
        parallel: Responses at once.
        least: Tokens that a response has at least.
    """

    def __init__(self, model: Any, tokenizer: Any, *, ctx: int, parallel: int, least: int = 0) -> None:
        ends = ends_of_model(model, tokenizer)
        self._engine = HfEngine(
            model,
            tokenizer,
            name="policy",
            ctx=ctx,
            parallel=parallel,
            ends=ends,
            least=least,
            tempered=True,
        )

    async def chunk(self, prompts: Sequence[Tokens], samplings: Sequence[Sampling]) -> list[Response]:
        """Write a response to each prompt, all in the same batches."""
        async with self._engine.paused():  # the cache is empty, and none begins before all are there
            pairs = zip(prompts, samplings, strict=True)
            begun = [asyncio.ensure_future(self._one(*pair)) for pair in pairs]
            await asyncio.sleep(0)
        return await asyncio.gather(*begun)

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
        said = tuple(round(each, DIGITS) for each in log_probs)
        return Response(tuple(tokens), "".join(texts), ended, said)

    async def aclose(self) -> None:
        """End the engine's thread."""
        await self._engine.aclose()


class ServerSampler:
    """Writes responses with a server that loads the adapter, for models that are slow in transformers.

    The server speaks the API of vLLM. At each rollout batch, the adapter is written into a folder that the
    server must see, and `POST /v1/load_lora_adapter` names it. `POST /v1/completions` then takes prompts as
    token ids, and must return the ids that it drew: a text may have other tokens, and those would be trained.
    A server without them is refused.

    Each adapter has a name of its own, by its content. A server that loads another one under the same name
    may go on with prompts that it has cached for the first (vLLM issue 42125).

    The policy learns from log-probabilities that are computed in this process, as for all responses. A server
    computes in another order and number format, so a resumed run does not repeat its responses to the last
    token, and its own log-probabilities correct for the difference (`algorithm.importance_weights`).

    Args:
        url: Where the API is, such as http://127.0.0.1:8000/v1.
        least: Tokens that a response has at least.
    """

    def __init__(
        self, url: str, folder: Path, *, least: int = 0, ends: Callable[[], frozenset[int]] = frozenset
    ) -> None:
        self._ends = ends
        self._url, self._folder, self._least = url.rstrip("/"), folder.resolve() / ADAPTER, least
        self._name = ""

    async def load(self, model: Any) -> None:
        """Load the adapter of a model, in place of an earlier one. The first process does it for all.

        A signal ends this early.
        """
        loaded = self._name if place()[0] else await unless_stopped(self._loaded(model))
        self._name = gathered(loaded)[0] or self._name

    async def chunk(self, prompts: Sequence[Tokens], samplings: Sequence[Sampling]) -> list[Response]:
        """Write a response to each prompt."""
        return await asyncio.gather(*map(self._one, prompts, samplings))

    async def _loaded(self, model: Any) -> str:
        before = {_name(self._folder)} if self._folder.is_dir() else set()  # perhaps of an earlier session
        self._save(model)
        name = _name(self._folder)
        for earlier in before | {name}:  # the server may have it from another folder
            await self._told("unload_lora_adapter", lora_name=earlier)
        response = await self._told("load_lora_adapter", lora_name=name, lora_path=str(self._folder))
        # It has these weights already if the reply to a request that succeeded was lost.
        if response.status != HTTPStatus.OK and _LOADED not in response.text:
            raise ServerError(
                f"{self._url} does not load the adapter: status {response.status}, {response.text:.200}",
                hint="Start vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora and a high enough "
                f"--max-lora-rank, where it sees {self._folder}.",
            )
        return name

    def _save(self, model: Any) -> None:
        aside = self._folder.with_name(f".saving-{ADAPTER}")
        shutil.rmtree(aside, ignore_errors=True)  # left by a run that died
        save_weights(model, aside)
        replace_folder(aside, self._folder)

    async def _told(self, what: str, **body: str) -> Posted:
        return await posted(f"{self._url}/{what}", body, wanted="adapter")

    async def _one(self, prompt: Tokens, sampling: Sampling) -> Response:
        body = {
            "model": self._name,
            "prompt": list(prompt),
            "max_tokens": sampling.max_tokens,
            "min_tokens": self._least,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop_token_ids": sorted(self._ends()),
            "return_token_ids": True,
            **({"logprobs": 1} if sampling.temperature == 1 else {}),  # vLLM's are before temperature
            # Else vLLM takes them from the model's folder, and draws from another distribution than π.
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
        reply = content(
            await posted(f"{self._url}/completions", body, wanted="answer", seconds=RESPONSE_SECONDS)
        )
        try:
            (choice,) = reply["choices"]
            text, ended = whole(choice["text"]), choice["finish_reason"] == "stop"
            tokens, said = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ServerError(f"{self._url} replied with no completion: {shown(reply)}.") from None
        if not (isinstance(tokens, list) and all(isinstance(each, int) for each in tokens)):
            raise ServerError(
                f"{self._url} replied without the token ids that it drew.",
                hint="vLLM returns them from 0.10.2 on (return_token_ids). A text may have other tokens.",
            )
        if not (isinstance(said, list) and len(said) == len(tokens)):
            said = ()
        if not all(isinstance(each, int | float) and isfinite(each) for each in said):
            said = ()
        return Response(tuple(tokens), text, ended, tuple(float(each) for each in said))


def _name(folder: Path) -> str:
    """Return the name of an adapter, by its weights and settings."""
    digest = hashlib.sha256()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        digest.update((folder / name).read_bytes())
    return f"redraft-{digest.hexdigest()[:16]}"
