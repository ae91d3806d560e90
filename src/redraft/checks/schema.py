"""Validate answers against JSON Schemas, in limited time for any answer.

A model's answer may be hostile. Searches for patterns and whole validations have time limits, and
`uniqueItems` takes linear time. Nothing is fetched. `format` is not checked: the standard allows this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import cache, lru_cache
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any

from redraft.checks import pattern as patterns
from redraft.checks.pattern import BACKTRACKS, BadPattern, compiled, late, search, within
from redraft.errors import CheckSyntaxError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from referencing._core import Resolver
    from referencing.jsonschema import Schema, SchemaResource

SCHEMA_SECONDS = 10.0
"""The time limit of a validation, and of checking a schema. The limit is tested before each keyword."""

MAX_UNEVALUATED = 10_000
"""The most entries for `unevaluatedItems` and `unevaluatedProperties`, which take quadratic time."""

MOST_PARTS = 10_000  # most parts of a schema that `impossible` looks at
_NAMED = ("$defs", "definitions")
MOST_WAYS = 40  # most parts of a schema that may describe an inner value
OPEN = {"allOf", "anyOf", "oneOf", "$ref", "patternProperties", "unevaluatedProperties"}  # may add fields
MOST_WRITTEN = 500_000  # items, names or characters: no model writes more

_WITHOUT_LIMIT = {"unevaluatedProperties", "patternProperties"}
"""Keywords that together make jsonschema search for patterns without a time limit."""

Keyword = Callable[[Any, Any, Any, Any], Iterable[Any] | None]


class GivenUp(Exception):
    """Raised if validation is stopped. `reason` says why, and `hint` says how to change the schema."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


def validator_of(schema: Schema, name: str) -> Validator:
    """Return a schema's validator. An unusable schema raises `CheckSyntaxError` about the check `name`."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing.exceptions import NoSuchAnchor, Unresolvable

    hint = "Give a schema that is complete in one file."
    try:
        kind = validator_for(schema, default=Draft202012Validator)
        with within(SCHEMA_SECONDS):
            found = _checked(kind, schema, name)
        if not impossible(schema):
            return found
        problem = "no JSON fits it: a required part allows no value, is too long, or contains itself"
        hint = "Look for `not`, `false`, a type within itself, minimum > maximum, minLength > 500,000."
    except SchemaError as error:
        fault = error.context[0] if error.context else error
        problem = f"it is not a JSON Schema: {fault.json_path}: {fault.message}"
    except Unresolvable as error:
        ref = f"{error.ref}#{error.anchor}" if isinstance(error, NoSuchAnchor) else error.ref
        problem = f"it refers to {ref!r}, which is not in the file. Other files are not read"
    except RecursionError:
        problem = "it refers to itself without end"
    except GivenUp as error:
        problem = f"checking it takes too long: {error.reason}"
    except BadPattern as error:
        problem, hint = str(error), "Patterns use the syntax of the Python package 'regex'."
    raise CheckSyntaxError(f"{name}: {problem}.", hint=hint)


@lru_cache(512)
def fault_of(text: str) -> tuple[str, str] | None:
    """Return the path and description of a fault in a JSON Schema, such as (".type", "'x' is not one of …").

    Return None if the schema is valid by some draft, or if checking takes too long.
    """
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft4Validator, Draft7Validator, Draft202012Validator
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

    def stated(part: dict[str, Any]) -> dict[str, Any]:
        """Leave out nulls, which count as missing, and empty lists, which not all drafts allow."""
        return {name: each for name, each in part.items() if each is not None and each != []}

    schema: Any = json.loads(text, object_hook=stated)
    fault: Any = None
    for kind in (Draft4Validator, Draft7Validator, Draft202012Validator):
        with suppress(GivenUp, RecursionError):
            fault = best_match(_limited(kind)(kind.META_SCHEMA, registry=REGISTRY).iter_errors(schema))
        if fault is None:
            return None
    fault = fault.context[0] if fault.context else fault
    return fault.json_path[1:], fault.message


def impossible(schema: Any) -> bool:
    """Return whether no JSON fits a schema. Some contradictions are missed."""
    return _Impossible(schema).part(schema, ())


class _Impossible:
    def __init__(self, schema: Any) -> None:
        self._whole, self._looked = schema, 0

    def part(self, part: Any, within: tuple[str, ...]) -> bool:
        """Return whether no JSON fits a part of the schema, such as a type that must contain itself."""
        self._looked += 1
        if not isinstance(part, Mapping) or self._looked > MOST_PARTS:
            return part is False
        reference = part.get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            target = target_of(self._whole, reference)
            if reference in within or self.part(target, (*within, reference)):
                return True
        if part.get("enum") == [] or ("not" in part and part["not"] in ({}, True)):
            return True
        ways = (part[name] for name in ("anyOf", "oneOf") if name in part)
        if any(all(self.part(way, within) for way in each) for each in ways):
            return True
        if any(self.part(each, within) for each in part.get("allOf", ())):
            return True
        kinds = part.get("type", ())
        kinds = (kinds,) if isinstance(kinds, str) else kinds
        return bool(kinds) and all(self._kind(kind, part, within) for kind in kinds)

    def _kind(self, kind: str, part: Mapping[str, Any], within: tuple[str, ...]) -> bool:
        low, high = {
            "string": ("minLength", "maxLength"),
            "array": ("minItems", "maxItems"),
            "object": ("minProperties", "maxProperties"),
        }.get(kind, ("minimum", "maximum"))
        most = part.get(high, inf) if low == "minimum" else min(part.get(high, inf), MOST_WRITTEN)
        if part.get(low, -inf) > most:
            return True
        if kind == "array" and (fewest := int(part.get("minItems", 0))):
            first = list(part.get("prefixItems", ()))[:fewest]
            rest = [part.get("items", True)] * (fewest > len(first))
            return any(self.part(each, within) for each in (*first, *rest))
        if kind == "object":
            given, others = part.get("properties", {}), part.get("additionalProperties", True)
            others = True if "patternProperties" in part else others
            return any(self.part(given.get(name, others), within) for name in part.get("required", ()))
        return False


def schema_at(schema: Any, keys: Sequence[str]) -> tuple[int, Any] | None:
    """Follow `keys` into a schema. Return the number of keys followed, and the schema of the value there.

    Stop at a key that the schema does not describe. The schema of a forbidden value is False. Return None if
    the schema has references that cannot be followed.
    """
    part, used = schema, 0
    for key in keys:
        within = _within(schema, part, key)
        if within is False:
            return used + 1, False
        if not isinstance(within, Mapping):
            break
        part, used = within, used + 1
    named = {name: schema[name] for name in _NAMED if isinstance(schema, Mapping) and name in schema}
    references = re.findall(r'"\$(?:\w+R|r)ef": "([^"]*)"', json.dumps([part, named]))
    if not all(each.startswith(tuple(f"#/{name}/" for name in _NAMED)) for each in references):
        return None
    return used, {**part, **named}


def object_of(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the schema of an object. `parts` maps each property to a schema from `schema_at`."""
    named = {name: part for each in parts.values() for name, part in each.items() if name in _NAMED}
    values = {name: {k: v for k, v in each.items() if k not in _NAMED} for name, each in parts.items()}
    told = {"type": "object", "properties": values, "required": [*values], "additionalProperties": False}
    return told | named


