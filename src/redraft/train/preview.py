"""Show training data as the model will see it: each record's text, and which of it is marked.

It decodes the stored tokens, not the text they came from. So a missing stop token, a prompt with loss, or a
control token that is only text cannot hide. No model is loaded.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from redraft.train.batches import Order
from redraft.train.load import load_tokenizer
from redraft.train.options import RunOptions
from redraft.train.prepare import Prepared, Stored
from redraft.train.processes import Say, ranks
from redraft.train.run import prepare_all
from redraft.train.verb import Verb, verb_of

OPEN, CLOSE = "⟦", "⟧"
"""Around marked text, without colour."""


def preview(own: RunOptions, model: str, cache: Path, console: Console, *, say: Say) -> None:
    """Show the first records of a run."""
    verb = verb_of(type(own))
    tokenizer = load_tokenizer(model, pad_token=own.pad_token, apart=verb.scores, say=say)
    prepared = prepare_all(own.data_path, own, tokenizer, verb, cache, say=say)
    for line in prepared.report.lines(verb.marked[0]):
        say(line)
    rows = verb.rows(prepared.lengths, own)
    order = Order(len(rows), own.per_device_train_batch_size, seed=own.seed, ranks=ranks()).rows(0)
    examples = (number for row in order.tolist() for number in rows[row].tolist())
    colour = console.is_terminal and not console.no_color and console.color_system is not None
    console.print(_legend(verb.marked, colour=colour), soft_wrap=True)
    count = (own.preview or 1) * max(len(verb.parts), 1)
    for place, number in enumerate(islice(examples, count)):
        console.print(
            f"\n{_heading(prepared, number, place, verb)}", style="yellow" if colour else "", soft_wrap=True
        )
        console.print(shown(prepared[number], tokenizer, colour=colour), soft_wrap=True)


def _legend(marked: tuple[str, str], *, colour: bool) -> Text:
    said, other = marked
    text = Text()
    if said and colour:
        text.append(said, "bold green").append(", ")
    elif said:
        text.append(f"{OPEN}{said}{CLOSE}, ")
    return text.append(f"{other}, ⟨control token⟩, ↵ line end")


def _heading(prepared: Prepared, number: int, place: int, verb: Verb[Any]) -> str:
    example = prepared[number]
    name = visible(prepared.name(number))
    name += f" {verb.parts[place % len(verb.parts)]}" if verb.parts else ""
    carrying = f", {int(example.trained[1:].sum()):,} {verb.marked[0]}" if verb.marked[0] else ""
    return f"── {name}: {len(example.ids):,} tokens{carrying}"


def shown(example: Stored, tokenizer: Any, *, colour: bool) -> Text:
    """Return the text of an example: in colours, or with ⟦ and ⟧ around what is marked."""
    text = Text()
    for marked, piece in _pieces(example, tokenizer):
        if colour:
            text.append(piece, "bold green" if marked else "dim")
        else:
            text.append(f"{OPEN}{piece}{CLOSE}" if marked else piece)
    return text


def _pieces(example: Stored, tokenizer: Any) -> Iterator[tuple[bool, str]]:
    """Yield the runs of tokens with and without a mark. The first token has none: nothing predicts it."""
    special = {
        number: f"⟨{token.content.strip('<|>') or token.content}⟩"
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special
    }
    before = tokenizer.encode("a", add_special_tokens=False)[-1:]

    def decoded(ids: list[int]) -> str:
        """Decode behind a letter: SentencePiece drops the space of a first token."""
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
