from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain.read.tasks import boxed
from redraft.errors import RecordError
from tests.chain.read.test_preferences import read
from tests.cli.verbs import lines


class TestGsm8k:
    def test_the_number_and_the_way_to_it(self) -> None:
        answer = "She has 48/2 = <<48/2=24>>24 clips.\nThat is $<<24*100=2400>>2,400.\n#### 2,400"
        assert read({"question": "How many?", "answer": answer}).meta == {
            "reference": "2400",
            "rationale": "She has 48/2 = 24 clips.\nThat is $2,400.",
            "source": {"answer": answer},
        }

    @pytest.mark.parametrize("answer", ["It is 4.", "####", "a\n#### ", "#### 4\nthen more", "A: 4", ""])
    def test_an_answer_without_a_last_number_is_the_reference(self, answer: str) -> None:
        chain = read({"question": "How many?", "answer": answer})
        assert chain.meta == ({"reference": answer} if answer else {})

    @pytest.mark.parametrize("name", ["train", "test"])
    def test_every_real_problem_has_a_number_and_a_rationale(self, shared_data: Path, name: str) -> None:
        for record in lines(shared_data / f"gsm8k/{name}.jsonl"):
            meta = read(record).meta
            assert re.fullmatch(r"-?\d+(\.\d+)?", meta["reference"])
            assert meta["rationale"]
            assert "<<" not in meta["rationale"]


