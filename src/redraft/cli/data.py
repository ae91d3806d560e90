"""`redraft data`: turn published files into clean chains.

Most commands read records of any known shape from a file or standard input, and write chains to a file or
standard output, so commands can be piped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from redraft.cli.shell import argument, flag, setting, switch, write
from redraft.cli.verb import group
from redraft.jobs.formats import ExportFormat, TrainingFormat

if TYPE_CHECKING:
    from redraft.data.output import DataOptions

Source = Annotated[
    Path, argument("FILE", "Records of any known shape, as JSON lines or a JSON array; '-' is stdin.")
]
Workers = Annotated[int | None, flag("N", "Number of processes.  [all cores]", "--workers", "-j", min=1)]


@dataclass(frozen=True)
class Flags:
    """The options of every command that writes records."""

    out: Annotated[Path, setting("FILE", "Where the chains go; '-' is stdout.", "--out", "-o")] = Path("-")
    dropped: Annotated[Path | None, flag("FILE", "Write dropped records to FILE, with reasons.")] = None
    workers: Workers = None
    strict: Annotated[bool, switch("Stop at a record that cannot be read.", "--strict")] = False
    force: Annotated[bool, switch("Replace the output if it exists.", "--force")] = False
    quiet: Annotated[bool, switch("Show no progress, and no counts at the end.", "--quiet", "-q")] = False

    @property
    def options(self) -> DataOptions:
        """Return the options except `out`, as keyword arguments of functions in `redraft.data`."""
        return cast("DataOptions", {name: value for name, value in vars(self).items() if name != "out"})


def import_(
    paths: Annotated[
        list[Path],
        argument(
            "PATH...",
            "Files of JSON lines, JSON, CSV or Parquet, also .gz; folders of them; "
            "org/name or org/name/part of the hub; '-' is stdin.",
        ),
    ],
    name: Annotated[
        str | None,
        flag(
            "NAME",
            "The source, if the fields do not reveal it: alpaca, sharegpt, gpt4all, questions …",
            "--as",
        ),
    ] = None,
    fields: Annotated[
        list[str] | None, flag("NAME=FIELD,…", "Rename fields to known names: instruction=frage.", "--map")
    ] = None,
    licence: Annotated[str | None, flag("TEXT", "Override the source's licence.")] = None,
    which: Annotated[
        Literal["best", "all"], setting(None, "Read the best path of a chat tree, or every path.", "--paths")
    ] = "best",
    *,
    flags: Flags,
) -> None:
    """Read published data as chains.

    The fields of a record decide how it is read; --map first renames fields. Gold answers, rationales
    and tests are kept for training and checking, together with each record's origin and licence.
    """
    from redraft.data.published import import_files

    import_files(paths, flags.out, name=name, fields=fields, licence=licence, which=which, **flags.options)


def export(file: Source, to: Annotated[ExportFormat, flag(None, "Output format.")], *, flags: Flags) -> None:
    """Write chains in the formats of other programs.

    alpaca and sharegpt write one JSON array; the other formats write JSON lines. In a preference pair, the
    first answer is rejected, and the correction that was judged best is chosen. The parts that a format
    cannot store are left out and counted. Licences are in OUT.run.json.
    """
    from redraft.data.export import export as exported

    raise typer.Exit(exported(file, flags.out, to, **flags.options).exit_status)


def clean(
    file: Source,
    like: Annotated[
        Literal["fastchat", "selfee"] | None, flag(None, "Use the rules of Vicuna's or SelFee's data.")
    ] = None,
    rules: Annotated[str | None, flag("A,B…", "Apply only these rules, such as 'usual,answered'.")] = None,
    skip: Annotated[str, flag("A,B…", "Leave these rules out.")] = "",
    languages: Annotated[str, flag("EN,DE…", "Keep only these languages (the rule 'language').")] = "",
    blocked: Annotated[str, flag("A,B…", "Word lists for the rule 'blocked': fastchat, alpaca.")] = "",
    *,
    flags: Flags,
) -> None:
    """Clean conversations with named rules.

    HTML becomes markdown with its code blocks unchanged. Dropped records are counted by rule. The
    rules are in docs/data.md, in the order in which they are applied.
    """
    from redraft.data.clean import clean as cleaned

    told: dict[str, Any] = {"rules": rules, "skip": skip, "languages": languages, "blocked": blocked}
    result = cleaned(file, flags.out, like=like, **told, **flags.options)
    raise typer.Exit(result.exit_status)


def dedupe(
    file: Source,
    by: Annotated[
        Literal["exact", "query", "rouge", "minhash"], setting(None, "How to find duplicates.")
    ] = "exact",
    threshold: Annotated[
        float | None,
        flag("X", "Minimum similarity of duplicates.  [rouge: above 0.7; minhash: 0.8]", min=0.1, max=1.0),
    ] = None,
    against: Annotated[
        list[Path] | None, setting("FILE", "Also drop duplicates of these records. Can be repeated.")
    ] = None,
    *,
    flags: Flags,
) -> None:
    """Keep one of several duplicates.

    exact: the same texts, ignoring case, white space and Unicode forms. query: the same first user turn.
    rouge: the same input, and similar instructions by ROUGE-L, as in Alpaca. minhash: Jaccard
    similarity of word 3-shingles, for millions of records.

    Records with an answer are preferred, then longer ones. Ties are decided by content, not by the order of
    the input. The input is spooled to disk beside the output.
    """
    from redraft.data.dedupe import dedupe as deduped

    deduped(file, flags.out, by=by, threshold=threshold, against=against or (), **flags.options)


def decontaminate(
    file: Source,
    against: Annotated[list[Path], setting("FILE", "Evaluation items of any known shape. Can be repeated.")],
    ngram: Annotated[int, setting("N", "N equal words in a row are a match.", "--ngram", "-n", min=5)] = 13,
    *,
    flags: Flags,
) -> None:
    """Drop the records that contain evaluation items.

    A record is dropped if it shares N consecutive words (--ngram) with an item's question, gold answer or
    rationale, ignoring case and punctuation. A question of fewer than N words must occur whole, and one of
    fewer than 8 words must be a whole turn. The file of --dropped lists the matching items and words.
    """
    from redraft.data.decontaminate import decontaminate as decontaminated

    decontaminated(file, flags.out, against=against, ngram=ngram, **flags.options)


def merge(
    recipe: Annotated[str, argument("RECIPE", "A YAML file, or selfee, alpaca, vicuna, stablevicuna.")],
    folder: Annotated[
        Path | None,
        flag("DIR", "Folder of the parts' files.  [the recipe's folder; . for a shipped recipe]", "--from"),
    ] = None,
    seed: Annotated[int | None, flag("N", "Override the recipe's seed.", min=0)] = None,
    skip_missing: Annotated[bool, switch("Leave missing files out.", "--skip-missing")] = False,
    *,
    flags: Flags,
) -> None:
    """Mix files of chains by a recipe.

    The seed decides which records of each part are taken, and the order of all. The same recipe, seed and
    files give the same output. OUT.run.json records recipe, seed, counts, licences and checksums.
    """
    from redraft.data.merge import merge as merged

    merged(recipe, flags.out, folder=folder, seed=seed, skip_missing=skip_missing, **flags.options)


def split(
    file: Source,
    limit: Annotated[int, setting("N", "Maximum tokens in a piece.", min=1)] = 2048,
    tokenizer: Annotated[
        str, setting("REF", "Tokenizer: a folder with tokenizer.json, 'default', a GGUF file …")
    ] = "default",
    form: Annotated[
        TrainingFormat, setting(None, "The training format whose tokens are counted.", "--format")
    ] = "selfee",
    *,
    flags: Flags,
) -> None:
    """Split long conversations at their turns.

    Each piece begins with a user's turn and repeats the system message. No turn is lost. The pieces of the
    record ID get the ids ID#1, ID#2 … Tokens are counted in the training text of --format, as in redraft
    train sft. With --format chat, 6 tokens a turn are reserved for the model's chat template.
    """
    from redraft.data.split import split as parted
    from redraft.engines.load import token_count

    count = token_count(tokenizer)
    parted(file, flags.out, count, limit=limit, format=form, tokenizer=tokenizer, **flags.options)


def stats(
    files: Annotated[list[Path], argument("FILE...", "Records of any known shape; '-' is stdin.")],
    as_json: Annotated[bool, switch("Print JSON instead of a table.", "--json")] = False,
    tokenizer: Annotated[str | None, flag("REF", "Count this model's tokens.  [words]")] = None,
    workers: Workers = None,
) -> None:
    """Describe data, and warn of its faults.

    Counts turns, lengths, languages, sources, licences, answers, verdicts and scores. Warns of gold
    answers in feedback, missing verdicts, low last scores, repeats, empty answers and roles out of order.
    """
    from redraft.checks.segment import count_words
    from redraft.data.output import not_twice
    from redraft.data.stats import describe, lines
    from redraft.engines.load import token_count
    from redraft.jobs.machine import all_cores
    from redraft.jobs.progress import RecordProgress, size_of

    not_twice(files[0], files[1:])
    count = token_count(tokenizer) if tokenizer else count_words
    unit = "tokens" if tokenizer else "words"
    with RecordProgress(size_of(files)) as progress:
        report = describe(files, count, unit=unit, workers=workers or all_cores(), read=progress.advance)
    write(json.dumps(asdict(report), ensure_ascii=False, indent=1) if as_json else "\n".join(lines(report)))


_COMMANDS = (import_, clean, split, dedupe, decontaminate, merge, export, stats)
app = group("Collect, clean, deduplicate, merge and describe data.", *_COMMANDS)


@app.callback()
def _end_well(context: typer.Context) -> None:
    from redraft.jobs.signals import ended_by_sigterm

    context.with_resource(ended_by_sigterm())
