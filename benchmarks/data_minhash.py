"""Measure MinHash deduplication of a million instructions, and its recall among all pairs of fewer."""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from data_material import Scale, data, instructions, write_instructions
from material import shared
from measure import Figure, Goal, Row
from weights_run import MB, remove, run_command

MEASURE = "MinHash deduplication of {count:,} short instructions"
HOW = (
    "`redraft data dedupe --by minhash` from file to file, with the start of its processes. Memory is the "
    "sum of the peaks of all processes (the kernel's `VmHWM`). Recall: the same command on {exact:,} of the "
    "texts. All pairs with a Jaccard similarity of at least {least} over sets of three consecutive words "
    "were found by counting. A pair counts as found if one text was dropped for the other, or both for the "
    "same text. datasketch hashes and looks up these {exact:,} texts one after the other, in one process. "
    "rensa: a script that reads all texts, filters them as in its documentation, and writes them; processor "
    "seconds are compared."
)
_RENSA = """
import json, re, sys
from rensa import RMinHashDeduplicator
def shingles(text):
    words = re.findall(r"[^\\W_]+", text.lower())
    return [" ".join(each) for each in zip(words, words[1:], words[2:])] or [text]
lines = open(sys.argv[1], "rb").readlines()
texts = enumerate("\\n".join(json.loads(line).values()) for line in lines)
filtered = RMinHashDeduplicator(threshold=0.8, num_perm=128, use_lsh=True)
keep = filtered.add_pairs((str(i), shingles(text)) for i, text in texts)
open(sys.argv[2], "wb").writelines(line for line, kept in zip(lines, keep) if kept)
"""
LEAST = 0.8
Pairs = set[tuple[int, int]]


def run(scale: Scale) -> Row:
    folder, ratios = shared(), []
    source, output = scale.work / "minhash.jsonl", scale.work / "deduped.jsonl"
    for count, rounds in ((scale.texts // 25, 5), (scale.texts * 2 // 5, 5), (scale.texts, 1)):
        write_instructions(source, instructions(folder, count))
        times = []
        for _ in range(rounds):
            took = data("dedupe", source, "--by", "minhash", "-o", output, workers=scale.workers)
            with output.open("rb") as lines:
                kept = sum(1 for _ in lines)
            remove(output)
            peer = run_command([sys.executable, "-c", _RENSA, str(source), str(output)]).processor
            remove(output)
            times.append((took.processor, peer))
        sides = f"redraft {statistics.median(own for own, _ in times):.1f} s; rensa {peer:.1f} s"
        values = tuple(peer / own for own, peer in times)
        ratios.append(Figure(f"over rensa, {count:,} records", values, "×", Goal("≥", 1.0), sides))
    alone, exact_alone = (
        tuple(
            data("dedupe", source, "--by", by, "-o", output, "--force", workers=1).resident / MB
            for _ in range(5)
        )
        for by in ("minhash", "exact")
    )
    remove(source)
    remove(output)
    texts = list(islice(instructions(folder, scale.texts), scale.exact))
    exact = exact_pairs(texts)
    ours = found_by_redraft(texts, scale)
    theirs, seconds = found_by_datasketch(texts)
    sides = f"redraft {scale.texts / took.seconds:,.0f}/s; datasketch {scale.exact / seconds:,.0f}/s"
    figures = (
        Figure("time", (took.seconds,), "s", Goal("≤", 300.0), f"{sides}; {kept:,} kept"),
        *ratios,
        Figure("memory", (took.resident / MB,), "MB", Goal("≤", 300.0), f"{scale.workers} processes more"),
        Figure("memory, one process", alone, "MB", Goal("≤", 300.0)),
        Figure("memory, exact duplicates, one process", exact_alone, "MB", Goal("≤", 300.0)),
        Figure("recall", (recall(ours, exact),), "%", Goal("≥", 95.0), f"of {len(exact):,} pairs"),
        Figure("recall, datasketch", (recall(theirs, exact),), "%"),
    )
    return Row(MEASURE.format(count=scale.texts), HOW.format(exact=scale.exact, least=LEAST), figures)


def recall(found: Pairs, exact: Pairs) -> float:
    return 100 * len(found & exact) / len(exact) if exact else 100.0


def exact_pairs(texts: Sequence[str], least: float = LEAST) -> Pairs:
    having: dict[tuple[str, ...], list[int]] = {}
    sets = [shingles(text) for text in texts]
    pairs = set()
    for later, own in enumerate(sets):
        common: Counter[int] = Counter()
        for shingle in own:
            common.update(having.setdefault(shingle, []))
            having[shingle].append(later)
        for earlier, count in common.items():
            if count / (len(own) + len(sets[earlier]) - count) >= least:
                pairs.add((earlier, later))
    return pairs


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def found_by_redraft(texts: Sequence[str], scale: Scale) -> Pairs:
    """Return all pairs of texts that redraft puts into the same group, according to its dropped records."""
    source, output, side = (scale.work / f"{name}.jsonl" for name in ("exact", "kept", "dropped"))
    write_instructions(source, iter(texts))
    data("dedupe", source, "--by", "minhash", "-o", output, "--dropped", side, workers=scale.workers)
    with side.open(encoding="utf-8") as lines:
        drops = [json.loads(line) for line in lines]
    for path in (source, output, side):
        remove(path)
    groups: dict[int, list[int]] = {}
    for drop in drops:
        dropped, kept = (int(drop[name].rpartition("/")[2]) for name in ("id", "kept"))
        groups.setdefault(kept, [kept]).append(dropped)
    return {(a, b) for group in groups.values() for a in group for b in group if a < b}


def found_by_datasketch(texts: Sequence[str]) -> tuple[Pairs, float]:
    import datasketch

    start = time.perf_counter()
    index = datasketch.MinHashLSH(threshold=LEAST, num_perm=128)
    pairs = set()
    for number, text in enumerate(texts):
        sketch = datasketch.MinHash(num_perm=128)
        sketch.update_batch([" ".join(words).encode() for words in shingles(text)])
        pairs |= {(earlier, number) for earlier in index.query(sketch)}
        index.insert(number, sketch)
    return pairs, time.perf_counter() - start
