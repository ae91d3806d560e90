"""Choose a strategy for answering prompts, such as best of 4 (`redraft diagnose --choose`).

The strategies answer the prompts in blocks. Strategy A keeps up with B if B is certainly not ahead of A by
the margin or more. After each block, strategies that the leader keeps up with are dropped. They may return if
the leader changes. The runs end as soon as a strategy keeps up with all others, at the last prompt, or at a
limit. The cheapest strategy that keeps up with all others is chosen. If there is none, the leader is chosen.

A choice is false if `certain` was True, but another strategy is better by the margin or more. The probability
of a false choice is at most 5 %: 5 % / (n - 1) for each of the n strategies outside `NEVER`, except the best.
Apart from that, all bounds on the gains over one answer and in the `Promise` hold together with 95 %
confidence. Both guarantees are valid no matter how often the results are checked (`evaluation.evidence`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from redraft.chain.documents import text_of_settings, yaml_of
from redraft.checks.parse import checks_in
from redraft.errors import UsageError
from redraft.evaluation.diagnosis.equal_tokens import Cost, Spent, amount, around, named, results_in, titled
from redraft.evaluation.diagnosis.matrix import RUNS, WAYS, Matrix, folders, stored
from redraft.evaluation.diagnosis.strategies import Strategy
from redraft.evaluation.diagnosis.table import changes, differences, hashes_of, some, wrong_truths
from redraft.evaluation.diagnosis.truth import pairs_in, reviews_in
from redraft.evaluation.evidence import MIDDLING, least_gain, least_mean, log_ahead
from redraft.evaluation.stats import Estimate
from redraft.evaluation.tables import Line, Part, as_text, plain, tokens_text
from redraft.evaluation.tasks.tasks import UNSCORED
from redraft.jobs.counting import counted
from redraft.jobs.files import write_file
from redraft.options import Flags
from redraft.revision.promise import digest_of, digest_of_options, types_of

ERROR = 0.05  # the largest chance of a false choice, and of a broken promise
FIRST = 20  # prompts of the first block
FEW = {"seeds": 1, "samples": 4}  # defaults of --choose
ONE = Strategy("plain", 1)
_VOTES = """\
A vote is never chosen: no other command counts votes. To vote, run redraft answer FILE --max-revisions 0 \
with --seed 1, 2, 3 and so on, and take the most frequent answer to each prompt."""
_CONTROLS = "Blind retry and shuffled feedback are never chosen: they only measure the effect of feedback."
NEVER = {"vote": _VOTES, "early": _VOTES, "blind": _CONTROLS, "shuffled": _CONTROLS}
"""The kinds of strategies that are compared but never chosen, each with the reason."""
CHOICE = "choice.json"  # in the folder of the chains: the chosen way, and hashes of the files behind it

Seen = Mapping[Strategy, Mapping[str, list[Spent]]]
"""The results of each strategy on each item, for each seed and turn. A strategy may have no items."""


def blocks(items: int) -> Iterable[int]:
    """Yield the numbers of items after which to check the results: 20, 25, 30 … up to `items`."""
    count = FIRST
    while count < items:
        yield count
        count = max(count + FIRST // 4, count * 11 // 10)  # late checks help less, so the gaps grow
    yield items


def seen_in(tasks: Iterable[tuple[Path, Iterable[Strategy], Container[str] | None]]) -> Seen:
    """Return results by strategy and item. A task is (folder, strategies, ids to count or None for all)."""
    found: dict[Strategy, dict[str, list[Spent]]] = {}
    for folder, way, asked in ((folder, way, asked) for folder, ways, asked in tasks for way in ways):
        made = results_in(sorted(folder.glob(f"seed-*/{way.name}.jsonl")), asked)
        found.setdefault(way, {}).update({f"{folder.name}/{item}": runs for item, runs in made.items()})
    return found


@dataclass(frozen=True)
class Promise:
    """The promised results of a strategy: rates (0 to 1) that hold with 95 % confidence, and mean costs."""

    right: float  # lower bound on the share of right answers
    gain: float  # lower bound on the gain over one answer
    harm: float  # upper bound on the share of prompts that one answer gets right and this way gets wrong
    tokens: float  # measured new tokens per answer
    seconds: float  # per answer; NaN if unknown
    usd: float  # per answer; NaN if unknown


@dataclass(frozen=True)
class Race:
    """The compared strategies and the results so far."""

    seen: Seen
    margin: float  # the chosen way may be behind the best one by less than this
    judge: str = ""  # a model that scores 1 (better than one answer), 0 (tie) or -1; if empty, checks score

    @cached_property
    def ways(self) -> list[Strategy]:
        """The strategies that have answered an item, cheapest first."""
        made = (way for way, items in self.seen.items() if items)
        return sorted(made, key=lambda way: (self.spent(way).tokens, way.place))

    def spent(self, way: Strategy) -> Spent:
        """Return a strategy's mean score and costs over all answers. Unknown token counts become infinity."""
        mean = Spent.mean(run for runs in self.seen[way].values() for run in runs)
        return mean._replace(tokens=math.inf) if math.isnan(mean.tokens) else mean

    @cached_property
    def usable(self) -> list[Strategy]:
        """The strategies that have answered an item and may be chosen, cheapest first."""
        return [way for way in self.ways if way.kind not in NEVER]

    @cached_property
    def scores(self) -> Mapping[Strategy, Mapping[str, float]]:
        """Each strategy's mean score on each item."""
        return {
            way: {name: fmean(run.score for run in runs) for name, runs in items.items()}
            for way, items in self.seen.items()
            if items
        }

    def gains(self, way: Strategy, other: Strategy, *, ties: bool = True) -> list[float]:
        """Return `way`'s score minus `other`'s for each item. Without `ties`, skip items where both are 0."""
        ours, theirs = self.scores[way], self.scores[other]
        both = (name for name in ours if name in theirs and (ties or ours[name] or theirs[name]))
        return [ours[name] - theirs[name] for name in both]

    @cached_property
    def leader(self) -> Strategy:
        """The usable strategy with the largest mean gain over one answer; at equal gains, the cheapest."""
        return max(self.usable, key=lambda way: fmean(self.gains(way, ONE) or [-1.0]))

    @cached_property
    def left(self) -> list[Strategy]:
        """The leader and the strategies that may beat it by the margin, cheapest first."""
        leader = self.leader
        return [way for way in self.ways if way == leader or not self._keeps_up(leader, way)]

    def _keeps_up(self, way: Strategy, other: Strategy) -> bool:
        most = 2 if self.judge and ONE not in (way, other) else 1  # the largest possible gain
        gains = [gain / most for gain in self.gains(way, other, ties=not self.judge)]
        return log_ahead(gains, -self.margin / most) >= -math.log(self.risk)

    @property
    def risk(self) -> float:
        """The error probability allowed in each comparison of two strategies."""
        return ERROR / max(sum(each.kind not in NEVER for each in self.seen) - 1, 1)

    @cached_property
    def _safe(self) -> list[Strategy]:
        if not all(items or way.kind in NEVER for way, items in self.seen.items()):
            return []  # a way without any answer may be the best
        ways = self.usable
        return [way for way in ways if all(self._keeps_up(way, each) for each in ways if each != way)]

    @property
    def certain(self) -> bool:
        """Whether a usable strategy keeps up with all others, as defined at the top of this module."""
        return bool(self._safe)

    @property
    def chosen(self) -> Strategy:
        """The cheapest strategy that makes `certain` True. If there is none, the leader."""
        return next(iter(self._safe), self.leader)

    @property
    def _error(self) -> float:
        return ERROR / (4 * len(self.seen))

    def gain(self, way: Strategy, other: Strategy = ONE, error: float | None = None) -> Estimate:
        """Return `way`'s mean gain over `other` with bounds, each wrong with probability `error` at most."""
        gains, error = self.gains(way, other), error or self._error
        ends = least_gain(gains, error), -least_gain([-gain for gain in gains], error)
        return Estimate(fmean(gains or [math.nan]), *ends)

    def at_equal(self, way: Strategy, kind: str, by: Cost) -> Estimate | None:
        """Return the gain of `way` over a kind of strategy at equal cost; None if costs cannot be compared.

        `way` is compared with a random mix of a cheaper and a dearer strategy, at the same mean cost. Both
        are of this kind or `ONE`. All such bounds hold together with 95 % confidence.
        """
        runs = [each for each in self.ways if each.kind in ("plain", kind)]
        runs.sort(key=lambda each: getattr(self.spent(each), by))
        costs, at = [getattr(self.spent(each), by) for each in runs], getattr(self.spent(way), by)
        if self.judge or way in runs or not (math.isfinite(at) and costs[0] <= at <= costs[-1]):
            return None
        low, high, part = around(costs, at)
        error = ERROR / (len(self.seen) * (len(self.seen) - 1))  # two bounds for each pair
        both = (astuple(self.gain(way, runs[place], error)) for place in (low, high))
        return Estimate(*((1 - part) * a + part * b for a, b in zip(*both, strict=True)))

    def finding(self, way: Strategy) -> str:
        """Compare a strategy with `ONE`: `better`, `worse`, `equal` (within the margin), or `open`."""
        gain = self.gain(way)
        if gain.low > 0:
            return "better"
        if gain.high < 0:
            return "worse"
        return "equal" if max(-gain.low, gain.high) < self.margin and not self.judge else "open"

    def promise(self, way: Strategy) -> Promise:
        """Return a strategy's mean costs, and bounds on the rates that the fields of `Promise` explain."""
        scores, spent = [*self.scores[way].values()], self.spent(way)
        right = 0.0 if self.judge else least_mean(scores, self._error)
        took = spent.tokens, spent.seconds, spent.money
        if way == ONE:
            return Promise(right, 0.0, 0.0, *took)
        broken = [
            fmean(max(one.score - run.score, 0.0) for one, run in zip(ones, runs, strict=False))
            for name, runs in self.seen[way].items()
            if (ones := self.seen[ONE].get(name))
        ]
        harm = 1 - least_mean([1 - each for each in broken], self._error)
        return Promise(right, self.gain(way).low, harm, *took)

    @property
    def record(self) -> dict[str, Any]:
        """The chosen strategy, the promised results, and the comparison's settings, as JSON values."""
        return {
            "way": self.chosen.called,
            **{
                name: round(value, 8 if name == "usd" else 4) if math.isfinite(value) else None
                for name, value in vars(self.promise(self.chosen)).items()
                if not math.isnan(value)
            },
            "certain": self.certain,
            "prompts": len(self.seen[ONE]),
            "margin": self.margin,
            "ways": [way.called for way in self.seen],
            **({"judge": self.judge} if self.judge else {}),
        }


