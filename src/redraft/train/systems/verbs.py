"""Call the function of a stage's verb with the stage's options and output.

Most functions belong to redraft's Python API (docs/python.md). Functions that need more than plain values
have wrappers in this module.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from time import monotonic
from typing import Any, Literal, get_args, get_origin, get_type_hints

from redraft.errors import RedraftError, UsageError, nearest, shown
from redraft.jobs.counting import tell
from redraft.jobs.formats import TrainingFormat
from redraft.jobs.machine import use_large_pages
from redraft.jobs.signals import ended_by_sigterm
from redraft.options import options_of
from redraft.train.options import VERBS as TRAINED
from redraft.train.options import settings_of

_HERE = "redraft.train.systems.verbs:"
_DATA = {"force": True}  # safe: if there is an output, a stopped stage left it to resume
_GIVEN = {"force", "run", "on_event"}  # parameters that are not options of a stage


@dataclass(frozen=True)
class Verb:
    """A verb's function, and how a stage calls the function."""

    function: str  # module and name
    out: str = "out"  # the parameter that takes the output
    kind: str = ""  # `data`, `weights`, `train`, or `pays` if it pays for a model's tokens

    def call(self, options: Mapping[str, Any], out: str) -> Any:
        """Call the function with a stage's options and output."""
        function, given = resolve_name(self.function), {**options, self.out: out}
        if self.kind == "weights":
            from redraft.engines.load import local_path
            from redraft.weights.output import Run

            of = inspect.signature(function).parameters
            paths = (name for name in given if str(of[name].annotation).startswith("Path"))
            given |= {name: local_path(given[name]) for name in paths}
            given["run"] = Run(force=True, command="redraft run", tell=tell, warn=tell)
        return function(**given, **(_DATA if self.kind == "data" else {}))


VERBS: Mapping[str, Verb] = {
    "data import": Verb("redraft.data.published:import_files", kind="data"),
    "data clean": Verb("redraft.data.clean:clean", kind="data"),
    "data split": Verb(_HERE + "split", kind="data"),
    "data dedupe": Verb("redraft.data.dedupe:dedupe", kind="data"),
    "data decontaminate": Verb("redraft.data.decontaminate:decontaminate", kind="data"),
    "data merge": Verb("redraft.data.merge:merge", kind="data"),
    "data export": Verb("redraft.data.export:export", kind="data"),
    "generate chains": Verb("redraft.data.generate.chain_run:generate_chains", "output", "pays"),
    "generate instructions": Verb(
        "redraft.data.generate.instructions.run:generate_instructions", "output", "pays"
    ),
    "train sft": Verb("redraft.train.api:train_sft", "output_dir", "train"),
    "train reward": Verb("redraft.train.api:train_reward", "output_dir", "train"),
    "train ppo": Verb("redraft.train.api:train_ppo", "output_dir", "train"),
    "train self": Verb(_HERE + "train_self"),
    "weights gguf": Verb("redraft.weights.gguf.from_folder:export_gguf", "dst", "weights"),
    "weights lora-gguf": Verb("redraft.weights.lora.gguf:lora_gguf", "dst", "weights"),
    "weights merge-lora": Verb("redraft.weights.lora.merge:merge_lora", "dst", "weights"),
    "weights diff": Verb("redraft.weights.delta:diff", "dst", "weights"),
    "answer": Verb("redraft.revision.runs.answers:answer_file", "output", "pays"),
    "eval": Verb("redraft.evaluation.tasks.run:evaluate_file", "output", "pays"),
    "judge": Verb("redraft.evaluation.judging.run:judge", "output", "pays"),
    "report": Verb(_HERE + "report"),
}


def find_verb(name: str) -> Verb:
    """Return the verb called `name`. Raise `UsageError` if no verb has this name."""
    if name in VERBS:
        return VERBS[name]
    hint = nearest(name, VERBS) or f"Verbs for stages: {', '.join(VERBS)}"
    raise UsageError(f"there is no verb {name!r:.80}.", hint=hint)


