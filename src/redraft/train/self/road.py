"""Train a base model to answer, and to check and revise these answers, in stages that can be resumed.

The adapter `answers` answers prompts, and `critic` criticises and revises. With two adapters, training the
critic does not make first answers worse. Each stage applies a verb of redraft to files in the run's folder. A
record of each file says how the file was made, so that the same call resumes a stopped run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

from redraft.chain import Chain, read_jsonl
from redraft.chain.read.inputs import licensed_records
from redraft.engines.hf.folders import folder_for
from redraft.engines.llamacpp.default_model import ADAPTERS
from redraft.engines.load import DEFAULTS, model_of
from redraft.errors import UsageError
from redraft.jobs.files import locked, replace_file
from redraft.jobs.formats import Objective
from redraft.jobs.provenance import Provenance, RunFile, fingerprint
from redraft.jobs.signals import EndedBySignal
from redraft.train.api import train_sft
from redraft.train.self import certainty, lessons
from redraft.train.self.measure import LONGEST_ANSWER, Asking, Outcome, by_task, changes
from redraft.train.self.tasks import TASKS
from redraft.train.self.tasks.task import Task
from redraft.weights.card import CARD, card_text, sources_of
from redraft.weights.checkpoint import read_json
from redraft.weights.gguf.reader import read_header
from redraft.weights.replace import write_json

LONGEST_EVERYDAY = 320  # tokens of an answer to an everyday prompt
LONGEST_CHAIN = 512  # tokens of a chain; the longest feedback has about 200
REVISIONS = 1  # as in training, because a second criticism would repeat the first
EVERYDAY = Path(__file__).with_name("everyday.jsonl")
"""Prompts of Self-Instruct and OASST1 (Apache-2.0), without answers."""
FEWEST_EVERYDAY = 400  # minimum number of answers to everyday prompts to train on
REHEARSED = 2
"""The number of exercises of a new task per exercise of an old task. With six, the model forgot much of the
old tasks (benchmarks/LOST.md)."""
RANKS = {"answers": 4, "critic": 15}  # adapters' ranks. The adapters take 12 MB in 16 bits.
FURTHER = {"learning_rate": 6e-4, "model_max_length": 512}
"""Settings to train an earlier run's adapters: a lower learning rate, and steps of about 1,000 tokens."""
DRAFTING = 1.0  # temperature of the drafts to criticise: it brings out more of the model's own faults than 0
DRAFTED = {"asked": "drafted.jsonl", "outside": "guessed.jsonl"}  # files of drafts, by their files of prompts


@dataclass(frozen=True)
class Scale:
    """The amount of training and testing: exercises per task, and optimizer steps."""

    answers: int = 1600  # to learn answers from
    drafts: int = 2400  # to draft, criticise and revise
    held_out: int = 300  # to test on, in wordings not used for training
    answer_steps: int = 150  # 0 leaves the adapter of an earlier run as it is
    chain_steps: int = 1300


@dataclass(frozen=True)
class Start:
    """The adapters and tasks of an earlier run."""

    answers: Path  # a GGUF file
    critic: Path  # a GGUF file: the adapter that criticises and revises
    learnt: Sequence[Task]  # the tasks to rehearse

    @classmethod
    def of(cls, name: str) -> Start:
        """Return the adapters of the default model, or of a folder of `redraft train self`.

        Raises:
            UsageError: The folder contains no run of `redraft train self` with both adapters.
        """
        if name == "default":
            [answers], [critic] = ADAPTERS["answer"], ADAPTERS["revise"]
            return cls(answers, critic, list(TASKS.values()))
        folder = Path(name)
        answers, critic = folder / "answers.gguf", folder / "critic.gguf"
        record = RunFile(folder / "road").read()
        if record is None or not (answers.exists() and critic.exists()):
            message = f"--from {name} does not contain both adapters of `redraft train self`."
            raise UsageError(message, hint="Use --from default, or the folder of a run that has ended.")
        learnt = [TASKS[task] for task in record["config"].get("tasks", ()) if task in TASKS]
        return cls(answers, critic, learnt)

    @property
    def record(self) -> Mapping[str, Any]:
        """For the new run's record: a hash of the adapters, and the names of the earlier tasks."""
        made = fingerprint([self.answers, self.critic])
        return {"sha256": made["sha256"], "learnt": [task.name for task in self.learnt]}