@dataclass(frozen=True)
class Choice:
    """The result of comparing strategies."""

    race: Race
    matrix: Matrix  # the runs of all ways
    items: int  # the number of prompts

    def __str__(self) -> str:
        parts = [Part(f"{self.matrix.models[0]}, against one answer", "points ahead", lines=[*self._lines()])]
        if decided := [*self._decided()]:
            parts.append(Part(f"{self.matrix.models[0]}, the choice", "points ahead", lines=decided))
        if equal := [*self._at_equal(by := self.matrix.settings.values.equal)]:
            parts.append(Part(f"{self.matrix.models[0]}, at equal {by}", "points ahead", lines=equal))
        never = dict.fromkeys(NEVER[way.kind] for way in self.race.ways if way.kind in NEVER)
        return "\n".join(as_text([*parts, Part(notes=[*never], verdict=self.sentence)]))

    def _decided(self) -> Iterator[Line]:
        race, margin = self.race, f"behind by {self.race.margin * 100:g} points"
        for way in race.usable if not race.judge else ():  # a judge's ties are not counted
            if way != race.chosen and (gains := race.gains(race.chosen, way)):
                least = least_gain(gains, race.risk, MIDDLING)
                said = f"{'certainly not' if least > -race.margin else 'may be'} {margin}"
                figures = f"{fmean(gains) * 100:+.1f}", f"at least {least * 100:+.1f}"
                yield Line(f"{titled(race.chosen)} minus {titled(way)}", *figures, said)

    def _at_equal(self, by: Cost) -> Iterator[Line]:
        race = self.race
        for way, kind in product(race.ways, dict.fromkeys(way.kind for way in race.ways)):
            wanted = way == race.chosen or kind in (race.chosen.kind, "best-of")
            if wanted and (gain := race.at_equal(way, kind, by)):
                figures = plain(gain.times(100), 1, sign=True)
                at = f"at {amount(getattr(race.spent(way), by), by)}"
                yield Line(f"{titled(way)} minus {named(kind)}", *figures, at)

    def _lines(self) -> Iterator[Line]:
        race = self.race
        for way in race.ways:
            scores, spent = [*race.scores[way].values()], race.spent(way)
            took = f"{tokens_text(spent.tokens)} new tokens{spent.beside}"
            note = f"{fmean(scores) * 100:.1f} % of {len(scores):,} right, {took}"
            if race.judge:
                better, worse = (sum(sign * score > 0 for score in scores) for sign in (1, -1))
                note = f"preferred in {better:,} of {len(scores):,}, worse in {worse:,}, {took}"
                files = self.matrix.plan.out.rglob(f"{way.name}.jsonl")
                if way != ONE and not any(pair for file in files for pair in pairs_in(file)):
                    note = f"no pair was judged, because all answers equal the single answers; {took}"
            if way == ONE:
                yield Line(titled(way), note=took if race.judge else note)
                continue
            figures = plain(race.gain(way).times(100), 1, sign=True)
            yield Line(titled(way), *figures, f"{race.finding(way)}; {note}")
        if made := [*reviews_in(self.matrix.plan.out)] if race.judge else []:
            tokens = sum(each.metadata["completion_tokens"] for each in made)
            usd = sum(each.metadata.get("cost_usd", 0.0) for each in made)
            unread = sum(each.score is None for each in made)
            note = f"{counted(len(made), 'review')}, {unread:,} cannot be read; {tokens:,} new tokens"
            yield Line("the judge", note=note + f", {usd:.6f} USD" * (usd > 0))

    @property
    def sentence(self) -> str:
        """Sentences on the chosen strategy and the promised results."""
        race, promise = self.race, self.race.promise(self.race.chosen)
        seen = f"{len(race.seen[ONE]):,} of {counted(self.items, 'prompt')}"
        points, name = f"{race.margin * 100:g} points", titled(race.chosen)
        if race.certain:
            which = "way" if race.usable == race.ways else "way that can be chosen"
            said = f"Choose {name}: after {seen}, no {which} does better by {points} or more."
        else:
            said = f"Undecided after {seen}: {name} leads, but another way may be better by {points} or more."
            said += " More prompts could settle this." * (not race.judge)
        kept = [f"at least {promise.right * 100:.1f} % right"]
        gain, harm = f"at least {promise.gain * 100:.1f}", f"at most {promise.harm * 100:.1f} %"
        more, worse = f"{gain} points more than with one answer", "of prompts wrong where one answer is right"
        if race.judge:
            said, kept = f"As {race.judge} judges: {said}", []
            more = f"better than the single answer {gain} points more often than worse"
            worse = "of prompts with worse answers"
        if race.chosen != ONE:
            kept += [more if promise.gain > 0 else "no certain gain over one answer", f"and {harm} {worse}"]
        promised = ", ".join(kept) or "the results of one answer"
        return f"{said} With 95 % confidence: {promised}; {tokens_text(promise.tokens)} new tokens an answer."

    def put(self, file: Path) -> str:
        """Write the recipe to `file` and the evidence to the folder of runs. Return the recipe as JSON."""
        record, folder = self._recipe, self.matrix.plan.out
        keep_edited(file, folder)
        write_file(file, _yaml(record).encode())
        items = sorted({item for made in self.race.seen.values() for item in made})
        evidence = {"version": 1, "way": record, "items": items, "files": hashes_of(folder)}
        write_file(folder / CHOICE, f"{json.dumps(evidence, ensure_ascii=False, indent=1)}\n".encode())
        return json.dumps(record, ensure_ascii=False, indent=1)

    @property
    def _recipe(self) -> dict[str, Any]:
        matrix = self.matrix
        given = matrix.settings.values.explicit
        flags = {name: given[name] for name in Flags.model_fields if given.get(name) not in (None, [])}
        flags |= {"model": matrix.models[0], **self.race.chosen.options}
        flags.pop("seed", None)
        if alone := self.race.chosen.kind == "alone":  # a way that sees no checks
            flags.pop("check", None)
        if given.get("check") or self.race.chosen.kind != "best-of":  # else the judge chooses among drafts
            flags.pop("judge", None)
        options = {name.replace("_", "-"): value for name, value in flags.items()}
        records = (record for _, runs in matrix.runs() for record in runs.records)
        checks = given.get("check") or [check.name for record in records for check in checks_in(record)]
        return {
            "about": self.sentence,
            **options,
            "promise": {
                **self.race.record,
                "tasks": [task.name for task in matrix.tasks],
                "checks": [] if alone else types_of(checks),
                "drift": "tell",
                # With `alone`, checks that are used later are watched too.
                "watched": alone
                or not (given.get("check") or {task.task for task in matrix.tasks} - {"checks"}),
                "evidence": str(matrix.plan.out),
                "model": digest_of(matrix.models[0]),
                "options": digest_of_options(options),
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
            },
        }


