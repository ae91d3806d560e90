"""Measure the simple verbs of `redraft data` on many short records, beside `map` of `datasets`."""

from __future__ import annotations

import sys
from itertools import islice

from data_material import Scale, data, instructions, write_instructions
from material import shared
from measure import Figure, Goal, Row
from weights_run import remove, run_command

MEASURE = "simple verbs on {count:,} short records, one process"
HOW = (
    "The real commands with `--workers 1`, from file to file, with the start of the process. The peer is a "
    "script that does the same with `datasets`: `load_dataset`, `map`, `filter` or `shuffle`, and `to_json`. "
    "Its counterpart of `stats` only counts words. They take turns; processor seconds are compared. Exact "
    "deduplication has no peer; its figure counts wall time."
)
_PEER = """
import re, sys
from datasets import concatenate_datasets, load_dataset
verb, out, *files = sys.argv[1:]
def words(record):
    return re.findall(r"\\w+", " ".join(record.values()).lower())
def runs(record):
    found = words(record)
    return {tuple(found[n : n + 13]) for n in range(len(found) - 12)}
def talk(record):
    asked, said = f"{record['instruction']}\\n\\n{record['input']}".strip(), record["output"]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
options = {"split": "train", "cache_dir": f"{out}.d"}
first, *others = (load_dataset("json", data_files=file, **options) for file in files)
if verb == "merge":
    first = concatenate_datasets([first, *others]).shuffle(seed=1)
elif verb == "decontaminate":
    items = set().union(*map(runs, others[0]))
    first = first.filter(lambda record: items.isdisjoint(runs(record)))
elif verb == "stats":
    first = first.map(lambda record: {"words": len(words(record))})
else:
    first = first.map(talk, remove_columns=first.column_names)
first.to_json(out)
"""


def run(scale: Scale) -> Row:
    source, others, recipe, out = (
        scale.work / name for name in ("records.jsonl", "others.jsonl", "mix.yaml", "out")
    )
    texts = instructions(shared(), scale.records + scale.records // 10)
    write_instructions(source, islice(texts, scale.records))
    write_instructions(others, texts)
    recipe.write_text("seed: 1\nparts:\n- file: records.jsonl\n- file: others.jsonl\n", "utf-8")
    verbs = {
        "import": [source, "-o", out],
        "export": [source, "--to", "messages", "-o", out],
        "merge": [recipe, "-o", out],
        "stats": [source],
        "decontaminate": [source, "--against", others, "-o", out],
    }
    ratios: dict[str, list[float]] = {verb: [] for verb in verbs}
    rates = []
    for _ in range(scale.rounds):
        rates.append(scale.records / data("dedupe", source, "-o", out, workers=1).seconds)
        remove(out)
        for verb, arguments in verbs.items():
            took = data(verb, *arguments, workers=1)
            remove(out)
            files = [source, *[others] * (verb in ("merge", "decontaminate"))]
            peer = run_command([sys.executable, "-c", _PEER, verb, str(out), *map(str, files)])
            remove(out)
            ratios[verb].append(peer.processor / took.processor)
    remove(scale.work / "out.d")
    for path in (source, others, recipe):
        remove(path)
    figures = [Figure("exact duplicates: records a second", tuple(rates), "", Goal("≥", 15_000.0))]
    figures += [Figure(verb, tuple(each), "×", Goal("≥", 2.0)) for verb, each in ratios.items()]
    return Row(MEASURE.format(count=scale.records), HOW, tuple(figures))
