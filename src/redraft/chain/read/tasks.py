"""Read tasks with a gold answer, such as mathematics and code.

The gold answer becomes `meta.reference`, the derivation `meta.rationale`, and the unit tests `meta.tests`. No
code is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from redraft.chain import Chain, Prompt
from redraft.chain.read import conversations
from redraft.chain.read.fields import Fields, Format, Shape, answered, gold, task

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")  # GSM8K's calculator annotations: `48/2 = <<48/2=24>>24`


def conala(fields: Fields) -> Chain:
    """Read CoNaLa. The instruction is the rewritten intent or, if missing, the intent."""
    intent, rewritten = fields.text("intent"), fields.text_or("rewritten_intent")
    if rewritten:
        fields.rest["intent"] = intent
    return task(rewritten or intent, fields.text("snippet"))


def aqua(fields: Fields) -> Chain:
    """Read AQuA-RAT: a question with one option per line. The reference is the correct option's letter."""
    options = fields.items("options", str)
    fields.rest["options"] = options
    question = "\n".join([fields.text("question"), *options])
    return task(question, fields.text("correct"), rationale=fields.text_or("rationale"))


def question(fields: Fields) -> Chain:
    """Read a question. In GSM8K, the reference is the number after `####`.

    Otherwise, the reference is the first answer, and `context` is the input.
    """
    asked = fields.text("question")
    answer = "" if isinstance(fields.rest.get("answer"), list | Mapping) else fields.text_or("answer")
    rationale, _, last = answer.rstrip().rpartition("\n")
    final = last.removeprefix("####").strip()
    if not final or final == last.strip():
        found = answer or one_of(fields, "answer", "answers", "response")
        return task(asked, found, _text_in(fields, "context"))
    fields.rest["answer"] = answer
    return task(asked, final.replace(",", ""), rationale=_CALCULATOR.sub("", rationale))


def math(fields: Fields) -> Chain:
    r"""Read MATH: the reference is `answer`, or the content of the last `\boxed{}`."""
    problem, solution = fields.text("problem"), fields.text("solution")
    return task(problem, fields.text_or("answer") or boxed(solution), rationale=solution)


_MARK = re.compile(r"\\(?:boxed|fbox)\s*(?:(?P<open>\{)|(?P<bare>[^\s{}$\\]+))|\\.|[{}]", re.DOTALL)


def boxed(solution: str) -> str | None:
    r"""Return the content of the last closed `\boxed{…}` or `\fbox{…}`, or of `\boxed x` without braces."""
    begun: list[int | None] = []
    found = (-1, "")
    for mark in _MARK.finditer(solution):
        if mark["bare"]:
            found = (mark.start(), mark["bare"].rstrip(".,"))
        elif mark["open"] or mark[0] == "{":
            begun.append(mark.end() if mark["open"] else None)
        elif mark[0] == "}" and begun:
            start = begun.pop()
            if start is not None and start > found[0]:
                found = (start, solution[start : mark.start()].strip())
    return found[1] or None


def mbpp(fields: Fields) -> Chain:
    """Read MBPP. `meta.tests` has the setup code, the assertions, and harder assertions (`challenge`)."""
    asked = fields.text("text" if "text" in fields.rest else "prompt")
    tests = {
        "setup": fields.text_or("test_setup_code"),
        "asserts": fields.items_or("test_list", str),
        "challenge": fields.items_or("challenge_test_list", str),
    }
    return task(asked, fields.text("code"), tests=tests if any(tests.values()) else None)


def human_eval(fields: Fields) -> Chain:
    """Read HumanEval. The prompt is the beginning of a function. The tests call the function `check`."""
    asked, name, test = fields.text("prompt"), fields.rest["entry_point"], fields.rest["test"]
    tests = None
    if isinstance(name, str) and name.isidentifier() and isinstance(test, str) and "def check(" in test:
        call = f"check({fields.text('entry_point')})"
        tests = {"setup": asked, "asserts": [f"{fields.text('test').strip()}\n\n{call}"], "challenge": []}
    return task(asked, fields.text_or("canonical_solution") or None, tests=tests)


_IN_PYTHON = ("3", "python3")  # names of Python 3 among CodeContests' languages


def code_contests(fields: Fields) -> Chain:
    """Read CodeContests. The reference is a correct solution, preferably in Python 3.

    The tests and all solutions are kept in `meta.source`.
    """
    whole, codes, best = fields.rest.get("solutions"), [], None
    if whole is not None:
        inner = fields.inner("solutions")
        codes, languages = inner.items_or("solution", str), inner.items_or("language", object)
        in_python = (str(each).lower() in _IN_PYTHON for each in languages)
        best = next((code for code, python in zip(codes, in_python, strict=False) if python), None)
        fields.rest["solutions"] = whole
    return task(fields.text("description"), best or next(iter(codes), None))


_REPAIR = (
    "This program does not compile. Find the mistake, and write the whole program again, repaired and "
    "without line numbers."
)
_MOST_INDENT = 100


