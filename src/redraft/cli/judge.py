"""`redraft judge`: files of answers become a file of reviews, resumable."""

from __future__ import annotations

import shlex
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.options import FlagGroup, Given, fill_in, takes
from redraft.cli.running import OwnJournal, RetryFailed, RunFlags, check_out, own_journal
from redraft.cli.shell import only_ours, tell
from redraft.errors import EngineError, MissingExtra, UsageError, install

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from redraft.evaluation.judging.judge import OpenJudge, ReviewItem, Tally
    from redraft.evaluation.judging.pairs import Match
    from redraft.evaluation.judging.prompts import Prompts
    from redraft.jobs.harness import Job, JobResult, Session
    from redraft.jobs.runner import ItemCounts, Work
    from redraft.revision.settings import Settings
    from redraft.runs.plan import Opened, RunPlan

FLAGS = FlagGroup("redraft.evaluation.judging.options:JudgeOptions", recipes="judge")

_SHOWN = 5


def _file(text: str, *names: str) -> Any:
    return typer.Option(*names, metavar="FILE", help=text, show_default=False)


Answers = Annotated[
    list[Path], typer.Argument(metavar="ANSWERS...", help="Answers of a model A, and of its opponent B.")
]
Out = Annotated[Path, _file("Where the reviews go.", "--out", "-o")]
Questions = Annotated[Path | None, _file("What was asked, with categories and gold answers.")]
PromptFile = Annotated[Path | None, _file("Prompts of FastChat: prompt.jsonl, judge_prompts.jsonl.")]
ReviewerFile = Annotated[Path | None, _file("FastChat's reviewer.jsonl for the prompts.")]


