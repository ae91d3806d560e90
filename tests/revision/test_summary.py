"""The summary's counts, in words."""

from __future__ import annotations

from redraft.chain import Chain, CheckResult, Feedback, RoleUsage, Step, Stop, Usage, Verdict
from redraft.revision.words import Summary, usage_line


def step(*, passed: bool, echo: bool = False) -> Step:
    check = CheckResult(name="words<=3", passed=passed, score=float(passed), message="3 words")
    return Step(answer="a", feedback=Feedback(text="", verdict="unknown", checks=(check,)), echo=echo)


def chain(steps: list[Step], best: int | None, stop: Stop | None, usage: Usage | None = None) -> Chain:
    return Chain(steps=tuple(steps), best=best, stop=stop, usage=usage or Usage())


def test_nothing_was_done_so_nothing_is_told() -> None:
    assert Summary().rows() == []
    assert Summary(chains=12, revisions=3).rows() == [("revisions", "3, 0.25 per answer")]


def test_what_came_of_some_chains() -> None:
    used = Usage(prompt_tokens=2000, cached_tokens=1500, completion_tokens=1234, cost_usd=0.25)
    summary = Summary()
    summary.add(chain([step(passed=True)], 0, "passed", used))
    summary.add(chain([step(passed=False), step(passed=True)], 1, "passed", used))
    summary.add(chain([step(passed=False), step(passed=False, echo=True)], 0, "max_revisions"))
    summary.add(chain([Step(answer="a")], 0, None))
    assert (summary.checked, summary.passed) == (3, 2)
    assert summary.rows() == [
        ("revisions", "2, 0.5 per answer; 2 answers have none; 1 text only repeats or agrees"),
        ("checks", "passed by 1 first draft (33 %), 2 final answers (67 %); 1 answer without checks"),
        ("stopped", "passed 2 · out of revisions 1 · unknown 1"),
        ("tokens", "2,468 new, 4,000 in prompts (75 % cached)"),
        ("cost", "0.5000 USD"),
    ]


def test_single_answers_stopped_for_several_reasons_or_it_is_not_told() -> None:
    summary = Summary()
    summary.add(chain([step(passed=False)], 0, "max_revisions"))
    assert [name for name, _ in summary.rows()] == ["revisions", "checks"]
    summary.add(chain([step(passed=True)], 0, "passed").model_copy(update={"drafts": (step(passed=False),)}))
    assert ("stopped", "not revised 1 · passed 1") in summary.rows()
    assert ("checks", "passed by 0 first drafts (0 %), 1 final answer (50 %)") in summary.rows()


def test_a_reply_from_a_cache_took_as_long_as_it_was_written() -> None:
    written = Step(answer="a", usage=Usage(completion_tokens=50, seconds=22.0))
    used = Usage(completion_tokens=50, seconds=0.0065)
    assert usage_line(chain([written], 0, "ended", used)).endswith("50 new tokens · 22.0 s · 2 tokens/s")


def test_chains_that_ended_by_themselves_are_told_with_the_reason() -> None:
    summary = Summary()
    verdicts: tuple[Verdict, ...] = ("unknown", "revise")
    unknown, revise = (Feedback(text="Hm.", verdict=verdict) for verdict in verdicts)
    for last in [
        Step(answer="a", feedback=unknown),
        Step(answer="a", feedback=unknown),
        Step(answer="a", feedback=unknown, finish="filtered"),
        Step(answer="a", feedback=revise),
        Step(answer=""),
        Step(answer="a"),
    ]:
        summary.add(chain([last], 0, "ended"))
    summary.add(chain([Step(answer="a")], 0, "accepted"))
    said = "ended 6 (no verdict 2, no correction 2, content filter 1) · accepted 1"
    assert summary.stopped == said
    assert ("stopped", said) in summary.rows()
    assert summary.stops["ended"] == 6


def test_chains_with_too_few_revisions_are_counted() -> None:
    summary = Summary()
    for meta in ({"missing_revisions": 2}, {}):
        summary.add(chain([Step(answer="a")], 0, "max_tokens").model_copy(update={"meta": meta}))
    assert summary.rows()[0] == ("revisions", "none; 1 chain below the minimum")


def test_a_hundred_per_cent_are_all() -> None:
    summary = Summary()
    for each in [True] * 299 + [False]:
        summary.add(chain([step(passed=each)], 0, "passed"))
    assert "299 first drafts (99 %), 299 final answers (99 %)" in dict(summary.rows())["checks"]


def test_a_chain_without_an_answer_is_counted() -> None:
    summary = Summary()
    summary.add(chain([], None, "cancelled"))
    assert (summary.chains, summary.checked, summary.unrevised) == (1, 0, 1)


def test_the_cost_of_several_models_is_told_by_role() -> None:
    priced = Chain(usage=Usage(cost_usd=0.5))
    unpriced = RoleUsage(model="large", completion_tokens=9)
    judge = RoleUsage(model="strict", cost_usd=0.25)
    roles = {"writer": RoleUsage(model="small", cost_usd=0.5), "critic": unpriced, "judge": judge}
    several = Chain.model_validate({"usage": Usage(cost_usd=0.75), "usage_by_role": roles})
    summary = Summary()
    for chain in (priced, several):
        summary.add(chain)
    assert ("cost", "1.2500 USD (writer 1.0000, critic unknown, judge 0.2500)") in summary.rows()
