"""Show training data as the model will see it: tokens, which of them are marked, and where examples meet.

It decodes the stored tokens one by one, not the text they came from. So a missing stop token, a prompt with
loss, or a control token that is only text cannot hide. No model is loaded.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from redraft.formats.encoder import Cut
from redraft.train.batches import Order, RowsOf
from redraft.train.options import DataOptions
from redraft.train.prepare import Stored
from redraft.train.processes import Say, ranks
from redraft.train.run import prepare_all
from redraft.train.settings import RunSettings
from redraft.train.stages import SFT_STAGES, Stages

OPEN, CLOSE = "⟦", "⟧"
"""Around text with loss, without colour."""

_PARTS = 8  # the most tokens of one character: byte-level tokenizers need up to four, joined emoji some more

_SHADES = {True: ("bold green", "bold cyan"), False: ("dim", "dim italic")}
"""Alternating styles of tokens, by whether they carry loss."""

_SPECIAL = {True: "bold black on green", False: "dim reverse"}


@dataclass(frozen=True)
class ShownToken:
    """A token, or several that form one character."""

    text: str
    trained: bool  # whether it carries loss
    special: bool = False  # whether it is a control token


class Decoder:
    """Decode tokens one by one."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        self._special = {
            number: f"⟨{visible(token.content).strip('<|>') or token.content}⟩"
            for number, token in added
            if token.special
        }
        # A token's text can depend on the one before it: SentencePiece drops the space of the first.
        self._before = tokenizer.encode("a", add_special_tokens=False)[-1:]
        self._lead = len(self._decode(self._before))

    def pieces(self, example: Stored) -> Iterator[ShownToken]:
        """Yield the tokens of an example. The first carries no loss, because nothing predicts it."""
        ids: list[int] = example.ids.tolist()
        trained: list[bool] = [False, *example.trained.tolist()[1:]]
        at = 0
        while at < len(ids):
            if ids[at] in self._special:
                yield ShownToken(self._special[ids[at]], trained[at], special=True)
                at += 1
                continue
            end = self._end(ids, trained, at)
            yield ShownToken(visible(self._text(ids[at:end])), trained[at])
            at = end

    def _end(self, ids: Sequence[int], trained: Sequence[bool], at: int) -> int:
        """Return the end of the shortest run of tokens that decodes to whole characters."""
        for end in range(at + 1, min(at + _PARTS, len(ids)) + 1):
            if trained[end - 1] != trained[at] or ids[end - 1] in self._special:
                break
            if not self._text(ids[at:end]).endswith("\ufffd"):
                return end
        return at + 1

    def _text(self, ids: Sequence[int]) -> str:
        return self._decode([*self._before, *ids])[self._lead :]

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def visible(text: str) -> str:
    """Mark line ends, and escape control and invisible characters."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character == "\n":
        return "↵\n"
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def shown(pieces: Sequence[ShownToken], *, colour: bool) -> Text:
    """Return the pieces as text: in shades, or with ⟦ and ⟧ around tokens with loss."""
    text = Text()
    inside = False
    for number, piece in enumerate(pieces):
        if piece.trained != inside and not colour:
            text.append(OPEN if piece.trained else CLOSE)
        inside = piece.trained
        style = _SPECIAL[inside] if piece.special else _SHADES[inside][number % 2]
        text.append(piece.text, style if colour else "")
    if inside and not colour:
        text.append(CLOSE)
    return text


def preview(
    settings: RunSettings[DataOptions],
    model: str,
    cache: Path,
    console: Console,
    *,
    stages: Stages[Any] = SFT_STAGES,
    say: Say,
) -> None:
    """Show the first examples that a run would read."""
    own, theirs = settings.own, settings.theirs
    tokenizer = stages.tokenizer(own, model, say=say)
    prepared = prepare_all(own.data_path, own, tokenizer, stages, cache, say=say)
    for line in prepared.report.lines(stages.marked[0]):
        say(line)
    seed = theirs["data_seed"] if theirs.get("data_seed") is not None else theirs.get("seed", 42)
    packed = stages.rows(prepared, own, seed)
    order = Order(
        packed.lengths,
        theirs["per_device_train_batch_size"],
        seed=seed,
        ranks=ranks(),
        times=theirs.get("gradient_accumulation_steps", 1),
        grouped=theirs.get("train_sampling_strategy") == "group_by_length",
    )
    first = order.rows(0).tolist()
    show(
        console,
        RowsOf(prepared, packed),
        first,
        tokenizer,
        (own.preview or 1) * max(len(stages.parts), 1),
        packed=getattr(own, "packing", False),
        marked=stages.marked,
        parts=stages.parts,
    )


def show(
    console: Console,
    rows: RowsOf,
    order: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    *,
    packed: bool = True,
    marked: tuple[str, str] = SFT_STAGES.marked,
    parts: Sequence[str] = (),
) -> None:
    """Show the first examples of some rows.

    Args:
        order: Numbers of rows, in reading order.
        packed: Whether to show which examples share a row.
        marked: What to call tokens with and without the mark.
        parts: What to call the examples of a row.
    """
    colour = console.is_terminal and not console.no_color and console.color_system is not None
    decoder = Decoder(tokenizer)
    console.print(_legend(marked, colour=colour), soft_wrap=True)
    for row in map(int, order):
        if count <= 0:
            break
        members = rows.rows[row].tolist()
        examples = members[:count]
        count -= len(examples)
        console.print()
        if packed:
            more = f", {len(examples)} of them shown" if len(examples) < len(members) else ""
            several = f"{len(members)} examples, which do not see each other"
            fills = f"{int(rows.rows.lengths[row]):,} of {rows.rows.capacity:,} tokens"
            line = f"━━ row {row}: {fills}, {several if len(members) > 1 else '1 example'}{more}"
            console.print(Text(line), style="bold" if colour else "", soft_wrap=True)
        for part, number in enumerate(examples):
            example, name = rows.prepared[number], rows.prepared.name(number)
            cut = Cut(*rows.prepared.cuts[number].tolist())
            name = f"{name} {parts[part]}" if parts else name
            carrying = f", {int(example.trained[1:].sum()):,} {marked[0]}" if marked[0] else ""
            heading = f"── {visible(name)}: {len(example.ids):,} tokens{carrying}{_lost(cut)}"
            console.print(Text(heading, "yellow" if colour else ""), soft_wrap=True)
            console.print(shown(list(decoder.pieces(example)), colour=colour), soft_wrap=True)


def _legend(marked: tuple[str, str], *, colour: bool) -> Text:
    if not colour:
        enclosed = f"{OPEN}{marked[0]}{CLOSE}, " if marked[0] else ""
        return Text(f"{enclosed}{marked[1]}, ⟨control token⟩, ↵ line end")
    text = Text("Each shade is a token: ")
    kinds = zip(marked, (True, False), strict=True)
    for says, trained in ((says, trained) for says, trained in kinds if says):
        words = [ShownToken(f"{word} ", trained=trained) for word in says.split()]
        text.append(
            shown([*words, ShownToken("⟨control token⟩", trained, special=True)], colour=True)
        ).append("  ")
    return text


def _lost(cut: Cut) -> str:
    if not cut.tokens:
        return ""
    parts = [
        f"{cut.prompt:,} of the middle of the prompt" if cut.prompt else "",
        f"{cut.tokens - cut.prompt:,} of the end" if cut.tokens > cut.prompt else "",
    ]
    answers = "; its last answers are lost" if cut.lost else ""
    answers += "; it ends within an answer" if cut.broken else ""
    return f"; too long: cut by {' and '.join(filter(None, parts))}{answers}"
