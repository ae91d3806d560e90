"""What one record adds to a summary, how summaries add up, and the report: known figures, and faults."""

from __future__ import annotations

import gzip
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.chain.selfee import score_of, verdict_of
from redraft.chain.texts import Turn
from redraft.checks.segment import count_words
from redraft.data import stats
from redraft.errors import RecordError
from redraft.jobs.licences import UNKNOWN
from tests.cli.verbs import write


def by_spaces(text: str) -> int:
    return len(text.split())


def summary_of(*chains: Chain) -> stats.DataSummary:
    summary = stats.DataSummary()
    for number, chain in enumerate(chains):
        stats.add_to(summary, chain, f"a.jsonl:{number}", "a", by_spaces)
    return summary


def judged(*pairs: tuple[str, str | None], **fields: Any) -> Chain:
    steps = tuple(
        Step(answer=answer, feedback=None if text is None else Feedback(text=text, verdict=verdict_of(text)))
        for answer, text in pairs
    )
    return Chain(prompt=Prompt(instruction="Say it."), steps=steps, best=len(steps) - 1, **fields)


def test_lengths_are_counted_by_part_and_in_all() -> None:
    summary = summary_of(judged(("one two", "shorter please now"), ("one", None)))
    assert (summary.tables["prompt length"], summary.tables["answer length"]) == ({2: 1}, {2: 1, 1: 1})
    assert summary.tables["feedback length"] == {3: 1}
    assert (summary.tables["record length"], summary.totals["length"]) == ({8: 1}, 8)


def test_all_messages_of_a_talk_are_its_prompt() -> None:
    said = [{"role": role, "content": "a b c"} for role in ("system", "user", "assistant", "user")]
    summary = summary_of(Chain(prompt=Prompt(messages=tuple(said)), steps=(Step(answer="d"),), best=0))
    assert (summary.tables["prompt length"], summary.tables["turns"]) == ({12: 1}, {5: 1})
    assert "roles" not in summary.totals


def test_verdicts_and_scores_are_counted_by_place() -> None:
    summary = summary_of(
        judged(("a", "6/10. Revision is needed."), ("b", "9 out of 10. Revision is not needed.")),
        judged(("a", "Good, 8.5/10")),
    )
    assert summary.tables["verdicts"] == {(1, "revise"): 1, (2, "accept"): 1, (1, "unknown"): 1}
    assert summary.tables["scores"] == {(1, 6.0): 1, (2, 9.0): 1, (1, 8.5): 1}
    assert (summary.totals["last scores"], summary.examples["low score"]) == (2, ["a.jsonl:1"])
    assert summary.totals["no verdict"] == summary.totals["undecided"] == 1


def test_a_verdict_in_other_words_lacks_the_phrase_but_is_decided() -> None:
    totals = summary_of(judged(("a", "There is no need for revision."))).totals
    assert (totals["no verdict"], totals["undecided"]) == (1, 0)


@pytest.mark.parametrize(
    ("feedback", "scores"),
    [
        ({"text": "", "verdict": "accept", "by": "checks"}, {}),
        ({"text": "3/10: revision is not needed.", "verdict": "accept", "score": 9.5}, {(1, 9.5): 1}),
    ],
)
def test_checks_need_no_phrase_and_a_score_of_its_own_counts_before_one_in_the_text(
    feedback: dict[str, Any], scores: dict[Any, int]
) -> None:
    steps = (Step(answer="a", feedback=Feedback.model_validate(feedback)),)
    summary = summary_of(Chain(prompt=Prompt(instruction="q"), steps=steps))
    assert summary.tables["scores"] == scores
    totals = summary.totals
    assert (totals["feedbacks"], totals["no verdict"], totals["low score"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("8.5 out of 10, no, 9 / 10.", 9.0), ("5/100", None), ("due 3/10/2023", None),
        ("0.25/10 is low", 0.25), ("Score: 8", None),
    ],
)  # fmt: skip
def test_scores_out_of_ten(text: str, score: float | None) -> None:
    assert score_of(text) == score


