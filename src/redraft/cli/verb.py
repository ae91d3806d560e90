"""Define a command for typer, and write the command's help.

The help is plain text, the same on a terminal, in a pipe and in docs/cli.md. If a command has many options,
`--help` shows the common options (`everyday_options`), and `--help-all` shows all options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperArgument, TyperCommand

from redraft.cli.options import WithOptions
from redraft.errors import UsageError, nearest

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter


HELP_ALL = "--help-all"
_NUMBERS = {"float": "a number, such as 0.5", "int": "a whole number, such as 5"}
_LIMITS = {"ge": "at least", "le": "at most"}
CHECKS = "Checks: words<=50, contains:TEXT, lacks:TEXT, json, python:module.function … See docs/checks.md"

_MODEL = "model max_revisions check temperature max_tokens seed"
_TRAINING = "model_name_or_path lora data_path output_dir learning_rate max_steps preview estimate"

_EVERYDAY = {
    "ask": f"json quiet steps edit at critic recipe mode drafts system {_MODEL}",
    "chat": f"critic recipe mode drafts system {_MODEL}",
    "answer": f"out parallel quiet limit recipe mode {_MODEL}",
    "serve": "models host port api_key_file parallel page model critic recipe mode max_revisions check",
    "mcp": "critic recipe mode model max_revisions check max_tokens",
    "eval": f"out parallel limit run_code as_json mode guided {_MODEL}",
    "judge": "out parallel limit questions recipe way gold model temperature seed limit_usd price",
    "diagnose": "score as_json verify choose tasks models ways seeds limit parallel run_code max_revisions",
    "chains": f"out parallel limit recipe gold first verify {_MODEL}",
    "instructions": "out parallel recipe way count seeds language topic model temperature seed",
    "sft": f"{_TRAINING} format eval_data_path num_train_epochs gguf",
    "reward": f"{_TRAINING} eval_data_path num_train_epochs",
    "ppo": f"{_TRAINING} algorithm reward num_rollouts num_generations max_new_tokens init_kl_coef",
}


def everyday_options(command: str) -> frozenset[str]:
    """Return the names of the options that a command's `--help` shows; empty if all are shown."""
    return frozenset(_EVERYDAY.get(command, "").split())


Sections = dict[str, list[tuple[str, tuple[str, str]]]]
"""Maps a heading to options: the name of each option, and the two columns of the option's help."""


class Verb(TyperCommand):
    """A command whose help lists options under headings (`rich_help_panel`), without boxes."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the arguments. The errors for a misplaced `--debug` and for `--x=no` say what to write."""
        if "--ray" in args:
            args = _with_address(args)
        if HELP_ALL in args:
            ctx.meta[HELP_ALL], args = True, ["--help"]
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            found: Any = next(iter(getattr(error.__cause__, "errors", list)()), {"type": ""})  # pydantic
            if wanted := _wanted(found):
                option = max(error.param.opts, key=len)  # type: ignore[attr-defined]  # a BadParameter
                said = f"{option} is {found['input']!r:.80}."
                raise UsageError(said, hint=f"It should be {wanted}.") from None
            name: Any = getattr(error, "option_name", None)  # of click's NoSuchOption and BadOptionUsage
            if negative := next((n for p in self.params if name in p.opts for n in p.secondary_opts), None):
                hint = f"Write {name} or {negative}"
                raise UsageError(f"{name} takes no value.", hint=hint) from None
            if name == "--debug":
                hint = f"redraft --debug {ctx.command_path.removeprefix('redraft ')} …"
                raise UsageError("--debug goes before the command.", hint=hint) from None
            if hasattr(error, "possibilities"):  # a NoSuchOption. Click compares the dashes, too
                known = [o[2:] for p in self.params for o in (*p.opts, *p.secondary_opts) if o[:2] == "--"]
                near = nearest(name.lstrip("-").replace("_", "-"), [*known, "debug"], "--")
                hint = f"{near}\n{ctx.command_path} --help".strip()
                raise UsageError(f"no such option: {name}.", hint=hint) from None
            error.ctx = getattr(error, "ctx", None) or ctx  # type: ignore[attr-defined]
            raise

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return the options and arguments of the usage line: `[OPTIONS] FILES... [NAME]`."""
        names = []
        for each in self.get_params(ctx):
            if isinstance(each, TyperArgument):
                plain = each.required or _name(each).startswith("[")
                names.append(_name(each) if plain else f"[{_name(each)}]")
        return [*filter(None, [self.options_metavar]), *names]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the sections: `Arguments`, `Options`, then the rest in order of their first options."""
        sections, often = self.sections(ctx), everyday_options(self.name or "")
        count = sum(len(lines) for title, lines in sections.items() if title != "Arguments")
        if often:
            sections["Options"].append(("help", (HELP_ALL, f"Show all {count} options and exit.")))
        everything = not often or HELP_ALL in ctx.meta
        for title, lines in sections.items():
            every = everything or title == "Arguments"
            if here := [line for name, line in lines if every or name == "help" or name in often]:
                with formatter.section(title):
                    formatter.write_dl(here)

    def sections(self, ctx: Context) -> Sections:
        """Return the options of the help by heading."""
        found: Sections = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is None:
                continue
            if isinstance(param, TyperArgument):
                found["Arguments"].append((param.name or "", (_name(param), record[1])))
            else:
                title = getattr(param, "rich_help_panel", None) or "Options"
                found.setdefault(title, []).append((param.name or "", record))
        return found


def _wanted(found: dict[str, Any]) -> str:
    if kind := _NUMBERS.get(found["type"].partition("_")[0]):
        return kind
    limits = found.get("ctx", {})
    choices = str(limits.get("error", "")).partition(" is not one of ")[2].rstrip(".").replace("'", "")
    ranges = (f"{word} {limits[key]:,}" for key, word in _LIMITS.items() if key in limits)
    return next(ranges, " or ".join(choices.rsplit(", ", 1)))


def _with_address(args: list[str]) -> list[str]:
    from redraft.serve.cluster.connect import HERE, is_address

    after = args.index("--ray") + 1
    told = is_address(args[after]) if after < len(args) else False
    return args if told else [*args[:after], HERE, *args[after:]]


def _name(argument: TyperArgument) -> str:
    return argument.metavar or (argument.name or "").upper() + ("..." if argument.nargs != 1 else "")


def group(text: str, *commands: Callable[..., None]) -> typer.Typer:
    """Return a command with subcommands, each named after a function in `commands`."""
    app = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
    for command in commands:
        name = command.__name__.rstrip("_").replace("_", "-")
        app.command(name, cls=Verb)(command if isinstance(command, WithOptions) else WithOptions(command))
    return app