def repair(fields: Fields) -> Chain:
    """Read DrRepair: a program with one broken line, and the compiler's message."""
    broken, gold = _program(fields, "code_lines"), _program(fields, "gold_code_lines")
    width = len(str(len(broken)))
    listing = "\n".join(f"{i:{width}} | {line}" for i, line in enumerate(broken, start=1))
    if fields.rest.get("err_line") is None:
        fields.rest.pop("err_line", None)
    else:
        error = fields.inner("err_line")
        # Assumes that `lineno` starts at 0. The message then names the broken line in 767 of 1,000 records.
        listing += f"\n\nLine {error.number('lineno') + 1}: error: {error.text('msg')}"
    return task(_REPAIR, "\n".join(gold), listing)


def _program(fields: Fields, name: str) -> list[str]:
    lines, taken = [], fields.items(name)
    for i, item in enumerate(taken):
        line = fields.nested(f"{name}.{i}", item)
        indent = line.number("indent")
        if not 0 <= indent <= _MOST_INDENT:
            line.fail("indent", f"should be 0 to {_MOST_INDENT}", indent)
        lines.append("  " * indent + line.text("code"))
    if any(item.get("text") for item in taken):
        fields.rest[name] = taken
    return lines


def instances(fields: Fields) -> Chain:
    """Read the first instance of a Self-Instruct record."""
    if not (found := fields.items("instances")):
        return task(fields.text("instruction"), None)
    first = fields.nested("instances.0", found[0])
    if len(found) > 1:
        fields.rest["instances"] = found  # kept in `meta.source`
    return task(fields.text("instruction"), first.text("output"), first.text_or("input"))


def alpaca(fields: Fields) -> Chain:
    """Read the format of Alpaca, or of Dolly (`context` and `response` instead of `input` and `output`)."""
    asked, extra = fields.text("instruction"), fields.text_or("input") or _text_in(fields, "context")
    empty = "" if isinstance(fields.rest.get("output"), str) else None  # an empty cell of a table
    return task(asked, fields.text_or("output") or one_of(fields, "response") or empty, extra)


def with_system(fields: Fields) -> Chain:
    """Read OpenOrca: a system message, a question, and the response as the gold answer."""
    system, asked = fields.text_or("system_prompt"), fields.text("question")
    turns = [("system", system)] * bool(system.strip()) + [("user", asked)]
    prompt = conversations.asked([{"role": role, "content": text} for role, text in turns])
    return Chain(prompt=prompt, meta=gold(one_of(fields, "response")))


def completion(fields: Fields) -> Chain:
    """Read a prompt and a completion, as texts or lists of messages. Raise if KTO's `label` is false."""
    if str(fields.rest.get("label")).lower() == "false":
        fields.fail("label", "is false: the completion was rejected. `redraft data import` drops the record")
    if isinstance(fields.rest["prompt"], list):
        before, after = (conversations.message_list(fields, name) for name in ("prompt", "completion"))
        return conversations.from_messages(fields, "completion", [*before, *after])
    return task(fields.text("prompt"), fields.text_or("completion") or None)


def one_of(fields: Fields, *names: str) -> str | None:
    """Return the first gold answer in the fields `names`: a text, or the first text of a list.

    A field may also be an object with `text` (SQuAD) or `value` (TriviaQA).
    """
    for name in names:
        given = value = fields.rest.get(name)
        if isinstance(value, Mapping):
            value = value.get("text", value.get("value"))
        if isinstance(value, list):
            value = next(iter(value), None)
        if isinstance(value, str) and value.strip():
            if isinstance(given, str):
                fields.rest.pop(name)  # lists and objects stay, for `meta.source`
            return value
    return None


def _text_in(fields: Fields, name: str) -> str:
    return fields.text(name) if isinstance(fields.rest.get(name), str) else ""


TASKS = Format(
    order=4,
    shapes=(
        Shape("DrRepair", {"code_lines"}, repair, "a program to repair"),
        Shape("CoNaLa", {"intent", "snippet"}, conala),
        Shape("AQuA", {"question", "options"}, aqua),
        Shape("OpenOrca", {"system_prompt", "question", "response"}, with_system),
        Shape("GSM8K", {"question"}, question),
        Shape("MATH", {"problem", "solution"}, math),
        Shape("MBPP", {"text", "code"}, mbpp),
        Shape("MBPP", {"prompt", "code", "test_list"}, mbpp),
        Shape("HumanEval", {"prompt", "entry_point", "test"}, human_eval),
        Shape("CodeContests", {"description", "public_tests"}, code_contests),
        Shape("FLAN", {"inputs", "targets"}, lambda f: task(f.text("inputs"), f.text("targets"))),
        Shape("Self-Instruct task", {"instruction", "instances"}, instances),
        Shape("Alpaca", {"instruction"}, alpaca),
        Shape(
            "GPT4All",
            {"prompt", "response"},
            lambda f: answered(Prompt(instruction=f.text("prompt")), f.text("response")),
        ),
        Shape("prompt and completion", {"prompt", "completion"}, completion),
    ),
)