def test_a_feedback_that_tells_the_gold_answer_is_a_leak() -> None:
    gold = {"reference": " sorted(items) \n"}
    leak, known = ("sort(items)", "Write sorted(items)."), ("use sorted(items)", "Only sorted(items).")
    summary = summary_of(judged(leak, known, meta=gold), judged(("a", "b"), meta=gold))
    assert summary.totals["gold answers"] == 2
    assert (summary.totals["leaking feedbacks"], summary.totals["new leaks"]) == (2, 1)
    assert (summary.totals["leak"], summary.examples["leak"]) == (1, ["a.jsonl:0"])


def test_a_short_gold_answer_is_no_leak() -> None:
    summary = summary_of(judged(("7", "The answer is 42."), meta={"reference": "42"}))
    assert summary.totals["gold answers"] == 1
    assert "leak" not in summary.totals


def test_empty_and_unchanged_and_cut_answers_are_noted() -> None:
    cut = Chain(prompt=Prompt(instruction="q"), steps=(Step(answer="a", finish="max_tokens"),), best=0)
    summary = summary_of(judged((" ", None)), judged(("a", "b"), ("a ", None)), cut)
    assert (summary.examples["empty answer"], summary.examples["unchanged"]) == (["a.jsonl:0"], ["a.jsonl:1"])
    assert summary.examples["cut"] == ["a.jsonl:2"]


def test_where_a_record_is_from() -> None:
    origin = {"dataset": "gsm8k", "licence": "MIT", "file": "x", "record": 1}
    summary = summary_of(
        judged(("a", None), meta={"origin": origin}),
        judged(("a", None), meta={"source": {"dataset": "flan"}}),
        judged(("a", None), meta={"origin": {"licence": "CC BY-NC 4.0"}}),
        judged(("a", None), meta={"origin": "not an object"}),
        judged(("a", None), meta={"origin": {"licence": "for non-commercial use"}}),
        judged(("a", None), meta={"origin": {"licence": "unknown"}}),
        judged(("a", None), meta={"origin": {"licence": ["MIT", "CC0"]}}),
    )
    assert summary.tables["sources"] == {"gsm8k": 1, "flan": 1, "a": 5}
    assert (summary.tables["licences"][UNKNOWN], summary.tables["licences"]["MIT, CC0"]) == (3, 1)
    assert summary.examples["noncommercial"] == ["a.jsonl:2", "a.jsonl:4"]


def test_a_text_made_to_stop_the_search_for_scores_and_verdicts_does_not() -> None:
    hostile = "1" * 20_000 + " revis" * 5_000 + " 9" * 10_000 + "   " * 10_000 + "/10"
    assert summary_of(judged(("a", hostile))).tables["verdicts"] == {(1, "unknown"): 1}


def test_repeats_differ_by_no_more_than_case_and_space() -> None:
    first = Chain(prompt=Prompt(instruction="What is rain?"), steps=(Step(answer="Water."),), best=0)
    same = Chain(prompt=Prompt(instruction="what  is RAIN?\n"), steps=(Step(answer="water."),), best=0)
    other = Chain(prompt=Prompt(instruction="What is rain?"), steps=(Step(answer="Drops."),), best=0)
    summary = summary_of(first, same, other)
    assert len(set(summary.queries)) == 1
    assert [summary.texts[0] == each for each in summary.texts] == [True, True, False]


@pytest.mark.parametrize(
    ("roles", "fault"),
    [
        ("user", None), ("system user assistant user assistant", None),
        ("user assistant tool tool assistant user", None), ("assistant user", "assistant speaks first"),
        ("user user assistant", "user after user"), ("user assistant assistant", "assistant after assistant"),
        ("user system assistant", "a system message after the first turn"), ("user tool", "tool after user"),
        ("user <b>oracle</b>", "an unknown role"),
    ],
)  # fmt: skip
def test_who_speaks_when(roles: str, fault: str | None) -> None:
    assert stats.role_fault([Turn(role, "x") for role in roles.split()]) == fault  # type: ignore[arg-type]


