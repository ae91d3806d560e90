"""What a prompt is shown, and how often it is answered: examples in front of it, and several samples of it.

Examples are earlier turns of the conversation: what the task asks of another record, and that record's own
solution. The file of examples should not be the one that is scored: a record of both is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from redraft import stats
from redraft.chain import Chain, Prompt, is_system
from redraft.errors import RecordError
from redraft.evaluation.records import SAMPLE_OF, text_in_source
from redraft.evaluation.tasks.tasks import Task, checks_of
from redraft.formats.read.records import read_records, sample_id
from redraft.formats.read.tasks import boxed
from redraft.formats.texts import gold_answers, rationales
from redraft.stats import Estimate

Message = dict[str, Any]


def read_shots(task: Task, file: Path, count: int) -> tuple[Message, ...]:
    """Return the first records of a file of the task as turns: what is asked of each, and its solution.

    Raises:
        RecordError: The file has fewer records, or one without a solution.
    """
    records = list(islice(read_records(file), count))
    if len(records) < count:
        raise RecordError(
            f"{file} has {len(records)} records, and {count} examples are wanted.",
            hint="Lower --few-shot, or add records.",
        )
    turns: list[Message] = []
    for record in records:
        checks_of(task, record)
        solution = _solution(record)
        if not solution:
            hint = 'Give it one: a published solution, or the field "answer".'
            raise RecordError(f"{file}: {record.id} is to be an example, and has no solution.", hint=hint)
        prompt = Prompt(instruction=task.prompt(record)) if task.prompt else record.prompt
        turns += [each for each in _messages(prompt) if not is_system(each)]
        turns.append({"role": "assistant", "content": solution})
    return tuple(turns)


def _solution(record: Chain) -> str:
    """Return how the record is solved: its rationale and its gold answer, as the tasks ask for them."""
    gold, why = ("".join(texts[:1]) for texts in (gold_answers(record), rationales(record)))
    if gold:
        return why if boxed(why) else f"{why}\n\nAnswer: {gold}".strip()
    return record.answer or text_in_source(record, "answer") or ""


def shown(record: Chain, turns: Sequence[Message]) -> Chain:
    """Return a record that is asked behind examples.

    Raises:
        RecordError: It is one of them.
    """
    if not turns:
        return record
    text = record.prompt.text
    if any(turn["content"] == text for turn in turns):
        raise RecordError(
            f"{record.id} is among the examples: the model would see its answer.",
            hint="Give --examples a file of other records, such as the training part.",
        )
    own = _messages(record.prompt)
    messages = (*filter(is_system, own), *turns, *(each for each in own if not is_system(each)))
    return record.model_copy(update={"prompt": Prompt(messages=messages)})


def _messages(prompt: Prompt) -> tuple[Message, ...]:
    return prompt.messages or ({"role": "user", "content": prompt.text},)


def samples_of(record: Chain, count: int) -> Iterator[Chain]:
    """Yield a record as often as it is answered. Each has its own id, and so its own seed."""
    yield record
    for number in range(2, count + 1):
        meta = {**record.meta, SAMPLE_OF: record.id}
        yield record.model_copy(update={"id": sample_id(record.id, number), "meta": meta})


def pass_at(counts: Mapping[str, tuple[int, int]], k: int) -> Estimate:
    """Estimate pass@k: the chance that one of `k` answers is right, a mean over items with so many answers.

    Of n answers of which c are right, it is 1 - C(n-c, k) / C(n, k), which is not biased. The interval is
    over items.

    Source: Chen et al., Evaluating Large Language Models Trained on Code (2021, arXiv 2107.03374), eq. 1.

    Args:
        counts: Right answers and all answers of each item.
        k: Answers that are drawn.
    """
    chances = [1 - math.comb(n - c, k) / math.comb(n, k) for c, n in counts.values() if n >= k]
    return stats.mean(chances, bounds=stats.SHARE) if chances else stats.NOTHING


def steps_to(most: int) -> list[int]:
    """Return the values of k that are shown: 1, 2, 5, 10, 20 … up to the number of answers, and that."""
    found = (digit * 10**zeros for zeros in range(len(str(most))) for digit in (1, 2, 5))
    return [*(k for k in found if k < most), most]
