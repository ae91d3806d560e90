"""Published records as chains with their origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Prompt
from redraft.chain.read.conversations import asks
from redraft.chain.read.inputs import inputs_of
from redraft.data.output import Drop
from redraft.data.published import SOURCES, FieldMap, Imported, Reader, import_all, items_in, source_named
from redraft.errors import RecordError, UsageError
from redraft.jobs.licences import UNKNOWN
from tests.cli.verbs import write

ANSWER = {"role": "assistant", "text": "b", "replies": []}
PUBLISHED: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "i", "input": "", "output": "o"},
    "gsm8k": {"question": "q", "answer": "1+1 = <<1+1=2>>2\n#### 2"},
    "aqua-rat": {"question": "q", "options": ["A)1", "B)2"], "rationale": "r", "correct": "B"},
    "math": {"problem": "p", "level": "Level 5", "type": "Algebra", "solution": r"\boxed{2}"},
    "mbpp": {"task_id": 1, "text": "t", "code": "c", "test_list": ["assert 1"]},
    "conala": {"question_id": 1, "intent": "i", "rewritten_intent": None, "snippet": "s"},
    "code-contests": {
        "name": "n",
        "description": "d",
        "public_tests": {"input": ["1"], "output": ["2"]},
        "private_tests": {"input": [], "output": []},
        "solutions": {"language": ["cpp"], "solution": ["s"]},
    },
    "drrepair": {
        "code_lines": [{"text": "", "code": "int x", "indent": 0}],
        "gold_code_lines": [{"text": "", "code": "int x ;", "indent": 0}],
        "gold_linenos": [1],
        "err_line": {"lineno": 0, "msg": "expected ';'"},
        "info": {},
    },
    "flan": {"inputs": "i", "targets": "t", "task": "rte"},
    "sharegpt": {
        "id": "x",
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    },
    "oasst1": {
        "message_tree_id": "x",
        "tree_state": "ready_for_export",
        "prompt": {"role": "prompter", "text": "a", "lang": "en", "replies": [ANSWER]},
    },
    "gpt4all": {"prompt": "p", "response": "r", "source": "s"},
    "hh-rlhf": {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    "shp": {"history": "h", "human_ref_A": "a", "human_ref_B": "b", "labels": 1, "score_ratio": 2.0},
    "selfee": {
        "instruction": "i", "input": "",
        "outputs": [{"output": "a", "feedback": "Revision is not needed."}],
        "iteration": 1, "iteration_truncated": False, "dataset": "mbpp",
    },
    "self-instruct": {"id": "seed_task_0", "instruction": "i", "instances": [{"input": "", "output": "o"}]},
    "questions": {"question_id": 1, "text": "q", "category": "c"},
}  # fmt: skip
"""One record of each source, with the fields that it is published with."""

SHARED_FORMS = {"alpaca", "sharegpt", "gpt4all", "self-instruct", "questions"}
"""Formats that several publishers use, so that the fields reveal no source."""


def read(path: Path, reader: Reader | None = None, **how: Any) -> tuple[list[Chain], list[Drop]]:
    results = list(import_all(items_in(inputs_of(path)), reader or Reader(), **how))
    chains = [Chain.from_json(each.json) for each in results if not isinstance(each, Drop)]
    return chains, [each for each in results if isinstance(each, Drop)]


def test_every_source_has_a_record_here() -> None:
    assert SOURCES.keys() == PUBLISHED.keys()


class TestOrigin:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_a_named_source_gives_its_licence(self, tmp_path: Path, name: str) -> None:
        [chain], drops = read(write(tmp_path / "x.jsonl", [PUBLISHED[name]]), Reader(source=name))
        assert drops == []
        licence = SOURCES[name].licence
        assert chain.meta["origin"] == {"dataset": name, "licence": licence, "file": "x.jsonl", "record": 0}

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_fields_tell_the_source_where_no_other_has_them(self, tmp_path: Path, name: str) -> None:
        [chain], _ = read(write(tmp_path / "x.jsonl", [PUBLISHED[name]]))
        told = ("x", UNKNOWN) if name in SHARED_FORMS else (name, SOURCES[name].licence)
        assert (chain.meta["origin"]["dataset"], chain.meta["origin"]["licence"]) == told

    def test_questions_with_other_answers_are_not_gsm8k(self, tmp_path: Path) -> None:
        [chain], _ = read(write(tmp_path / "mine.jsonl", [{"question": "q", "answer": "a"}]))
        assert (chain.meta["origin"]["dataset"], chain.meta["origin"]["licence"]) == ("mine", UNKNOWN)

    def test_a_licence_of_several_is_one_text(self, tmp_path: Path) -> None:
        origin = {"dataset": "both", "licence": ["MIT", "CC0"]}
        chain = Chain(id="a", prompt=Prompt(instruction="q"), meta={"origin": origin})
        path = tmp_path / "x.jsonl"
        path.write_text(chain.to_json())
        [found] = import_all(items_in(inputs_of(path)), Reader())
        assert isinstance(found, Imported)
        assert found.licence == "MIT, CC0"
        assert Chain.from_json(found.json).meta["origin"]["licence"] == ["MIT", "CC0"]

    def test_a_licence_overrules(self, tmp_path: Path) -> None:
        [chain], _ = read(write(tmp_path / "x.jsonl", [PUBLISHED["gsm8k"]]), Reader(licence="CC0"))
        assert (chain.meta["origin"]["dataset"], chain.meta["origin"]["licence"]) == ("gsm8k", "CC0")

    def test_a_record_of_another_source_is_told(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.jsonl", [PUBLISHED["gsm8k"], PUBLISHED["alpaca"]])
        chains, [drop] = read(path, Reader(source="gsm8k"))
        assert (len(chains), drop.rule, drop.where) == (1, "unreadable", f"{path}:2")
        assert drop.reason == "gsm8k needs the fields question; found: 'instruction', 'input', 'output'."
        assert json.loads(drop.record) == PUBLISHED["alpaca"]

    def test_a_name_reads_what_other_fields_would_hide(self, tmp_path: Path) -> None:
        record = {**PUBLISHED["alpaca"], "question": "other"}
        [chain], _ = read(write(tmp_path / "x.jsonl", [record]), Reader(source="alpaca"))
        assert chain.prompt.instruction == "i"

    def test_files_of_a_folder_are_told_apart(self, tmp_path: Path) -> None:
        for name in ("algebra", "geometry"):
            (tmp_path / "MATH" / name).mkdir(parents=True)
            write(tmp_path / "MATH" / name / "1.json", [PUBLISHED["math"]])
        chains, _ = read(tmp_path / "MATH")
        assert [chain.id for chain in chains] == ["MATH/algebra/1/0", "MATH/geometry/1/0"]
        assert [chain.meta["origin"]["file"] for chain in chains] == ["algebra/1.json", "geometry/1.json"]
        assert chains[0].meta["reference"] == "2"

    def test_what_a_chain_says_of_its_origin_stays(self, tmp_path: Path) -> None:
        origin = {"dataset": "gsm8k", "licence": "MIT", "file": "train.jsonl", "record": 7, "more": 1}
        path = tmp_path / "chains.jsonl"
        path.write_text(Chain(id="a/1", prompt={"instruction": "i"}, meta={"origin": origin}).to_json())  # type: ignore[arg-type]
        [chain], _ = read(path)
        assert (chain.id, chain.meta["origin"]) == ("a/1", origin)
        [chain], _ = read(path, Reader(licence="CC0"))
        assert chain.meta["origin"] == {**origin, "licence": "CC0"}
        [chain], _ = read(path, Reader(source="alpaca"))
        assert chain.meta["origin"] == {**origin, "dataset": "alpaca"}

    def test_an_unknown_source_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(
            UsageError, match=r"no source is called 'gms8k'\. Did you mean 'gsm8k'\?"
        ) as caught:
            source_named("gms8k")
        assert "alpaca gsm8k aqua-rat" in str(caught.value.hint)


class TestTrees:
    def tree(self) -> dict[str, Any]:
        replies = [{**ANSWER, "message_id": name, "text": name} for name in ("b", "c")]
        return {"message_tree_id": "t", "prompt": {"role": "prompter", "text": "a", "replies": replies}}

    def test_the_best_path_has_the_id_of_the_tree(self, tmp_path: Path) -> None:
        chains, _ = read(write(tmp_path / "oasst.jsonl", [self.tree()]))
        assert [(chain.id, chain.answer) for chain in chains] == [("oasst/t", "b")]

    def test_all_paths_have_the_ids_of_their_last_messages(self, tmp_path: Path) -> None:
        chains, _ = read(write(tmp_path / "oasst.jsonl", [self.tree()]), Reader(paths="all"))
        assert [(chain.id, chain.answer) for chain in chains] == [("oasst/t/b", "b"), ("oasst/t/c", "c")]
        assert {chain.meta["origin"]["record"] for chain in chains} == {0}


class TestMaps:
    def test_any_file_is_read_with_a_map(self, tmp_path: Path) -> None:
        path = tmp_path / "faq.csv"
        path.write_text("id,frage,loesung,topic\n7,Why?,Rain.,weather\n8,How?,,weather\n")
        chains, _ = read(path, Reader(fields=FieldMap.of(["instruction=frage,output=loesung"])))
        assert [(chain.id, chain.meta.get("reference")) for chain in chains] == [
            ("faq/7", "Rain."),
            ("faq/8", ""),
        ]
        assert chains[0].meta["source"]["topic"] == "weather"
        assert chains[0].meta["origin"] == {
            "dataset": "faq", "licence": UNKNOWN, "file": "faq.csv", "record": 0,
        }  # fmt: skip

    def test_a_field_that_the_first_record_has_not_stops_it(self, tmp_path: Path) -> None:
        path = tmp_path / "x.jsonl"
        path.write_text('{broken\n{"questions": "q"}\n')
        with pytest.raises(UsageError, match=r"x\.jsonl:2: no field is called 'question'.*'questions'"):
            read(path, Reader(fields=FieldMap.of(["instruction=question"])))

    def test_a_later_record_may_lack_what_is_not_the_prompt(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.jsonl", [{"q": "1", "a": "2"}, {"q": "3"}, {"a": "4"}])
        chains, [drop] = read(path, Reader(fields=FieldMap.of(["instruction=q,output=a"])))
        assert [chain.prompt.instruction for chain in chains] == ["1", "3"]
        assert (drop.where, drop.reason) == (f"{path}:3", "the record has no known shape; its fields: 'a'.")


class TestIds:
    def test_ids_that_are_alike_are_numbered(self, tmp_path: Path) -> None:
        said = PUBLISHED["sharegpt"]
        path = write(tmp_path / "s.jsonl", [said, said, {**said, "id": "x~2"}, said, {**said, "id": ""}])
        assert [chain.id for chain in read(path)[0]] == ["s/x", "s/x~2", "s/x~2~2", "s/x~3", "s/4"]


ROLES = (
    "human, user, prompter, gpt, chatgpt, bing, bard, assistant, function_call, tool_call, system, tool, "
    "observation, function_response, tool_response"
)


class TestBadInput:
    BAD = (
        b'{"instruction": "a"}\n'  # good
        b'{"instruction": \n'
        b'{"instruction": 3}\n'
        b'{"other": 1}\n'
        b"3\n"
        b'{"instruction": " ", "output": "o"}\n'
        b'{"conversations": [{"value": "no role"}]}\n'
        b'{"conversations": [{"from": "alien", "value": "x"}]}\n'
        b'{"conversations": []}\n'
        b'{"instruction": "\\ud800"}\n'
        b'{"instruction": "\xff"}\n'
        b'{"instruction": "NUL \\u0000"}\n'  # good
        b'{"review_id": 1, "text": "8 9"}\n'
        b'"just a text"\n'  # good
    )
    REASONS = (
        "this is not JSON: Expecting value at character 16.",
        "instruction should be a text (found 3).",
        "the record has no known shape; its fields: 'other'.",
        "the record should be an object or a text (found 3).",
        "the record answers a question that it does not contain.",
        "conversations.0: from is missing.",
        f"conversations.0: from should be one of {ROLES} (found 'alien').",
        "conversations is empty.",
        "it has a lone surrogate: \\ud… without its other half.",
        (
            "this is not UTF-8: invalid start byte at byte 18. "
            "If it is Latin-1: iconv -f LATIN1 -t UTF-8 FILE > NEW"
        ),
        "the record is a review, not a prompt, an answer or a chain.",
    )

    def test_each_is_dropped_with_its_reason_and_the_others_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "x.jsonl"
        path.write_bytes(self.BAD)
        chains, drops = read(path)
        assert [chain.prompt.text for chain in chains] == ["a", "NUL \0", "just a text"]
        assert [chain.id for chain in chains] == ["x/0", "x/11", "x/13"]
        assert tuple(drop.reason for drop in drops) == self.REASONS
        assert [drop.rule for drop in drops].count("no-question") == 1
        assert [drop.where.rpartition(":")[2] for drop in drops] == [*map(str, range(2, 12)), "13"]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_strict_stops_at_the_first(self, tmp_path: Path, workers: int) -> None:
        path = tmp_path / "x.jsonl"
        path.write_bytes(self.BAD)
        with pytest.raises(RecordError, match=r"x\.jsonl:2: this is not JSON.*\n.*Write one JSON object"):
            read(path, strict=True, workers=workers)


def test_any_number_of_workers_gives_the_same(tmp_path: Path) -> None:
    records = [PUBLISHED[name] for name in PUBLISHED] * 5 + [{"other": 1}, {"instruction": ""}]
    path = write(tmp_path / "x.jsonl", records)
    one = list(import_all(items_in(inputs_of(path)), Reader(), workers=1))
    assert list(import_all(items_in(inputs_of(path)), Reader(), workers=3)) == one
    assert len(one) == len(records)


NAMES = sorted({name for record in PUBLISHED.values() for name in record})
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(list(PUBLISHED.values())),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
    st.sampled_from([None, *SOURCES]),
    st.sampled_from(["best", "all"]),
)
def test_any_record_is_read_or_dropped(
    tmp_path_factory: pytest.TempPathFactory, good: Any, changed: Any, source: Any, paths: Any
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.jsonl", [good | changed, changed])
    chains, drops = read(path, Reader(source=source, paths=paths))
    assert len(chains) + len(drops) >= 2


COUNTS = {
    "selfee/chains/conala.jsonl": (2777, "selfee"), "selfee/chains/mbpp.jsonl": (969, "selfee"),
    "selfee/answers/chatgpt.jsonl": (80, None),
    "selfee/answers/selfee_13b_enforce_0_revisions.jsonl": (80, None),
    "selfee/answers/selfee_13b_enforce_3_revisions.jsonl": (80, None),
    "questions/vicuna_80.jsonl": (80, None), "questions/mt_bench_80.jsonl": (80, None),
    "gsm8k/train.jsonl": (7473, "gsm8k"), "gsm8k/test.jsonl": (1319, "gsm8k"),
    "gsm8k/example_model_solutions.jsonl": (1319, None), "self_instruct/seed_tasks.jsonl": (175, None),
    "self_instruct/user_oriented_252.jsonl": (252, None),
    "preference/hh_harmless_test.jsonl.gz": (2312, "hh-rlhf"), "code/code_alpaca_2k.json": (2017, None),
    "code/drrepair_dev_1000.jsonl": (1000, "drrepair"), "code/HumanEval.jsonl.gz": (164, None),
    "math/aqua_dev.jsonl": (254, "aqua-rat"), "math/aqua_test.jsonl": (254, "aqua-rat"),
    "math/math_500_test.jsonl": (500, "math"), "conversations/dummy_conversation.json": (500, None),
    "conversations/oasst_en_100_trees.jsonl": (100, "oasst1"), "constraints/ifeval_541.jsonl": (541, None),
}  # fmt: skip
"""Records of each real file by its README, and the source that its fields tell."""

SOME = [pytest.param(name, marks=pytest.mark.slow) if COUNTS[name][0] > 2500 else name for name in COUNTS]
SOME.remove("selfee/answers/chatgpt.jsonl")  # its questions are in another file


class TestRealFiles:
    @pytest.mark.parametrize("name", SOME)
    def test_every_record_is_read(self, shared_data: Path, name: str) -> None:
        count, source = COUNTS[name]
        chains, drops = read(shared_data / name)
        assert (len(chains), drops) == (count, [])
        assert all(asks(chain.prompt) for chain in chains)
        assert len({chain.id for chain in chains}) == count
        told = {(chain.meta["origin"]["dataset"], chain.meta["origin"]["licence"]) for chain in chains}
        stem = Path(name).name.partition(".")[0]
        assert told == {(source, SOURCES[source].licence) if source else (stem, UNKNOWN)}

    def test_answers_without_their_questions_are_left_out(self, shared_data: Path) -> None:
        chains, drops = read(shared_data / "selfee/answers/chatgpt.jsonl")
        assert (chains, [drop.rule for drop in drops]) == ([], ["no-question"] * 80)

    def test_reviews_are_refused_by_name(self, shared_data: Path) -> None:
        chains, drops = read(shared_data / "selfee/reviews")
        assert (chains, len(drops)) == ([], 320)
        assert {d.reason for d in drops} == {"the record is a review, not a prompt, an answer or a chain."}

    def test_no_file_is_left_out(self, shared_data: Path) -> None:
        files = {str(path.relative_to(shared_data)) for path in shared_data.rglob("*.json*")}
        assert {name for name in files if not name.startswith("selfee/reviews/")} == COUNTS.keys()


SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("maps", "record", "answers", "reference"),
    [
        (
            ["instruction=q, input=context", "output=a"],
            {"q": "Why?", "context": "It rains.", "a": "So."},
            [],
            "So.",
        ),
        (["prompt=q,chosen=a,rejected=why"], {"q": "Why?", "why": "w", "a": "So."}, ["w", "So."], None),
        (["messages=m"], {"m": SAID, "other": 1}, ["b"], None),
        (["instruction=q,output=n"], {"q": "5?", "n": 7}, [], "7"),
    ],
)
def test_a_mapped_record_is_read_as_the_shape_that_its_names_have(
    tmp_path: Path, maps: list[str], record: dict[str, Any], answers: list[str], reference: str | None
) -> None:
    [chain], _ = read(write(tmp_path / "x.jsonl", [record]), Reader(fields=FieldMap.of(maps)))
    assert ([step.answer for step in chain.steps], chain.meta.get("reference")) == (answers, reference)
    assert chain.meta.get("source", {}) == ({"other": 1} if "other" in record else {})


def test_a_map_never_drops_a_field(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [{"instruction": "Old?", "frage": "New?", "output": "Yes."}])
    with pytest.raises(UsageError, match="'frage' would replace the field 'instruction'"):
        read(file, Reader(fields=FieldMap.of(["instruction=frage"])))


def test_what_is_wrong_with_a_mapped_record_is_said_of_its_own_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"q": ["output"], "output": 7}])
    for maps, said in (("instruction=q", " should be a text"), ("messages=q", ".0 should be an object")):
        [drop] = read(path, Reader(fields=FieldMap.of([maps])))[1]
        assert drop.reason.replace("['output']", "'output'") == f"q{said} (found 'output')."


@pytest.mark.parametrize("written", ["instruction", "instruction=", "instruction=q,instruction=r"])
def test_a_map_that_cannot_be_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="the field map contains"):
        FieldMap.of([written])


def test_a_record_too_deep_to_be_read_again_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "deep.jsonl"
    path.write_text(f'{{"instruction": "Why?", "output": "So.", "more": {"[" * 190}{"]" * 190}}}\n')
    chains, drops = read(path, Reader())
    assert not chains
    assert [drop.rule for drop in drops] == ["unreadable"]
