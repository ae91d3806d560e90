"""Define the options of public functions as TypedDicts, for `**options: Unpack[…]`.

Type checkers cannot derive keyword arguments from the option models. `FlagsKeywords` lists the options of
`Flags`, for example. A test compares names and types with the models. Every option is optional.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from redraft.chain import Chain, Place
from redraft.checks.base import Check
from redraft.engines.base import Engine, Price
from redraft.options import MachineKeywords, Prompts
from redraft.revision.cancel import CancelToken
from redraft.revision.options import Budget


class PlainKeywords(TypedDict, total=False):
    """Options whose values are texts, numbers or booleans."""

    mode: Literal["auto", "native", "prompted", "verified", "best-of", "repair"]
    drafts: int | None
    prompts: Prompts
    min_revisions: int
    max_revisions: int
    feedback_tokens: int | None
    accept_score: float | None
    context: Literal["last", "chain"]
    tell_checks: bool
    steer: bool
    system: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    max_thoughts: int | None
    seed: int | None


class WaitKeywords(TypedDict, total=False):
    """Options for waiting for a server."""

    timeout: float | None
    retries: int
    patience: float | None


class KeywordsButOutput(PlainKeywords, WaitKeywords, total=False):
    """Options of `revise`, `arevise` and `stream` except `output`, which sets the type of `chain.value`."""

    model: str | Engine
    checks: Sequence[str | Check | Mapping[str, Any] | Callable[..., Any]]
    critic: str | Engine | None
    judge: str | Engine | None
    budget: Budget | Mapping[str, float | None] | None
    price: Price | Mapping[str, float | None] | str | None
    gold: str
    given: str
    places: Sequence[str | tuple[Place, str]] | None
    prefer_last: bool
    id: str
    cancel: CancelToken | None
    stop: Sequence[str]
    tools: Sequence[Mapping[str, Any]]
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    cache: str | Path | None
    on_event: Callable[[Any], object] | None
    trace: Any
    resume: Chain | None
    output_context: Any


class RevisionKeywords(KeywordsButOutput, total=False):
    """All options of `revise`."""

    output: Any


class ServerKeywords(WaitKeywords, total=False):
    """Options for a server: waiting times, price and rate limits."""

    price: str | None
    rpm: int | None
    tpm: int | None


class FlagsKeywords(PlainKeywords, MachineKeywords, ServerKeywords, total=False):
    """Options that are flags of `redraft ask`."""

    model: str | None
    critic: str | None
    judge: str | None
    check: list[str]
    budget_tokens: int | None
    budget_seconds: float | None
    budget_usd: float | None


class RunKeywords(TypedDict, total=False):
    """Options for a run that makes a file."""

    parallel: int | None
    quiet: bool
    limit_usd: float | None
    limit_tokens: int | None
    limit_seconds: float | None
    batch: bool
    pause: float | None
    on_event: Callable[[Any], object] | None


class ItemKeywords(RunKeywords, total=False):
    """Options for a run over the items of a file."""

    shard: str | None


class FileKeywords(ItemKeywords, total=False):
    """Options for a run that answers the records of a file."""

    limit: int | None
    cache: str | Path | None


class AnswerKeywords(FlagsKeywords, FileKeywords, total=False):
    """Options of `answer_file`."""

    recipe: str | None


class EvalFileKeywords(FlagsKeywords, FileKeywords, total=False):
    """Options of `evaluate_file`."""

    guided: bool
    samples: int
    run_code: bool


class ChainKeywords(FlagsKeywords, ItemKeywords, total=False):
    """Options of `generate_chains`."""

    gold: bool
    first: bool
    verify: Literal["number", "code"] | None
    limit: int | None
    run_code: bool
    recipe: str | None


class InstructionKeywords(MachineKeywords, ServerKeywords, RunKeywords, total=False):
    """Options of `generate_instructions` except `model`, which is required."""

    way: Literal["alpaca", "self-instruct"]
    count: int
    seeds: str | None
    language: str
    topic: str | None
    similar: float
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int
    recipe: str | None


class JudgeFileKeywords(MachineKeywords, ServerKeywords, ItemKeywords, total=False):
    """Options of `judge`."""

    model: str | None
    way: Literal["scores", "verdicts", "grades"] | None
    orders: Literal["both", "given"]
    gold: bool
    temperature: float | None
    max_tokens: int | None
    seed: int | None
    limit: int | None
    questions: str | Path | None
