"""Apply cleaning rules to records, and explain their changes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from redraft.chain import Chain, content_of
from redraft.collect.clean.rules import RULES, Rule, RuleSettings
from redraft.collect.html.evidence import has_tags
from redraft.collect.output import Drop, chain_or_drop
from redraft.collect.texts import GOLD, spoken_texts
from redraft.formats.read.records import RawRecord

CONTEXT = 1
"""Unchanged lines to show around a change."""


class Cleaned(NamedTuple):
    """A chain as a line of JSON with a line feed.

    Attributes:
        has_html: The assistant's texts have HTML left outside code blocks.
    """

    line: bytes
    has_html: bool


def clean_line(
    line: RawRecord, *, names: frozenset[str], settings: RuleSettings, strict: bool
) -> Cleaned | Drop:
    """Apply the named rules to a record, in the order of `RULES`.

    Raises:
        RecordError: With `strict`, the record cannot be read.
    """
    chain = chain_or_drop(line, strict=strict)
    if isinstance(chain, Drop):
        return chain
    *_, last = apply(chain, names, settings)
    if isinstance(last.outcome, str):
        return Drop(last.rule.name, last.outcome, line.where, chain.id, chain.model_dump(mode="json"))
    data = last.outcome.to_json().encode() + b"\n"
    # Most records have no end tag anywhere, and finding that is much faster than collecting the texts.
    texts = spoken_texts(last.outcome) if b"</" in data else ()
    return Cleaned(data, any(speaker == "assistant" and has_tags(text) for speaker, text in texts))


class Applied(NamedTuple):
    """A rule, its input, and its output or its reason to drop the chain."""

    rule: Rule
    before: Chain
    outcome: Chain | str


def apply(chain: Chain, names: frozenset[str], settings: RuleSettings) -> Iterator[Applied]:
    """Apply rules in order, up to the one that drops the chain."""
    for rule in RULES:
        if rule.name in names:
            outcome = rule.apply(chain, settings)
            yield Applied(rule, chain, outcome)
            if isinstance(outcome, str):
                return
            chain = outcome


def explain(applied: Sequence[Applied]) -> Iterator[str]:
    """Describe each rule's changes in lines: `-` begins removed lines, `+` new ones."""
    for rule, before, outcome in applied:
        if isinstance(outcome, str):
            yield f"{rule.name}: dropped: {outcome}"
        elif outcome is before:
            yield f"{rule.name}: nothing to do"
        else:
            yield f"{rule.name}: changed"
            changes = difflib.unified_diff(_text_lines(before), _text_lines(outcome), n=CONTEXT, lineterm="")
            for line in list(changes)[2:]:
                yield "  …" if line.startswith("@@") else f"  {line}"


def _text_lines(chain: Chain) -> list[str]:
    """Return all texts of a chain by line."""
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