def test_languages_are_told_by_the_beginning_of_question_and_answer() -> None:
    english = Chain(prompt=Prompt(instruction="Please describe how rain comes to fall from the clouds."))
    german = Chain(
        prompt=Prompt(instruction="?"),
        steps=(Step(answer="Der Regen fällt aus den Wolken, weil die Tropfen schwer sind."),),
        best=0,
    )
    languages = summary_of(english, german, judged(("ok", None))).tables["languages"]
    assert languages == {"en": 1, "de": 1, UNKNOWN: 1}


def test_names_of_strangers_are_bounded() -> None:
    summary = stats.DataSummary()
    for number in range(3000):
        part = stats.DataSummary()
        part.name("sources", f"{number:04}" + "x" * 500)
        summary += part
    kinds = summary.tables["sources"]
    assert len(kinds) <= 1001
    assert (kinds.total(), kinds[stats.OTHERS]) == (3000, 2000)
    assert max(map(len, kinds)) <= 60


def test_a_few_examples_are_kept_each_once() -> None:
    total = stats.DataSummary()
    for number in range(100):
        part = stats.DataSummary()
        part.warn("leak", f"a:{number}")
        part.warn("leak", f"a:{number}")
        total += part
    assert total.totals["leak"] == 200
    assert total.examples["leak"] == [f"a:{number}" for number in range(stats.EXAMPLES)]


TEXTS = st.one_of(
    st.sampled_from(["", " ", "8/10. Revision is needed.", "revision is not needed", "a gold answer"]),
    st.text(max_size=20),
)
CHAINS = st.builds(
    lambda asked, pairs, gold: judged(*pairs, meta={"reference": gold}).model_copy(
        update={"prompt": Prompt(instruction=asked)}
    ),
    TEXTS,
    st.lists(st.tuples(TEXTS, st.none() | TEXTS), min_size=1, max_size=4),
    st.none() | TEXTS,
)


@given(st.lists(CHAINS, max_size=6), st.integers(0, 6))
def test_parts_add_up_to_the_whole(chains: list[Chain], cut: int) -> None:
    whole, first, second = stats.DataSummary(), stats.DataSummary(), stats.DataSummary()
    for number, chain in enumerate(chains):
        for summary in (whole, first if number < cut else second):
            stats.add_to(summary, chain, f"a:{number}", "a", by_spaces)
    first += pickle.loads(pickle.dumps(second))  # noqa: S301  (as between processes; it is our own)
    assert first == whole


def test_where_there_is_no_answer_the_gold_one_is_counted_with_its_rationale() -> None:
    meta = {"reference": "4", "rationale": "Two and two."}
    summary = summary_of(Chain(prompt=Prompt(instruction="What is 2 + 2?"), meta=meta))
    assert summary.tables["answer length"] == {4: 1}
    assert (summary.tables["record length"], summary.totals["answers"]) == ({9: 1}, 0)


@pytest.mark.parametrize("about", ["x", {"leaks": 3}, {"leaks": ["x"]}, {"leaks": [], "refusals": []}])
def test_what_a_run_marked_is_counted(about: Any) -> None:
    totals = summary_of(judged(("a", "b"), meta={"generated": about})).totals
    assert (totals["records"], totals["quote"]) == (1, isinstance(about, dict) and bool(about["leaks"]))
    assert totals["refusal"] == 0


# The report


