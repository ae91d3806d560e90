"""What the policy writes, as the loop's own record, and the score of each record.

With `--chains`, the policy writes native chains: an answer, feedback, and revisions. The reward is then that
of the final answer. With `--revision_bonus`, answer 0 has its own reward, and the text after it that of the
final answer and the bonus, times what revising changed: above 0 from wrong to right, below 0 from right to
wrong. Without `--chains`, a record has one answer.

SCoRe (2409.12917) shows why: trained on given chains alone, a model sees mistakes that are not its own; and
when only the final answer counts, it learns to answer well at once and to change nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Chain, Finish, Step
from redraft.formats.selfee import Parser, parse
from redraft.train.rl.rewards import Rewards
from redraft.train.rl.sampler import Response


@dataclass(frozen=True)
class Score:
    """What a response is worth.

    Attributes:
        reward: The reward of its final answer.
        first: The reward of answer 0; without a revision, the same.
        opening: Its tokens up to where feedback begins; all, if there is none.
        parts: What each form of `--reward` adds to `reward`, if there are several.
    """

    reward: float
    first: float
    opening: int
    parts: Mapping[str, float] = field(default_factory=dict)


def recorded(record: Chain, response: Response, *, chains: bool) -> Chain:
    """Return a record with what was written for its prompt. `finish` of the last step says if it was cut."""
    finish: Finish = "stop" if response.ended else "max_tokens"
    if not chains:
        return record.model_copy(update={"steps": (Step(answer=response.text, finish=finish),), "best": 0})
    read = parse(response.text, record.prompt)
    last = [each.model_copy(update={"finish": finish}) for each in read.steps[-1:]]
    steps = (*read.steps[:-1], *last)
    return record.model_copy(update={"steps": steps, "best": read.best, "stop": read.stop})


async def scored(
    reward: Rewards, records: Sequence[Chain], responses: Sequence[Response], tokenizer: Any
) -> list[Score]:
    """Judge records: the final answer of each, and answer 0 of those that have others. Raises as `reward`."""
    revised = [each for each in records if each.revisions]
    firsts = [each.model_copy(update={"steps": each.steps[:1], "best": 0}) for each in revised]
    found = await reward([*records, *firsts])
    parts, rest = found[: len(records)], iter(found[len(records) :])
    return [
        Score(
            sum(final.values()),
            sum((next(rest) if record.revisions else final).values()),
            opening(record, response, tokenizer),
            final if len(final) > 1 else {},
        )
        for final, record, response in zip(parts, records, responses, strict=True)
    ]


def opening(record: Chain, response: Response, tokenizer: Any) -> int:
    """Return how many tokens of a response come before its feedback, with the heading of that."""
    count = len(response.tokens)
    if not record.steps or record.steps[0].feedback is None:
        return count

    def opened(tokens: int) -> bool:
        parser = Parser()
        parser.feed(tokenizer.decode(response.tokens[:tokens]))
        return parser.kind == "feedback" or parser.index > 0

    return bisect_left(range(count), 1, key=opened)
