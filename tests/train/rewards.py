"""Pairs whose better answer is plain to see, and a reward model trained on them."""

from __future__ import annotations

import json
from pathlib import Path

from redraft.train.options import RewardOptions, parse
from redraft.train.run import Ready, get_ready

USUAL = (
    "--data_path pairs.jsonl --output_dir out --model_max_length 128 --max_steps 3 --bf16 False "
    "--dtype float32 --quiet"
)


def pairs(path: Path, count: int = 24, *, swapped: bool = False) -> Path:
    with path.open("w") as file:
        for n in range(count):
            right, wrong = f"It is {2 * n}.", f"I do not know {n}!"
            chosen, rejected = (wrong, right) if swapped else (right, wrong)
            record = {"id": n, "prompt": f"Add {n} and {n}.", "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(record) + "\n")
    return path


def ready(model: str, *words: str, said: list[str] | None = None, usual: str = USUAL) -> Ready:
    own = parse([*usual.split(), "--format", "stablevicuna", *words], RewardOptions)
    return get_ready(own, model, Path("cache"), say=(said if said is not None else []).append)  # type: ignore[arg-type]
