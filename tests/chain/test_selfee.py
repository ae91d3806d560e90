from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, Step, selfee
from redraft.chain.selfee import (
    DONE_PHRASES,
    REVISE_PHRASE,
    Parser,
    SectionText,
    parse,
    render,
    render_prompt,
    render_steps,
    revision_heading,
    verdict_of,
)

REFERENCE_VERDICT = re.compile(r"(no )?revisions? (is |are )?(not )?needed", re.IGNORECASE)
"""The regular expression by which the reference counts feedback without a verdict."""


def step(answer: str, feedback: str | None = None) -> Step:
    if feedback is None:
        return Step(answer=answer)
    return Step(answer=answer, feedback=Feedback(text=feedback, verdict=verdict_of(feedback)))


_HEADINGS = (
    "### Feedback 1:|### Feedback 2:|### Revision 1:|### Revision:|### Feedback:|### Answer:|"
    "### Instruction:|### |###|#"
)
FRAGMENTS = [
    *_HEADINGS.split("|"),
    *("\\", "\\\\", "\n", "\n\n", "\r\n", " ", ":", "1", "10", "12345678901", "雨", "a"),
    *("Revision is needed", "No revision is needed.", "Below is an instruction that describes a task"),
]
texts = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=12).map("".join)
sections = texts.map(str.strip)


@st.composite
def chains(draw: st.DrawFn) -> tuple[Step, ...]:
    judged = [step(a, f) for a, f in draw(st.lists(st.tuples(sections, sections), max_size=4))]
    last = draw(st.none() | sections)
    steps = (*judged, *([step(last)] if last is not None else []))
    return steps if any(s.answer or s.feedback for s in steps) else (step("a"),)


def read(parser: Parser, pieces: list[str]) -> list[SectionText]:
    return [certain for piece in pieces for certain in parser.feed(piece)] + parser.close()


def joined(pieces: list[SectionText]) -> dict[tuple[str, int], str]:
    out: dict[tuple[str, int], str] = {}
    for piece in pieces:
        out[piece.kind, piece.index] = out.get((piece.kind, piece.index), "") + piece.text
    return out


class TestRender:
    def test_a_prompt_without_input_is_the_wire_format(self) -> None:
        assert render_prompt(Prompt(instruction="Describe rain.")) == (
            "Below is an instruction that describes a task. Write a response that appropriately completes the"
            " request.\n\n### Instruction:\nDescribe rain.\n\n### Answer:\n"
        )

    def test_a_prompt_with_input_is_the_wire_format(self) -> None:
        assert render_prompt(Prompt(instruction="Translate.", input="Regen")) == (
            "Below is an instruction that describes a task, paired with an input that provides further"
            " context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nTranslate.\n\n### Input:\nRegen\n\n### Answer:\n"
        )

    def test_steps_are_the_wire_format(self) -> None:
        steps = [step("Wet.", "Too short. Revision is needed."), step("Wet and cold.", "Good.")]
        assert render_steps(steps) == (
            "Wet.\n\n### Feedback 1:\nToo short. Revision is needed.\n\n### Revision 1:\nWet and cold."
            "\n\n### Feedback 2:\nGood."
        )

    def test_a_talk_becomes_one_instruction_with_the_system_message_first(self) -> None:
        talk = Prompt(
            messages=(
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi"},
                {"role": "user", "content": [{"type": "text", "text": "Describe "}, {"text": "rain."}]},
            )
        )
        told = "Be brief.\n\nUser: Hello\n\nAssistant: Hi\n\nUser: Describe rain."
        assert f"### Instruction:\n{told}\n\n### Answer:\n" in render_prompt(talk)


class TestVerdict:
    @pytest.mark.parametrize(
        ("text", "verdict"),
        [
            (f"Score: 7. {REVISE_PHRASE}.", "revise"),
            ("Revision is not needed, but some tweaks could make it stronger.", "accept"),
            ("There is no need for any further revision.", "accept"),
            ("It is perfect and requires no further revision.", "accept"),
            ("The answer does not need any revision. Great!", "accept"),
            ("I don't think any further revision is needed.", "accept"),
            ("No further revisions are necessary.", "accept"),
            ("There is no need to revise your answer.", "accept"),
            ("That is not a valid answer. Revision is needed.", "revise"),
            ("The answer needs a revision.", "revise"),
            ("Revision is recommended.", "revise"),
            ("NO REVISION IS NEEDED", "accept"),
            ("No revision is needed… on reflection, revision is needed.", "revise"),
            ("Revision is needed. Wait: revision is not needed.", "accept"),
            ("Revision is optional.", "unknown"),
            ("Score: 10/10.vision is needed.", "unknown"),
            ("The score of this answer would be", "unknown"),
            ("", "unknown"),
        ],
    )
    def test_the_last_phrase_decides(self, text: str, verdict: str) -> None:
        assert verdict_of(text) == verdict

    @pytest.mark.parametrize("phrase", DONE_PHRASES)
    @given(text=st.text())
    def test_what_was_said_before_does_not_matter(self, text: str, phrase: str) -> None:
        assert verdict_of(f"{text}. {REVISE_PHRASE}. {phrase}") == "accept"
        assert verdict_of(f"{text}. {phrase}. {REVISE_PHRASE}") == "revise"

    def test_a_long_feedback_takes_time_in_proportion(self) -> None:
        assert verdict_of("no revis " * 100_000 + "revision is needed") == "revise"

    @pytest.mark.parametrize(
        ("name", "feedbacks", "without", "still_unknown"),
        [("conala", 4849, 437, 310), ("mbpp", 1433, 100, 73)],
    )
    def test_real_feedback(
        self, shared_data: Path, name: str, feedbacks: int, without: int, still_unknown: int
    ) -> None:
        """The reference's expression finds no verdict in 437 and 100 of them; we find some of these."""
        records = (shared_data / f"selfee/chains/{name}.jsonl").read_text(encoding="utf-8").splitlines()
        said = [output["feedback"] for line in records for output in json.loads(line)["outputs"]]
        by_reference = [text for text in said if not REFERENCE_VERDICT.search(text)]
        assert (len(said), len(by_reference)) == (feedbacks, without)
        assert sum(verdict_of(text) == "unknown" for text in said) == still_unknown
        assert all(verdict_of(text) != "unknown" for text in said if REFERENCE_VERDICT.search(text))


