"""The functions of the verbs, as stages call them: with their options by name, and one output.

Most are those of Python (docs/python.md). Those of `weights`, `report` and `train self` are given the form of
the others here.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from redraft.counting import tell
from redraft.errors import UsageError


@dataclass(frozen=True)
class Verb:
    """The function of a verb.

    Attributes:
        function: Module and name.
        out: The parameter that takes the output.
        fixed: Options that a stage cannot change.
        checks: Whether exit status 1 says that answers fail their checks, and not that the stage failed.
    """

    function: str
    out: str = "out"
    fixed: tuple[tuple[str, Any], ...] = ()
    checks: bool = False

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        found: Callable[..., Any] = resolve_name(self.function)
        return found


_REPLACES = (("force", True),)  # what was there is set aside before, or is the rest of a stopped stage
_HERE = "redraft.systems.verbs:"

VERBS: Mapping[str, Verb] = {
    "data import": Verb("redraft.collect.read.importing:import_files", fixed=_REPLACES),
    "data clean": Verb("redraft.collect.clean.pipeline:clean", fixed=_REPLACES),
    "data dedupe": Verb("redraft.collect.dedupe.dedupe:dedupe", fixed=_REPLACES),
    "data decontaminate": Verb("redraft.collect.dedupe.decontaminate:decontaminate", fixed=_REPLACES),
    "data merge": Verb("redraft.collect.merge:merge", fixed=_REPLACES),
    "data export": Verb("redraft.collect.export:export", fixed=_REPLACES),
    "generate chains": Verb("redraft.generate.chain_run:generate_chains", "output"),
    "generate instructions": Verb("redraft.generate.instructions.run:generate_instructions", "output"),
    "train sft": Verb("redraft.train.api:train_sft", "output_dir"),
    "train reward": Verb("redraft.train.api:train_reward", "output_dir"),
    "train ppo": Verb("redraft.train.api:train_ppo", "output_dir"),
    "train dpo": Verb("redraft.train.api:train_dpo", "output_dir"),
    "train self": Verb(_HERE + "train_self"),
    "weights gguf": Verb(_HERE + "gguf"),
    "weights lora-gguf": Verb(_HERE + "lora_gguf"),
    "weights merge-lora": Verb(_HERE + "merge_lora"),
    "weights diff": Verb(_HERE + "diff"),
    "answer": Verb("redraft.runs.answers:answer_file", "output", checks=True),
    "eval": Verb("redraft.evaluation.tasks.run:evaluate_file", "output"),
    "judge": Verb("redraft.evaluation.judging.run:judge", "output"),
    "report": Verb(_HERE + "report"),
}


def find_verb(name: str) -> Verb:
    """Return a verb by its name.

    Raises:
        UsageError: There is none.
    """
    if name in VERBS:
        return VERBS[name]
    near = get_close_matches(name, VERBS, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The verbs of stages: {', '.join(VERBS)}"
    raise UsageError(f"there is no verb {name!r:.80}.", hint=hint)


def check_options(verb: Verb, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` if a verb has no such option, or lacks one that it needs.

    The settings of `train` are checked by the stage itself: to know their names, torch is loaded.
    """
    if verb.out == "output_dir":
        if "data_path" not in options:
            raise UsageError(
                "it has no 'data_path', which it reads.", hint='options: {data_path: ["{STAGE}"]}'
            )
        return
    function = verb.load()
    known, needed = dict[str, None](), list[str]()
    for name, each in inspect.signature(function).parameters.items():
        if each.kind is inspect.Parameter.VAR_KEYWORD:
            keywords = str(each.annotation).removeprefix("Unpack[").rstrip("]")
            known |= dict.fromkeys(vars(sys.modules[function.__module__])[keywords].__annotations__)
            continue
        known[name] = None
        needed += [name] if each.default is each.empty else []
    taken = {verb.out, *dict(verb.fixed), "on_event"}
    for name in options:
        if name in taken or name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Options: {', '.join(known.keys() - taken)}"
            raise UsageError(f"it has no option {name!r:.80}.", hint=hint)
    for name in needed:
        if name != verb.out and name not in options:
            raise UsageError(f"it has no {name!r}, which it reads.", hint=f'options: {{{name}: "{{STAGE}}"}}')


def train_self(
    out: str,
    *,
    tasks: list[str] | None = None,
    everyday: str | None = None,
    scale: Mapping[str, int] | None = None,
    model: str = "default",
    seed: int = 1,
    parallel: int = 8,
) -> str:
    """Walk the road of `redraft train self`, and return its report. `scale` has the fields of `Scale`."""
    from redraft.selfrevision.road import Road, Scale
    from redraft.selfrevision.tasks import TASKS, find_task

    chosen = [find_task(name) for name in tasks] if tasks else list(TASKS.values())
    prompts = Path(everyday) if everyday else None
    road = Road(Path(out), chosen, prompts, Scale(**(scale or {})), model, seed, parallel)
    road.walk()
    return road.report()


def _weights() -> Any:
    from redraft.weights.output import Run

    return Run(force=True, command="redraft run", tell=tell, warn=tell, caution=tell)


def _model(ref: str) -> Path:
    """Return the file or folder of a model: a path, or `default`."""
    from redraft.engines.load import local_file, parse_reference

    return local_file(parse_reference(ref)) if ref == "default" else Path(ref).expanduser()


def gguf(src: str, out: str, *, quant: str = "f16") -> None:
    """Convert a folder to a GGUF file."""
    from redraft.weights.gguf.from_folder import export_gguf

    export_gguf(_model(src), Path(out), _weights(), quant=quant)


def lora_gguf(adapter: str, out: str, *, base: str | None = None) -> None:
    """Convert an adapter to a GGUF adapter."""
    from redraft.weights.lora.to_gguf import lora_gguf as make

    make(Path(adapter), Path(out), _weights(), base=_model(base) if base else None)


def merge_lora(base: str, adapter: str, out: str) -> None:
    """Merge an adapter into its base."""
    from redraft.weights.lora.merge import merge_lora as make

    make(_model(base), Path(adapter), Path(out), _weights())


def diff(base: str, target: str, out: str) -> None:
    """Make a delta."""
    from redraft.weights.delta import diff as make

    make(_model(base), _model(target), Path(out), _weights())


def report(files: list[str], out: str, *, answers: list[str] | None = None, questions: str = "") -> str:
    """Write the page of a report, and its figures as JSON beside it. Return its table."""
    from redraft import __version__
    from redraft.evaluation.reports.chains import Links
    from redraft.evaluation.reports.describe import describe
    from redraft.evaluation.reports.page import chains_of, page
    from redraft.evaluation.tables import as_text
    from redraft.files import write_file

    asked = Path(questions) if questions else None
    found = describe([*map(Path, files)], answers=[*map(Path, answers or ())], questions=asked)
    made = f"redraft {__version__}"
    links = Links.write(Path(out), f"{found.title}: chains", [*chains_of(found)], made, force=True)
    write_file(Path(out), page(found, made, links).encode())
    figures = json.dumps(found.record(), ensure_ascii=False, indent=1) + "\n"
    write_file(Path(out).with_suffix(".json"), figures.encode())
    return "\n".join(as_text(found.sections()))
