"""Clean conversation files with named rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

from redraft.chain import Chain
from redraft.checks.language import BY_NAME, LANGUAGES, Language
from redraft.data.clean_rules import LISTS, NAMES, PRESETS, RULES, USUAL, Preset, RuleSettings
from redraft.data.html_evidence import has_tags
from redraft.data.output import UNREADABLE, DataOptions, DataResult, DataRun, Drop, one_of, writing
from redraft.data.texts import answered_turns, spoken_texts
from redraft.errors import UsageError, nearest
from redraft.jobs.counting import counted, tell

_FEWEST = 0.05  # the run fails if a smaller fraction of the records remains: the rules do not fit the data
RuleNames = str | Iterable[str]  # names, or one comma-separated string


def clean(
    source: str | Path,
    out: str | Path,
    *,
    like: Literal["fastchat", "selfee"] | None = None,
    rules: RuleNames | None = None,
    skip: RuleNames = (),
    languages: RuleNames = (),
    blocked: RuleNames = (),
    **options: Unpack[DataOptions],
) -> DataResult:
    """Clean conversations with named rules. Same as `redraft data clean`.

    Args:
        source: Records of any known shape.
        out: The file to write the chains to, which appears only when complete.
        like: Use the rules for Vicuna's data (fastchat) or for SelFee's data (selfee).
        rules: Apply only these rules. `usual` stands for the default rules.
        skip: Leave these rules out.
        languages: Keep only these languages, by name or ISO 639 code (rule `language`).
        blocked: Word lists for the rule `blocked`: fastchat, alpaca.
        **options: See `DataOptions`.

    Raises:
        UsageError: A name is unknown, or two options contradict each other.
        RecordError: No record can be read, or a file is damaged. With `strict`, any unreadable record raises.
        OutputError: `out` exists and `force` is not set, or `out` cannot be written.
    """
    plan, run = _plan_of(like, rules, skip, languages, blocked), DataRun.of(out, options, clean)
    config: dict[str, Any] = {
        "rules": [name for name in NAMES if name in plan.rules],
        "languages": sorted(plan.settings.languages),
        "blocked": [words.name for words in plan.settings.blocked],
        "like": like,
    }
    work = partial(clean_chain, names=plan.rules, settings=plan.settings)
    lines, left = run.lines(source), 0
    with writing(run.provenance("data clean", source, **config), run) as output:
        for line, has_html in output.passing(output.spread(work, lines)):
            output.sink.write(line)
            left += has_html
    output.tell_counts()
    if left and "html" in plan.rules:
        text = f"HTML is left in {counted(left, 'record')}."
        run.tell(text, "HTML is kept if a question asks for it, or an answer has markdown, code or odd tags.")
    dropped = output.gone.counts.copy()
    del dropped[UNREADABLE]
    total = output.kept + dropped.total()
    if few := output.kept < _FEWEST * total:
        [(rule, number)] = dropped.most_common(1)
        tell(
            f"{output.kept:,} of {total:,} records passed the rules: {rule} dropped {number:,}.",
            f"If the rule does not fit this data: --skip {rule}" if rule in NAMES else None,
        )
    return output.result({"with HTML left": left}, exit_status=1 if few else 0)


def _plan_of(
    like: str | None, rules: RuleNames | None, skip: RuleNames, languages: RuleNames, blocked: RuleNames
) -> Preset:
    if like and rules is not None:
        hint = "Give only one. To leave out some rules of --like: --skip"
        raise UsageError("--like and --rules both choose the rules.", hint=hint)
    one_of("like", like, [None, *PRESETS])
    usual = PRESETS[like] if like else USUAL
    codes = _known(languages, LANGUAGES, "--languages", BY_NAME) or usual.settings.languages
    lists = sorted(_known(blocked, LISTS, "--blocked"))
    words = tuple(LISTS[name] for name in lists) or usual.settings.blocked
    names = _known("usual" if rules is None else rules, ("usual", *NAMES), "--rules")
    if "usual" in names:
        names = names - {"usual"} | usual.rules
    names |= {name for name, given in (("language", languages), ("blocked", blocked)) if given}
    names -= _known(skip, NAMES, "--skip")
    if not names:
        raise UsageError("there is no rule to apply.", hint="The rules are in docs/data.md.")
    if "language" in names:
        Language.of("en")  # raises `MissingExtra`
    for name, flag, given in (
        ("language", "--languages en", codes),
        ("blocked", "--blocked fastchat", words),
    ):
        if name in names and not given:
            raise UsageError(f"the rule '{name}' needs a list.", hint=f"For example: {flag}")
    return Preset(names, RuleSettings(codes, words))


def _known(
    written: RuleNames, known: Collection[str], flag: str, meant: Mapping[str, str] | None = None
) -> frozenset[str]:
    listed = written.split(",") if isinstance(written, str) else written
    names = [name.strip() for name in listed if name.strip()]
    names = [meant.get(name.lower(), name.lower()) for name in names] if meant else names
    for name in names:
        if name not in known:
            hint = nearest(name, known)
            hint = hint or f"Known names: {', '.join(sorted(known)[:20])}{' …' * (len(known) > 20)}"
            raise UsageError(f"{flag} does not know {name!r}.", hint=hint)
    return frozenset(names)


def clean_chain(
    chain: Chain, where: str, *, names: frozenset[str], settings: RuleSettings
) -> tuple[bytes, bool] | Drop:
    """Apply the named rules. Return a `Drop`, or the JSON line and whether it contains HTML."""
    cleaned, turns = chain, answered_turns(chain)
    for rule in (rule for rule in RULES if rule.name in names):
        outcome = rule.apply(cleaned, turns, settings)
        if isinstance(outcome, str):
            return Drop(rule.name, outcome, where, chain.id, chain.model_dump(mode="json"))
        cleaned, turns = outcome, turns if outcome is cleaned else answered_turns(outcome)
    data = cleaned.to_json().encode() + b"\n"
    # Most records contain no end tag, and searching for one is much faster than collecting the texts.
    texts = spoken_texts(cleaned) if b"</" in data else ()
    return data, any(has_tags(text) for _, text in texts)
