"""Summarise many chains in a few lines: answers, revisions, checks, stops and cost.

Counts only, so memory stays flat. They do not tell whether revising helped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from redraft.chain import ESTIMATED, PARTLY, Chain, Step, Usage, is_blank
from redraft.counting import counted

STOPS = {
    "tool_calls": "tool calls",
    "max_revisions": "out of revisions",
    "budget": "out of budget",
    "max_tokens": "cut at the token limit",
    "context": "context full",
}
"""Stops whose names read like settings, in words. Records keep the names."""


@dataclass
class Summary:
    """Counts over chains.

    Attributes:
        before: Those of them that an earlier run made.
        echoes: Revisions that discuss the answer instead of being one.
        checked: Chains that were checked, or should have been.
        unjudged: Checked chains that ended before the checks of the best answer were done.
        ended: Why chains whose stop is `ended` ended, in words, where the chain tells.
        costs: USD by role; None for a model without a price.
        unpriced: Chains whose cost is not known.
        unreported: Chains with a whole reply whose usage the server did not report.
    """

    with_checks: bool = False
    chains: int = 0
    before: int = 0
    revisions: int = 0
    unrevised: int = 0
    missing: int = 0
    echoes: int = 0
    checked: int = 0
    unjudged: int = 0
    passed_first: int = 0
    passed: int = 0
    stops: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    costs: dict[str, float | None] = field(default_factory=dict)
    unpriced: int = 0
    unreported: int = 0

    def add(self, chain: Chain) -> None:
        """Count a chain."""
        self.chains += 1
        self.revisions += chain.revisions
        self.unrevised += chain.revisions == 0
        self.missing += chain.missing_revisions > 0
        self.echoes += chain.echoes
        self.stops[chain.stop or "unknown"] += 1
        if chain.stop == "ended" and chain.steps and (why := _why_ended(chain.steps[-1])):
            self.ended[why] += 1
        self.usage = self.usage + chain.usage
        self.unreported += is_unreported(chain)
        used = chain.usage
        self.unpriced += used.cost_usd is None and bool(used.prompt_tokens or used.completion_tokens)
        for role, cost in cost_by_role(chain).items():
            before = self.costs.get(role)
            self.costs[role] = before if cost is None else cost + (before or 0)
        # Talk fails without any check, which is no fault of a run that has none.
        judged = chain.passed is not None and any(step.checks for step in chain.steps)
        if judged or self.with_checks:
            self.checked += 1
            self.unjudged += chain.passed is None
            self.passed += chain.passed is True
            self.passed_first += bool(chain.steps) and chain.steps[0].passed is True

    @property
    def not_passed(self) -> int:
        """Number of checked chains whose best answer does not pass."""
        return self.checked - self.passed

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of the summary, each a name and a text. Empty ones are left out."""
        usd = self.usage.cost_usd
        cost = "" if usd is None else cost_text(usd, self.costs, digits=4) + self.without_price
        rows = [("revisions", self._revisions()), ("checks", self._checks()), ("stopped", self.stopped)]
        rows += [("tokens", self._tokens()), ("cost", cost)]
        return [(name, text) for name, text in rows if text]

    @property
    def estimated(self) -> str:
        """How usage that is estimated came to be so, in words."""
        return ESTIMATED if self.unreported else PARTLY

    @property
    def without_price(self) -> str:
        """What the cost leaves out, in words after it; empty if that is nothing."""
        if not self.unpriced or self.usage.cost_usd is None:
            return ""
        verb = "was" if self.unpriced == 1 else "were"
        return f"; {counted(self.unpriced, 'chain')} {verb} made without a price"

    @property
    def stopped(self) -> str:
        """How the chains ended, in words."""
        whys = ", ".join(f"{why} {count:,}" for why, count in self.ended.most_common())
        more = {"ended": f" ({whys})"} if whys else {}
        found = self.stops.most_common()
        return " · ".join(f"{STOPS.get(name, name)} {count:,}{more.get(name, '')}" for name, count in found)

    def _revisions(self) -> str:
        if not self.chains:
            return ""
        mean = self.revisions / self.chains
        talk = "talks" if self.echoes == 1 else "talk"
        echoes = f"; {self.echoes:,} only {talk} about the answer" if self.echoes else ""
        none = "1 answer has none" if self.unrevised == 1 else f"{self.unrevised:,} answers have none"
        missing = f"; minimum not reached by {self.missing:,}" if self.missing else ""
        return f"{self.revisions:,}, {mean:.1f} an answer; {none}{missing}{echoes}"

    def _checks(self) -> str:
        if not self.checked:
            return ""
        first, last = (100 * count / self.checked for count in (self.passed_first, self.passed))
        drafts = f"{counted(self.passed_first, 'first draft')} ({first:.0f} %)"
        unjudged = f"; {self.unjudged:,} ended before they were judged" if self.unjudged else ""
        return f"passed by {drafts}, {counted(self.passed, 'final answer')} ({last:.0f} %){unjudged}"

    def _tokens(self) -> str:
        usage = self.usage
        if not usage.completion_tokens and not usage.prompt_tokens:
            return ""
        tokens = f"{usage.completion_tokens:,} new, {usage.prompt_tokens:,} in prompts"
        if usage.estimated:
            return f"{tokens}; {self.estimated}"
        cached = 100 * usage.cached_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
        return f"{tokens} ({cached:.0f} % cached)"


def is_unreported(chain: Chain) -> bool:
    """Whether a server did not report the usage of a whole reply. It cannot report one that broke off."""
    return any(step.usage.estimated and step.complete for step in chain.steps)


def _why_ended(last: Step) -> str:
    """Return why a chain ended without a limit or a verdict, by its last step; empty if it does not tell."""
    if last.finish == "filtered":
        return "content filter"
    if last.feedback is None:
        return "no correction" if is_blank(last.answer) else ""
    return {"unknown": "no verdict", "revise": "no correction"}.get(last.verdict, "")


def cost_by_role(chain: Chain) -> dict[str, float | None]:
    """Return the cost of each role that was asked, in USD; None for a model without a price."""
    if not chain.usage_by_role:
        return {"writer": chain.usage.cost_usd}
    return {role: used.cost_usd for role, used in chain.usage_by_role.items()}


def cost_text(total: float, costs: Mapping[str, float | None], *, digits: int) -> str:
    """Return a cost in words, by role if there are several: `0.03 USD (writer 0.02, judge 0.01)`."""
    parts = [f"{role} {'unknown' if cost is None else f'{cost:.{digits}f}'}" for role, cost in costs.items()]
    return f"{total:.{digits}f} USD" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")


def usage_line(chain: Chain) -> str:
    """Return the cost of a chain, in words."""
    used, parts = chain.usage, [counted(len(chain.steps) + len(chain.drafts), "answer")]
    if chain.echoes:
        parts.append(f"{chain.echoes} of them only talk about the answer")
    parts.append(f"{used.completion_tokens:,} new tokens")
    if used.prompt_tokens:
        parts.append(f"{used.prompt_tokens:,} prompt tokens ({used.cached_tokens:,} cached)")
    if used.seconds:
        parts.append(f"{used.seconds:.1f} s")
        parts.append(f"{used.completion_tokens / used.seconds:.0f} tokens/s")
    if used.cost_usd is not None:
        parts.append(cost_text(used.cost_usd, cost_by_role(chain), digits=6))
    if used.estimated:
        parts.append(ESTIMATED if is_unreported(chain) else PARTLY)
    return " · ".join(parts)