def _within(schema: Any, part: Any, key: str) -> Any:
    # The branches of a union that describe the value have to agree.
    parts, found = [part], list[Any]()
    for each in parts:
        if not isinstance(each, Mapping) or len(parts) > MOST_WAYS:
            continue
        parts += [way for name in ("allOf", "anyOf", "oneOf") for way in each.get(name, ())]
        parts += [target_of(schema, str(each["$ref"]))] if "$ref" in each else []
        first = each.get("prefixItems", ())
        if key in each.get("properties", {}):
            found.append(each["properties"][key])
        elif key.isdecimal() and ("items" in each or first):
            found.append(first[int(key)] if int(key) < len(first) else each.get("items"))
        elif "patternProperties" not in each:
            found.append(each.get("additionalProperties"))
    said = [each for each in found if isinstance(each, Mapping)]
    said = [each for each in said if each] or said
    one = said and all(each == said[0] for each in said)
    return said[0] if one else False if not said and False in found else None


def target_of(schema: Any, reference: str) -> Any:
    """Return the part of a schema to which an internal reference points, or None."""
    for step in reference.split("/")[1:]:
        schema = schema.get(step) if isinstance(schema, Mapping) else None
    return schema


def _checked(kind: Any, schema: Schema, name: str) -> Validator:
    from jsonschema.exceptions import SchemaError
    from jsonschema_specifications import REGISTRY
    from referencing.jsonschema import DRAFT202012, SchemaResource

    limited = _limited(kind)
    for fault in limited(kind.META_SCHEMA, registry=REGISTRY).iter_errors(schema):
        raise SchemaError.create_from(fault)
    resource = SchemaResource.from_contents(schema, default_specification=DRAFT202012)
    if _inspect(resource, REGISTRY.resolver_with_root(resource)) >= _WITHOUT_LIMIT:
        message = f"{name}: unevaluatedProperties together with patternProperties is not supported."
        hint = "Use additionalProperties, not unevaluatedProperties; or properties, not patternProperties."
        raise CheckSyntaxError(message, hint=hint)
    validator: Validator = limited(schema, registry=REGISTRY)
    _ = faults(validator, {}, 1), faults(validator, [], 1), faults(validator, "", 1)
    return validator