def judge(
    flags: Given,
    answers: Answers,
    out: Out,
    run: RunFlags,
    questions: Questions = None,
    prompt_file: PromptFile = None,
    reviewer_file: ReviewerFile = None,
    journal: OwnJournal = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Have a model judge the answers of two models, or of one.

    A and B are files of answers or chains, joined by question_id. FILE gets a review for each question, order
    and judge, in SelFee's and FastChat's shape: redraft report FILE. The judge sees each pair in both orders.

    After any stop, the same command resumes. Each reply is stored in FILE.journal.db before it is used, so
    none is paid for twice. A reply without a score is asked for it once more; a score is never made up. If
    most of the first 20 reviews cannot be read, the run stops and says why; the exit status is 3.
    Failures are in FILE.errors.jsonl, and FILE.run.json records how FILE was made.
    """
    check_out(out, "-o reviews.jsonl")
    if len(answers) > 2:
        raise UsageError(
            f"{len(answers)} files of answers were given.", hint="Judge two models at a time: A B"
        )
    settings = fill_in(flags, FLAGS)
    models = _judges(settings, named="model" in flags or "recipe" in flags)
    judging = JudgeRun(
        settings=settings.over(model=models[0]),
        models=models,
        answers=answers,
        questions=questions,
        prompt_file=prompt_file,
        reviewer_file=reviewer_file,
        out=out,
        plan=run.plan(out, journal=own_journal(journal, out), retry_failed=retry_failed),
    )
    with only_ours():
        summary, status = judging.run()
    if summary:
        typer.echo(summary)
    raise typer.Exit(status)


judge = takes(judge, FLAGS)


def _judges(settings: Settings, *, named: bool) -> list[str]:
    """Return the references of the judges: those named, or else the judge or the model of the config file."""
    from redraft.config import load_config

    given = settings.get("model") or "default"
    if not named:
        given = load_config().defaults.get("judge", given)
    found = [given] if isinstance(given, str) else given
    if len(set(found)) < len(found):
        raise UsageError("a judge is given twice.", hint="To ask it twice, use another --seed and -o.")
    return found


@dataclass
class JudgeRun:
    """A run of the verb."""

    settings: Settings
    models: list[str]
    answers: list[Path]
    questions: Path | None
    prompt_file: Path | None
    reviewer_file: Path | None
    out: Path
    plan: RunPlan
    matches: list[Match] = field(init=False)
    prompts: Prompts = field(init=False)

    def run(self) -> tuple[str, int]:
        """Make the reviews, and return the summary and the exit status."""
        from redraft.evaluation.judging.judge import Tally

        self._check()
        self._read()
        tally = Tally()
        outcome = self._job(tally).run(lambda session: self._start(tally, session))
        status = EngineError.exit_status if tally.hopeless else outcome.exit_status
        if self.plan.quiet:
            return "", status
        return self._summary(outcome, tally), status

    def _check(self) -> None:
        """Raise what can be found wrong before a file or a model is opened."""
        from redraft.engines.price import price_of

        self.plan.check(self.settings, "review")
        if price_of(self.settings.get("price")) and len(self.models) > 1:
            raise UsageError(
                "--price was given, and there are several judges.",
                hint="Give the price of each in the config file.",
            )
        way, pairs = self.settings.get("way"), len(self.answers) > 1
        if way and (way == "grades") == pairs:
            wanted = "the answers of one model" if way == "grades" else "the answers of two models"
            raise UsageError(f"--way {way} takes {wanted}.", hint=f"redraft judge {'A' if pairs else 'A B'}")
        if self.reviewer_file and not self.prompt_file:
            raise UsageError("--reviewer-file was given without --prompt-file.", hint="Give both.")
        inputs = [*self.answers, *filter(None, (self.questions, self.prompt_file, self.reviewer_file))]
        for path in inputs:
            if path.resolve() in (self.out.resolve(), self.plan.journal and self.plan.journal.resolve()):
                raise UsageError(f"{path} is an input.", hint="Name another file for the output.")
        for model in self.models:
            self._check_price(model)

    def _check_price(self, model: Any) -> None:
        """Raise if a limit of money lacks the price of a judge: a reference or an engine."""
        self.plan.check_prices({"model": model, "price": self.settings.get("price")})

    def _read(self) -> None:
        """Read all inputs, and find out that each question has a prompt, before a model is opened."""
        from redraft.evaluation.judging.judge import shown
        from redraft.evaluation.judging.pairs import controls, read_matches
        from redraft.evaluation.judging.prompts import Prompts, read_prompts

        pairs, way = len(self.answers) > 1, self.settings.get("way")
        if self.prompt_file:
            self.prompts = read_prompts(self.prompt_file, way, pairs=pairs, reviewers=self.reviewer_file)
        else:
            self.prompts = Prompts(way or ("scores" if pairs else "grades"))
        self.matches = read_matches(self.answers, self.questions)
        gold = bool(self.settings.get("gold"))
        if gold and not any(match.question.gold for match in self.matches):
            raise UsageError(
                "--gold was given, and no question has a gold answer.",
                hint="Gold answers are in the file of questions: --questions FILE",
            )
        self._warn()
        if self.settings.get("controls"):
            self.matches = [*self.matches, *controls(self.matches)]
        for item in self._items():
            self.prompts.prompt(item.match.question.category, shown(item, gold=gold))

    def _warn(self) -> None:
        """Tell which answers are empty. They are judged as they are."""
        empty: dict[str, list[str]] = {}
        for match in self.matches:
            for each in match.answers:
                if each.is_empty:
                    empty.setdefault(each.name, []).append(str(match.question.id))
        for name, ids in empty.items():
            tell(f"{name}: empty answers, judged as they are: {_listed(ids)}.")

    def _items(self) -> Iterator[ReviewItem]:
        from redraft.evaluation.judging.judge import items

        both = self.settings.get("orders") != "given"
        return items(self.matches, self.models, both_orders=both, about=self._asked)

    @cached_property
    def _asked(self) -> dict[str, Any]:
        """What decides the reply to a question, as JSON values."""
        from redraft.evaluation.judging.prompts import wording_digest
        from redraft.jobs.provenance import content

        files = {"prompts": self.prompt_file, "reviewers": self.reviewer_file}
        config: dict[str, Any] = {name: content(file) for name, file in files.items() if file}
        names = ("gold", "temperature", "max_tokens", "seed")
        config |= {name: self.settings.get(name) for name in names}
        return config | {"way": self.prompts.way, "wording": wording_digest()}

    @property
    def _config(self) -> dict[str, Any]:
        """What has to stay the same when the job is resumed: --controls and --orders may add reviews."""
        from redraft.engines.load import model_of
        from redraft.jobs.provenance import content

        inputs = [*self.answers, *([self.questions] if self.questions else [])]
        return {
            **self._asked,
            "judges": list(map(model_of, self.models)),
            "inputs": list(map(content, inputs)),
        }

    def _job(self, tally: Tally) -> Job[ReviewItem]:
        from redraft.jobs.harness import Job
        from redraft.jobs.provenance import Provenance

        return Job(
            items=self._items,
            source=" and ".join(map(str, self.answers)),
            provenance=Provenance("judge", self._config),
            key=lambda record: str(record["review_id"]),
            noun="review",
            retries=self.settings.waiting().tries - 1,
            stop=tally.stop,
            on_found=tally.find,
            note=lambda counts: _note(tally, counts),
            **self.plan.of_job(),
        )

    @asynccontextmanager
    async def _start(self, tally: Tally, session: Session) -> AsyncGenerator[Work[ReviewItem]]:
        """Open the journal and the judges, and yield the work on a review."""
        from redraft.evaluation.judging.judge import Judging
        from redraft.runs.batching import under_way

        async with self.plan.opened(session) as opened:
            assert opened.journal is not None  # noqa: S101  (the plan has one)
            given = {
                name: self.settings.get(name)
                for name in ("temperature", "max_tokens", "seed")
                if self.settings.get(name) is not None
            }
            async with self.plan.limits.opening(session.progress.seconds):
                judges = await self._opened(opened, session)
            gold = bool(self.settings.get("gold"))
            judging = Judging(
                judges,
                self.prompts,
                gold,
                given,
                opened.journal,
                session,
                lambda: under_way(opened.batches),
            )

            async def work(item: ReviewItem) -> list[str]:
                line = await judging.line(item)
                tally.add(line)
                return [line]

            yield work

    async def _opened(self, opened: Opened, session: Session) -> dict[str, OpenJudge]:
        """Open the judges, by reference. Those of the same name are called by their references."""
        from redraft.engines.journaled import identity_of
        from redraft.engines.price import price_of
        from redraft.engines.threads import in_daemon_thread
        from redraft.evaluation.judging.judge import OpenJudge

        patience = self.plan.patience(self.settings, session)
        how: Any = {"parallel": self.plan.parallel, "patience": patience, "batches": opened.batches}
        engines = {ref: await self.settings.load(opened.stack, "model", ref, **how) for ref in self.models}
        names = Counter(engine.info.name for engine in engines.values())
        found = {}
        for ref, engine in engines.items():
            if not engine.info.chats:
                raise UsageError(
                    f"{engine.info.name} does not answer messages, and a judge has to.",
                    hint="Use a model with a chat template.",
                )
            self._check_price(engine)
            name = engine.info.name if names[engine.info.name] == 1 else ref
            identity = await in_daemon_thread(partial(identity_of, ref))
            price = price_of(self.settings.get("price")) or engine.info.price
            found[ref] = OpenJudge(name, engine, identity, price)
        return found

    def _summary(self, outcome: JobResult, tally: Tally) -> str:
        noun = "grades" if self.prompts.way == "grades" else "reviews"
        rows = outcome.rows(noun, tally.before, tally.reviews - tally.before)
        if tally.asked_again:
            rows.append(("asked again", f"{tally.asked_again:,} could not be read at first"))
        if tally.unreadable:
            named = _listed(list(dict.fromkeys(tally.unreadable)))
            rows.append(("unreadable", f"{len(tally.unreadable):,}, of questions {named}"))
        rows += _means(tally) if noun == "grades" else []
        spent = outcome.spent
        if spent.replayed or spent.usd:
            price = f", {spent.usd:.4f} USD" if spent.usd else ""
            rows.append(
                ("paid", f"{spent.tokens:,} new tokens{price}; {spent.replayed:,} replies from the journal")
            )
        rows += outcome.pace()
        if len(tally.unreadable) < tally.reviews:
            rows.append(("next", self._next()))
        return "\n".join(f"{name:<11} {text}" for name, text in rows)

    def _next(self) -> str:
        """Return the command that describes the reviews."""
        given = [f"--answers {shlex.quote(str(file))}" for file in self.answers]
        given += [f"--questions {shlex.quote(str(self.questions))}"] if self.questions else []
        return " ".join(["redraft report", shlex.quote(str(self.out)), *given])


def _means(tally: Tally) -> list[tuple[str, str]]:
    """Return a row for each mean grade; none without the extra that computes intervals."""
    try:
        from redraft.evaluation.reports.grades import Grade, graded
    except (MissingExtra, ModuleNotFoundError):
        return [("mean", f"its interval needs an extra: {install('eval')}")]
    from redraft.counting import counted
    from redraft.evaluation.rows import plain

    rows = []
    for each in graded(("", Grade.model_validate(record)) for record in tally.grades):
        figures = "  ".join(filter(None, plain(each.mean(), 2)))
        over = f"{counted(each.questions, 'question')}, by {each.judge}"
        rows.append(("mean", f"{figures}  {each.model}, {over}"))
    return rows


def _listed(ids: list[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + " …" * (len(ids) > _SHOWN)


def _note(tally: Tally, counts: ItemCounts) -> str:
    """Return a few words on the results so far, for the progress line."""
    parts = [f"{len(tally.unreadable)} unreadable", *([f"{counts.failed} failed"] if counts.failed else [])]
    return " · ".join(parts)
