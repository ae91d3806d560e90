"""The kinds of checks, each with its form and a description, for `--help` and error messages.

This module imports nothing, so that `--help` stays fast. `parse` implements the forms, and docs/checks.md
explains them.
"""

from __future__ import annotations

CHECK_KINDS: dict[str, tuple[str, str]] = {
    "words": ("words<=50", "count of words: <= >= < > ==, or a range words=10..20"),
    "sentences": ("sentences<=3", "count of sentences, compared the same way"),
    "characters": ("characters<=280", "count of characters as a reader sees them"),
    "paragraphs": ("paragraphs==2", "count of paragraphs, separated by blank lines"),
    "contains": ("contains:TEXT", "has this word or phrase, ignoring case"),
    "lacks": ("lacks:TEXT", "does not have this word or phrase, ignoring case"),
    "matches": ("matches:REGEX", "a regular expression is found in it"),
    "starts": ("starts:TEXT", "begins with this text, ignoring case"),
    "ends": ("ends:TEXT", "ends with this text, ignoring case"),
    "json": ("json", "is JSON, or has one fenced JSON block"),
    "json-schema": ("json-schema:FILE", "is JSON that fits the JSON Schema in FILE"),
    "number": ("number=3.14~0.01", "its last number is this one, give or take a tolerance"),
    "language": ("language:en", "is written in this language (needs the extra 'data')"),
    "ifeval": (
        "ifeval:TYPE VALUES",
        "meets a constraint of IFEval (docs/evaluate.md)",
    ),
    "python": ("python:module.function", "a function of yours says so"),
    "command": (
        "command:PROGRAM ARGS",
        "a program that reads it exits with 0; command[10s]: sets the time limit",
    ),
    "judge": ("judge:RUBRIC", "a judge model gives it at least 7 of 10; judge[8]: sets the bar"),
    "reward": (
        "reward:MODEL",
        "a reward model (docs/rlhf.md) scores it at least 0.5; reward[0.7]: sets the bar",
    ),
    "any": ("any(A; B)", "at least one of these checks passes"),
    "all": ("all(A; B)", "every one of these checks passes; 2*A gives a check twice the weight"),
}
"""Kind -> (form, description). The order is the order in which help lists them."""

COMPUTED = (
    "words",
    "sentences",
    "characters",
    "paragraphs",
    "contains",
    "lacks",
    "matches",
    "starts",
    "ends",
    "json",
    "number",
    "any",
    "all",
)
"""The kinds that compute on the answer's text alone: they run nothing, read no file and ask no model.

Only these are taken from a stranger. `language` and `ifeval` open a model, `json-schema`, `judge`
and `reward` files.
"""
