"""Splits long conversations at their turns, so that each piece fits what a model is trained on.

A conversation is a row of exchanges: a human's turns with all that follows until a human speaks again. As
many as fit make a piece, and an exchange is never cut. So no turn is lost, the last ones included, which the
splitter released with Vicuna forgets when they overflow. An exchange that alone is too long stays whole:
whoever asked decides what becomes of it.

How tokens are counted is the caller's business; texts are not shortened here.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain as joined
from typing import Any

from redraft.chain import Chain, Prompt, Step, Usage, content_of
from redraft.collect.clean.dropped import Drop
from redraft.collect.read.records import chain_or_drop
from redraft.formats.gold import answer_of
from redraft.formats.read.records import RawRecord
from redraft.formats.selfee import render_steps

Count = Callable[[str], int]
"""How many tokens a text has."""

LIMIT = 2048
"""Tokens that Vicuna and SelFee were trained on at a time (reference: their facts)."""

TURN_TOKENS = 6
"""Tokens left a turn for what a template puts around it, as many as FastChat's splitter leaves."""

WHOLE = ("origin", "source", "lang")
"""What `meta` has of a whole conversation: where it is from, its other fields, its language."""

Message = Mapping[str, Any]


@dataclass(frozen=True)
class SplitPart:
    """A conversation, or a part of one.

    Attributes:
        chain: With the id of the whole, and `#1`, `#2`… behind it where there are several pieces.
        tokens: With what a template takes; where it fits, perhaps fewer.
    """

    chain: Chain
    tokens: int


def split(chain: Chain, count: Count, limit: int = LIMIT) -> list[SplitPart]:
    """The pieces of a chain, each with at most `limit` tokens or a single exchange.

    A chain that fits, or cannot be cut, is its own only piece, unchanged. Else a system message at the
    beginning is repeated in each piece, and so is what `meta` has of the whole (`WHOLE`). Everything else
    that the chain has, such as its steps, its cost and its gold answer, goes to the last piece. The answer of
    an earlier piece is a step without feedback; what its message has beside a text is in `meta.message`.

    Only turns before the first human one, which `clean` takes away, can begin a piece instead of a human.
    """
    head, exchanges = _parts(chain.prompt)
    opening, sizes = _sizes(chain, head, exchanges, _most)
    if opening + sum(sizes) <= limit:
        return [SplitPart(chain, opening + sum(sizes))]
    opening, sizes = _sizes(chain, head, exchanges, count)
    ranges = _packed(sizes, limit - opening)
    if len(exchanges) < 2 or len(ranges) < 2:
        return [SplitPart(chain, opening + sum(sizes))]
    chains = [_part(chain, head, list(joined(*exchanges[each.start : each.stop]))) for each in ranges[:-1]]
    chains.append(_end(chain, [*head, *joined(*exchanges[ranges[-1].start :])]))
    return [
        SplitPart(each.model_copy(update={"id": f"{chain.id}#{i}"}), opening + sum(sizes[r.start : r.stop]))
        for i, (each, r) in enumerate(zip(chains, ranges, strict=True), start=1)
    ]


def _most(text: str) -> int:
    """At most so many tokens: no tokenizer makes more of a text than its bytes, and one for its beginning.

    Those that normalise a text first may make more bytes of it, but no more than it has with its characters
    taken apart. Counting bytes takes no time, and most conversations that fit are seen to fit by it.
    """
    if text.isascii():
        return len(text) + 1
    return max(len(text.encode()), len(unicodedata.normalize("NFKD", text).encode())) + 1


def _sizes(
    chain: Chain, head: Sequence[Message], exchanges: Sequence[Sequence[Message]], count: Count
) -> tuple[int, list[int]]:
    """Tokens of the opening, and of each exchange. The last one has the answer, or the gold one."""
    opening = sum(_size(message, count) for message in head)
    sizes = [sum(_size(message, count) for message in exchange) for exchange in exchanges]
    answer = render_steps(chain.steps) if chain.steps else answer_of(chain)
    if answer:
        sizes = [*sizes[:-1], sum(sizes[-1:]) + count(answer) + TURN_TOKENS]
    return opening, sizes


