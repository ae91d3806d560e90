"""Clean up what teachers add to revisions: remarks on the revision, and apologies.

The rules for texts are SelFee's (reference/selfee.md). Each looks for a few English phrases, and never leaves
a text empty. One more rule drops a last correction that is empty. None touches a first answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping

from redraft.chain import Chain, Step, best_step

_SENTENCE = r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?:]"
_START = re.compile(rf"\A\s*+({_SENTENCE})\s++(?=\S)")
_END = re.compile(rf"(?:\A|(?<=[.!?])\s|\n)\s*({_SENTENCE})\s*\Z")

_APOLOGY = re.compile(
    r"\W*(?:\w+[,!] )?(?:I (?:sincerely )?apologi[sz]e|my apologies|(?:I'?m |I am )?(?:so |very )?sorry)\b",
    re.IGNORECASE,
)
_SAYS_MORE = re.compile(r"\d|\b(?:can(?:['’]t|not| not)|won['’]t|unable|not able)\b", re.IGNORECASE)
"""A number, by which a check may have judged the answer; or a refusal."""
_ANSWER = r"(?:answer|version|response|text|sentence|paragraph|code|draft)"
_CHANGED = r"(?:revised|corrected|updated|changed|rewritten|fixed)"
_RESULT = r"(?:is|are)\s+(?!(?:now|more|much|clear|better|short|accurate|complete|concise))"
_REMARK = re.compile(
    rf"\b(?:this|the|my|that) (?:\w+ )?(?:revision|{_CHANGED} {_ANSWER})\b(?!\s+{_RESULT})"
    rf"|\b(?:these|the|my) (?:\w+ )?(?:revisions|corrections|changes)\b.*\b{_ANSWER}\b"
    rf"|\bI(?:'ve| have)? (?:\w+ )?{_CHANGED} (?:it|this|that|(?:the|my) (?:\w+ )?{_ANSWER})\b"
    rf"|\bhere(?:'s| is| are) (?:the|my|a|an) (?:\w+ )?(?:{_CHANGED}|new)\b",
    re.IGNORECASE,
)
"""Talk about the revision. "The corrected answer is 42." is none, and "The changes of the tide" neither."""

_LONGEST = 500
"""Characters of a remark. Longer texts, such as a model that repeats itself, take quadratic time."""

_CONTENT = re.compile(r":\s*\S")


def without_apologies(text: str) -> str:
    """Return an answer without its first sentence, if that is an apology and says no more."""
    found = _START.match(text)
    removed = found and _APOLOGY.match(found[1]) and not _SAYS_MORE.search(found[1])
    return text[found.end() :] if found and removed else text


def without_remarks(text: str) -> str:
    """Return an answer without a first or last sentence about the revision itself."""
    if (found := _START.match(text)) and _is_remark(found[1]):
        text = text[found.end() :]
    end = max(len(text) - _LONGEST, 0)
    if (found := _END.search(text[end:])) and _is_remark(found[1]) and text[: end + found.start()].strip():
        text = text[: end + found.start()].rstrip()
    return text


def _is_remark(sentence: str) -> bool:
    """Return whether a sentence talks about the revision alone. After a colon comes the answer."""
    says_more = _CONTENT.search(sentence) or _SAYS_MORE.search(sentence)
    return len(sentence) <= _LONGEST and bool(_REMARK.search(sentence)) and not says_more


OF_ANSWERS: Mapping[str, Callable[[str], str]] = {"apologies": without_apologies, "remarks": without_remarks}
_EMPTY = "empty"


def cleaned(chain: Chain) -> tuple[Chain, Counter[str]]:
    """Return a chain after the rules, and how many texts each rule changed."""
    counts = Counter[str]()

    def clean(step: Step) -> Step:
        text = step.answer
        for name, rule in OF_ANSWERS.items():
            changed = rule(text)
            counts[name] += changed != text
            text = changed
        return step.model_copy(update={"answer": text})

    steps = (*chain.steps[:1], *map(clean, chain.steps[1:]))
    best = chain.best
    last = steps[-1] if len(steps) > 1 else None
    if last and not (last.answer.strip() or last.tool_calls or last.feedback):
        counts[_EMPTY] += 1
        steps = steps[:-1]
        best = best_step(steps)
    return chain.model_copy(update={"steps": steps, "best": best}), +counts
