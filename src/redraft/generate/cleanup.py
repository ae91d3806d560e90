"""Clean up what teachers add to revisions and feedback: remarks on the revision, apologies, joined verdicts.

The rules are SelFee's (reference/selfee.md). Each looks for a few English phrases and can be left out. A rule
never leaves a text empty, and never touches a first answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping

from redraft.chain import Chain, Step

_SENTENCE = r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?:]"
_START = re.compile(rf"\A\s*({_SENTENCE})\s+(?=\S)")
_END = re.compile(rf"(?:\A|(?<=[.!?])\s|\n)\s*({_SENTENCE})\s*\Z")

_APOLOGY = re.compile(
    r"\W*(?:\w+[,!] )?(?:I (?:sincerely )?apologi[sz]e|my apologies|(?:I'?m |I am )?(?:so |very )?sorry)\b",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"\b(?:this|the|my|these|that) (?:\w+ )?(?:revisions?|revised (?:answer|version|response)|corrections?"
    r"|changes|updated (?:answer|version|response)|corrected (?:answer|version))\b"
    r"|\bI(?:'ve| have)? (?:\w+ )?(?:revised|corrected|updated|changed|rewritten|fixed)\b"
    r"|\bhere(?:'s| is| are) (?:the|my|a|an) (?:\w+ )?(?:revised|corrected|updated|new)\b",
    re.IGNORECASE,
)
_JOINED = re.compile(
    r"[,;]\s+(?:but|so|and|therefore|hence)\s+(?:a\s+)?(revisions?) (is|are) (not )?needed\b", re.IGNORECASE
)


def without_apologies(text: str) -> str:
    """Return an answer without its first sentence, if that begins with an apology."""
    found = _START.match(text)
    return text[found.end() :] if found and _APOLOGY.match(found[1]) else text


def without_remarks(text: str) -> str:
    """Return an answer without a first or last sentence about the revision itself."""
    if (found := _START.match(text)) and _REMARK.search(found[1]):
        text = text[found.end() :]
    if (found := _END.search(text)) and _REMARK.search(found[1]) and text[: found.start()].strip():
        text = text[: found.start()].rstrip()
    return text


def with_verdict_apart(text: str) -> str:
    """Return feedback in which `…, but revision is needed` is a sentence of its own."""
    return _JOINED.sub(lambda found: f". Revision is {found[3] or ''}needed".replace("  ", " "), text)


OF_ANSWERS: Mapping[str, Callable[[str], str]] = {"apologies": without_apologies, "remarks": without_remarks}
OF_FEEDBACK: Mapping[str, Callable[[str], str]] = {"verdicts": with_verdict_apart}
RULES = (*OF_ANSWERS, *OF_FEEDBACK)
"""The names of the rules, in the order in which they are applied."""


def cleaned(chain: Chain, kept: frozenset[str] = frozenset()) -> tuple[Chain, Counter[str]]:
    """Return a chain after the rules, but for those in `kept`; and how many texts each rule changed."""
    counts = Counter[str]()

    def apply(text: str, rules: Mapping[str, Callable[[str], str]]) -> str:
        for name, rule in rules.items():
            changed = text if name in kept else rule(text)
            counts[name] += changed != text
            text = changed
        return text

    def clean(index: int, step: Step) -> Step:
        changes: dict[str, object] = {}
        if index:
            changes["answer"] = apply(step.answer, OF_ANSWERS)
        if step.feedback is not None and step.feedback.by != "checks":
            text = apply(step.feedback.text, OF_FEEDBACK)
            changes["feedback"] = step.feedback.model_copy(update={"text": text})
        return step.model_copy(update=changes)

    steps = tuple(clean(index, step) for index, step in enumerate(chain.steps))
    return chain.model_copy(update={"steps": steps}), +counts
