"""`redraft diagnose`: measure the effect of revising, and compare methods that spend the same tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from redraft.cli.options import Given, fill_in, takes
from redraft.cli.running import AsJson
from redraft.cli.shell import argument, flag, only_ours, switch, write
from redraft.errors import UsageError

if TYPE_CHECKING:
    from redraft.revision.settings import Settings

FLAGS = "redraft.evaluation.diagnosis.options:DiagnoseOptions"


@takes(FLAGS, repeated="judge")
def diagnose(
    flags: Given,
    files: Annotated[
        list[Path], argument("CHAINS...", "Chains of redraft eval or answer, or a folder that --tasks wrote.")
    ],
    score: Annotated[list[str] | None, flag("CHECK", "A check that right answers pass; repeatable.")] = None,
    verify: Annotated[bool, switch("Recompute the figures of a folder, or of way.yaml.", "--verify")] = False,
    run_code: Annotated[
        bool, switch("Let humaneval and mbpp run the model's programs, in a sandbox.", "--run-code")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure the effect of revising on answers, and whether it pays.

    Prints the share of right answers after each revision, how many answers each revision made right and made
    wrong, whether the verdicts are right, and a conclusion: revise, don't, or undecided.

    Chains of redraft eval record which answers are right. For other chains, give --score. Chains with
    the same id are runs of one item: give the files of several seeds together.

    With --tasks, each model answers each task in several ways, which are compared at equal tokens
    (docs/diagnose.md). The folder CHAINS gets the chains, table.json and index.html. The same command resumes
    after any stop, and adds more models, tasks, ways or seeds to the folder. Without --tasks, its table
    and page are made again. Revisions are guided by --check or, without it, by the tasks' own checks.
    A limit ends the command with exit status 4. --choose way.yaml writes the best way to that file. With it,
    but without --tasks, CHAINS are the tasks, and the folder is named 'way'. With --judge, a model
    compares the answers, so prompts need no checks. To recompute: redraft diagnose way.yaml --verify

    Ways: one (answer); revise (guided by checks); alone (revise by the model's own criticism); vote (by
    majority); early (a vote that ends once the majority is clear); best (of N, chosen by checks); steered
    (best, and checks steer the model; --steer does so in all ways); auto, repair, verified, blind, shuffled.
    """
    for check in (*(score or ()), *(flags.get("check") or ())):
        if "judge" in check.partition(":")[0]:
            problem = f"the check {check!r:.60} asks a judge, which diagnose does not support."
            raise UsageError(problem, hint="Leave it out.")
    if judges := flags.get("judge"):
        _refuse({"judge": judges[1:] or None}, "was given twice.", f"Name one judge: --judge {judges[0]}")
        flags = {**flags, "judge": judges[0]}
    if "choose" not in flags:
        _refuse({"judge": flags.get("judge")}, "needs --choose.", "Leave it out, or add: --choose way.yaml")
    elif "tasks" not in flags:  # the arguments are the tasks
        flags, files = {**flags, "tasks": [*map(str, files)]}, [Path(flags["choose"]).with_suffix("")]
    if "tasks" not in flags:
        why, hint = "needs --tasks.", "Leave it out, or write: redraft diagnose FOLDER --tasks FILE"
        _refuse({name: value for name, value in flags.items() if name not in ("quiet", "equal")}, why, hint)
    if verify or "tasks" in flags or any(map(Path.is_dir, files)):
        hint = f"Give files in the folder: {files[0]}/runs/MODEL/TASK/seed-0/revise-2.jsonl"
        _refuse({"score": score}, "needs files of chains, but a folder of runs was given.", hint)
        _refuse({"equal": flags.get("equal") if verify else None}, "excludes --verify.", "Leave one out.")
        if len(files) > 1:
            raise UsageError("a folder of runs was given with other files.", hint="Give only the folder.")
        _folder(flags, files[0], verify=verify, run_code=run_code, as_json=as_json)
        return

    _refuse({"equal": flags.get("equal")}, "needs a folder that --tasks wrote.", "Leave it out.")
    from redraft.evaluation.diagnosis.diagnose import diagnose as diagnosed
    from redraft.evaluation.diagnosis.truth import chains_in

    with only_ours():
        found = diagnosed(chains_in(files), score=score or ())
    text = json.dumps(found.record(), ensure_ascii=False, indent=1) if as_json else str(found)
    write(text, table=not as_json)


def _folder(flags: Given, folder: Path, *, verify: bool, run_code: bool, as_json: bool) -> None:
    from redraft.evaluation.diagnosis import choose
    from redraft.evaluation.diagnosis.matrix import Matrix
    from redraft.evaluation.diagnosis.table import PAGE, TABLE, put_report, verified

    status, settings = 0, fill_in({**flags, **({"quiet": True} if as_json else {})}, FLAGS)
    if "tasks" in flags:
        if settings.get("choose"):
            hint = f"Afterwards: redraft diagnose {settings.get('choose')} --verify"
            _refuse({"verify": verify or None}, "cannot be combined with --choose.", hint)
            _choose(folder, settings, run_code=run_code, as_json=as_json)
        with only_ours():
            (matrix := Matrix.of(folder, settings)).prepare(run_code=run_code)
            ended = matrix.run()
        if ended.reached:
            raise typer.Exit(ended.status)
        status = ended.status
    if verify:
        with only_ours():
            check = choose.verified if folder.is_file() else verified
            faults, said = check(folder, run_code=run_code)
        write("\n".join([*faults, said]))
        raise typer.Exit(1 if faults else 0)
    with only_ours():
        table = put_report(folder, settings.values.equal)
    text = f"{table}\npage        {folder / PAGE}"
    write((folder / TABLE).read_text("utf-8").rstrip() if as_json else text, table=not as_json)
    raise typer.Exit(status)


def _choose(folder: Path, settings: Settings, *, run_code: bool, as_json: bool) -> NoReturn:
    from redraft.evaluation.diagnosis.choose import choose, keep_edited
    from redraft.evaluation.diagnosis.matrix import Matrix

    file = Path(settings.values.choose)
    if file == folder:
        raise UsageError(f"{file} is the folder of the runs, not a file.", hint=f"Name a file: {file}.yaml")
    with only_ours():
        keep_edited(file, folder)
        status, found = choose(Matrix.of(folder, settings), settings.values.margin / 100, run_code=run_code)
    if found is None:
        raise typer.Exit(status)
    record = found.put(file)
    needs = " --check …" * bool(json.loads(record)["promise"]["checks"] and not settings.get("check"))
    text = f'{found}\nway         {file}: redraft ask "…" --recipe {file}{needs}'
    write(record if as_json else text, table=not as_json)
    raise typer.Exit(status)


def _refuse(given: Mapping[str, Any], why: str, hint: str) -> None:
    if names := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"--{names[0].replace('_', '-')} {why}", hint=hint)