class TestParse:
    @given(texts, texts, chains())
    def test_a_prompt_fools_nobody(self, instruction: str, extra: str, steps: tuple[Step, ...]) -> None:
        prompt = Prompt(instruction=instruction, input=extra)
        text = render(Chain(prompt=prompt, steps=steps))
        assert parse(text).steps == parse(text, prompt).steps == steps

    @given(st.text(alphabet="ab \n#", max_size=20), st.text(alphabet="ab \n#", max_size=20))
    def test_the_prompt_is_read_back_too(self, instruction: str, extra: str) -> None:
        prompt = Prompt(instruction=instruction, input=extra)
        assert parse(render_prompt(prompt)).prompt == prompt
        assert parse(render_prompt(prompt) + "a").prompt == prompt

    @given(texts)
    def test_any_text_is_read(self, text: str) -> None:
        chain = parse(text)
        assert chain.best is None or chain.answer == chain.answer.strip()
        assert Chain.from_json(chain.to_json()) == chain

    def test_the_best_is_the_last_answer_that_says_something(self) -> None:
        assert parse("a\n\n### Feedback 1:\nf\n\n### Revision 1:\n").answer == "a"
        assert parse("a\n\n### Feedback 1:\nf\n\n### Revision 1:\nb").answer == "b"

    @pytest.mark.parametrize(
        ("text", "stop"),
        [
            ("a\n\n### Feedback 1:\nNo revision is needed.", "accepted"),
            ("a\n\n### Feedback 1:\nThe score would", "ended"),
            ("a", "ended"),
            ("a\n\n### Revision 1:\nb", "malformed"),
        ],
    )
    def test_why_it_stopped(self, text: str, stop: str) -> None:
        assert parse(text).stop == stop

    def test_real_chains_survive(self, shared_data: Path) -> None:
        """All 3,746 training chains: all but white space around sections survives."""
        count = 0
        for path in sorted((shared_data / "selfee/chains").glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                steps = [step(o["output"].strip(), o["feedback"].strip()) for o in record["outputs"]]
                prompt = Prompt(instruction=record["instruction"], input=record["input"])
                chain = parse(render(Chain(prompt=prompt, steps=tuple(steps))))
                assert (chain.prompt, list(chain.steps)) == (prompt, steps)
                assert "malformed" not in chain.meta
                count += 1
        assert count == 3746


class TestHeadings:
    def test_a_number_may_be_missing(self) -> None:
        """Fault 5: the released parser breaks on `### Revision:`."""
        chain = parse("a\n\n### Feedback:\nf\n\n### Revision:\nb\n\n### Feedback 2:\ng")
        assert chain.steps == (step("a", "f"), step("b", "g"))

    def test_there_may_be_more_than_nine_revisions(self) -> None:
        """Fault 5: the released parser breaks from revision 10 on."""
        steps = tuple(step(f"answer {i}", f"feedback {i}") for i in range(120))
        assert parse(render_steps(steps)).steps == steps

    def test_the_answer_heading_may_be_missing(self) -> None:
        """Fault 5: the released parser fails without `### Answer:`."""
        assert parse("a\n\n### Feedback 1:\nf").steps == (step("a", "f"),)
        assert parse("### Instruction:\nDescribe rain.").prompt.instruction == "Describe rain."
        assert parse("### Answer:\na").steps == (step("a"),)

    def test_users_may_quote_the_format(self) -> None:
        """Fault 5: the released parser is fooled by user text that contains `### Answer:`."""
        quoted = "What is\n\n### Answer:\nx\n\n### Feedback 1:\nRevision is not needed.\n\n### Answer:\ny"
        prompt = Prompt(instruction=quoted)
        text = render(Chain(prompt=prompt, steps=(step("It is a log.", "Fine. No revision is needed."),)))
        assert parse(text).steps == (step("It is a log.", "Fine. No revision is needed."),)
        assert parse(text).prompt == prompt

    def test_an_answer_heading_inside_a_revision_does_not_end_the_prompt(self) -> None:
        written = "a\n\n### Feedback 1:\nf\n\n### Revision 1:\nb\n\n### Answer:\n42\n\n### Feedback 2:\ng"
        chain = parse(render_prompt(Prompt(instruction="Add.")) + written)
        assert chain.prompt.instruction == "Add."
        assert chain.steps == (step("a", "f"), step("b\n\n### Answer:\n42", "g"))

    @pytest.mark.parametrize(
        "quoted",
        ["### Feedback 1:", "### Revision 1:", "### Answer:", "see ### Feedback 2: there", "### Verdict:"],
    )
    def test_a_heading_that_is_not_due_and_lies_behind_is_text(self, quoted: str) -> None:
        chain = parse(f"a\n\n### Feedback 1:\nf\n\n### Revision 1:\nb\n{quoted}\nc", Prompt())
        assert (chain.steps[-1].answer, chain.stop) == (f"b\n{quoted}\nc", "ended")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("a\n\n### Revision 1:\nb", "'### Revision 1:' came where '### Feedback 1:' was due"),
            (
                "a\n\n### Feedback 1:\nf\n\n### Feedback 2:\nb",
                "'### Feedback 2:' came where '### Revision 1:' was due",
            ),
        ],
    )
    def test_left_out_steps_are_a_break_of_the_format(self, text: str, why: str) -> None:
        chain = parse(text)
        assert (chain.stop, chain.meta["malformed"]) == ("malformed", why)
        assert (chain.steps[-1].feedback or Feedback(text=chain.answer, verdict="unknown")).text.endswith(
            "\nb"
        )

    def test_a_line_that_looks_like_a_heading_is_escaped_once_more(self) -> None:
        quoted = "\n".join(["a", "### Feedback 1:", "\\### Feedback 1:", "\\\\### Revision 7: b"])
        written = render_steps([step(quoted, "f")])
        assert written.startswith("a\n\\### Feedback 1:\n\\\\### Feedback 1:\n\\\\\\### Revision 7: b\n\n")
        assert parse(written).steps == (step(quoted, "f"),)


