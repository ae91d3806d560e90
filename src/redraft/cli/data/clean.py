"""`redraft data clean`: turn shared conversations into training data."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from redraft.cli.data.common import Flags, Source
from redraft.cli.shell import flag


def _list_rules(wanted: bool) -> None:
    if wanted:
        from redraft.data.clean.rules import PRESETS, RULES

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
    rules: Annotated[str | None, flag("A,B…", "Apply only these rules.")] = None,
    skip: Annotated[str, flag("A,B…", "Leave these rules out.")] = "",
    languages: Annotated[str, flag("EN,DE…", "Keep these languages: the rule 'language'.")] = "",
    blocked: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="The rule 'blocked': fastchat, alpaca, or a file with a word a line. Can be repeated.",
        ),
    ] = None,
    explain: Annotated[str | None, flag("ID", "Only show what the rules do to this record.")] = None,
    list_rules: Annotated[  # noqa: ARG001  (its callback does it)
        bool, typer.Option("--list-rules", callback=_list_rules, is_eager=True, help="List the rules.")
    ] = False,
    *,
    flags: Flags,
) -> None:
    """Clean conversations with named rules.

    HTML becomes markdown with its code blocks unchanged. Dropped records are counted by rule. Rules are
    always applied in the order of --list-rules.
    """
    from redraft.cli.shell import write
    from redraft.data.clean.pipeline import clean as cleaned
    from redraft.data.clean.pipeline import explain as explained
    from redraft.data.clean.pipeline import plan_of

    if explain is not None:
        for text in explained(file, explain, plan_of(like, rules, skip, languages, blocked or ())):
            write(text)
        return
    result = cleaned(
        file,
        flags.out,
        like=like,
        rules=rules,
        skip=skip,
        languages=languages,
        blocked=blocked or (),
        **flags.options,
    )
    if result.exit_status:
        raise typer.Exit(result.exit_status)
