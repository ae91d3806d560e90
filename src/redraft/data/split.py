"""Split long conversations between exchanges, so that each part fits a training sequence.

An exchange is one or more user turns and everything up to the next user turn. Each part contains as many
exchanges as fit. An exchange that is too long stays whole, in a part that exceeds the limit. No turn is lost,
whereas Vicuna's released splitter drops an overflowing end.
"""

# ruff: noqa: A002  (`format` is an option)
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import chain as joined
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from redraft.chain import Chain, Prompt, Usage
from redraft.chain.read.conversations import answered_by, asked
from redraft.chain.selfee import render_steps
from redraft.chain.spans import spans_of
from redraft.chain.texts import answer_of, asked_turns
from redraft.data.output import DataOptions, DataResult, DataRun, writing
from redraft.errors import RecordError
from redraft.jobs.formats import TrainingFormat

_Count = Callable[[str], int]  # counts the tokens of a text
LIMIT = 2048  # length of Vicuna's and SelFee's training sequences, in tokens
TURN_TOKENS = 6  # tokens to leave per turn for a chat template, as in FastChat's splitter

_WHOLE = ("origin", "source", "lang")
"""Fields of `meta` that describe the whole conversation and go to every part."""

_Message = dict[str, Any]


def split(
    source: str | Path,
    out: str | Path,
    count: _Count,
    *,
    limit: int = LIMIT,
    format: TrainingFormat = "selfee",
    tokenizer: str = "",
    **options: Unpack[DataOptions],
) -> DataResult:
    """Split long conversations between exchanges. Same as `redraft data split`.

    `count` returns the number of tokens in a text. With several workers, `count` must be a module-level
    function. The provenance records the name `tokenizer`, and `count.fingerprint()` if defined.
    """
    run, total = DataRun.of(out, options, split), Counter[str]()
    work, lines = partial(_pieces, count=count, limit=limit, format=format), run.lines(source)
    how = {"limit": limit, "tokenizer": tokenizer, "format": format}
    fingerprint: Callable[[], Any] = getattr(count, "fingerprint", lambda: None)

    def pieces(done: Iterable[Sequence[_Piece]]) -> Iterator[bytes]:
        for found in done:
            long = sum(too_long for _, too_long in found)
            total.update({"split": int(len(found) > 1), "kept": len(found), "too long": long})
            yield from (line for line, _ in found)

    provenance = run.provenance("data split", source, **how)
    with writing(provenance, run, about=lambda: {"tokenizer": fingerprint()}) as output:
        found = output.gone.without(output.spread(work, lines))
        output.sink.writelines(output.passing(pieces(found)))
    output.tell_counts()
    run.tell(f"conversations split: {total['split']:,}; records over {limit:,} tokens: {total['too long']:,}")
    return output.result(total)


_Piece = tuple[bytes, bool]  # a part as a line of JSON, and whether it is over the limit


def _pieces(chain: Chain, _: str, *, limit: int, **how: Any) -> list[_Piece]:
    return [(part.to_json().encode() + b"\n", n > limit) for part, n in parts_of(chain, limit=limit, **how)]


class SplitPart(NamedTuple):
    """A whole conversation or a part (its id ends in `#1`, `#2`…), and an upper bound of its token count."""

    chain: Chain
    tokens: int


def parts_of(
    chain: Chain, count: _Count, limit: int = LIMIT, format: TrainingFormat = "chat"
) -> list[SplitPart]:
    """Split a chain into parts. Each part has at most `limit` tokens, or is a single exchange.

    A chain that fits or cannot be cut is returned unchanged. Otherwise each part repeats the leading system
    message and the fields `_WHOLE` of `meta`. Everything else, such as steps, cost and gold answer, goes only
    to the last part. An assistant message at the end of an earlier part becomes a step.

    Tokens are counted in the text that `format` writes. For `chat`, and for chains that a format cannot
    write, the turns' texts are counted, plus `TURN_TOKENS` per turn.
    """
    alone = ({"role": "user", "content": chain.prompt.text},) if chain.prompt.text else ()
    messages: Sequence[_Message] = alone if chain.prompt.messages is None else chain.prompt.messages
    start = next((i for i, each in enumerate(messages) if each.get("role") != "system"), len(messages))
    head, exchanges = messages[:start], _exchanges(messages[start:])

    def part(places: range) -> Chain:
        if len(places) == len(exchanges):
            return chain
        turns = list(joined(*exchanges[places.start : places.stop]))
        if places.stop < len(exchanges):
            return _part(chain, head, turns)
        return chain.model_copy(update={"prompt": _prompt([*head, *turns])})

    within = getattr(count, "within", lambda text, _: count(text))

    @cache
    def tokens(places: range) -> int:
        text, own = _written(part(places), format)
        return own + int(within(text, limit - own))

    everything = range(len(exchanges))
    if len(exchanges) < 2 or tokens(everything) <= limit:
        return [SplitPart(chain, tokens(everything))]
    pieces, begin = list[SplitPart](), 0
    while begin < len(exchanges):
        end = begin + 1
        while end < len(exchanges) and tokens(range(begin, end + 1)) <= limit:
            end += 1
        piece = part(range(begin, end)).model_copy(update={"id": f"{chain.id}#{len(pieces) + 1}"})
        pieces.append(SplitPart(piece, tokens(range(begin, end))))
        begin = end
    return pieces


def _exchanges(messages: Sequence[_Message]) -> list[list[_Message]]:
    exchanges: list[list[_Message]] = [[]] if messages else []
    asked = False
    for message in messages:
        speaks = message.get("role") == "user"
        if asked and speaks and exchanges[-1][-1].get("role") != "user":
            exchanges.append([])
        exchanges[-1].append(message)
        asked = asked or speaks
    return exchanges


def _written(chain: Chain, format: TrainingFormat) -> tuple[str, int]:
    if format != "chat":
        with suppress(RecordError):
            spans = spans_of(chain, format, "full")
            return "".join(span.text for span in spans), 1 + sum(span.stop for span in spans)
    answer = render_steps(chain.steps) if chain.steps else answer_of(chain)
    texts = [text for text in (*(turn.text for turn in asked_turns(chain.prompt)), answer) if text]
    return "\n".join(texts), TURN_TOKENS * len(texts)


def _part(chain: Chain, head: Sequence[_Message], turns: Sequence[_Message]) -> Chain:
    meta = {name: chain.meta[name] for name in _WHOLE if name in chain.meta}
    nothing: dict[str, Any] = {"steps": (), "best": None, "stop": None, "usage": Usage()}
    part = chain.model_copy(update={**nothing, "sampling": {}, "usage_by_role": {}, "meta": meta})
    if turns[-1].get("role") != "assistant":
        return part.model_copy(update={"prompt": _prompt([*head, *turns])})
    found, prompt = answered_by([], turns[-1]), _prompt([*head, *turns[:-1]])
    update = {"prompt": prompt, "steps": found.steps, "best": 0, "meta": meta | found.meta}
    return part.model_copy(update=update)


def _prompt(turns: Sequence[_Message]) -> Prompt:
    plain = all(turn.keys() == {"role", "content"} and turn["content"] for turn in turns)
    return asked(turns) if plain else Prompt(messages=tuple(turns))