def _yaml(record: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=100))


def keep_edited(file: Path, folder: Path) -> None:
    """Raise `UsageError` if the file exists and is not the recipe that --choose wrote from `folder`."""
    made = stored(folder / CHOICE, "way")
    if file.exists() and (made is None or text_of_settings(file) != _yaml(made["way"])):
        said = f"{file} exists, and is not the recipe that --choose wrote from {folder}."
        raise UsageError(said, hint="Move it away and run this command again, or name another file.")


def _steers_nothing(seen: Seen) -> bool:
    # Seconds and money are left out: replies from the cache may differ in them.
    made = {way: {name: [run[:3] for run in runs] for name, runs in seen[way].items()} for way in seen}
    pairs = [(made[way], made.get(Strategy("best-of", way.texts))) for way in made if way.kind == "steered"]
    return any(drafts for _, drafts in pairs) and all(ours == drafts for ours, drafts in pairs if drafts)


def choose(matrix: Matrix, margin: float, *, run_code: bool = False) -> tuple[int, Choice | None]:
    """Run the strategies block by block until the choice is certain. The same call resumes stopped runs.

    Return the exit status, and the choice after the last complete block (None if no block is complete).

    Raises:
        UsageError, OutputError: As for `Matrix.prepare` and `Matrix.run`.
        UsageError: There are several models, or the checks need right answers, which later prompts lack.
    """
    settings, choice, status = matrix.settings, None, 0
    if len(matrix.models) > 1:
        raise UsageError("--choose takes only one model.", hint="Run it once per model, in separate folders.")
    others = [t.task if t.source else t.name for t in matrix.tasks if t.task not in ("checks", UNSCORED)]
    if others and (settings.get("judge") or not settings.get("check")):
        hint = "Add a check of your own, such as --check 'matches:[0-9]', and leave --judge out."
        said = f"the checks of {others[0]} need the right answers, which are unknown in later use."
        raise UsageError(said, hint=hint)
    # More prompts are worth more than more answers per prompt, and fewer ways need less evidence.
    few = {name: value for name, value in FEW.items() if settings.get(name) is None}
    matrix = running = replace(matrix, settings=settings.over(**few))
    items = matrix.prepare(run_code=run_code)
    for count in blocks(items):
        ended = running.run(count / items)
        if ended.reached:
            return ended.status, choice
        seen = seen_in(
            (runs.plan.out, runs.strategies, {record.id for record in runs.records})
            for _, runs in matrix.runs(count / items)
        )
        if _steers_nothing(seen):
            matrix = replace(matrix, ways=[way for way in matrix.ways if way != "steered"])
            seen = {way: items for way, items in seen.items() if way.kind != "steered"}
        race = Race(seen, margin, settings.get("judge") or "")
        choice, status = Choice(race, matrix, items), max(ended.status, status)
        if not matrix.plan.quiet:
            left = " · ".join(map(titled, race.left))
            matrix.plan.say(f"{count} of {counted(items, 'prompt')}; still compared: {left}")
        if race.certain:
            break
        kinds = {"plain", *(way.kind for way in race.left)}
        kinds |= {"revise"} if "shuffled" in kinds else set()  # shuffled uses revise
        ways = [way for way in matrix.ways if WAYS[way] in kinds]
        running = replace(running, ways=ways, plan=replace(running.plan, limits=ended.left))
    return status, choice


