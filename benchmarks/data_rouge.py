"""Measure the filter of Self-Instruct and Alpaca: one candidate against a pool, by ROUGE-L."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from data_material import Scale, instructions
from material import shared
from measure import Figure, Goal, Row, in_turn, over
from redraft.data.similarity import ALPACA, Pool

MEASURE = "ROUGE-L filter, one candidate against {pool:,}, vs rouge_score"
HOW = (
    "Instructions are generated from real ones, a quarter of them as near-duplicates of earlier ones. Each "
    "candidate is compared with the whole pool, in one process on both sides. The pool is tokenised before. "
    "redraft: `Pool.near`. The peer is `rouge_score` as Alpaca calls it: its tokenizer, and its score of "
    "the longest common subsequence with each text of the pool. Both sides take turns. They decide whether "
    "F is over {most}."
)

Near = Callable[[str], set[int]]  # returns the indices of the texts in a pool that are near to a text


def run(scale: Scale) -> Row:
    measure, how = MEASURE.format(pool=scale.pool), HOW.format(most=ALPACA)
    texts = list(instructions(shared(), scale.pool + scale.candidates))
    pool, candidates = texts[: scale.pool], texts[scale.pool :]
    ours, theirs = near_in_redraft(pool), near_in_rouge_score(pool)
    ours(candidates[0])  # warms up
    times, differ, near = compare(ours, theirs, candidates)
    sides = f"redraft {_ms(times[True])} ms; rouge_score {_ms(times[False])} ms"
    pairs = f"of {len(pool) * len(candidates):,} pairs, {near:,} of which are near"
    figures = (
        Figure("one candidate", over(times[False], times[True]), "×", Goal("≥", 500.0), sides),
        Figure("decisions", (differ,), "differ", Goal("≤", 0), pairs),
    )
    return Row(measure, how, figures)


def compare(ours: Near, theirs: Near, candidates: Sequence[str]) -> tuple[dict[bool, list[float]], int, int]:
    times: dict[bool, list[float]] = {True: [], False: []}
    differ = near = 0
    for number, text in enumerate(candidates):
        found = {}
        for our_turn in in_turn(number):
            start = time.perf_counter()
            found[our_turn] = (ours if our_turn else theirs)(text)
            times[our_turn].append(time.perf_counter() - start)
        differ += len(found[True] ^ found[False])
        near += len(found[False])
    return times, differ, near


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:,.1f}"


def near_in_redraft(texts: Sequence[str]) -> Near:
    """Return redraft's filter on the words that `rouge_score` sees: letters outside ASCII end a word."""
    pool = Pool(ALPACA)
    for text in texts:
        pool.add(_in_ascii(text))
    return lambda text: {near.place for near in pool.near(_in_ascii(text))}


def _in_ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def near_in_rouge_score(texts: Sequence[str]) -> Near:
    """Return a filter as in the script of Alpaca: it tokenises the pool once, and then scores each pair."""
    tokenize, f_measure = rouge_score()
    pool = [tokenize(text) for text in texts]

    def near(text: str) -> set[int]:
        words = tokenize(text)
        return {index for index, each in enumerate(pool) if f_measure(words, each) > ALPACA}

    return near


def rouge_score() -> tuple[Callable[[str], list[str]], Callable[[list[str], list[str]], float]]:
    from rouge_score import rouge_scorer, tokenizers

    def f_measure(words: list[str], others: list[str]) -> float:
        score: Any = rouge_scorer._score_lcs(words, others)  # noqa: SLF001  (what Alpaca's script calls)
        return float(score.fmeasure)

    return tokenizers.DefaultTokenizer(use_stemmer=False).tokenize, f_measure
