"""Turn files of answers into a file of reviews. Each review is made once, and a stopped run resumes.

`judge` is the Python function, and `redraft judge` is the command.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, Unpack

from redraft.engines.base import price_of
from redraft.engines.config import load_config
from redraft.engines.load import identity_of, model_of
from redraft.errors import EngineError, UsageError, path_of
from redraft.evaluation.judging.judge import Judging, ReviewItem, ReviewTally, items
from redraft.evaluation.judging.options import JudgeFileOptions
from redraft.evaluation.judging.pairs import Match, read_matches
from redraft.evaluation.judging.prompts import Way, wording_digest
from redraft.evaluation.records import listed
from redraft.jobs.counting import counted, tell
from redraft.jobs.files import not_an_input
from redraft.jobs.harness import Job, JobResult, Session, Work
from redraft.jobs.provenance import Provenance, content, contents_of
from redraft.jobs.signals import in_daemon_thread
from redraft.jobs.stores import here
from redraft.revision.keywords import JudgeFileKeywords
from redraft.revision.options import RevisionOptions
from redraft.revision.runs.plan import RunPlan, RunResult, under_way
from redraft.revision.settings import Settings

_FEW = 5  # ids to name


@dataclass(frozen=True)
class JudgeResult(RunResult):
    """The result of a judge's run, and counts over all reviews in the output."""

    tally: ReviewTally  # counts over all reviews in the file, including those of earlier runs
    width = 11

    @property
    def exit_status(self) -> int:
        """The exit status: 0 if done, 3 if the engine failed or most reviews are unreadable, 4 at a limit."""
        most_unreadable = 2 * len(self.tally.unreadable) > self.tally.reviews
        return EngineError.exit_status if most_unreadable else self.job.exit_status