def check_options(verb: Verb, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` if an option of a verb is unknown or missing, or has a wrong value.

    Values that contain `{NAME}` are never checked. All others are checked if the verb's kind is `train` or
    `pays`. For verbs of other kinds, only options with fixed choices are checked.
    """
    whole = {name: each for name, each in options.items() if not any(names_in(each))}
    known: dict[str, None] = {}
    needed = ["data_path"]
    if verb.kind == "train":
        settings = {name: each for name, each in whole.items() if name != "recipe"}
        settings_of(TRAINED[verb.function.rpartition("_")[2]], whole.get("recipe"), lambda: settings)
    else:
        known, needed = _parameters(verb)
    for name in options if known else ():
        if name not in known:
            hint = nearest(name, known) or f"Options: {', '.join(known)}"
            raise UsageError(f"there is no option {name!r:.80}.", hint=hint)
    for name in needed:
        if name not in options:
            raise UsageError(f"the option {name!r} is missing.", hint=f'Add options: {{{name}: "{{STAGE}}"}}')
    if known:
        _check_values(verb, whole)


def _check_values(verb: Verb, given: Mapping[str, Any]) -> None:
    function = resolve_name(verb.function)
    keywords, module = _keywords(function), vars(sys.modules[function.__module__])
    if verb.kind == "pays" and (model := module.get(keywords.replace("Keywords", "Options"))):
        known = options_of(model).keys() - {"model"}  # a judge takes one or several models
        model.read({name: value for name, value in given.items() if name in known})
    types = get_type_hints(function)
    for name, value in given.items():
        choices = get_args(types[name]) if get_origin(types.get(name)) is Literal else (value,)
        if value not in choices:
            hint = nearest(str(value), choices) or f"Choose one of {', '.join(choices)}"
            raise UsageError(f"{name} is {shown(value)}, which is not one of its choices.", hint=hint)


def _keywords(function: Callable[..., Any]) -> str:
    of = inspect.signature(function).parameters.values()
    found = (str(each.annotation) for each in of if each.kind is each.VAR_KEYWORD)
    return next(found, "").removeprefix("Unpack[").rstrip("]")


def _parameters(verb: Verb) -> tuple[dict[str, None], list[str]]:
    function = resolve_name(verb.function)
    known, needed = dict[str, None](), list[str]()
    for name, each in inspect.signature(function).parameters.items():
        if each.kind is inspect.Parameter.VAR_KEYWORD:
            keywords = vars(sys.modules[function.__module__])[_keywords(function)]
            known |= dict.fromkeys(keywords.__annotations__)
        else:
            known[name] = None
            needed += [name] if each.default is each.empty else []
    taken = {verb.out, *_GIVEN}
    return {name: None for name in known if name not in taken}, [n for n in needed if n not in taken]


def split(
    source: str,
    out: str,
    *,
    tokenizer: str = "default",
    limit: int = 2048,
    format: TrainingFormat = "selfee",  # noqa: A002  (the option's name)
    force: bool = False,
) -> Any:
    """Split long conversations. `tokenizer` (`default`, a GGUF file or a folder) counts tokens."""
    from redraft.data.split import split as parted
    from redraft.engines.load import token_count

    how: Any = {"limit": limit, "tokenizer": tokenizer, "format": format, "force": force}
    return parted(source, out, token_count(str(Path(tokenizer).expanduser())), **how)


def train_self(
    out: str,
    *,
    tasks: list[str] | None = None,
    everyday: str | None = None,
    scale: Mapping[str, int] | None = None,
    model: str = "default",
    seed: int = 1,
    parallel: int = 32,
) -> str:
    """Run `redraft train self`, and return the test report. `scale` sets fields of `Scale`."""
    from redraft.train.self.road import Road, Scale
    from redraft.train.self.tasks import TASKS, find_task

    chosen = [find_task(name) for name in tasks] if tasks else list(TASKS.values())
    prompts = Path(everyday) if everyday else None
    return Road(Path(out), chosen, prompts, Scale(**(scale or {})), model, seed, parallel).walk()


def report(files: list[str], out: str, *, answers: list[str] | None = None, questions: str = "") -> str:
    """Write a report's page, and the figures as a JSON file of the same name. Return the report as text."""
    from redraft import __version__
    from redraft.evaluation.reports.report import describe, write_page
    from redraft.evaluation.tables import as_text
    from redraft.jobs.files import write_file

    asked = Path(questions) if questions else None
    found = describe([*map(Path, files)], answers=[*map(Path, answers or ())], questions=asked)
    write_page(Path(out), found, f"redraft {__version__}", force=True)
    figures = json.dumps(found.record(), ensure_ascii=False, indent=1) + "\n"
    write_file(Path(out).with_suffix(".json"), figures.encode())
    return "\n".join(as_text(found.sections()))


# `{NAME}` in a stage's options stands for a value, a file, or an output. `{{` is a brace.

_NAME = re.compile(r"\{\{|\}\}|\{([a-z][\w-]*)\}")


def filled(value: Any, names: Mapping[str, Any]) -> Any:
    """Replace each `{NAME}` in an option by the value in `names`, if present. Doubled braces stay."""

    def fill(text: str) -> Any:
        if (whole := _NAME.fullmatch(text)) and whole[1] in names:
            return names[whole[1]]  # the value keeps its type
        return _NAME.sub(lambda found: str(names.get(found[1], found[0])) if found[1] else found[0], text)

    return _texts(value, fill)


def unbraced(value: Any) -> Any:
    """Replace doubled braces in an option by single braces."""
    return _texts(value, lambda text: text.replace("{{", "{").replace("}}", "}"))


def _texts(value: Any, change: Callable[[str], Any]) -> Any:
    if isinstance(value, list):
        return [_texts(each, change) for each in value]
    if isinstance(value, dict):
        return {key: _texts(each, change) for key, each in value.items()}
    return change(value) if isinstance(value, str) else value


def names_in(value: Any) -> Iterator[str]:
    """Yield each NAME that an option contains as `{NAME}`."""
    if isinstance(value, str):
        yield from (found[1] for found in _NAME.finditer(value) if found[1])
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from names_in(each)


# A stage runs in its own process, so its memory is freed, and its crash does not end the run. The job is
# an argument, in JSON, and the result goes to standard output. The run holds standard input open. When that
# closes, the run has died, so the stage and all its processes end too.

_STOPPED = 130


def _end_with_the_run() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def work(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a stage, and return the exit status, a summary, and the tokens and money spent."""
    if command := job["command"]:
        status = subprocess.run(command, shell=True, check=False).returncode  # noqa: S602  (the user's own)
        return {"status": status, "says": ""}
    try:
        result = VERBS[job["verb"]].call(job["options"], job["out"])
    except RedraftError as error:
        tell(error.message, error.hint)
        return {"status": error.exit_status, "says": ""}
    except (KeyboardInterrupt, SystemExit):
        return {"status": _STOPPED, "says": ""}
    status = getattr(result, "exit_status", 0)
    if getattr(result, "stopped_by", None) is not None:
        status = _STOPPED
    run = getattr(result, "job", None)
    figures = run.spent.figures() if run else {}
    says = result if isinstance(result, str) else str(result) if run else getattr(result, "message", "")
    return {"status": 0 if job["verb"] == "answer" and status == 1 else status, "says": says, **figures}


def main() -> None:
    """Run the stage given as JSON in the first argument, and print the result as JSON."""
    result = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # all other prints go to standard error
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    use_large_pages()
    begun = monotonic()
    with ended_by_sigterm():
        found = work(json.loads(sys.argv[1]))
    json.dump({**found, "seconds": round(monotonic() - begun, 1)}, result)
    result.close()


if __name__ == "__main__":
    main()
