"""Exports: what is written, what is left out, and that it can be read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, Step, Usage, read_jsonl
from redraft.chain.read.files import decode, read_lines, to_line
from redraft.chain.read.records import chain_of, id_of, raw_records, read_records
from redraft.chain.read.shapes import known_shape, read_as
from redraft.chain.write import ARRAYS, MAKERS, Unfit, to_selfee
from redraft.data.export import Exported, with_unique_ids, write_records
from redraft.data.export import exported as export_chain
from redraft.data.output import Drop
from redraft.jobs.formats import ExportFormat

FORMATS = get_args(ExportFormat)
LOGS = Path(__file__).parent.parent / "chain" / "read" / "logs"


def feedback(text: str) -> Feedback:
    return Feedback(text=text, verdict="unknown")


REVISED = Chain(
    id="x/1",
    prompt=Prompt(instruction="Say hello.", input="in French"),
    steps=(Step(answer="Salut", feedback=feedback("Too short.")), Step(answer="Bonjour"), Step(answer="Hi")),
    best=1,
    meta={"reference": "Bonjour !", "origin": {"dataset": "greetings"}},
)
TALK = Chain(
    id="x/2",
    prompt=Prompt(
        messages=(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi", "name": "Ann"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": [{"type": "text", "text": "Bye"}]},
        )
    ),
    steps=(Step(answer="Goodbye"),),
    best=0,
)


def made(chain: Chain, to: ExportFormat) -> Any:
    return MAKERS[to](chain)


def test_a_revised_chain_in_each_format() -> None:
    assert made(REVISED, "selfee") == {
        "iteration_truncated": False,
        "output": "Bonjour !",
        "instruction": "Say hello.",
        "input": "in French",
        "iteration": 3,
        "outputs": [{"output": "Salut", "feedback": "Too short."}, {"output": "Bonjour"}, {"output": "Hi"}],
        "dataset": "greetings",
    }
    assert made(REVISED, "alpaca") == {"instruction": "Say hello.", "input": "in French", "output": "Bonjour"}
    asked = "Say hello.\n\nin French"
    assert made(REVISED, "sharegpt") == {
        "id": "x/1",
        "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": "Bonjour"}],
    }
    assert made(REVISED, "messages") == {
        "id": "x/1",
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "Bonjour"}],
    }
    accepted = (judged("Salut", "revise"), judged("Bonjour", "accept"), Step(answer="Hi"))
    origin = {"dataset": "d", "licence": "MIT"}
    meta = REVISED.meta | {"origin": origin | {"record": 1}}
    pair = made(REVISED.model_copy(update={"steps": accepted, "meta": meta}), "preference")
    assert read_as(known_shape(pair, "w"), pair, "w").meta["origin"] == origin
    assert pair == {
        "origin": origin,
        "id": "x/1",
        "prompt": [{"role": "user", "content": asked}],
        "chosen": [{"role": "assistant", "content": "Bonjour"}],
        "rejected": [{"role": "assistant", "content": "Salut"}],
    }


def test_what_an_evaluation_found_is_an_instance_of_every_eval_ever(tmp_path: Path) -> None:
    truth = {
        "task": "gsm8k",
        "steps": [[{"name": "number", "passed": right}] for right in (False, True, False)],
    }
    used = Usage(prompt_tokens=9, completion_tokens=5)
    scored = {"meta": {**REVISED.meta, "eval": truth}, "model": {"name": "org/new"}, "usage": used}
    right, wrong = (REVISED.model_copy(update={**scored, "best": best}) for best in (1, 0))
    written = [made(chain, "every-eval-ever") for chain in (right, wrong)]
    theirs = json.loads((LOGS / "every_eval_ever_a.jsonl").read_text().splitlines()[0])
    for part in (None, "input", "output", "evaluation"):
        assert {*(written[0][part] if part else written[0])} <= {*(theirs[part] if part else theirs)}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, written)))
    read = [*read_records(tmp_path / "a.jsonl")]
    assert [(chain.answer, chain.prompt.text, chain.usage) for chain in read] == [
        (chain.answer, chain.prompt.text, used) for chain in (right, wrong)
    ]
    assert {made(chain, "every-eval-ever")["model_id"] for chain in read} == {"org/new"}
    assert [chain.meta["eval"]["steps"] for chain in read] == [
        [[{"name": "is_correct", "passed": right}]] for right in (True, False)
    ]


def test_a_talk_in_each_format_that_holds_one() -> None:
    assert made(TALK, "alpaca")["instruction"] == "Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Bye"
    speakers = [turn["from"] for turn in made(TALK, "sharegpt")["conversations"]]
    assert speakers == ["system", "human", "gpt", "human", "gpt"]
    messages = made(TALK, "messages")["messages"]
    assert TALK.prompt.messages
    assert messages == [*TALK.prompt.messages, {"role": "assistant", "content": "Goodbye"}]


@pytest.mark.parametrize(
    ("to", "chain", "rule"),
    [
        *(
            (to, Chain(prompt=Prompt(instruction="a")), "no-answer")
            for to in ("selfee", "alpaca", "sharegpt")
        ),
        ("sharegpt", TALK.model_copy(update={"best": None}), "no-answer"),
        ("sharegpt", TALK.model_copy(update={"steps": (Step(answer=" "),)}), "no-answer"),
        ("sharegpt", Chain(prompt=Prompt(messages=({"role": "tool", "content": "a"},))), "role"),
        ("messages", Chain(prompt=Prompt(instruction="a")), "no-answer"),
        ("messages", Chain(prompt=Prompt(messages=({"content": "a"},))), "role"),
        ("preference", Chain(prompt=Prompt(instruction="a")), "no-answer"),
        ("every-eval-ever", REVISED, "no-truth"),
        *(
            ("every-eval-ever", TALK.model_copy(update={"meta": {"eval": about}}), "no-truth")
            for about in ({"task": "t", "steps": [1]}, {"task": "t", "steps": []}, {"steps": [[]]})
        ),
        ("preference", TALK, "no-pair"),
        ("preference", REVISED.model_copy(update={"best": 0}), "no-pair"),
        (
            "preference",
            REVISED.model_copy(update={"steps": (Step(answer="a"), Step(answer="a\n"))}),
            "no-pair",
        ),
    ],
)
def test_what_a_format_cannot_hold_is_left_out(to: ExportFormat, chain: Chain, rule: str) -> None:
    unfit = made(chain, to)
    assert isinstance(unfit, Unfit)
    assert unfit.rule == rule


def judged(answer: str, verdict: str, score: object = None, *, checks: float | None = None) -> Step:
    given: dict[str, Any] = {"text": f"{verdict}!", "verdict": verdict}
    if score is not None:
        given["score"] = score
    if checks is not None:
        result = {"name": "number", "passed": checks == 1, "score": checks, "message": "wrong"}
        given |= {"by": "checks", "checks": [result]}
    return Step(answer=answer, feedback=Feedback.model_validate(given))


def of_teacher(*steps: Step) -> Chain:
    return Chain(id="x/3", prompt=Prompt(instruction="Hi"), steps=steps, best=len(steps) - 1)


@pytest.mark.parametrize(
    ("steps", "pair"),
    [
        ((judged("a", "revise", 3), judged("b", "accept", 9)), True),
        ((judged("a", "revise", 3), judged("b", "revise", 5)), True),  # better, though not good enough
        ((judged("a", "revise", 6), judged("b", "revise", 4)), False),
        ((judged("a", "revise"), judged("b", "accept")), True),
        ((judged("a", "revise"), judged("b", "revise", 5)), False),
        ((judged("a", "accept"), judged("b", "accept")), False),  # a revision that nobody asked for
        ((judged("a", "revise"), Step(answer="b")), False),  # the chain ended before it was judged
        ((judged("a", "revise", 6), Step(answer="b")), False),
        ((judged("a", "revise", 6), judged("b", "unknown")), False),
        ((judged("a", "revise", 6), Step(answer="b", finish="max_tokens")), False),
        ((Step(answer="a"), Step(answer="b")), True),  # an imported pair
        ((judged("a", "revise", checks=0.2), judged("b", "revise", checks=0.8)), True),
    ],
)
def test_a_pair_prefers_what_was_judged_better(steps: tuple[Step, ...], pair: bool) -> None:
    found = made(of_teacher(*steps), "preference")
    if pair:
        assert (found["rejected"][0]["content"], found["chosen"][0]["content"]) == ("a", "b")
    else:
        assert isinstance(found, Unfit)
        assert found.rule == "not-better"


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ((6, 8, 7, None), 1),
        ((6, 3, 3, 6, None), None),
        ((3, 7, 7, None), 2),  # the later of two equal ones
    ],
)
def test_the_correction_that_was_judged_best_is_chosen(
    scores: tuple[float | None, ...], chosen: int | None
) -> None:
    steps = [
        Step(answer=str(place))
        if score is None
        else judged(str(place), "accept" if score >= 9 else "revise", score)
        for place, score in enumerate(scores)
    ]
    found = made(of_teacher(*steps), "preference")
    if chosen is None:
        assert isinstance(found, Unfit)
        assert found.rule == "not-better"
    else:
        assert found["chosen"][0]["content"] == str(chosen)


def test_a_correction_that_talks_about_the_answer_or_was_cut_is_not_chosen() -> None:
    echo = judged("b", "accept", 9).model_copy(update={"echo": True})
    found = made(of_teacher(judged("a", "revise", 3), echo, judged("c", "revise", 5)), "preference")
    assert found["chosen"][0]["content"] == "c"


@pytest.mark.parametrize(
    ("to", "rule"),
    [("alpaca", "rejected"), ("sharegpt", "rejected"), ("messages", "rejected"), ("selfee", "")],
)
def test_a_rejected_answer_is_not_written_alone(to: ExportFormat, rule: str) -> None:
    for last in (judged("b", "revise"), judged("b", "accept", checks=0.5)):
        found = export_chain(of_teacher(judged("a", "revise"), last), "a:1", to=to)
        assert (found.rule if isinstance(found, Drop) else "") == rule


SUM = Prompt(instruction="6 · 7?")


@pytest.mark.parametrize(
    ("meta", "answer"),
    [
        ({"reference": "42"}, "42"),
        ({"reference": "42", "rationale": "Six sevens.\n"}, "Six sevens.\n\n42"),
        ({"reference": "42", "rationale": "It is 6 · 7.\nSo \\boxed{42}."}, "It is 6 · 7.\nSo \\boxed{42}."),
        ({"reference": "42", "rationale": "So 42."}, "So 42.\n\n42"),
        ({"reference": ["42", "43"]}, "42"),
    ],
)
@pytest.mark.parametrize("chain", [Chain(prompt=SUM), Chain(prompt=SUM, steps=(Step(answer=""),))])
def test_a_gold_answer_is_the_answer_where_there_is_no_other(
    chain: Chain, meta: dict[str, Any], answer: str
) -> None:
    chain = chain.model_copy(update={"meta": meta})
    assert made(chain, "alpaca")["output"] == answer
    assert made(chain, "selfee")["outputs"] == [{"output": answer}]
    assert made(chain, "messages")["messages"][-1] == {"role": "assistant", "content": answer}
    assert made(chain, "sharegpt")["conversations"][-1] == {"from": "gpt", "value": answer}


def test_the_published_id_comes_back_and_that_of_a_piece_stays_its_own() -> None:
    def id_of(name: str) -> str:
        chain = TALK.model_copy(update={"id": name, "meta": {"source": {"id": "abc"}}})
        return str(made(chain, "sharegpt")["id"])

    assert id_of("share/abc") == "abc"
    assert id_of("share/abc#1") == "share/abc#1"
    numbered = TALK.model_copy(update={"id": "share/7", "meta": {"source": {"id": 7}}})
    assert made(numbered, "sharegpt")["id"] == 7


def exported(path: Path, to: ExportFormat) -> list[Any]:
    found = [export_chain(line.chain(), line.where, to=to) for line in raw_records(path)]
    return [json.loads(line.data) for line in found if isinstance(line, Exported)]


@pytest.mark.parametrize(("name", "count"), [("conala", 2777), ("mbpp", 969)])
def test_released_chains_come_back_as_they_were(
    shared_data: Path, tmp_path: Path, name: str, count: int
) -> None:
    released = shared_data / "selfee" / "chains" / f"{name}.jsonl"
    with (tmp_path / "chains.jsonl").open("wb") as file:
        file.writelines(chain.to_json().encode() + b"\n" for chain in read_records(released))
    records = [to_selfee(chain) for chain in read_jsonl(tmp_path / "chains.jsonl")]
    assert len(records) == count
    assert records == [json.loads(line) for line in released.read_bytes().splitlines()]


def test_released_conversations_come_back_as_they_were(shared_data: Path) -> None:
    released = shared_data / "conversations" / "dummy_conversation.json"
    assert exported(released, "sharegpt") == json.loads(released.read_bytes())


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAME = st.text("abc#~/", min_size=1, max_size=6)
SAID = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
# An answer is one text, and so is a question alone, which has to say something.
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": SAID}
) | st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user"]),
        "content": st.lists(
            st.fixed_dictionaries({"type": st.just("text"), "text": SAID}), min_size=1, max_size=2
        ),
    }
)
PROMPT = st.builds(Prompt, instruction=TEXT, input=TEXT) | st.builds(
    Prompt, messages=st.lists(MESSAGE, max_size=4).map(tuple)
)
STEP = st.builds(
    Step,
    answer=TEXT,
    feedback=st.none()
    | st.builds(Feedback, text=TEXT, verdict=st.sampled_from(["accept", "revise"]))
    | st.builds(Feedback, text=TEXT, verdict=st.just("unknown"), score=st.integers(0, 10)),
)
META = st.fixed_dictionaries(
    {},
    optional={
        "reference": TEXT | st.lists(TEXT, max_size=2),
        "origin": st.fixed_dictionaries({"dataset": TEXT}),
        "source": st.dictionaries(
            st.sampled_from(["id", "chosen", "code_lines", "outputs", "review_id", "iteration", "dataset"]),
            TEXT,
        ),
    },
)


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    steps = tuple(draw(st.lists(STEP, max_size=3)))
    best = draw(st.none() | st.integers(0, len(steps) - 1)) if steps else None
    stop = draw(st.sampled_from([None, "accepted", "context", "max_revisions"]))
    return Chain(id=draw(NAME), prompt=draw(PROMPT), steps=steps, best=best, stop=stop, meta=draw(META))


@given(st.lists(chains(), max_size=4, unique_by=lambda chain: chain.id), st.sampled_from(FORMATS))
def test_written_read_and_written_again_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, some: list[Chain], to: ExportFormat
) -> None:
    path = tmp_path_factory.mktemp("again") / "records.json"
    written = fitting(some, to)
    with path.open("wb") as file:
        write_records(file, map(to_line, written), array=to in ARRAYS)
    assert fitting(imported(path), to) == written


def fitting(chains: Iterable[Chain], to: ExportFormat) -> list[Any]:
    return [record for chain in chains if not isinstance(record := made(chain, to), Unfit)]


def imported(path: Path) -> Iterator[Chain]:
    for number, (where, data) in enumerate(read_lines(path)):
        record = decode(data, where)
        chain = read_as(known_shape(record, where), record, where)
        yield chain.model_copy(update={"id": id_of(record, "records", number)})


@pytest.mark.parametrize("to", MAKERS)
def test_an_answer_without_a_question_is_left_out(to: ExportFormat, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"question_id": 1, "answer_id": "a", "text": "Paris."}\n')
    [gone] = (export_chain(line.chain(), line.where, to=to) for line in raw_records(path))
    assert isinstance(gone, Drop)
    assert (gone.rule, gone.where) == ("no-question", f"{path}:1")


def test_what_is_left_out_says_where_and_why(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"instruction": "Go on."}\n')
    [unanswered] = (export_chain(line.chain(), line.where, to="alpaca") for line in raw_records(path))
    assert isinstance(unanswered, Drop)
    assert (unanswered.rule, unanswered.where, unanswered.id) == ("no-answer", f"{path}:1", "a/0")
    assert unanswered.record["prompt"]["instruction"] == "Go on."


def test_ids_of_two_files_stay_apart() -> None:
    chains = [TALK.model_copy(update={"id": f"{file}/1", "meta": {"source": {"id": 1}}}) for file in "abb"]
    records = [made(chain, "messages") for chain in chains]
    told = [Exported(to_line(r), r["id"], chain.id) for r, chain in zip(records, chains, strict=True)]
    assert [json.loads(line)["id"] for line in with_unique_ids(told)] == [1, "b/1", "b/1~2"]


def test_tools_and_what_the_last_message_has_come_back() -> None:
    last = {"role": "assistant", "content": "Hello.", "weight": 0}
    asked = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes?", "weight": 1}]
    record = {"id": 1, "messages": [*asked, asked[0], last], "tools": [{"type": "function"}]}
    assert made(chain_of(record).model_copy(update={"id": "x/1"}), "messages") == record


@pytest.mark.parametrize("to", ["selfee", "alpaca", "sharegpt"])
@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]},
    ],
)
def test_pictures_and_calls_are_not_passed_over(to: ExportFormat, message: dict[str, Any]) -> None:
    unfit = made(TALK.model_copy(update={"prompt": Prompt(messages=(message,))}), to)
    assert isinstance(unfit, Unfit)
    assert unfit.rule == "not-text"