def said_of(report: stats.DataReport) -> dict[str, stats.DataFinding]:
    return {each.name: each for each in report.findings}


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_report(shared_data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"prompt": "a"}\nno\n' * 500, mtime=0)[:-10])
    lines = (shared_data / "selfee" / "chains" / "mbpp.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "mbpp.jsonl").write_bytes(b"".join(lines[:150]))
    paths = [broken, tmp_path / "mbpp.jsonl"]
    one, two = (stats.describe(paths, count_words, workers=workers) for workers in (1, 2))
    assert one == two
    assert said_of(one)["unreadable"].count > 2


def test_what_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n{no\n{"x": 1}\n"\xff"\n{"prompt": "b"}\n')
    report = stats.describe([path], count_words)
    unreadable = said_of(report)["unreadable"]
    assert (report.totals["records"], unreadable.count) == (2, 3)
    assert [place.split(" ")[0] for place in unreadable.examples] == [
        f"{path}:2:",
        f"{path}:3:",
        f"{path}:4:",
    ]


def test_a_file_that_ends_too_early_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    lines = "".join(f'{{"prompt": "question {number * 7919}"}}\n' for number in range(2_000)).encode()
    path.write_bytes(gzip.compress(lines, mtime=0)[:-500])
    report = stats.describe([path, write(tmp_path / "b.jsonl", [{"prompt": "c"}])], count_words)
    assert 1 < report.totals["records"] < 2_001
    assert [*report.tables["sources"][1].values()][:2] == ["b", 1]
    assert "cannot be read" in said_of(report)["unreadable"].examples[-1]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file"):
        stats.describe([tmp_path / "none.jsonl"], count_words)


@given(st.lists(st.one_of(st.integers(0, 30), st.integers(0, 10**7)), min_size=1, max_size=60))
def test_a_quantile_is_one_of_the_numbers(numbers: list[int]) -> None:
    found = stats.quantile(Counter(numbers), 0.95)
    assert sum(number <= found for number in numbers) >= 0.95 * len(numbers)
    assert sum(number < found for number in numbers) < 0.95 * len(numbers)


def found(tmp_path: Path, *records: object) -> dict[str, stats.DataFinding]:
    return said_of(stats.describe([write(tmp_path / "a.jsonl", records)], lambda text: len(text.split())))


def test_good_records_with_a_licence_raise_nothing(tmp_path: Path) -> None:
    chain = {
        "version": 1,
        "prompt": {"instruction": "Please describe how rain comes to fall from the clouds, number"},
        "steps": [
            {"answer": "It is heavy.", "feedback": {"text": "No revision is needed.", "verdict": "accept"}}
        ],
        "best": 0,
        "meta": {"origin": {"dataset": "own", "licence": "MIT"}},
    }
    assert found(tmp_path, chain) == {}


def test_nothing_at_all_is_said_to_be_nothing(tmp_path: Path) -> None:
    assert list(found(tmp_path)) == ["empty"]


def test_faults_come_first(tmp_path: Path) -> None:
    said = found(
        tmp_path,
        {"x": 1},
        {"conversations": [{"from": "gpt", "value": "Hi."}, {"from": "human", "value": "Hi."}]},
        {
            "messages": [
                {"role": "user", "content": "a b c " * stats.LONG},
                {"role": "assistant", "content": ""},
            ]
        },
    )
    assert list(said) == ["unreadable", "roles", "empty answer", "long", "licence"]
    assert [each.level for each in said.values()] == ["fault", "fault", "fault", "warning", "note"]
    assert said["roles"].text.endswith("assistant speaks first (1).")
    assert said["roles"].examples == (f"{tmp_path / 'a.jsonl'}:2",)
    assert said["unreadable"].text == "1 record that cannot be read."


def test_repeats_are_counted_beyond_the_first(tmp_path: Path) -> None:
    said = found(tmp_path, *[{"prompt": "Why?"}] * 3, {"prompt": " WHY? "}, {"prompt": "How?"})
    assert said["repeated"].count == 3
    assert said["repeated"].text.startswith("3 records with the same first question as an earlier record, 3")


def test_records_not_for_commercial_use_are_a_warning(tmp_path: Path) -> None:
    chain = {
        "version": 1,
        "prompt": {"instruction": "q"},
        "steps": [],
        "meta": {"origin": {"licence": "CC BY-NC 4.0"}},
    }
    assert found(tmp_path, chain)["noncommercial"].text == "1 record not for commercial use, of 1."


def test_records_without_any_answer_are_told(tmp_path: Path) -> None:
    said = found(tmp_path, {"prompt": "Why?"}, {"question": "How?", "answer": "So."}, {"prompt": "Who?"})
    assert said["no answer"].count == 2
    assert "2 records" in said["no answer"].text
    assert said["no answer"].examples == (f"{tmp_path / 'a.jsonl'}:1", f"{tmp_path / 'a.jsonl'}:3")


def test_tags_of_html_in_answers_are_told(tmp_path: Path) -> None:
    talks = [{"instruction": "Why?", "output": answer} for answer in ["<p>So.</p>", "So: `<p>x</p>`", "So."]]
    assert found(tmp_path, *talks)["html"].count == 1