def faults(validator: Validator, value: Any, most: int) -> list[Any]:
    """Return up to `most` `ValidationError`s of a value. Raise `GivenUp` if validation takes too long."""
    with within(SCHEMA_SECONDS):
        return list(islice(validator.iter_errors(value), most))


def _inspect(resource: SchemaResource, resolver: Resolver[Schema]) -> set[str]:
    _check_time()
    contents, keywords = resource.contents, set[str]()
    if isinstance(contents, Mapping):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(contents.get(key), str):
                resolver.lookup(contents[key])
        for pattern in [*contents.get("patternProperties", {}), *filter(None, [contents.get("pattern")])]:
            try:
                compiled(pattern)
            except BadPattern as problem:
                raise BadPattern(f"the pattern {pattern:.80} is not usable: {problem}") from None
        keywords.update(contents)
    for part in resource.subresources():
        keywords |= _inspect(part, resolver.in_subresource(part))
    return keywords


@cache
def _limited(kind: Any) -> Any:
    from jsonschema.validators import extend

    ours: dict[str, Keyword] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "multipleOf": _multiple_of,
        "uniqueItems": _unique_items,
    }
    keywords = {name: ours.get(name, keyword) for name, keyword in kind.VALIDATORS.items()}
    return extend(kind, {name: _timed(name, keyword) for name, keyword in keywords.items()})  # type: ignore[no-untyped-call]


def _check_time() -> None:
    if reason := late():
        raise GivenUp(reason, "Look for nested anyOf, allOf and $ref in the schema.")


def _timed(name: str, keyword: Keyword) -> Keyword:
    unevaluated = name.startswith("unevaluated")

    def within(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[Any] | None:
        _check_time()
        if unevaluated and isinstance(instance, list | dict) and len(instance) > MAX_UNEVALUATED:
            message = f"{name} can be checked only in values of at most {MAX_UNEVALUATED:,} entries"
            raise GivenUp(message, "Limit the entries with maxItems or maxProperties.")
        return keyword(validator, value, instance, schema)

    return within


def _found(pattern: str, text: str) -> bool:
    try:
        return bool(search(pattern, text))
    except TimeoutError:
        reason = f"the search for {pattern:.80} took longer than {patterns.REGEX_SECONDS:g} s"
        raise GivenUp(reason, BACKTRACKS) from None


def _fault(message: str, *path: int) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message, path=path)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    if validator.is_type(instance, "string") and not _found(pattern, instance):
        yield _fault(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, parts: Any, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    if not validator.is_type(instance, "object"):
        return
    for pattern, part in parts.items():
        for key, value in instance.items():
            if _found(pattern, key):
                yield from validator.descend(value, part, path=key, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object") or allowed is True:
        return
    regexes = schema.get("patternProperties", {})
    known = schema.get("properties", {})
    extras = [key for key in instance if key not in known and not any(_found(p, key) for p in regexes)]
    if allowed is not False:
        for key in extras:
            yield from validator.descend(instance[key], allowed, path=key)
    elif extras:
        names, one = ", ".join(map(repr, sorted(extras))), len(extras) == 1
        if regexes:
            patterns = ", ".join(map(repr, sorted(regexes)))
            yield _fault(f"{names} {'does' if one else 'do'} not match any of the regexes: {patterns}")
        else:
            unexpected = f"{names} {'was' if one else 'were'} unexpected"
            yield _fault(f"Additional properties are not allowed ({unexpected})")


def _multiple_of(validator: Any, factor: Any, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    if not validator.is_type(instance, "number"):
        return
    if abs(instance) == float("inf") or (Fraction(str(instance)) / Fraction(str(factor))).denominator != 1:
        yield _fault(f"{instance!r} is not a multiple of {factor}")


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    seen = set[Hashable]()
    for place, item in enumerate(instance if unique and validator.is_type(instance, "array") else ()):
        if (known := identity(item)) in seen:
            yield _fault(f"{item!r} is repeated", place)
        seen.add(known)


def identity(value: Any) -> Hashable:
    """Return a hashable value that is equal for equal JSON: `1` equals `1.0`, but does not equal `true`."""
    if isinstance(value, dict):
        return "object", frozenset((key, identity(part)) for key, part in value.items())
    if isinstance(value, list):
        return "array", tuple(map(identity, value))
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if numeric else type(value), value
