"""Read evaluation logs: samples of lm-eval and inspect, and instances of Every Eval Ever.

Each record becomes a chain of one answer, with right or wrong in `meta["eval"]`. So reports can compare logs
with each other and with redraft's chains. A chain's id contains the sample's id and a hash of the question,
so a question has the same id in all logs of a task. Only a sample's first score is used, and the task's name
contains the score's name. The score must mean right or wrong, because reports compare accuracies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from redraft.chain import Chain, Prompt, Step, Usage
from redraft.chain.read.fields import Fields, Shape, gold

Log = Mapping[str, Any]  # a record of a log
# Letters are inspect's: correct, incorrect, no answer. In Python, True equals 1 and 1.0.
_RIGHT = {"C": True, "I": False, "N": False, 1: True, 0: False}


def _lm_eval(log: Log) -> Chain:
    requests, said = log["arguments"], log["filtered_resps"]
    if len(requests) > 1:  # one request for each choice, with its likelihood
        likely = max(range(len(said)), key=lambda place: float(said[place][0]))
        answer = requests[f"gen_args_{likely}"]["arg_1"]
    else:
        answer = log["resps"][0][0]
    task = ", ".join(("lm-eval", *log["metrics"][:1], log["filter"])).removesuffix(", none")
    scores = {name: log.get(name) for name in log["metrics"]}
    return _chain(task, requests["gen_args_0"]["arg_0"], answer, scores, log["target"])


def _inspect(log: Log) -> Chain:
    [first, *_], used = log["output"]["choices"], log["output"].get("usage")
    scores = {name: score["value"] for name, score in log["scores"].items()}
    task = ", ".join((log.get("task", "inspect"), *[*scores][:1]))
    return _chain(task, _text(log["input"]), _text(first["message"]["content"]), scores, log["target"], used)


def _every(log: Log) -> Chain:
    spoken = [each["content"] for each in log.get("messages") or () if each["role"] == "assistant"]
    answer = spoken[-1] if spoken else log["output"]["raw"][0]
    asked, scores = log["input"], {"is_correct": log["evaluation"]["is_correct"]}
    used = log.get("token_usage")
    chain = _chain(log["evaluation_name"], asked["raw"], answer, scores, asked["reference"], used)
    chain.meta["eval"]["model"] = str(log.get("model_id", ""))
    return chain


def _chain(task: str, asked: str, said: str, scores: Log, target: Any, used: Any = None) -> Chain:
    [name, value], *_ = scores.items()
    truth = {"task": task, "groups": [], "steps": [[{"name": name, "passed": _RIGHT[value]}]]}
    prompts, new = (used[f"{kind}_tokens"] if used else 0 for kind in ("input", "output"))
    usage = Usage(prompt_tokens=prompts, completion_tokens=new)
    step, meta = Step(answer=said, usage=usage), {**gold(target), "eval": truth}
    return Chain(prompt=Prompt(instruction=asked), steps=(step,), best=0, usage=usage, meta=meta)


def _text(said: Any) -> str:
    if isinstance(said, str):
        return said
    if users := [each["content"] for each in said if each.get("role") == "user"]:
        return _text(users[-1])
    return "\n".join(part["text"] for part in said if part.get("type") == "text")


def _read(kind: Callable[[Log], Chain], fields: Fields) -> Chain:
    log, fields.rest = fields.rest, {}  # not kept in `source`, because a log's events may be megabytes
    try:
        chain = kind(log)
    except (LookupError, TypeError, ValueError, AttributeError):
        said = "has no answer, or its first score is not C, I, N, true, false, 1 or 0"
        fields.fail("the sample", said, log.get("scores", log.get("metrics", log.get("evaluation"))))
    if log.get("epoch", 1) != 1:
        chain.meta["sample_of"] = _item(log)
    return chain


LOGS = (
    Shape("sample of lm-eval", {"doc_id", "doc", "filtered_resps"}, partial(_read, _lm_eval)),
    Shape("sample of inspect", {"id", "epoch", "input", "output", "scores"}, partial(_read, _inspect)),
    Shape("Every Eval Ever's instance", {"evaluation_id", "sample_id", "evaluation"}, partial(_read, _every)),
)
_NEEDS = [shape.needs for shape in LOGS]


def logged(record: Log) -> str:
    """Return the id of a record of an evaluation log, or an empty text for other records."""
    if not any(map(record.keys().__ge__, _NEEDS)):
        return ""
    return _item(record) + (f"#{record['epoch']}" if record.get("epoch", 1) != 1 else "")


def _item(log: Log) -> str:
    own, asked = log.get("doc_id", log.get("sample_id", log.get("id"))), log.get("input")
    if isinstance(asked, Mapping):
        asked = asked.get("raw")
    elif isinstance(asked, list):  # messages, whose ids are random
        asked = [each.get("content") for each in asked if isinstance(each, Mapping)]
    return f"{own}-{sha256(repr(log.get('doc', asked)).encode()).hexdigest()[:6]}"
