"""What the policy wrote: as the loop's own records, with a score each, and as lines of `samples.jsonl`.

With `--chains`, the policy writes native chains: an answer, feedback, and revisions. The reward is then that
of the final answer. With `--revision_bonus`, answer 0 has its own reward, and the text after it that of the
final answer and the bonus, times what revising changed: above 0 from wrong to right, below 0 from right to
wrong. Without `--chains`, a record has one answer.

SCoRe (2409.12917) shows why: trained on given chains alone, a model sees mistakes that are not its own; and
when only the final answer counts, it learns to answer well at once and to change nothing.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redraft.chain import Chain, Finish, Step
from redraft.formats.selfee import Parser, parse
from redraft.jobs.lines import LineFile, parse_line, read_lines
from redraft.train.rl.rewards import Rewards
from redraft.train.rl.samplers import Response

SAMPLES = "samples.jsonl"  # the file's name, in the output folder


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


class Samples:
    """`samples.jsonl`: every response of a run with its reward, written when its chunk is judged.

    It is for reading, and for going on: a run that is stopped in the middle of a rollout batch does not write
    and judge again what is in the file. A resumed run repeats its steps, and so comes to the same batches.

    Args:
        afresh: Whether an earlier file is thrown away.
        settings: Of what decides responses. What was written with others is not used again.
        judge: Of what decides rewards. What another one judged is judged again.
        leads: Whether this process writes. The others only read what an earlier session wrote.
    """

    def __init__(
        self, folder: Path, *, afresh: bool = False, settings: str = "", judge: str = "", leads: bool = True
    ) -> None:
        self._path, self._afresh, self._leads, self._settings = folder / SAMPLES, afresh, leads, settings
        self._file: LineFile | None = None
        self._opened, self._judge = False, judge
        self._kept: dict[tuple[int, int], dict[str, Any]] = {}
        self._written: set[tuple[int, int]] = set()  # those of them that are in the file as they should be

    def open(self, since: int) -> int:
        """Open the file, and read what an earlier session wrote for rollout batches from `since` on.

        What it wrote with other settings is cut off; without a checkpoint, all but the first rollout batch.
        From the first response that has to be judged again on, all are written again.

        Returns:
            How many responses are there that another judge has judged; 0 if the file is open already.
        """
        if self._opened:
            return 0
        self._opened = True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = stale = 0
        for line in () if self._afresh else read_lines(self._path):
            with suppress(KeyError, TypeError, ValueError):
                each = parse_line(line) or {}
                if int(each["rollout"]) >= since:
                    # Without a checkpoint, later ones may be of a policy that was trained otherwise.
                    if each.get("settings") != self._settings or int(each["rollout"]) > 0 == since:
                        break  # rollout batches stand in order
                    stale += each.get("judge") != self._judge
                    place = int(each["rollout"]), int(each["row"])
                    self._kept[place] = each
                    self._written |= set() if stale else {place}
            whole += len(line) if line.endswith(b"\n") and not stale else 0
        if self._leads:
            self._file = LineFile(self._path, made_up=True)
            self._file.cut(whole)
        return stale

    def kept(
        self, rollout: int, rows: Sequence[int], asked: Sequence[tuple[str, str]]
    ) -> tuple[list[Response], list[Score]]:
        """Return responses of a chunk if all are there, to these prompts (id and text), and their rewards.

        Each list is empty if one is missing, rewards also if another judge gave one.
        """
        pairs = zip((self._kept.get((rollout, row)) for row in rows), asked, strict=True)
        whole = [each for each, said in pairs if each and (each.get("id"), each.get("prompt")) == said]
        if len(whole) < len(rows):
            return [], []
        responses = [
            Response(tuple(each["tokens"]), each["answer"], each["ended"], tuple(each.get("log_probs", ())))
            for each in whole
        ]
        valid = all(each.get("judge") == self._judge for each in whole)
        return responses, [_score(each) for each in whole] if valid else []

    def add(
        self,
        rollout: int,
        rows: Sequence[int],
        asked: Sequence[tuple[str, str]],
        responses: Sequence[Response],
        scores: Sequence[Score],
    ) -> None:
        """Write a chunk that is not there yet.

        Args:
            rollout: The number of the rollout batch, from 0.
            rows: The numbers of the responses in it.
            asked: Id and text of each prompt.
        """
        lines = [
            {
                "rollout": rollout,
                "row": row,
                "id": name,
                "prompt": text,
                "answer": response.text,
                "reward": score.reward,
                **({"rewards": score.parts} if score.parts else {}),
                **(
                    {}
                    if score.opening == len(response.tokens)
                    else {"first_reward": score.first, "first_tokens": score.opening}
                ),
                "ended": response.ended,
                "tokens": response.tokens,
                **({"log_probs": response.log_probs} if response.log_probs else {}),
                "settings": self._settings,
                "judge": self._judge,
            }
            for row, (name, text), response, score in zip(rows, asked, responses, scores, strict=True)
        ]
        there = self._written.issuperset((rollout, row) for row in rows)
        if self._file and not (there and self.kept(rollout, rows, asked)[1]):
            self._file.append(*(json.dumps(line, ensure_ascii=False) for line in lines))


def _score(line: dict[str, Any]) -> Score:
    reward = float(line["reward"])
    first, opening = line.get("first_reward", reward), line.get("first_tokens", len(line["tokens"]))
    return Score(reward, float(first), int(opening), line.get("rewards", {}))