@dataclass(frozen=True)
class Road:
    """A run of `redraft train self`."""

    folder: Path
    tasks: Sequence[Task]
    # A file of prompts outside all tasks, or None for `EVERYDAY`. Training on the base's answers to these
    # prompts keeps its behaviour. From drafts of answers, the critic learns to say that it does not know.
    everyday: Path | None = None
    scale: Scale = Scale()
    model: str = "default"  # the base
    seed: int = 1
    parallel: int = 32
    start: Start | None = None  # the run whose adapters are trained further

    @cached_property
    def rehearsed(self) -> Sequence[Task]:
        """The tasks of the earlier run that are not tasks of this run."""
        names = {task.name for task in self.tasks}
        return [task for task in (self.start.learnt if self.start else ()) if task.name not in names]

    @cached_property
    def all(self) -> Mapping[str, Task]:
        """All tasks to train or rehearse, by name."""
        return {task.name: task for task in (*self.tasks, *self.rehearsed)}

    @cached_property
    def _prompts(self) -> Sequence[Chain]:
        return list(licensed_records(self.everyday or EVERYDAY))

    @property
    def files(self) -> Asking:
        """The writer of files of exercises and answers."""
        return Asking(self.folder, self.seed, self.parallel)

    @property
    def answering(self) -> str:
        """The base with the adapter `answers`, as a value of `--model`."""
        return f"{self.model}+{self.folder.resolve() / 'answers.gguf'}"

    @property
    def revising(self) -> str:
        """The base with the adapters `answers` and `critic`, as a value of `--model`."""
        return f"{self.answering}@answer+{self.folder.resolve() / 'critic.gguf'}@revise"

    def walk(self) -> str:
        """Run the remaining stages, and return the test report, which the model card also contains.

        Raises:
            UsageError: `answer_steps` is 0 without `start`, `everyday` is empty, or `model` is not trainable.
            ModelError: The base model is missing.
            OutputError: The folder contains a run with other settings.
            EndedBySignal: A signal ended the run. The same call resumes the run.
        """
        if not self.scale.answer_steps and self.start is None:
            hint = "Add --from default, --from FOLDER or --answer-steps 150."
            raise UsageError("--answer-steps 0 needs an earlier adapter, but none is named.", hint=hint)
        if self.model not in DEFAULTS and not self.model.lower().endswith(".gguf"):
            hint = "Leave --model out, or give a GGUF file: --model qwen3-0.6b-q8_0.gguf"
            raise UsageError(f"--model must be default or a GGUF file, not {self.model}.", hint=hint)
        if not self._prompts:
            hint = "Omit --everyday to use redraft's prompts."
            raise UsageError(f"{self.everyday} has no prompts.", hint=hint)
        folder_for(self.model)  # if the base is missing, nothing should be written
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock"):
            self._record()
            self._make()
            report = self._test()
            replace_file(self.folder / CARD, f"{self._card()}\n{report}\n".encode())
        return report

    def _card(self) -> str:
        made = [folder for name in RANKS if (folder := self.folder / name).is_dir()]
        sources = [source for folder in made for source in sources_of(folder, "adapter")]
        scale = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in asdict(self.scale).items())
        how = f"""
`answers.gguf` answers, and `critic.gguf` criticises and revises. Both are LoRA adapters for {self.model},
made by `redraft train self` with seed {self.seed} (exercises per task, and steps: {scale}).
They were trained on these tasks: {", ".join(self.all)}.

The results on held-out exercises, in wordings that were not used for training:
"""
        return card_text(self.folder.resolve().name, sources) + how

    def _record(self) -> None:
        start_over = f"delete {self.folder} to start over"
        record = RunFile(self.folder / "road", elsewhere="to another folder", start_over=start_over)
        config = {"model": model_of(self.model), "seed": self.seed, **asdict(self.scale)}
        if self.start:
            config["from"] = self.start.record
        made = Provenance("train self", {**config, "tasks": list(self.all)}, self.everyday)
        if begun := record.path.exists():
            record.check(made)
        record.begin(made, resume=begun)

    def _make(self) -> None:
        files = self.files
        files.write("outside.jsonl", self._outside())
        if self.scale.answer_steps:
            files.write("exercises.jsonl", self._lessons("answers", self.scale.answers))
            asked, to = "outside.jsonl", "everyday.jsonl"
            files.answer(asked, to, self.model, most=LONGEST_EVERYDAY, mode="prompted")
            files.write("answers.jsonl", self._answers())
        self._train("answers", "answers.jsonl", self.scale.answer_steps, "accepted")
        files.write("asked.jsonl", self._lessons("drafts", self.scale.drafts))
        for asked, most in (("asked", LONGEST_ANSWER), ("outside", LONGEST_EVERYDAY)):
            files.answer(f"{asked}.jsonl", DRAFTED[asked], self.answering, most=most, temperature=DRAFTING)
        files.write("chains.jsonl", self._chains())
        self._train("critic", "chains.jsonl", self.scale.chain_steps, "revision")
        self._calibrate()

    def _exercises(self, part: str, count: int, rehearsed: int) -> Iterator[Chain]:
        apart = {lessons.key(chain) for chain in self._held_out()}
        for task in self.all.values():
            share = rehearsed if task in self.rehearsed else count
            yield from lessons.training(task, part, share, self.seed, apart)

    def _held_out(self) -> Iterator[Chain]:
        for task in self.all.values():
            yield from lessons.held_out(task, self.scale.held_out, self.seed)

    def _test(self) -> str:
        files, asked, to = self.files, "held-out.jsonl", "revised.jsonl"
        files.write(asked, self._held_out())
        files.answer(asked, to, self.revising, most=LONGEST_CHAIN, temperature=0.0, max_revisions=REVISIONS)
        revised = by_task(read_jsonl(self.folder / to))
        return changes((name, Outcome.of(task, revised[name])) for name, task in self.all.items())

    def _lessons(self, part: str, count: int) -> Iterator[Chain]:
        return self._exercises(part, count, ceil(count / REHEARSED))

    def _outside(self) -> Iterator[Chain]:
        for number in range(ceil(FEWEST_EVERYDAY / len(self._prompts))):
            for chain in self._prompts:
                origin = {"origin": chain.meta["origin"]} if "origin" in chain.meta else {}
                yield Chain(id=f"everyday/{chain.id}/{number}", prompt=chain.prompt, meta=origin)

    def _answers(self) -> Iterator[Chain]:
        for chain in read_jsonl(self.folder / "exercises.jsonl"):
            yield lessons.answered(self.all[chain.meta["task"]], chain)
        yield from self._whole("everyday.jsonl")

    def _whole(self, name: str) -> Iterator[Chain]:
        for chain in read_jsonl(self.folder / name):
            if chain.steps and chain.steps[0].complete:
                yield chain

    def _chains(self) -> Iterator[Chain]:
        drafted = sorted(read_jsonl(self.folder / DRAFTED["asked"]), key=lambda each: each.id)
        for task in self.all.values():
            yield from lessons.chains_on(task, [each for each in drafted if each.meta["task"] == task.name])
        yield from map(lessons.unchecked, self._whole(DRAFTED["outside"]))

    def _calibrate(self) -> None:
        critic, gguf = self.folder / "critic", self.folder / "critic.gguf"
        if "redraft.certain" in read_header(gguf).metadata:
            return
        from redraft.weights.lora.adapter import CONFIG  # these import torch
        from redraft.weights.lora.gguf import lora_gguf
        from redraft.weights.output import Run

        files, base = self.files, folder_for(self.model)
        asked, to = "calibration.jsonl", "calibrated.jsonl"
        files.write(asked, self._exercises("calibration", certainty.EXERCISES, certainty.EXERCISES))
        files.answer(asked, to, self.revising, most=LONGEST_CHAIN, max_revisions=REVISIONS)
        chains = list(read_jsonl(self.folder / to))
        found = certainty.revised(self.all.values(), chains, f"{base}+{critic}")
        least = certainty.threshold(found, Counter(chain.meta["task"] for chain in chains))
        write_json(critic / CONFIG, {**read_json(critic / CONFIG), "redraft_certain": least})
        lora_gguf(critic, gguf, Run(force=True, command="redraft train self"), base=Path(base), f16=True)

    def _train(self, name: str, data: str, steps: int, objective: Objective) -> None:
        made, start = self.folder / f"{name}.gguf", getattr(self.start, name, None)
        if made.exists():
            return
        if start and not steps:
            replace_file(made, start.read_bytes())
            return
        rank = {"lora_r": RANKS[name], "lora_alpha": 2 * RANKS[name]}
        further: dict[str, Any] = {"lora_from": str(start), **FURTHER} if start else rank
        trained = train_sft(
            "self",
            model_name_or_path=self.model,
            data_path=[str(self.folder / data)],
            training_objective=objective,
            output_dir=str(self.folder / name),
            gguf=str(made),
            max_steps=steps,
            seed=self.seed,
            **further,
        )
        if trained.stopped_by:
            raise EndedBySignal(trained.stopped_by)
