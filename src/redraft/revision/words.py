"""Describe chains in words: verdicts, stop reasons, a revision's changes, and a summary of many chains."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Literal

from redraft.chain import ESTIMATED, PARTLY, Chain, CheckResult, Step, Stop, Usage, Verdict, is_blank
from redraft.errors import EngineError
from redraft.jobs.counting import counted

_WORDS = re.compile(r"\s*(?:\w+|[^\w\s])|\s+$")
READABLE = 0.4  # smallest share of common words for a diff. Below it, the new text reads better whole.
COMPARABLE, MOST_PAIRS = 100_000, 10_000_000
"""Texts are compared only if they have at most `MOST_PAIRS` pairs of words, and at most `COMPARABLE` of these
are equal. More pairs take over 0.5 s. Two answers of 2,000 English words have some 80,000 equal pairs."""
ISLAND = 2  # fewest words in a row that count as common
VERDICTS: dict[Verdict, str] = {"accept": "accepted", "revise": "needs revision", "unknown": "no verdict"}
STOPS = {
    "accepted": "the feedback accepted it",
    "passed": "every check passed",
    "ended": "the model revised no further",
    "tool_calls": "the model calls a tool",
    "max_revisions": "no further revision was allowed",
    "budget": "the budget is used up",
    "unchanged": "a revision changed nothing",
    "max_tokens": "the limit of new tokens was reached",
    "context": "the context is full",
    "malformed": "the model broke the format",
    "cancelled": "cancelled",
    "error": "an error",
}
"""The stop reasons of a chain, in words."""

SHORT_STOPS = {
    "tool_calls": "tool calls",
    "max_revisions": "out of revisions",
    "budget": "out of budget",
    "max_tokens": "out of tokens",
    "context": "context full",
}
"""Shorter stop reasons for lists, instead of names that read like settings."""

Change = tuple[Literal["same", "gone", "new"], str]
"""A part of a diff: text in both versions (`same`), only the first (`gone`), only the second (`new`)."""


def changes(before: str, after: str) -> list[Change] | None:
    """Return the word diff of two texts, or None if the texts are too long or have too little in common.

    A single equal word between two changes counts as changed.
    """
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    matcher, seen = SequenceMatcher(None, old, new, autojunk=False), Counter(old)
    equal_pairs = sum(count * seen[word] for word, count in Counter(new).items())
    if len(old) * len(new) > MOST_PAIRS or equal_pairs > COMPARABLE or matcher.ratio() < READABLE:
        return None
    parts: list[Change] = []
    i = k = 0
    for j, m, size in matcher.get_matching_blocks():
        at_an_end = j == 0 or m == 0 or j + size == len(old) or m + size == len(new)
        if size < ISLAND and not at_an_end:
            continue
        if (gone := "".join(old[i:j])).strip():
            parts.append(("gone", gone))
        parts += [("new", "".join(new[k:m])), ("same", "".join(new[m : m + size]))]
        i, k = j + size, m + size
    return [part for part in parts if part[1]]


def name_of(index: int) -> str:
    """Return the name of an answer, such as `Revision 1`."""
    return "Answer" if index == 0 else f"Revision {index}"


def written(answer: str, calls: Iterable[Mapping[str, Any]]) -> str:
    """Return an answer and its tool calls, one per line, such as `pay({"amount": 45})`."""
    made = (call.get("function") for call in calls)
    named = (f"{each.get('name')}({each.get('arguments')})" for each in made if isinstance(each, Mapping))
    return "\n".join(filter(None, [answer, *named]))


def verdict_of(results: Sequence[CheckResult]) -> str:
    """Describe check results: `words<=8: 7 words.`, `passes 3 checks`, `fails 1 of 3: 16 words, at …`."""
    failed = [result for result in results if not result.passed]
    of = f"fails {len(failed)} of {len(results)}" if failed else f"passes {len(results)} checks"
    if len(results) > 1 and len(failed) != 1:
        return of
    [told] = failed or results
    brief = re.sub(r"^The answer (has )?", "", told.message)  # verdicts leave out the subject
    brief = re.sub(r", and ([^,]*) (?:is|are) (?:allowed|needed|wanted|required)\b.*", r", \1", brief)
    return ": ".join(filter(None, [told.name if len(results) == 1 else of, brief]))


def why_cut(step: Step, stop: Stop | None = None) -> str:
    """Return why a step was cut, in words. For the last step, `stop` is the chain's stop."""
    if stop in ("budget", "malformed"):
        return STOPS[stop]
    own = {"filtered": "the server filtered it", "lost": "no continuation could make it pass"}
    return own.get(step.finish) or STOPS.get(step.finish, step.finish)