def _parts(prompt: Prompt) -> tuple[Sequence[Message], list[list[Message]]]:
    """The system messages at the beginning, and the exchanges."""
    messages = _messages(prompt)
    start = next((i for i, each in enumerate(messages) if each.get("role") != "system"), len(messages))
    return messages[:start], list(_exchanges(messages[start:]))


def _messages(prompt: Prompt) -> Sequence[Message]:
    if prompt.messages is None:
        return ({"role": "user", "content": prompt.text},) if prompt.text else ()
    return prompt.messages


def _exchanges(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Each begins where a human speaks and did not just before. What stands before that is the first's."""
    exchange: list[Message] = []
    asked = False
    for message in messages:
        speaks = message.get("role") == "user"
        if asked and speaks and exchange[-1].get("role") != "user":
            yield exchange
            exchange = []
        exchange.append(message)
        asked = asked or speaks
    if exchange:
        yield exchange


def _size(message: Message, count: Count) -> int:
    return count(content_of(message)) + TURN_TOKENS


def _packed(sizes: Sequence[int], room: int) -> list[range]:
    """Which exchanges go together: as many as there is room for, and at least one."""
    pieces, begin, used = [], 0, 0
    for i, size in enumerate(sizes):
        if i > begin and used + size > room:
            pieces.append(range(begin, i))
            begin, used = i, 0
        used += size
    return [*pieces, range(begin, len(sizes))]


def _part(chain: Chain, head: Sequence[Message], said: Sequence[Message]) -> Chain:
    """A piece that is not the last one."""
    meta = {name: chain.meta[name] for name in WHOLE if name in chain.meta}
    part = chain.model_copy(
        update={"steps": (), "best": None, "stop": None, "sampling": {}, "usage": Usage(), "meta": meta}
    )
    answer = said[-1]
    if answer.get("role") != "assistant":
        return _end(part, [*head, *said])
    if not _plain(answer):
        part = part.model_copy(update={"meta": {**meta, "message": dict(answer)}})
    step = Step(answer=content_of(answer))
    return _end(part.model_copy(update={"steps": (step,), "best": 0}), [*head, *said[:-1]])


def _end(chain: Chain, asked: Sequence[Message]) -> Chain:
    """The chain with another prompt. A human's plain message alone, if it has a text, is an instruction."""
    if len(asked) == 1 and asked[0].get("role") == "user" and _plain(asked[0]) and asked[0]["content"]:
        new: dict[str, Any] = {"instruction": asked[0]["content"], "messages": None}
    else:
        new = {"messages": tuple(asked)}
    return chain.model_copy(update={"prompt": chain.prompt.model_copy(update=new)})


def _plain(message: Message) -> bool:
    return message.keys() == {"role", "content"} and isinstance(message["content"], str)


@dataclass(frozen=True)
class Done:
    """What became of one record.

    Attributes:
        lines: The pieces that are kept, as JSON.
        drops: Those that are not.
        counts: `kept` pieces, of them `too long` ones, and `split` conversations.
    """

    lines: Sequence[bytes]
    drops: Sequence[Drop]
    counts: Counter[str]


def split_line(line: RawRecord, *, count: Count, limit: int, drop: bool, strict: bool) -> Done:
    """Splits a record of a file.

    Args:
        line: The record.
        count: How many tokens a text has.
        limit: Tokens of a piece.
        drop: Whether an exchange that is over the limit is dropped.
        strict: Whether a record that cannot be read is raised.

    Raises:
        RecordError: With `strict`, it cannot be read.
    """
    chain = chain_or_drop(line, strict=strict)
    if isinstance(chain, Drop):
        return Done((), (chain,), Counter())
    pieces = split(chain, count, limit)
    long = [piece for piece in pieces if piece.tokens > limit]
    kept = [piece for piece in pieces if not drop or piece.tokens <= limit]
    counts = Counter({"kept": len(kept), "too long": 0 if drop else len(long), "split": len(pieces) > 1})
    drops = [_too_long(piece, limit, line.where) for piece in long] if drop else []
    return Done([piece.chain.to_json().encode() + b"\n" for piece in kept], drops, counts)


def _too_long(piece: SplitPart, limit: int, where: str) -> Drop:
    reason = f"{piece.tokens:,} tokens, at most {limit:,}"
    return Drop("too-long", reason, where, piece.chain.id, piece.chain.model_dump(mode="json"))
