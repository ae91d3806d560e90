from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Prompt, Step, write_jsonl
from redraft.chain.read.records import ids_of, read_records
from redraft.errors import RecordError
from tests.cli.verbs import lines, write


def read(path: Path, *records: Any) -> list[Chain]:
    return list(read_records(write(path, records)))


class TestFiles:
    def test_lines_an_array_and_gzip_are_told_apart(self, tmp_path: Path) -> None:
        records = [{"prompt": "a"}, {"prompt": "b"}]
        lines = "\n\n".join(map(json.dumps, records))
        (tmp_path / "x.jsonl").write_text(lines)
        (tmp_path / "x.json").write_text("\n " + json.dumps(records, indent=2))
        (tmp_path / "x.data").write_bytes(b"\xef\xbb\xbf" + lines.encode())
        (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        read_back = [list(read_records(path)) for path in tmp_path.iterdir()]
        assert len(read_back) == 4
        assert all(chains == read_back[0] for chains in read_back)
        assert [(c.id, c.prompt.instruction) for c in read_back[0]] == [("x/0", "a"), ("x/1", "b")]

    def test_one_object_over_many_lines_is_one_record(self, tmp_path: Path) -> None:
        (tmp_path / "7.json").write_text(json.dumps({"problem": "1+1", "solution": r"\boxed{2}"}, indent=1))
        assert [c.prompt.text for c in read_records(tmp_path / "7.json")] == ["1+1"]

    def test_a_text_file_has_one_prompt_a_line(self, tmp_path: Path) -> None:
        (tmp_path / "asks.txt").write_text('PKI: explain.\n\n  {"not": "JSON"\n')
        chains = list(read_records(tmp_path / "asks.txt"))
        assert [c.prompt.instruction for c in chains] == ["PKI: explain.", '{"not": "JSON"']

    def test_lines_are_read_as_they_are_asked_for(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text('"a"\nbroken\n')
        chains = read_records(tmp_path / "x.jsonl")
        assert next(chains).prompt.instruction == "a"
        with pytest.raises(RecordError):
            next(chains)

    def test_an_empty_file_has_no_records(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text("\n")
        assert list(read_records(tmp_path / "x.jsonl")) == []

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            (
                "x.jsonl",
                b'"a"\n{"prompt": }\n',
                "x.jsonl:2: this is not JSON: Expecting value at character 12.\n  Write one",
            ),
            ("x.jsonl", b"SQLite\0\xff\n", "x.jsonl:1: this is not text: it has NUL bytes"),
            ("x.txt", b"a\n\xff\n", "x.txt:2: this is not UTF-8: invalid start byte at byte 1."),
            ("x.jsonl", b"3\n", "x.jsonl:1: the record should be an object or a text (found 3)."),
            (
                "x.json",
                b'[{"conversations": []}]',
                "x.json: record 1: conversations is empty.\n  Correct or delete that record. For prompts",
            ),
            ("x.json", b"[[]]", "x.json: record 1: the record should be an object or a text (found [])."),
            (
                "x.jsonl.gz",
                gzip.compress(b"", mtime=0)[:10] + b"\xff" * 9,
                "x.jsonl.gz cannot be read: Error -3",
            ),
        ],
    )
    def test_bad_files_are_named_by_line(self, here: Path, name: str, content: bytes, message: str) -> None:
        (here / name).write_bytes(content)
        with pytest.raises(RecordError, match=re.escape(message)):
            list(read_records(Path(name)))


class TestIds:
    def test_an_id_is_the_records_own_or_its_place(self, tmp_path: Path) -> None:
        chains = read(
            tmp_path / "q.jsonl",
            {"question_id": 12, "text": "a"},
            "b",
            {"id": "q/x", "prompt": "c"},
            {"id": None, "key": 7, "prompt": "d"},
        )
        assert [c.id for c in chains] == ["q/12", "q/1", "q/x", "q/7"]

    @given(st.lists(st.sampled_from([None, 0, 1, "1", "1~2", 2, ""])))
    def test_ids_are_unique_in_a_file(self, tmp_path_factory: pytest.TempPathFactory, own: list[Any]) -> None:
        path = tmp_path_factory.getbasetemp() / "ids.jsonl"
        assert len({c.id for c in read(path, *({"id": name, "prompt": "a"} for name in own))}) == len(own)

    def test_chains_keep_their_ids(self, tmp_path: Path) -> None:
        chains = [Chain(id="vicuna_80/3"), Chain(id="3")]
        write_jsonl(tmp_path / "out.jsonl", chains)
        assert list(read_records(tmp_path / "out.jsonl")) == chains


@pytest.mark.parametrize(
    ("name", "count", "chain_id", "asked"),
    [
        ("questions.jsonl", 5, "questions/1", "How can I improve my time management skills?"),
        ("mt_bench.jsonl", 2, "mt_bench/81", "Compose an engaging travel blog post"),
        ("gsm8k.jsonl", 3, "gsm8k/0", "Janet’s ducks lay 16 eggs per day."),
        ("self_instruct.jsonl", 2, "self_instruct/seed_task_25", "Find the four smallest perfect numbers."),
        ("conversations.json", 2, "conversations/identity_0", "Have a nice day!"),
        ("oasst.jsonl", 1, "oasst/", "Who invented the honeycomb?"),
    ],
)
def test_the_samples_are_read(name: str, count: int, chain_id: str, asked: str) -> None:
    chains = list(read_records(Path(__file__).parents[2] / "data" / name))
    assert len(chains) == count
    assert chains[0].id.startswith(chain_id)
    assert chains[0].prompt.text.startswith(asked)


RELEASED = {0: 14, 3: 48}
"""Answers by number of enforced revisions, whose released text is not the last answer of the chain."""


class TestReleasedAnswers:
    """The final answer according to the released code: the last one that has feedback.

    This is sound where the chain ends with a feedback. Where it ends with a revision, the released code falls
    back to the answer before it. That too is right if the revision was cut by the limit of 2,048 new tokens,
    and all chains of these files that end so were cut, one of them after its last revision was whole.
    """

    @pytest.mark.parametrize("enforced", RELEASED)
    def test_the_record_tells_which_answer_was_released(self, shared_data: Path, enforced: int) -> None:
        path = shared_data / f"selfee/answers/selfee_13b_enforce_{enforced}_revisions.jsonl"
        cut = 0
        for chain, record in zip(read_records(path), self.records(shared_data, enforced), strict=True):
            assert chain.answer == record["text"].strip()
            assert chain.prompt.instruction
            if chain.best != len(chain.steps) - 1:
                last = chain.steps[-1]
                assert (chain.stop, last.finish, last.complete) == ("max_tokens", "max_tokens", False)
                cut += 1
        assert cut == RELEASED[enforced]

    def records(self, shared_data: Path, enforced: int) -> list[dict[str, Any]]:
        return lines(shared_data / f"selfee/answers/selfee_13b_enforce_{enforced}_revisions.jsonl")


def test_a_failure_is_a_chain_that_says_why(tmp_path: Path) -> None:
    why = {"error": "ServerError", "message": "the server is down.", "hint": None}
    begun = Chain(id="q/1", prompt=Prompt(instruction="Hi."), steps=(Step(answer="He"),), stop="error")
    failed = [
        {"id": "q/1", **why, "chain": begun.model_dump(mode="json")},
        {"id": "q/2", **why, "chain": None},
    ]
    assert read(tmp_path / "out.jsonl.errors.jsonl", *failed) == [
        begun.model_copy(update={"meta": {"failure": why}}),
        Chain(id="q/2", stop="error", meta={"failure": why}),
    ]


SHAPES = [
    {"prompt": "Why?"},
    "Why?",
    {"question_id": 7, "text": "Why?"},
    {"question_id": 7, "text": "Why again?"},
    {"instruction": "Add.", "input": "", "output": "3"},
    {"version": 1, "id": "mine", "prompt": {"instruction": "Why?"}, "steps": []},
    {"version": 1, "id": "", "prompt": {"instruction": "Why?"}, "steps": []},
    {"id": "b/9", "error": "E", "message": "m", "chain": None},
    {"id": "c", "settings": "s", "work": {"version": 1, "prompt": {"instruction": "Why?"}, "steps": []}},
    {"id": "x7", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
]


def test_ids_are_known_without_reading_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", SHAPES)
    chains = list(read_records(path))
    assert [chain.id for chain in chains] == list(ids_of(path))
    wanted = {chain.id for chain in chains[1::2]}
    assert list(read_records(path, wanted=wanted.__contains__)) == chains[1::2]
    assert list(read_records(path, 4, wanted=wanted.__contains__)) == chains[1:4:2]


def test_a_record_is_as_deep_as_its_chain_can_be_read_again(tmp_path: Path) -> None:
    path, accepted = tmp_path / "deep.jsonl", 0
    for depth in range(170, 215):
        path.write_text(f'{{"instruction": "Why?", "output": "So.", "more": {"[" * depth}{"]" * depth}}}\n')
        try:
            [chain] = read_records(path)
        except RecordError:
            break
        accepted = depth
        path.write_text(chain.to_json() + "\n")
        assert list(read_records(path)) == [chain]
    assert 180 <= accepted < 214  # the next one was refused
