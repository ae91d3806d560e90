"""Lets lm-eval or math-verify read the tables of final answers, in an environment of its own.

    PYTHON benchmarks/evaluate_answers_peer.py (lm_eval | math_verify) TABLE...

Prints a JSON array: whether the peer judges each case as the table does. lm-eval reads numbers by the
flexible filter of its gsm8k, letters by that of its bbh, and pairs by `is_equiv` of its hendrycks_math;
math-verify parses gold and answer as its README says, with letters as strings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

Judge = Callable[[str, str, str], bool]
"""Whether a text of a kind (`number`, `letter`, `maths`, `pair`) gives the gold answer."""

BOXED = r"The final answer is $\boxed{{{}}}$."
"""How the answer of a pair is written."""


def cases(*tables: Path) -> Iterator[tuple[str, str, str, bool]]:
    """Kind, gold answer, text and truth of each case: a text is one with its answer, one with a wrong one.

    A line is `same` or `other`, a gold answer and an answer; or else a kind, the text's answer, a wrong one
    and the text, with ⏎ for the end of a line. Either of the two answers may be missing.
    """
    for table in tables:
        for line in table.read_text("utf-8").splitlines():
            kind, gold, *rest = line.split("\t")
            if kind in {"same", "other"}:
                yield "pair", gold, rest[0], kind == "same"
            else:
                text = rest[1].replace("⏎", "\n")
                yield from ((kind, said, text, said is gold) for said in (gold, rest[0]) if said)


def lm_eval() -> Judge:
    """Make lm-eval's judge."""
    filters = import_module("lm_eval.filters.extraction")
    metric = import_module("lm_eval.api.metrics").exact_match_fn
    maths = import_module("lm_eval.tasks.hendrycks_math.utils")
    flexible = filters.RegexFilter(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1)
    letters = filters.MultiChoiceRegexFilter(r"(\([A-Z]\))", ignore_case=True, ignore_punctuation=True)
    choices = [{"choices": [f"({letter})" for letter in "ABCDE"]}]

    def judge(kind: str, gold: str, text: str) -> bool:
        if kind == "pair":
            return bool(maths.is_equiv(text, gold))
        if kind == "maths":
            found = maths.last_boxed_only_string(text)
            return bool(found and maths.is_equiv(maths.remove_boxed(found), gold))
        if kind == "letter":
            [[found]] = letters.apply([[text]], choices)
            return bool(found.strip("()") == gold)
        [[found]] = flexible.apply([[text]], [{}])
        ignored = [",", r"\$", "(?s).*#### ", r"\.$"]
        scored = metric(predictions=[found], references=[gold], regexes_to_ignore=ignored, ignore_case=True)
        return bool(scored["exact_match"])

    return judge


def math_verify() -> Judge:
    """Make math-verify's judge."""
    library = import_module("math_verify")
    strings = [library.StringExtractionConfig(strings=tuple("ABCDE"))]
    usual = [library.LatexExtractionConfig(), library.ExprExtractionConfig()]

    def judge(kind: str, gold: str, text: str) -> bool:
        if kind == "letter":
            wanted, found = library.parse(gold, strings), library.parse(text, strings)
        else:
            wanted = library.parse(f"${gold}$", usual)
            found = library.parse(BOXED.format(text) if kind == "pair" else text, usual)
        return bool(library.verify(wanted, found))

    return judge


if __name__ == "__main__":
    peer = {"lm_eval": lm_eval, "math_verify": math_verify}[sys.argv[1]]()
    given = cases(*map(Path, sys.argv[2:]))
    print(json.dumps([peer(kind, gold, text) == truth for kind, gold, text, truth in given]))