@dataclass
class JudgeRun:
    """A run that reviews the answers to each question, in each order."""

    settings: Settings  # `JudgeFileOptions`, whose `model` is the judge
    answers: list[Path]  # files of answers, from one or two models
    plan: RunPlan
    questions: Path | None = None  # the file of questions; None if the answers include them
    tally: ReviewTally = field(default_factory=ReviewTally)
    given: list[Match] | None = None  # the pairs to judge, in place of files

    @classmethod
    def of(cls, settings: Settings, answers: Iterable[Path], out: Path, *, named: bool) -> Self:
        """Return the run of the settings. If the user `named` no judge, the config file may name one."""
        model = settings.get("model") or "default"
        if not named:
            model = load_config().defaults.get("judge", model)
        answers = [here(path) for path in answers]
        questions = here(path) if (path := settings.get("questions")) else None
        if len(answers) not in (1, 2):
            hint = "Give one or two files at a time: A B"
            raise UsageError(f"{len(answers)} files of answers were given, not 1 or 2.", hint=hint)
        return cls(settings.over(model=model), answers, RunPlan.of(out, settings, journal=True), questions)

    def run(self) -> JudgeResult:
        """Make the missing reviews. In the main thread, Ctrl-C and SIGTERM end the run."""
        return self._result(self._job().run(self._start))

    async def arun(self) -> JudgeResult:
        """Do the same as `run`, in the running event loop."""
        return self._result(await self._job().arun(self._start))

    def _check(self) -> None:
        self.plan.check(self.settings)
        way, pairs = self.settings.get("way"), len(self.answers) != 1
        if way and (way == "grades") == pairs:
            wanted = "the answers of one model" if way == "grades" else "the answers of two models"
            raise UsageError(f"--way {way} needs {wanted}.", hint=f"redraft judge {'A' if pairs else 'A B'}")
        outputs = {"-o": self.plan.out, "--cache": self.plan.own_replies}
        not_an_input(outputs, filter(None, (*self.answers, self.questions)))
        told = {"model": self.model, "price": self.settings.get("price")}
        self.plan.check_engines(RevisionOptions.read(told))

    @property
    def model(self) -> str:
        """The model reference of the judge."""
        return str(self.settings.get("model"))

    @property
    def way(self) -> Way:
        """The kind of decision that the judge gives: scores, verdicts or grades."""
        way: Way | None = self.settings.get("way")
        return way or ("grades" if len(self.answers) == 1 else "scores")

    @cached_property
    def matches(self) -> list[Match]:
        """The matched answers to judge. A warning names the questions with empty answers."""
        if self.given is not None:
            return self.given
        found = read_matches(self.answers, self.questions)[: self.settings.get("limit")]
        if self.settings.get("gold") and not any(match.question.gold for match in found):
            hint = "Give a file of questions with gold answers: --questions FILE"
            raise UsageError("--gold was given, but no question has a gold answer.", hint=hint)
        empty: dict[str, list[str]] = {}
        for match in found:
            for each in match.answers:
                if not all(text.strip() for text in each.turns):
                    empty.setdefault(each.name, []).append(str(match.question.id))
        for name, ids in empty.items():
            self.plan.say(f"{name}: empty answers to these questions are judged too: {listed(ids, _FEW)}.")
        return [match for match in found if self.plan.holds(str(match.question.id))]

    def items(self) -> Iterator[ReviewItem]:
        """Yield the reviews to make."""
        both = self.settings.get("orders") != "given"
        return items(self.matches, self.model, both_orders=both, about=self._asked)

    @cached_property
    def _asked(self) -> dict[str, Any]:
        config: dict[str, Any] = {"gold": bool(self.settings.get("gold")) or None}
        config |= {name: self.settings.get(name) for name in ("temperature", "max_tokens", "seed")}
        return config | {"way": self.way, "wording": wording_digest()}

    def _job(self) -> Job[ReviewItem]:
        self._check()
        _ = self.matches
        inputs = [*self.answers, *([self.questions] if self.questions else [])]
        # --orders is left out, because another value may add reviews to the same output.
        config = self._asked | {"judges": [model_of(self.model)], "inputs": list(map(content, inputs))}
        config |= contents_of({"judges": self.model})
        return Job(
            items=self.items,
            source=" and ".join(map(str, self.answers)),
            provenance=Provenance("judge", config),
            key=lambda record: str(record["review_id"]),
            noun="review",
            retries=self.settings.waiting().tries - 1,
            stop=self.tally.stop,
            on_found=self.tally.find,
            note=lambda counts: (
                f"{len(self.tally.unreadable)} unreadable"
                + f" · {counts.failed} failed" * bool(counts.failed)
            ),
            **self.plan.of_job(),
        )

    @asynccontextmanager
    async def _start(self, session: Session) -> AsyncGenerator[Work[ReviewItem]]:
        async with self.plan.opened(session) as opened:
            assert opened.journal is not None  # noqa: S101  (the plan has one)
            names = ("temperature", "max_tokens", "seed")
            sampling = {name: value for name in names if (value := self.settings.get(name)) is not None}
            async with self.plan.limits.opening(session.progress.seconds):
                judge = await self.plan.load(self.settings, session, opened, "model", self.model)
                if not judge.info.chats:
                    said = f"{judge.info.name} cannot answer chat messages, as a judge must."
                    raise UsageError(said, hint="Use a model with a chat template.")
                price = self.settings.get("price")
                self.plan.check_engines(RevisionOptions.read({"model": judge, "price": price}))
                price = price_of(price) or judge.info.price
                identity = await in_daemon_thread(partial(identity_of, self.model))
            gold = bool(self.settings.get("gold"))
            begun = opened.journal, session, partial(under_way, opened.batches)
            judging = Judging(judge, identity, price, self.way, gold, sampling, *begun)

            async def work(item: ReviewItem) -> list[str]:
                line = await judging.line(item)
                self.tally.add(line)
                return [line]

            yield work

    def _result(self, job: JobResult) -> JudgeResult:
        tally, spent = self.tally, job.spent
        noun = "grades" if self.way == "grades" else "reviews"
        rows = job.rows(noun, tally.before, tally.reviews - tally.before)
        if tally.same:
            same = f"{counted(tally.same, 'more line')}: identical answers tie without a review"
            rows.append(("same text", same))
        if tally.asked_again:
            rows.append(("asked again", f"{tally.asked_again:,} could not be read at first"))
        if tally.unreadable:
            named = listed(list(dict.fromkeys(tally.unreadable)), _FEW)
            rows.append(("unreadable", f"{len(tally.unreadable):,}, of questions {named}"))
        if spent.replayed or spent.usd:
            price = f", {spent.usd:.4f} USD" if spent.usd else ""
            text = f"{counted(spent.tokens, 'new token')}{price}; reused from the journal: {spent.replayed:,}"
            rows.append(("paid", text))
        rows += job.pace()
        if len(tally.unreadable) < tally.reviews + tally.same:
            given = [word for file in self.answers for word in ("--answers", str(file))]
            given += ["--questions", str(self.questions)] if self.questions else []
            rows.append(("next", shlex.join(["redraft", "report", str(self.plan.out), *given])))
        return JudgeResult(job, rows, tally)


Answers = str | Path | tuple[str | Path, str | Path]  # a file of answers, or two to compare


def judge(answers: Answers, output: str | Path, **options: Unpack[JudgeFileKeywords]) -> JudgeResult:
    """Have a model judge the answers of one or two models. `redraft judge` reads and writes the same files.

    The same call or command resumes a stopped run. The function works in notebooks too.

    Args:
        answers: A file of answers or chains, or a pair of files for a model and an opponent.
        output: The file for the reviews.
        **options: See docs/options.md; all are optional. `model` is the judge.

    Raises:
        UsageError: An option is unknown, or two options conflict.
        RecordError: The answers cannot be read, or belong to different questions.
        OutputError: `output` cannot be written, is in use, or was made with other settings.
        EngineError: The run failed. `output` contains the results so far.
        KeyboardInterrupt: Ctrl-C ended the run. `output` contains the results so far.
    """
    return _run_of(answers, output, options).run()


async def ajudge(answers: Answers, output: str | Path, **options: Unpack[JudgeFileKeywords]) -> JudgeResult:
    """Do the same as `judge`, in the running event loop."""
    return await _run_of(answers, output, options).arun()


def _run_of(answers: Answers, output: str | Path, options: Mapping[str, Any]) -> JudgeRun:
    settings = Settings.read(JudgeFileOptions, options, tell=tell)
    files = map(path_of, answers if isinstance(answers, list | tuple) else [answers])
    return JudgeRun.of(settings, files, path_of(output), named="model" in options)
