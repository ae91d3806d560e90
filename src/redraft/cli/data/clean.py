"""`redraft data clean`: turn shared conversations into training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redraft.cli.data import common
from redraft.cli.data.common import Flags, Source

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from redraft.collect.clean.pipeline import Cleaned
    from redraft.collect.clean.rules import Preset


def _list_rules(wanted: bool) -> None:
    if wanted:
        from redraft.collect.clean.rules import PRESETS, RULES

        for rule in RULES:
            sets = ["usual"] * rule.usual + [n for n, preset in PRESETS.items() if rule.name in preset.rules]
            typer.echo(f"{rule.name:16}{rule.says}\n{'':16}({', '.join(sets) or 'only if asked for'})")
        raise typer.Exit


def clean(
    file: Source,
    like: Annotated[
        Literal["fastchat", "selfee"] | None,
        typer.Option(help="Use the rules of Vicuna's or SelFee's data.", show_default=False),
    ] = None,
    rules: Annotated[
        str | None, typer.Option(metavar="A,B…", help="Apply only these rules.", show_default=False)
    ] = None,
    skip: Annotated[
        str, typer.Option(metavar="A,B…", help="Leave these rules out.", show_default=False)
    ] = "",
    languages: Annotated[
        str,
        typer.Option(metavar="EN,DE…", help="Keep these languages: the rule 'language'.", show_default=False),
    ] = "",
    blocked: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="The rule 'blocked': fastchat, alpaca, or a file with a word a line. Can be repeated.",
        ),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only show what the rules do to this record.", show_default=False),
    ] = None,
    list_rules: Annotated[  # noqa: ARG001  (its callback does it)
        bool,
        typer.Option("--list-rules", callback=_list_rules, is_eager=True, help="List the rules."),
    ] = False,
    *,
    flags: Flags,
) -> None:
    """Clean conversations with named rules.

    HTML becomes markdown with its code blocks unchanged. Dropped records are counted by rule. Rules are
    always applied in the order of --list-rules.
    """
    from collections import Counter
    from functools import partial

    from redraft.collect.clean.pipeline import clean_line
    from redraft.collect.clean.rules import LISTS, NAMES
    from redraft.jobs.provenance import Provenance

    plan = _plan(like, rules, skip, languages, blocked or [])
    if explain is not None:
        _explain(file, explain, plan)
        return
    config = {
        "rules": [name for name in NAMES if name in plan.rules],
        "languages": sorted(plan.settings.languages),
        "blocked": blocked or [],
        "like": like,
        "strict": flags.strict,
    }
    work = partial(clean_line, names=plan.rules, settings=plan.settings, strict=flags.strict)
    lines = common.lines_in(file)
    lists = [Path(name) for name in blocked or [] if name not in LISTS]
    provenance, left = Provenance("data clean", config, file), Counter[bool]()
    with common.writing(provenance, flags, inputs={"blocked": lists}) as output:
        output.sink.writelines(_lines(output.passing(output.spread(work, lines)), left))
    output.tell_counts()
    if left[True] and "html" in plan.rules:
        output.tell(f"{left[True]:,} with HTML left in answers", _LEFT)
    _check_kept(output)


_LEFT = "The user asked for HTML, or not all answers are HTML: redraft data clean FILE --explain ID"


FEWEST = 0.05
"""Share of the records below which a run fails: its rules do not fit the data."""


def _check_kept(output: common.DataOutput) -> None:
    """End with status 1 if rules leave hardly a record. What cannot be read is told elsewhere."""
    from redraft.cli.shell import tell
    from redraft.collect.clean.rules import NAMES
    from redraft.collect.output import UNREADABLE

    dropped = output.gone.counts.copy()
    del dropped[UNREADABLE]
    total = output.kept + dropped.total()
    if output.kept < FEWEST * total:
        [(rule, number)] = dropped.most_common(1)
        tell(
            f"{output.kept:,} of {total:,} records are left: {rule} dropped {number:,}.",
            f"If the rule does not fit this data: --skip {rule}" if rule in NAMES else None,
        )
        raise typer.Exit(1)


def _lines(results: Iterable[Cleaned], left: Counter[bool]) -> Iterator[bytes]:
    """Give the records' lines, and count the records with HTML left."""
    for cleaned in results:
        left[cleaned.has_html] += 1
        yield cleaned.line


def _plan(like: str | None, rules: str | None, skip: str, languages: str, blocked: list[str]) -> Preset:
    """Return the rules and settings that the flags ask for."""
    from redraft.collect.clean.rules import NAMES, PRESETS, USUAL, Preset, RuleSettings, word_list
    from redraft.errors import UsageError
    from redraft.verify.language import BY_NAME, LANGUAGES

    if like and rules is not None:
        raise UsageError(
            "--like and --rules both choose the rules.", hint="Use --skip to leave rules of --like out."
        )
    usual = PRESETS[like] if like else USUAL
    codes = _known(languages.lower(), LANGUAGES, "--languages", BY_NAME) or usual.settings.languages
    words = tuple(map(word_list, blocked)) or usual.settings.blocked
    names = usual.rules if rules is None else _known(rules, NAMES, "--rules")
    names |= {name for name, given in (("language", languages), ("blocked", blocked)) if given}
    names -= _known(skip, NAMES, "--skip")
    if not names:
        raise UsageError("no rule is left.", hint="See: redraft data clean --list-rules")
    for name, flag, given in (
        ("language", "--languages en", codes),
        ("blocked", "--blocked fastchat", words),
    ):
        if name in names and not given:
            raise UsageError(f"the rule '{name}' needs a list.", hint=f"For example: {flag}")
    return Preset(names, RuleSettings(codes, words))


def _known(
    written: str, known: Collection[str], flag: str, meant: Mapping[str, str] | None = None
) -> frozenset[str]:
    """Return the names in a comma-separated list; `meant` maps other words to the names they stand for.

    Raises:
        UsageError: A name is unknown.
    """
    from difflib import get_close_matches

    from redraft.errors import UsageError

    names = [name.strip() for name in written.split(",") if name.strip()]
    for name in names:
        if name not in known:
            near = [meant[name]] if meant and name in meant else get_close_matches(name, known, 1)
            hint = (
                f"Did you mean {near[0]}?"
                if near
                else f"Known names: {', '.join(sorted(known)[:20])}{' …' * (len(known) > 20)}"
            )
            raise UsageError(f"{flag}: unknown name {name!r}.", hint=hint)
    return frozenset(names)


def _explain(file: Path, name: str, plan: Preset) -> None:
    """Print what each rule does to the record with the given id."""
    from redraft.chain import Chain
    from redraft.cli.shell import write
    from redraft.collect.clean.pipeline import apply, explain
    from redraft.collect.output import chain_or_drop
    from redraft.errors import UsageError

    first = ""
    for line in common.lines_in(file):
        chain = chain_or_drop(line, strict=False)
        if isinstance(chain, Chain):
            first = first or chain.id
            if name in (chain.id, chain.id.removeprefix(f"{line.stem}/")):
                write(f"{chain.id}, {line.where}")
                for text in explain(list(apply(chain, plan.rules, plan.settings))):
                    write(text)
                return
    hint = f"Use an id of the output, such as {first}." if first else None
    raise UsageError(f"{file} has no record {name}.", hint=hint)
