from __future__ import annotations

import pytest

from redraft.jobs.licences import Source, clash, ids_of, origin_of, remark


@pytest.mark.parametrize(
    ("one", "other", "ids"),
    [
        ("Apache-2.0", "apache 2.0", ["apache-2.0"]),
        ("CC BY-NC 4.0", "MIT, CC BY 4.0", ["cc-by-4.0", "cc-by-nc-4.0", "mit"]),
        ("MIT AND BSD-3-Clause", "", ["bsd-3-clause", "mit"]),
    ],
)
def test_licences_are_put_together_by_name(one: str, other: str, ids: list[str]) -> None:
    assert list(ids_of([Source("base", "a", one), Source("data", "b", other)])) == ids


@pytest.mark.parametrize(
    ("licences", "clashes", "said"),
    [
        (("MIT", "mit"), False, ""),
        (("unknown",), False, ""),
        (("MIT", "unknown"), False, "a source's licence is unknown: mit (data 0); unknown (data 1). So the"),
        (("MIT", "Apache-2.0"), True, "licences: apache-2.0 (data 1); mit (data 0). So"),
        (("CC BY-NC 4.0",), True, "the licence is cc-by-nc-4.0 (data 0). Commercial use is forbidden by "),
        (("CC BY-NC 4.0",) * 6, True, "(data 0, data 1, data 2, data 3 and 2 more)"),
    ],
)
def test_what_is_said_of_several(licences: tuple[str, ...], clashes: bool, said: str) -> None:
    sources = [Source("data", str(number), name) for number, name in enumerate(licences)]
    assert clash(sources) is clashes
    assert said in remark(sources)
    assert bool(said) is bool(remark(sources))


@pytest.mark.parametrize(
    ("meta", "found"),
    [
        ({"origin": {"dataset": "gsm8k", "licence": "MIT"}}, ("gsm8k", "MIT")),
        ({"origin": {"dataset": 7, "licence": ["MIT", "CC0"]}}, ("file", "MIT, CC0")),
        (
            {"origin": {"licence": [*("CC BY 4.0",) * 9, "CC BY-NC 4.0"]}},
            ("file", f"{'CC BY 4.0, ' * 9}CC BY-NC 4.0"),
        ),
        ({"origin": {"licence": "word " * 20 + ", and more"}}, ("file", ("word " * 20)[:80])),
        ({"origin": "somewhere"}, ("file", "unknown")),
    ],
)
def test_the_origin_of_a_record(meta: dict[str, object], found: tuple[str, str]) -> None:
    assert origin_of(meta, "file") == found


def test_a_source_is_named_once_however_its_licence_is_spelled() -> None:
    twice = [
        Source("data", "a", "CC-BY-4.0, cc-by-4.0"),
        Source("data", "a", "cc-by 4.0"),
        Source("base", "b", "MIT"),
    ]
    assert (remark(twice).count("data a"), remark(twice).count("cc-by-4.0")) == (1, 1)
