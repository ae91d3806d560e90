"""Cleans records by rules: what they mend is written, and what they drop is kept aside with the reason."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from redraft.chain import Chain, content_of
from redraft.collect.clean.dropped import Drop
from redraft.collect.clean.html.evidence import has_tags
from redraft.collect.clean.rules import RULES, Rule, RuleSettings
from redraft.collect.read.records import chain_or_drop
from redraft.collect.view.rewrite import GOLD, texts_of
from redraft.formats.read.records import RawRecord

CONTEXT = 1
"""Lines that stay the same which an explanation shows around a change."""


class Cleaned(NamedTuple):
    """A chain as a line of JSON, with its line feed.

    Attributes:
        has_html: HTML is left in what the assistant says, outside of code blocks.
    """

    line: bytes
    has_html: bool


def clean_line(
    line: RawRecord, *, names: frozenset[str], settings: RuleSettings, strict: bool
) -> Cleaned | Drop:
    """Apply rules to a record of a file.

    Args:
        line: The record.
        names: Of the rules. They are applied in the order of `RULES`.
        settings: What rules need to know.
        strict: Whether a record that cannot be read is raised.

    Returns:
        The chain, or why and by which rule it was dropped.

    Raises:
        RecordError: With `strict`, it cannot be read.
    """
    chain = chain_or_drop(line, strict=strict)
    if isinstance(chain, Drop):
        return chain
    *_, last = apply(chain, names, settings)
    if isinstance(last.outcome, str):
        return Drop(last.rule.name, last.outcome, line.where, chain.id, chain.model_dump(mode="json"))
    return Cleaned(last.outcome.to_json().encode() + b"\n", _has_html(last.outcome))


def _has_html(chain: Chain) -> bool:
    return any(speaker == "assistant" and has_tags(text) for speaker, text in texts_of(chain))


class Applied(NamedTuple):
    """A rule, the chain that it was given, and the chain that came out or the reason why it was dropped."""

    rule: Rule
    before: Chain
    outcome: Chain | str


def apply(chain: Chain, names: frozenset[str], settings: RuleSettings) -> Iterator[Applied]:
    """Applies rules by their names, in their order, up to the one that drops the chain."""
    for rule in RULES:
        if rule.name in names:
            outcome = rule.apply(chain, settings)
            yield Applied(rule, chain, outcome)
            if isinstance(outcome, str):
                return
            chain = outcome


def explain(applied: Sequence[Applied]) -> Iterator[str]:
    """What each rule did, in lines: those that it took away begin with `-`, those that it made with `+`."""
    for rule, before, outcome in applied:
        if isinstance(outcome, str):
            yield f"{rule.name}: dropped: {outcome}"
        elif outcome is before:
            yield f"{rule.name}: nothing to do"
        else:
            yield f"{rule.name}: changed"
            changes = difflib.unified_diff(_written(before), _written(outcome), n=CONTEXT, lineterm="")
            for line in list(changes)[2:]:
                yield "  …" if line.startswith("@@") else f"  {line}"


def _written(chain: Chain) -> list[str]:
    """Everything that is said in a chain, by line."""
    lines: list[str] = []
    for name, text in _parts(chain):
        lines += [f"[{name}]", *text.split("\n")]
    return lines


def _parts(chain: Chain) -> Iterator[tuple[str, str]]:
    for message in chain.prompt.messages or ():
        yield str(message.get("role", "user")), content_of(message)
    if chain.prompt.messages is None:
        yield "user", chain.prompt.text
    for step in chain.steps:
        yield "assistant", step.answer
        if step.feedback:
            yield "feedback", step.feedback.text
    for name in GOLD:
        if name in chain.meta:
            yield name, str(chain.meta[name])