class TestMath:
    @pytest.mark.parametrize(
        ("solution", "answer"),
        [
            (r"So $\boxed{4}$.", "4"),
            (r"$\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
            (r"\boxed{\{1, \{2\}\}}", r"\{1, \{2\}\}"),
            (r"\fbox{x}", "x"), (r"$\boxed 12.$", "12"), (r"\boxed  {7}", "7"),
            (r"\boxed{\text{\boxed{3}}}", "3"), (r"\boxed{1} and \boxed{2", "1"), (r"x } \boxed{8}", "8"),
            (r"\\boxed{4}", None), (r"\boxed{}", None), ("nothing", None),
        ],
    )  # fmt: skip
    def test_what_is_in_the_last_box(self, solution: str, answer: str | None) -> None:
        assert boxed(solution) == answer

    @given(st.recursive(st.sampled_from(["x", r"\{", r"\}", "1,"]), lambda inner: inner.map("{{{}}}".format)))
    def test_braces_nest(self, answer: str) -> None:
        assert boxed(rf"First \boxed{{0}}, so $\boxed{{{answer}}}$. {{}}") == answer

    def test_a_hundred_thousand_open_boxes_are_read_in_one_pass(self) -> None:
        assert boxed(r"\boxed{" * 100_000) is None

    def test_the_box_is_the_published_answer_of_every_real_problem(self, shared_data: Path) -> None:
        found = lines(shared_data / "math/math_500_test.jsonl")
        assert len(found) == 500
        assert [r["unique_id"] for r in found if boxed(r["solution"]) != r["answer"].strip()] == []

    def test_the_solution_is_the_rationale(self) -> None:
        chain = read({"problem": "p", "level": "Level 1", "type": "Algebra", "solution": r"It is \boxed{2}."})
        assert chain.meta == {
            "reference": "2",
            "rationale": r"It is \boxed{2}.",
            "source": {"level": "Level 1", "type": "Algebra"},
        }
        assert "reference" not in read({"problem": "p", "solution": "open"}).meta


CONTEST: dict[str, Any] = {
    "name": "1_A. Sum",
    "description": "Add two numbers.",
    "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
    "solutions": {"language": ["cpp", "PYTHON3"], "solution": ["int main(){}", "print(1)"]},
}


class TestCode:
    def test_mbpp_has_its_tests(self) -> None:
        record = {
            "task_id": 601,
            "text": "Write a function to add.",
            "code": "def add(a, b):\r\n    return a + b",
            "test_list": ["assert add(1, 2) == 3"],
            "test_setup_code": "import math",
            "challenge_test_list": [],
        }
        chain = read(record)
        assert chain.meta["tests"] == {
            "setup": "import math",
            "asserts": ["assert add(1, 2) == 3"],
            "challenge": [],
        }
        assert (chain.meta["reference"], chain.meta["source"]) == (record["code"], {"task_id": 601})

    def test_the_sanitised_mbpp_calls_the_text_prompt(self) -> None:
        chain = read(
            {"task_id": 2, "prompt": "p", "code": "c", "test_list": ["assert 1"], "test_imports": []}
        )
        assert (chain.prompt.text, chain.meta["tests"]["asserts"]) == ("p", ["assert 1"])

    def test_humaneval_has_its_tests(self) -> None:
        test = "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(1) == 2\n\n"
        record = {
            "task_id": "HumanEval/0",
            "prompt": "def f(x):\n",
            "entry_point": "f",
            "canonical_solution": "    return x + 1\n",
            "test": test,
        }
        chain = read(record)
        assert (chain.prompt.text, chain.meta["reference"]) == ("def f(x):\n", "    return x + 1\n")
        assert chain.meta["tests"] == {
            "setup": "def f(x):\n",
            "asserts": [f"{test.strip()}\n\ncheck(f)"],
            "challenge": [],
        }

    @pytest.mark.parametrize(
        ("solutions", "code"),
        [
            (CONTEST["solutions"], "print(1)"),
            ({"language": [2, 3], "solution": ["c", "p"]}, "p"),
            ({"language": [99], "solution": ["?"]}, "?"),
            ({"language": [], "solution": []}, None),
            (None, None),
        ],
    )
    def test_code_contests_has_a_solution_in_python(self, solutions: Any, code: str | None) -> None:
        record = {**CONTEST, "solutions": solutions}
        chain = read(record)
        assert (chain.prompt.text, chain.meta.get("reference")) == ("Add two numbers.", code)
        assert chain.meta["source"] == {name: record[name] for name in CONTEST if name != "description"}


def line(code: str, indent: int, text: str = "") -> dict[str, Any]:
    return {"text": text, "code": code, "indent": indent}


BROKEN = {
    "code_lines": [line("int main() {", 0), line("cin >> m ;", 1), line("}", 0)],
    "gold_code_lines": [line("int main() {", 0), line("cin >> n ;", 1), line("}", 0)],
    "gold_linenos": [0, 1, 0],
    "err_line": {"lineno": 1, "msg": "'m' was not declared"},
    "info": {"probid": "1A"},
}


class TestRepair:
    def test_the_prompt_has_numbered_lines_and_the_error(self) -> None:
        chain = read(BROKEN)
        assert chain.prompt.input == (
            "1 | int main() {\n2 |   cin >> m ;\n3 | }\n\nLine 2: error: 'm' was not declared"
        )
        assert "does not compile" in chain.prompt.instruction
        assert chain.meta == {
            "reference": "int main() {\n  cin >> n ;\n}",
            "source": {"gold_linenos": [0, 1, 0], "info": {"probid": "1A"}},
        }

    @pytest.mark.parametrize("indent", [-1, 10**12, True, "1"])
    def test_an_indent_is_a_small_number(self, indent: Any) -> None:
        with pytest.raises(RecordError, match=r"code_lines\.0: indent should be"):
            read({**BROKEN, "code_lines": [line("x", indent)]})

    def test_the_error_of_real_programs_is_at_or_after_the_broken_line(self, shared_data: Path) -> None:
        found = lines(shared_data / "code/drrepair_dev_1000.jsonl")
        assert len(found) == 1000
        at = 0
        for record in found:
            said = read(record).prompt.input
            number = int(re.search(r"\n\nLine (\d+): error: ", said)[1])  # type: ignore[index]
            shown = [one for one in said.splitlines() if one.lstrip().startswith(f"{number} | ")]
            broken = record["code_lines"][record["gold_linenos"].index(1)]["code"]
            at += any(one.partition("| ")[2].strip() == broken.strip() for one in shown)
        assert at >= 767


class TestOtherForms:
    """As in many data sets on the hub. The answer is a gold one, like Alpaca's."""

    @pytest.mark.parametrize(
        ("record", "instruction", "given", "gold"),
        [
            ({"prompt": "Add.", "completion": "4"}, "Add.", "", "4"),
            ({"instruction": "Add.", "context": "2, 2", "response": "4"}, "Add.", "2, 2", "4"),
            ({"system_prompt": " ", "question": "2 + 2?", "response": "4"}, "2 + 2?", "", "4"),
            ({"question": "2 + 2?", "response": "4"}, "2 + 2?", "", "4"),
            ({"question": "2 + 2?", "answers": ["4", "four"]}, "2 + 2?", "", "4"),
            ({"question": "2 + 2?", "answer": {"value": "4", "aliases": []}}, "2 + 2?", "", "4"),
            (
                {"question": "Sum?", "context": "It is 4.", "answers": {"text": ["4"], "answer_start": [6]}},
                "Sum?",
                "It is 4.",
                "4",
            ),
        ],
    )
    def test_the_answer_is_read(
        self, record: dict[str, Any], instruction: str, given: str, gold: str
    ) -> None:
        chain = read(record)
        assert (chain.prompt.instruction, chain.prompt.input) == (instruction, given)
        assert chain.meta["reference"] == gold

    def test_what_a_system_says_comes_before_the_question(self) -> None:
        chain = read({"id": "t0.1", "system_prompt": "Be brief.", "question": "2 + 2?", "response": "4"})
        assert chain.prompt.messages == (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "2 + 2?"},
        )
        assert chain.meta == {"reference": "4", "source": {"id": "t0.1"}}

    def test_an_answer_that_is_a_number_is_told(self) -> None:
        with pytest.raises(RecordError, match="answer should be a text"):
            read({"question": "2 + 2?", "answer": 4})

    def test_a_completion_of_messages_is_a_talk(self) -> None:
        said = {"prompt": [{"role": "user", "content": "Hi."}]}
        chain = read({**said, "completion": [{"role": "assistant", "content": "Hello."}]})
        assert (chain.prompt.instruction, chain.answer) == ("Hi.", "Hello.")
