"""Preview the training data of a run, and estimate the run's time, memory and cost.

A preview decodes the stored tokens, not the records. So a preview reveals faults, such as a stop token that
is missing, a prompt with loss, or a control token that was tokenised as text. A preview loads no model.

An estimate runs two steps in a temporary folder, with at most two batches each, and extrapolates. Speed is
measured in the second step, because the first step also allocates and compiles. The second step reaches a
run's peak memory, because the optimizer has states by then. In PPO, the model first writes a rollout batch.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from redraft.jobs.counting import counted, size_in_words
from redraft.jobs.progress import clock_time
from redraft.train import LOG
from redraft.train.batches import Order
from redraft.train.load import load_tokenizer
from redraft.train.loop import peak_memory
from redraft.train.options import RunOptions
from redraft.train.prepare import Stored
from redraft.train.processes import Say, ranks
from redraft.train.run import Ready, prepare_all
from redraft.train.verb import verb_of

OPEN, CLOSE = "⟦", "⟧"  # around marked text


def preview(own: RunOptions, model: str, cache: Path, *, show: Say, say: Say) -> None:
    """Show the tokens of a run's first records as text."""
    verb = verb_of(type(own))
    tokenizer = load_tokenizer(model, pad_token=own.pad_token, apart=verb.scores, say=say)
    prepared = prepare_all(own.data_path, own, tokenizer, verb, cache, say=say)
    for line in prepared.report.lines(verb.marked[0]):
        say(line)
    rows = verb.rows(prepared.lengths, own)
    order = Order(len(rows), own.per_device_train_batch_size, seed=own.seed, ranks=ranks()).rows(0)
    examples = (number for row in order.tolist() for number in rows[row].tolist())
    marked, other = verb.marked
    show(f"{f'{OPEN}{marked}{CLOSE}, ' if marked else ''}{other}, ⟨control token⟩, ↵ line end")
    for place, number in enumerate(islice(examples, (own.preview or 1) * max(len(verb.parts), 1))):
        example, name = prepared[number], visible(prepared.name(number))
        name += f" {verb.parts[place % len(verb.parts)]}" if verb.parts else ""
        carrying = f", {int(example.trained[1:].sum()):,} {marked}" if marked else ""
        show(f"\n── {name}: {len(example.ids):,} tokens{carrying}")
        show(shown(example, tokenizer))


def shown(example: Stored, tokenizer: Any) -> str:
    """Return an example as text, with ⟦ and ⟧ around the tokens that `example.trained` selects."""
    pieces = _pieces(example, tokenizer)
    return "".join(f"{OPEN}{piece}{CLOSE}" if marked else piece for marked, piece in pieces)


def _pieces(example: Stored, tokenizer: Any) -> Iterator[tuple[bool, str]]:
    added = {number: each for number, each in tokenizer.added_tokens_decoder.items() if each.special}
    special = {number: f"⟨{each.content.strip('<|>') or each.content}⟩" for number, each in added.items()}
    before = tokenizer.encode("a", add_special_tokens=False)[-1:]

    def decoded(ids: list[int]) -> str:
        """Decode `ids` with a letter in front, because SentencePiece drops the space of a first token."""
        text: str = tokenizer.decode([*before, *ids], clean_up_tokenization_spaces=False)
        return visible(text.removeprefix(tokenizer.decode(before)))

    pairs = zip([False, *example.trained.tolist()[1:]], example.ids.tolist(), strict=True)
    for marked, run in groupby(pairs, lambda pair: pair[0]):
        texts = []
        for control, ids in groupby((token for _, token in run), special.get):
            several = list(ids)
            texts.append(visible(control) * len(several) if control else decoded(several))
        yield marked, "".join(texts)


def visible(text: str) -> str:
    """Mark line ends, and escape control and invisible characters."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character == "\n":
        return "↵\n"
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


_STEPS = 2
_THROWN_AWAY: dict[str, Any] = {
    "quiet": True,
    "report_to": ("none",),
    "save_strategy": "no",
    "overwrite_output_dir": False,
    "eval_data_path": (),
    "eval_strategy": "no",
    "divergence_steps": 0,
    "gguf": None,
}


@dataclass(frozen=True)
class Estimate:
    """The estimated steps, tokens, memory and time of a run."""

    parameters: int  # parameters of the model with its adapter
    trained: int
    steps: int
    tokens: int  # tokens read in all steps and processes
    tokens_per_second: float  # over all processes
    memory: int  # peak bytes of this process, or of its GPU
    rollouts: int = 0  # the number of rollout batches
    writing: float = 0.0  # seconds to write and judge a rollout batch

    @property
    def seconds(self) -> float:
        """The estimated time of the whole run, in seconds."""
        return self.tokens / self.tokens_per_second + self.rollouts * self.writing

    def lines(self, price: float | None) -> list[str]:
        """Return the estimate as lines of text, with the cost if a price per hour is given."""
        share = self.trained / max(self.parameters, 1)
        whole = f"{counted(self.steps, 'step')} with {self.tokens:,} tokens"
        lines = [
            f"parameters  {self.parameters:,}, {self.trained:,} of them trained ({share:.2%})",
            f"memory      {size_in_words(self.memory)} at most",
            f"speed       {self.tokens_per_second:,.0f} tokens/s",
            f"time        about {clock_time(self.seconds)} for {whole}, from the speed of one step",
        ]
        if self.rollouts:
            one, whole = (clock_time(count * self.writing) for count in (1, self.rollouts))
            lines.append(f"{'':12}{whole} of this to write and judge answers, {one} for each rollout batch")
        if price is not None:
            lines.append(f"cost        {self.seconds / 3600 * price:,.2f}, at {price:g} an hour")
        return lines


def thrown_away(own: RunOptions, folder: Path) -> RunOptions:
    """Return a copy of the settings, changed so that a run writes only to `folder`."""
    changed = {**_THROWN_AWAY, "output_dir": str(folder)}
    return own.model_copy(update={name: changed[name] for name in changed.keys() & vars(own).keys()})


def estimate(ready: Ready) -> Estimate | None:
    """Train for two steps, and return the estimate. The run must use settings returned by `thrown_away`.

    Return None if a signal stopped the run, and in all processes except the first.
    """
    args, steps, epoch = ready.args, ready.loop.steps, ready.loop.steps_an_epoch
    weights = list(ready.loop.trained.model.parameters())
    times = args.gradient_accumulation_steps
    args.max_steps, args.logging_steps = _STEPS, 1
    args.gradient_accumulation_steps = min(times, 2)
    ready.steps_alone()
    log = ready.loop.folder / LOG
    lines = [json.loads(line) for line in log.read_bytes().splitlines()] if args.should_save else []
    if len(lines) < _STEPS:
        return None
    first, second = lines
    pace, a_batch = second["tokens_per_second"], second["tokens"] / args.gradient_accumulation_steps
    whole = int(ready.data.rows.lengths.sum()) * steps / epoch
    begun = first["tokens"] / first["tokens_per_second"] - first["tokens"] / pace
    return Estimate(
        parameters=sum(each.numel() for each in weights),
        trained=sum(each.numel() for each in weights if each.requires_grad),
        steps=steps,
        tokens=round(steps * times * a_batch if ready.writes else whole),
        tokens_per_second=pace,
        memory=peak_memory(),
        rollouts=-(-steps // epoch) if ready.writes else 0,
        writing=max(0.0, begun) if ready.writes else 0.0,
    )
