"""What the policy writes, here or with a server: records with a score each, the lines of `samples.jsonl`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import isfinite
from pathlib import Path
from typing import Any

from redraft.chain import Chain, Finish, Step, whole
from redraft.engines.base import Sampling, Tokens
from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.load import ends_of
from redraft.errors import ServerError, shown
from redraft.jobs.lines import LineFile, parse_line, read_lines
from redraft.jobs.signals import unless_stopped
from redraft.train import SAMPLES
from redraft.train.load import save_weights
from redraft.train.processes import gathered, place
from redraft.train.rl.rewards import Posted, Rewards, content, posted
from redraft.weights.replace import replace_folder

ADAPTER = "rollout-adapter"  # the folder of the adapter, in the output folder
_LOADED = "already been loaded"  # what vLLM says of an adapter that it has
RESPONSE_SECONDS = 600.0  # the time limit of a response
DIGITS = 6  # decimal places of a sampler's log-probability: less than what 32 bits round of −10


@dataclass(frozen=True)
class Response:
    """What the policy wrote."""

    tokens: Tokens  # the ids that were drawn, the stop token too
    text: str  # their text, without the stop token
    ended: bool
    log_probs: tuple[float, ...] = ()  # what the sampler said of each token, in nats; none if nothing


def ends_of_model(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a response, as in use. Turns may end otherwise than texts."""
    return ends_of(tokenizer, model.config.to_dict(), model.generation_config.to_dict())