def verified(file: Path, *, run_code: bool = False) -> tuple[list[str], str]:
    """Recompute a recipe's promise from the evidence, and compare the promise with the recipe's file.

    Return the differences, and a sentence that sums up the result.

    Raises:
        UsageError: The file has a YAML alias or no promise, evidence is missing, or `run_code` is needed.
    """
    told = yaml_of(text := text_of_settings(file), file)
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):  # it may expand to any size
        raise UsageError(f"{file} has a YAML alias, which is not allowed.", hint="Write its value instead.")
    promise = told.get("promise") if isinstance(told, dict) else None
    if not isinstance(promise, dict) or not isinstance(promise.get("evidence"), str):
        hint = "Give a file that --choose wrote."
        raise UsageError(f"{file} names no folder of runs in its field promise.evidence.", hint=hint)
    places = [file.parent / promise["evidence"], file.with_suffix(""), Path(promise["evidence"])]
    found = ((place, stored(place / CHOICE, "files", "way") or {}) for place in places)
    folder, choice = next((each for each in found if each[1]), (places[-1], {}))
    try:
        made, own = choice["way"], {"evidence": promise["evidence"]}
        if promise.get("drift") in ("tell", "one"):  # the user may change it
            own["drift"] = promise["drift"]
        [model] = folders([made["model"]]).values()
        ways = [*map(Strategy.of, made["promise"]["ways"])]
        seen = seen_in((folder / RUNS / model / task, ways, None) for task in made["promise"]["tasks"])
        asked = {*choice["items"]}  # a limit may have ended a later block
        seen = {way: {item: of_way[item] for item in of_way if item in asked} for way, of_way in seen.items()}
        race = Race(seen, made["promise"]["margin"], made["promise"].get("judge", ""))
        options = {name.replace("_", "-"): value for name, value in race.chosen.options.items()}
        again = {name: race.record[name] for name in made["promise"] if name in race.record}
        now = {**made, **options, "promise": {**made["promise"], **again, **own}}
    except (LookupError, TypeError, ValueError, AttributeError):  # evidence is damaged or missing
        hint = f"Restore {CHOICE} and {RUNS}/. To make them again, repeat the command that had --choose."
        raise UsageError(f"{CHOICE} or runs/ in {folder!s:.200} is missing or damaged.", hint=hint) from None
    answers, wrong = wrong_truths(folder, run_code=run_code)
    faults = [*some(differences(file, told, now)), *changes(folder, choice["files"]), *some(wrong)]
    return faults, "Not verified." if faults else f"Verified: the promise, and {counted(answers, 'answer')}."
