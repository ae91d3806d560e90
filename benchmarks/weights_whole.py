"""Measure `apply` beside the released scripts, which load base and delta whole, add them, and save."""

from __future__ import annotations

import sys
from pathlib import Path

from measure import Figure, Goal, Row, in_turns
from weights_material import GIB, Scale, make_pair
from weights_run import MB, Took, forget, remove, run_command, weights

MEASURE = "apply vs loading both models whole with transformers and adding"
HOW = (
    "A checkpoint of {gib:.2g} GiB in bf16 and a delta that `redraft weights diff` made. The peer "
    "(`weights_whole_peer.py`) works like the released `apply_delta` scripts: `from_pretrained` of both "
    "with low memory use, addition in place, `save_pretrained`. The whole lives of both processes count, "
    "imports included. Inputs are not in the page cache, and all output is on the disk at the end. Memory "
    "is the peak anonymous memory of the process; the figure with mapped files is given too."
)
PEER = Path(__file__).with_name("weights_whole_peer.py")


def run(scale: Scale) -> Row:
    folder = scale.work / "whole"
    pair = make_pair(folder, scale.whole)
    delta = folder / "delta"
    weights("diff", pair.base, pair.target, "-o", delta)
    ours, theirs = folder / "ours", folder / "theirs"
    words = ["apply", str(pair.base), str(delta), "-o", str(ours), "--quiet"]
    apply = [sys.executable, "-m", "redraft", "weights", *words]
    add = [sys.executable, str(PEER), str(pair.base), str(delta), str(theirs)]

    def run_into(output: Path, command: list[str]) -> Took:
        remove(output)
        forget(pair.base, delta)
        return run_command(command)

    both = in_turns(scale.rounds, lambda: run_into(ours, apply), lambda: run_into(theirs, add))
    remove(folder)
    return Row(MEASURE, HOW.format(gib=pair.size / GIB), figures(*both))


def figures(ours: list[Took], theirs: list[Took]) -> tuple[Figure, ...]:
    pairs = list(zip(ours, theirs, strict=True))
    speed = tuple(them.seconds / us.seconds for us, them in pairs)
    memory = tuple(us.anonymous / them.anonymous for us, them in pairs)
    resident = tuple(us.resident / them.resident for us, them in pairs)
    us, them = pairs[-1]
    times = f"redraft {us.seconds:.1f} s; whole {them.seconds:.1f} s"
    return (
        Figure("speed", speed, "×", Goal("≥", 2.0), times),
        Figure("memory", memory, "×", Goal("≤", 0.2), _sides(us.anonymous, them.anonymous)),
        Figure("memory with mapped files", resident, "×", None, _sides(us.resident, them.resident)),
    )


def _sides(ours: int, theirs: int) -> str:
    return f"redraft {ours / MB:,.0f} MB; whole {theirs / MB:,.0f} MB"