class TestStream:
    @given(texts, st.lists(st.integers(0, 60)))
    def test_boundaries_do_not_matter(self, text: str, cuts: list[int]) -> None:
        whole, cut = Parser(), Parser()
        ends = sorted({min(each, len(text)) for each in cuts} | {0, len(text)})
        at_once, in_parts = read(whole, [text]), read(cut, [text[a:b] for a, b in pairwise(ends)])
        assert joined(at_once) == joined(in_parts)
        assert whole.steps() == cut.steps()
        assert (whole.kind, whole.index, whole.malformed) == (cut.kind, cut.index, cut.malformed)

    @given(chains())
    def test_the_pieces_are_the_sections(self, steps: tuple[Step, ...]) -> None:
        pieces = joined(read(Parser(), list(render_steps(steps))))
        for i, one in enumerate(steps):
            assert pieces.get(("answer", i), "") == one.answer
            assert pieces.get(("feedback", i + 1), "") == (one.feedback.text if one.feedback else "")
        assert all(pieces.values())

    def test_text_is_held_back_only_while_it_may_be_a_heading(self) -> None:
        parser = Parser()
        assert parser.feed("A line.\n\n### Feed") == [SectionText("answer", 0, "A line.")]
        assert parser.feed("ing the cat") == [SectionText("answer", 0, "\n\n### Feeding the cat")]
        assert parser.feed("\n\n### Feedback 1") == []
        assert parser.feed(":\nWhy?") == [SectionText("feedback", 1, "Why?")]
        assert (parser.kind, parser.index) == ("feedback", 1)

    @given(chains(), st.data())
    def test_a_chain_continues_from_any_section(self, steps: tuple[Step, ...], data: st.DataObject) -> None:
        k = data.draw(st.integers(0, len(steps) - 1))
        rest = render_steps(steps)[len(render_steps(steps[:k])) :].removeprefix(
            revision_heading(k) if k else ""
        )
        parser = Parser("answer", k, steps[:k])
        read(parser, [rest])
        assert parser.steps() == steps

    @pytest.mark.parametrize("unit", ["\\", "\n", "#", "\n\\", "\n#", " ", "1"])
    def test_work_stays_in_proportion_to_the_text(self, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
        looked_at: Counter[bool] = Counter()
        look = selfee._may_be_heading

        def counting(line: str) -> bool:
            looked_at[len(line) <= 40] += 1
            return look(line)

        monkeypatch.setattr(selfee, "_may_be_heading", counting)
        for start in ("", "### Feedback "):
            parser = Parser()
            parser.feed(start)
            for _ in range(500):
                parser.feed(unit)
        assert looked_at[False] == 0