def faults_of(chain: Chain, *, with_checks: bool, shown: bool = False) -> Iterator[tuple[str, str | None]]:
    """Yield each fault of the best answer: message, and hint or None. `shown`: the user saw all steps."""
    if chain.stop == "cancelled" or chain.best is None:
        yield _without_end(chain)
        return
    if missing := chain.missing_revisions:
        made, why = counted(chain.revisions, "revision"), STOPS.get(chain.stop or "", "")
        message = f"the model made {made}, but the minimum is {chain.revisions + missing}: {why}."
        yield message, "Raise --max-tokens or the budget."
    if left := chain.unchanged:
        found = "\n".join(f"{each['passage']!r:.60}: {each['why']}." for each in left)
        yield f"{counted(len(left), 'place')} could not be changed.", None if shown else found
    best = chain.steps[chain.best]
    if not best.complete:
        yield f"the answer was cut: {why_cut(best, chain.stop)}.", None
    if with_checks and best.passed is None:
        yield "the chain ended before the checks were done.", None
    failed = [result for result in best.checks if not result.passed]
    several = f"the best of {len(chain.steps)} answers" if chain.revisions else "the answer"
    if best.passed is False and failed:
        found = "\n".join(f"{result.name}: {result.message}" for result in failed)
        of = f"{len(failed)} of {len(best.checks)} checks" if len(best.checks) > 1 else "its check"
        yield f"{several} fails {of}.", None if shown else found
    elif with_checks and best.echo:
        yield f"{several} only repeats or acknowledges earlier text: {best.answer!r:.60}", None


def _without_end(chain: Chain) -> tuple[str, str | None]:
    best = None if chain.best is None else chain.steps[chain.best]
    if chain.stop == "cancelled" and best is not None and best.complete:
        return "stopped: this is the best answer so far.", None
    if chain.stop == "cancelled":
        return "stopped: the answer is incomplete.", None
    if chain.steps:
        return f"there is no answer: {why_cut(chain.steps[-1], chain.stop)}.", None
    message = "there is no answer: the time budget ran out before the model was ready."
    return message, "Check that its server is up, or raise --budget-seconds"


def exit_status_of(chain: Chain, *, with_checks: bool) -> int:
    """Return the exit status of a command that made a chain."""
    if chain.stop == "cancelled":
        return 130
    if not chain.answer.strip():
        return EngineError.exit_status
    return 1 if chain.missing_revisions or chain.unchanged or (with_checks and not chain.passed) else 0