class Sampler:
    """Writes responses with the transformers engine, on the weights that are being trained.

    A chunk of prompts begins together and ends before the next begins, so that a chunk that is repeated after
    a stop is computed in the same batches, and gives the same responses. `ctx` is the most tokens of prompt
    and response, `least` the fewest of a response.
    """

    def __init__(self, model: Any, tokenizer: Any, *, ctx: int, parallel: int, least: int = 0) -> None:
        ends = ends_of_model(model, tokenizer)
        self._engine = HfEngine(
            model, tokenizer, name="policy", ctx=ctx, parallel=parallel, ends=ends, least=least, tempered=True
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

    The server speaks the API of vLLM (`url` is such as http://127.0.0.1:8000/v1). At each rollout batch, the
    adapter is written into a folder that the server must see. The server must return the ids that it drew: a
    text may have other tokens, and those would be trained. Each adapter has a name of its own, by content,
    since a server may go on with prompts that it has cached for another one of that name (vLLM issue 42125).
    A server computes in another order and number format, for which its log-probabilities correct
    (`algorithm.importance_weights`).
    """

    def __init__(
        self, url: str, folder: Path, *, least: int = 0, ends: Callable[[], frozenset[int]] = frozenset
    ) -> None:
        self._ends = ends
        self._url, self._folder, self._least = url.rstrip("/"), folder.resolve() / ADAPTER, least
        self._name = ""

    async def load(self, model: Any) -> None:
        """Load the adapter of a model, in place of an earlier one, unless a signal comes."""
        loaded = self._name if place()[0] else await unless_stopped(self._loaded(model))
        self._name = gathered(loaded)[0] or self._name

    async def _loaded(self, model: Any) -> str:
        before = {_name(self._folder)} if self._folder.is_dir() else set()  # perhaps of an earlier session
        aside = self._folder.with_name(f".saving-{ADAPTER}")
        shutil.rmtree(aside, ignore_errors=True)  # left by a run that died
        save_weights(model, aside)
        replace_folder(aside, self._folder)
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

    async def _told(self, what: str, **body: str) -> Posted:
        return await posted(f"{self._url}/{what}", body, wanted="adapter")

    async def chunk(self, prompts: Sequence[Tokens], samplings: Sequence[Sampling]) -> list[Response]:
        """Write a response to each prompt."""
        return await asyncio.gather(*map(self._one, prompts, samplings))

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
    digest = hashlib.sha256()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        digest.update((folder / name).read_bytes())
    return f"redraft-{digest.hexdigest()[:16]}"


@dataclass(frozen=True)
class Score:
    """What a response is worth."""

    reward: float
    parts: Mapping[str, float] = field(default_factory=dict)  # what each of several forms adds to `reward`


def recorded(record: Chain, response: Response) -> Chain:
    """Return a record with what was written for its prompt. `finish` says if it was cut."""
    finish: Finish = "stop" if response.ended else "max_tokens"
    return record.model_copy(update={"steps": (Step(answer=response.text, finish=finish),), "best": 0})


async def scored(reward: Rewards, records: Sequence[Chain]) -> list[Score]:
    """Judge records. Raises as `reward`."""
    found = await reward(records)
    return [Score(sum(parts.values()), parts if len(parts) > 1 else {}) for parts in found]


class Samples:
    """`samples.jsonl`: every response of a run with its reward, written when its chunk is judged.

    A run that is stopped in the middle of a rollout batch does not write and judge again what is in the file.

    Args:
        afresh: Whether an earlier file is thrown away.
        settings: Hash of the settings that affect responses. Those written with others are not used again.
        leads: Whether this process writes. The others only read what an earlier session wrote.
    """

    def __init__(self, folder: Path, *, afresh: bool = False, settings: str = "", leads: bool = True) -> None:
        self._path, self._afresh, self._leads, self._settings = folder / SAMPLES, afresh, leads, settings
        self._file: LineFile | None = None
        self._opened = False
        self._kept: dict[tuple[int, int], dict[str, Any]] = {}

    def open(self, since: int) -> None:
        """Open the file, and read what an earlier session wrote for rollout batches from `since` on.

        What it wrote with other settings is cut off; without a checkpoint, all but the first rollout batch.
        """
        if self._opened:
            return
        self._opened = True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        for line in () if self._afresh else read_lines(self._path):
            with suppress(KeyError, TypeError, ValueError):
                each = parse_line(line) or {}
                if int(each["rollout"]) >= since:
                    # Without a checkpoint, later ones may be of a policy that was trained otherwise.
                    if each.get("settings") != self._settings or int(each["rollout"]) > 0 == since:
                        break  # rollout batches stand in order
                    self._kept[int(each["rollout"]), int(each["row"])] = each
            whole += len(line) if line.endswith(b"\n") else 0
        if self._leads:
            self._file = LineFile(self._path, made_up=True)
            self._file.cut(whole)

    def kept(
        self, rollout: int, rows: Sequence[int], asked: Sequence[tuple[str, str]]
    ) -> tuple[list[Response], list[Score]]:
        """Return the responses of a chunk to these prompts (id and text) with rewards; none if one lacks."""
        pairs = zip((self._kept.get((rollout, row)) for row in rows), asked, strict=True)
        whole = [each for each, said in pairs if each and (each.get("id"), each.get("prompt")) == said]
        if len(whole) < len(rows):
            return [], []
        responses = [
            Response(tuple(each["tokens"]), each["answer"], each["ended"], tuple(each.get("log_probs", ())))
            for each in whole
        ]
        return responses, [Score(float(each["reward"]), each.get("rewards", {})) for each in whole]

    def add(
        self,
        rollout: int,
        rows: Sequence[int],
        asked: Sequence[tuple[str, str]],
        responses: Sequence[Response],
        scores: Sequence[Score],
    ) -> None:
        """Write a chunk that is not there yet, with id and text of each prompt."""
        lines = [
            {
                "rollout": rollout,
                "row": row,
                "id": name,
                "prompt": text,
                "answer": response.text,
                "reward": score.reward,
                **({"rewards": score.parts} if score.parts else {}),
                "ended": response.ended,
                "tokens": response.tokens,
                **({"log_probs": response.log_probs} if response.log_probs else {}),
                "settings": self._settings,
            }
            for row, (name, text), response, score in zip(rows, asked, responses, scores, strict=True)
        ]
        if self._file and not self.kept(rollout, rows, asked)[0]:
            self._file.append(*(json.dumps(line, ensure_ascii=False) for line in lines))