@dataclass
class Summary:
    """Counts chains, outcomes, usage and cost."""

    # Returns whether a chain's answer should have been checked.
    should_pass: Callable[[Chain], bool] = lambda _: False
    chains: int = 0
    before: int = 0  # chains that an earlier run made
    revisions: int = 0
    unrevised: int = 0
    missing: int = 0
    echoes: int = 0  # texts that are not answers
    checked: int = 0  # chains that were checked, or should have been
    unjudged: int = 0  # checked chains that ended before the checks of the best answer were done
    passed_first: int = 0
    passed: int = 0
    stops: Counter[str] = field(default_factory=Counter)
    # The reasons why chains with the stop `ended` ended, in words, if known.
    ended: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    # USD by role; None for a model without a price.
    costs: dict[str, float | None] = field(default_factory=dict)
    unpriced: int = 0  # chains whose cost is not known
    unreported: int = 0  # chains with a whole reply whose usage the server did not report

    def add(self, chain: Chain) -> None:
        """Count a chain."""
        self.chains += 1
        self.revisions += chain.revisions
        self.unrevised += chain.revisions == 0
        self.missing += chain.missing_revisions > 0
        self.echoes += chain.echoes
        self.stops[chain.stop or "unknown"] += 1
        if chain.stop == "ended" and chain.steps:
            last = chain.steps[-1]
            if last.finish == "filtered":
                self.ended["content filter"] += 1
            elif last.feedback is not None and last.verdict == "unknown":
                self.ended["no verdict"] += 1
            elif last.verdict == "revise" or (last.feedback is None and is_blank(last.answer)):
                self.ended["no correction"] += 1
        used = chain.usage
        self.usage += used
        self.unreported += is_unreported(chain)
        self.unpriced += used.cost_usd is None and bool(used.prompt_tokens or used.completion_tokens)
        for role, cost in cost_by_role(chain).items():
            before = self.costs.get(role)
            self.costs[role] = before if cost is None else cost + (before or 0)
        # An echo fails even without checks. In a run without checks, that does not count.
        if (chain.passed is not None and any(step.checks for step in chain.steps)) or self.should_pass(chain):
            self.checked += 1
            self.unjudged += chain.passed is None
            self.passed += chain.passed is True
            # A draft after the first was written because the first did not pass.
            self.passed_first += not chain.drafts and bool(chain.steps) and chain.steps[0].passed is True

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the summary as names and texts. Empty rows are left out."""
        usd, were = self.usage.cost_usd, "was" if self.unpriced == 1 else "were"
        cost = "" if usd is None else cost_text(usd, self.costs, digits=4)
        if cost and self.unpriced:
            cost += f"; {counted(self.unpriced, 'chain')} {were} left out: no price is known"
        rows = [("revisions", self._revisions()), ("checks", self._checks())]
        rows += [("stopped", self.stopped), ("tokens", self._tokens()), ("cost", cost)]
        return [(name, text) for name, text in rows if text]

    @property
    def stopped(self) -> str:
        """The reasons why the chains ended, with their counts, in words."""
        whys = ", ".join(f"{why} {count:,}" for why, count in self.ended.most_common())
        more = {"ended": f" ({whys})"} if whys else {}
        if not self.revisions and [*self.stops] == ["max_revisions"]:
            return ""
        words = SHORT_STOPS if self.revisions else {**SHORT_STOPS, "max_revisions": "not revised"}
        found = self.stops.most_common()
        return " · ".join(f"{words.get(name, name)} {n:,}{more.get(name, '')}" for name, n in found)

    def _revisions(self) -> str:
        if not self.chains:
            return ""
        missing = f"; {counted(self.missing, 'chain')} below the minimum" if self.missing else ""
        if not self.revisions:
            return f"none{missing}"
        mean = self.revisions / self.chains
        repeat = "text only repeats" if self.echoes == 1 else "texts only repeat"
        echoes = f"; {self.echoes:,} {repeat} or agree{'s' * (self.echoes == 1)}" if self.echoes else ""
        verb = "has" if self.unrevised == 1 else "have"
        none = f"; {counted(self.unrevised, 'answer')} {verb} none" if self.unrevised else ""
        return f"{self.revisions:,}, {round(mean, 2)} per answer{none}{missing}{echoes}"

    def _checks(self) -> str:
        if not self.checked:
            return ""
        counts, checked = (self.passed_first, self.passed), self.checked
        first, last = (min(100 * count / checked, 99 + count // checked) for count in counts)  # 100 %: all
        drafts = f"{counted(self.passed_first, 'first draft')} ({first:.0f} %)"
        unjudged = f"; {self.unjudged:,} ended before they were judged" if self.unjudged else ""
        none = f"; {counted(self.chains - checked, 'answer')} without checks" * (self.chains > checked)
        return f"passed by {drafts}, {counted(self.passed, 'final answer')} ({last:.0f} %){unjudged}{none}"

    def _tokens(self) -> str:
        usage = self.usage
        if not usage.completion_tokens and not usage.prompt_tokens:
            return ""
        tokens = f"{usage.completion_tokens:,} new, {usage.prompt_tokens:,} in prompts"
        tokens += ", over all runs" * bool(self.before)
        if usage.estimated:
            return f"{tokens}; {ESTIMATED if self.unreported else PARTLY}"
        cached = 100 * usage.cached_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
        return f"{tokens} ({cached:.0f} % cached)"


def is_unreported(chain: Chain) -> bool:
    """Return whether the server did not report the usage of a complete reply."""
    return any(step.usage.estimated and step.complete for step in chain.steps)


def cost_by_role(chain: Chain) -> dict[str, float | None]:
    """Return the cost in USD of each role that was asked, or None for a model without a price."""
    if not chain.usage_by_role:
        return {"writer": chain.usage.cost_usd}
    return {role: used.cost_usd for role, used in chain.usage_by_role.items()}


def cost_text(total: float, costs: Mapping[str, float | None], *, digits: int) -> str:
    """Return a cost in words, by role if there are several roles: `0.03 USD (writer 0.02, judge 0.01)`."""
    parts = [f"{role} {'unknown' if cost is None else f'{cost:.{digits}f}'}" for role, cost in costs.items()]
    return f"{total:.{digits}f} USD" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")


def usage_line(chain: Chain) -> str:
    """Describe the answers, tokens, time and cost of a chain in one line."""
    used, parts = chain.usage, [counted(len(chain.steps) + len(chain.drafts), "answer")]
    if chain.echoes:
        parts.append(f"{chain.echoes} of them {'say' if chain.echoes > 1 else 'says'} nothing new")
    if used.completion_tokens:
        parts.append(counted(used.completion_tokens, "new token"))
    if used.prompt_tokens:
        parts.append(f"{counted(used.prompt_tokens, 'prompt token')} ({used.cached_tokens:,} cached)")
    if seconds := max(used.seconds, sum(step.usage.seconds for step in chain.steps)):
        parts.append(f"{seconds:.1f} s")
        parts.append(f"{used.completion_tokens / seconds:.0f} tokens/s")
    if used.cost_usd is not None:
        parts.append(cost_text(used.cost_usd, cost_by_role(chain), digits=6))
    if used.estimated:
        parts.append(ESTIMATED if is_unreported(chain) else PARTLY)
    return " · ".join(parts)
