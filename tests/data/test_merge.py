"""Mixes: recipes and their errors, how many records of each part, which, in what order."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.data.merge import MixPart, MixRecipe, Taken, mix, read_recipe, sources_in
from redraft.data.output import DataOutput, DataRun, Dropped
from redraft.errors import RecordError, UsageError
from redraft.jobs.licences import OTHERS, remark
from redraft.jobs.progress import RecordProgress
from tests.cli.verbs import write


def questions(count: int, **more: Any) -> list[Any]:
    return [{"instruction": f"Question {i}?", "output": f"{i}", **more} for i in range(count)]


def mixed(
    recipe: MixRecipe, folder: Path, *, skip_missing: bool = False, workers: int = 1, strict: bool = False
) -> tuple[list[dict[str, Any]], list[Taken], Dropped]:
    sink, run = io.BytesIO(), DataRun(Path("-"), workers=workers, strict=strict)
    output = DataOutput(run, sink, Dropped(), RecordProgress(quiet=True))
    taken = mix(recipe, folder, output, skip_missing=skip_missing)
    return [json.loads(line) for line in sink.getvalue().splitlines()], taken, output.gone


def counts(records: list[dict[str, Any]]) -> Counter[str]:
    return Counter(record["meta"]["origin"]["dataset"] for record in records)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    write(tmp_path / "a.jsonl", questions(300))
    write(tmp_path / "b.jsonl", questions(50))
    return tmp_path


def part(name: str, **more: Any) -> MixPart:
    return MixPart(file=f"{name}.jsonl", name=name).model_copy(update=more)


def mix_of(*parts: MixPart, seed: int = 0) -> MixRecipe:
    return MixRecipe(parts=parts, seed=seed)


BOTH = mix_of(part("a", count=100, licence="MIT"), part("b"), seed=1)


def test_so_many_of_each_part_none_twice_and_all_mixed(parts: Path) -> None:
    records, taken, _ = mixed(BOTH, parts)
    assert counts(records) == {"a": 100, "b": 50}
    assert len({record["id"] for record in records}) == 150
    assert [(each.found, each.count, each.short) for each in taken] == [(300, 100, 0), (50, 50, 0)]
    assert 15 <= counts(records[:75])["b"] <= 35


def test_a_seed_decides_which_and_in_which_order(parts: Path) -> None:
    ids = [[record["id"] for record in mixed(mix_of(*BOTH.parts, seed=seed), parts)[0]] for seed in (1, 1, 2)]
    assert ids[0] == ids[1]
    assert set(ids[0]) != set(ids[2])
    of_b = [[name for name in some if name.startswith("b/")] for some in ids]
    assert of_b[0] != of_b[2]
    assert sorted(of_b[0]) == sorted(of_b[2])


def test_one_part_does_not_change_the_draw_of_another(parts: Path) -> None:
    alone, _, _ = mixed(mix_of(BOTH.parts[0], seed=1), parts)
    both, _, _ = mixed(BOTH, parts)
    assert alone == [record for record in both if record["id"].startswith("a/")]


def test_the_draw_favours_no_place_in_the_file(parts: Path) -> None:
    drawn: Counter[int] = Counter()
    for seed in range(20):
        drawn.update(
            int(record["id"].split("/")[1]) // 100
            for record in mixed(mix_of(BOTH.parts[0], seed=seed), parts)[0]
        )
    assert all(560 <= drawn[third] <= 775 for third in range(3))  # 2,000 draws


def test_any_number_of_workers_writes_the_same(parts: Path) -> None:
    assert mixed(BOTH, parts, workers=1)[0] == mixed(BOTH, parts, workers=3)[0]


def test_so_many_of_each_task(tmp_path: Path) -> None:
    records = [{"inputs": f"{i}", "targets": "x", "task": f"task {i % 7}"} for i in range(100)]
    write(tmp_path / "flan.jsonl", [*records, {"inputs": "?", "targets": "x"}])
    drawn, (taken,), dropped = mixed(mix_of(part("flan", count=15, per="task")), tmp_path)
    tasks = Counter(record["meta"]["source"]["task"] for record in drawn)
    assert (sorted(tasks.values()), taken.short) == ([14] * 5 + [15] * 2, 5)
    assert dropped.counts == {"no-group": 1}


def test_a_record_that_cannot_be_read_takes_nobodys_place(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", questions(20))
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines()
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*(line[:-3] for line in lines[:10]), *lines[10:]]))
    recipe = mix_of(part("a", count=10))
    records, (taken,), dropped = mixed(recipe, tmp_path)
    assert len(records) == 10
    assert (taken.found, taken.count, dropped.counts) == (20, 10, {"unreadable": 10})
    with pytest.raises(RecordError, match=r"a\.jsonl:1: this is not JSON"):
        mixed(recipe, tmp_path, strict=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_dropped_does_not_depend_on_the_number_of_workers(tmp_path: Path, workers: int) -> None:
    write(tmp_path / "a.jsonl", questions(3000))
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines()
    (tmp_path / "a.jsonl").write_bytes(
        b"\n".join(line[:-3] if place % 10 == 9 else line for place, line in enumerate(lines))
    )
    records, (taken,), dropped = mixed(mix_of(part("a", count=5)), tmp_path, workers=workers)
    assert (len(records), taken.found, dropped.counts) == (5, 3000, {"unreadable": 2})


def test_strict_stops_only_at_what_there_would_be_room_for(tmp_path: Path) -> None:
    recipe = mix_of(part("a", count=1))
    write(tmp_path / "a.jsonl", questions(100))
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines()
    ((drawn,), _, _) = mixed(recipe, tmp_path)
    place = drawn["meta"]["origin"]["record"]
    assert place < 99
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*lines[:-1], b"{"]))
    assert mixed(recipe, tmp_path, strict=True)[0] == [drawn]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*lines[:place], b"{", *lines[place + 1 :]]))
    with pytest.raises(RecordError, match=rf"a\.jsonl:{place + 1}: this is not JSON"):
        mixed(recipe, tmp_path, strict=True)


def test_ids_are_unique_though_files_have_the_same_name(tmp_path: Path) -> None:
    for folder in "xy":
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "train.jsonl", questions(20))
    parts = tuple(MixPart(file=f"{folder}/train.jsonl", name=folder) for folder in "xy")
    records, _, _ = mixed(mix_of(*parts), tmp_path)
    ids = [record["id"] for record in records]
    assert sorted(ids) == sorted(f"train/{i}{again}" for i in range(20) for again in ("", "~2"))
    assert all(ids.index(name) < ids.index(f"{name}~2") for name in ids if "~" not in name)
    assert counts(records) == {"x": 20, "y": 20}


def test_who_the_model_is_needs_no_file(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", questions(5))
    (tmp_path / "mix.yaml").write_text(
        "parts: [{file: a.jsonl}, {identity: {name: Pharos, maker: the harbour office}}]"
    )
    records, (_, taken), _ = mixed(read_recipe(tmp_path / "mix.yaml"), tmp_path)
    ours = [record for record in records if record["meta"]["origin"]["dataset"] == "identity"]
    assert len(ours) == taken.count == taken.found > 30
    assert len({(each["prompt"]["instruction"], each["steps"][0]["answer"]) for each in ours}) == len(ours)
    said = "\n".join(each["prompt"]["instruction"] + " " + each["steps"][0]["answer"] for each in ours)
    assert "Who are you? I am Pharos, a language model that was trained by the harbour office." in said
    assert "Who made you? The harbour office trained me. I am called Pharos." in said
    assert "{" not in said
    assert taken.licences == {"Apache-2.0": taken.count}


def test_where_records_are_from_stays_and_is_put_down_where_nothing_says_so(tmp_path: Path) -> None:
    theirs = {"dataset": "old", "licence": "CC BY-NC 4.0", "file": "x", "record": 3}
    unsure = {"dataset": "older", "licence": "unknown"}
    chains = [
        {"version": 1, "id": f"{i}", "steps": [], "meta": meta}
        for i, meta in enumerate([{"origin": theirs}, {"origin": unsure}, {"origin": "somewhere"}, {}])
    ]
    write(tmp_path / "a.jsonl", chains)
    found, (taken,), _ = mixed(mix_of(part("a", licence="MIT")), tmp_path)
    ours = {"dataset": "a", "licence": "MIT", "file": "a.jsonl"}
    assert {record["id"]: record["meta"]["origin"] for record in found} == {
        "0": theirs,
        "1": {"dataset": "older", "licence": "MIT"},
        "2": {**ours, "record": 2},
        "3": {**ours, "record": 3},
    }
    assert taken.licences == {"CC BY-NC 4.0": 1, "MIT": 3}
    assert remark(sources_in([taken])) == (
        "the sources have different licences: cc-by-nc-4.0 (data a); mit (data a). "
        "So the result's licence is 'other'. Commercial use is forbidden by cc-by-nc-4.0."
    )


def test_missing_files_are_all_named_with_where_to_get_them(parts: Path) -> None:
    recipe = mix_of(part("b"), part("c", licence="MIT", get="c of d/e"), part("f", count=9))
    with pytest.raises(UsageError) as caught:
        mixed(recipe, parts)
    assert f"2 of the recipe's 3 files are not in {parts}" in caught.value.message
    hint = caught.value.hint or ""
    assert "c.jsonl (MIT): c of d/e" in hint
    assert "f.jsonl (unknown): the recipe does not say" in hint
    with pytest.raises(UsageError, match="1 of the recipe's 1 file is not in"):
        mixed(mix_of(part("c")), parts)
    records, taken, _ = mixed(recipe, parts, skip_missing=True)
    assert (len(records), [each.missing for each in taken]) == (50, [False, True, True])
    assert taken[2].short == 9


def test_a_file_of_a_thousand_licences_is_counted_in_bounded_memory(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [
            {
                "version": 1,
                "id": f"{i}",
                "steps": [],
                "meta": {"origin": {"dataset": "a", "licence": f"{i}" + (i == 999) * " NC"}},
            }
            for i in range(1000)
        ],
    )
    _, (taken,), _ = mixed(mix_of(part("a")), tmp_path)
    assert (len(taken.licences), [taken.licences[name] for name in OTHERS]) == (258, [743, 1])
    assert "Commercial use is forbidden by other-licences-non-commercial" in remark(sources_in([taken]))


@settings(max_examples=settings.default.max_examples // 2)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.none() | st.integers(0, 30)), min_size=1, max_size=3),
    st.integers(0, 5),
)
def test_each_part_gives_what_is_asked_or_all_that_it_has(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int | None]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    for i, (there, _) in enumerate(sizes):
        write(folder / f"{i}.jsonl", questions(there))
    recipe = mix_of(*(part(f"{i}", count=asked) for i, (_, asked) in enumerate(sizes)), seed=seed)
    records, taken, _ = mixed(recipe, folder)
    expected = {f"{i}": n if k is None else min(n, k) for i, (n, k) in enumerate(sizes)}
    assert counts(records) == {name: count for name, count in expected.items() if count}
    assert [each.count for each in taken] == list(expected.values())
    assert [each.short for each in taken] == [max((k or 0) - n, 0) for n, k in sizes]


@pytest.mark.parametrize("per", ["lang", "dataset", "licence", "task"])
def test_a_part_is_drawn_by_fields_of_source_origin_and_meta(tmp_path: Path, per: str) -> None:
    def chain(number: int) -> dict[str, Any]:
        value = "ab"[number % 2]
        meta = {"lang": value, "origin": {"dataset": value, "licence": value}, "source": {"task": value}}
        return {"version": 1, "id": str(number), "prompt": {"instruction": "q"}, "steps": [], "meta": meta}

    write(tmp_path / "x.jsonl", [chain(i) for i in range(10)])
    records, [taken], _ = mixed(mix_of(part("x", count=3, per=per)), tmp_path)
    assert (len(records), taken.groups) == (6, 2)


def test_a_field_that_no_record_has_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", questions(3, task="a"))
    with pytest.raises(UsageError, match=r"no record in x\.jsonl has the field 'tsk'"):
        mixed(mix_of(part("x", count=3, per="tsk")), tmp_path)


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_recipe_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(
        written(
            tmp_path,
            """
about: a mix
seed: 7
parts:
  - file: data/a.jsonl.gz
  - {file: b.jsonl, name: bee, count: 10, per: task, licence: MIT, get: somewhere}
""",
        )
    )
    assert (recipe.about, recipe.seed) == ("a mix", 7)
    assert recipe.parts == (
        MixPart(file="data/a.jsonl.gz", name="a"),
        MixPart(file="b.jsonl", name="bee", count=10, per="task", licence="MIT", get="somewhere"),
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("a: [", "is not YAML", None),
        ("seed: 1\nseed: 2", "'seed' appears twice, in lines 1 and 2.", "Keep one of them."),
        ("[]", "a recipe should consist of keys and values", None),
        ("seeds: 1", "no option 'seeds'", "Did you mean 'seed'?"),
        ("seed: 1", "parts is None", "a list of parts, such as [{file: a.jsonl}]"),
        ("parts: []", "parts is an empty list.", "a list of parts"),
        ("parts: [{fil: a}]", "no option 'parts.0.fil'", "Did you mean 'parts.0.file'?"),
        ("parts: [a]", "parts.0 should consist of keys and values", None),
        ("parts: [{name: a}]", "parts.0.file is missing", None),
        ("parts: [{identity: {name: a}}]", "parts.0.identity is a dict", "{name: Pharos, maker: "),
        ("parts: [{identity: {name: a, maker: ' '}}]", "parts.0.identity is a dict", "a name and a maker"),
        ("parts: [{identity: {name: a, maker: 3}}]", "parts.0.identity is a dict", "a name and a maker"),
        ("parts: [{identity: a}]", "parts.0.identity is 'a'", "a name and a maker"),
        ("parts: [{file: a, identity: {name: a, maker: b}}]", "a part may have only one", None),
        ("parts: [{file: 3}]", "parts.0.file is 3", "a text"),
        ("parts: [{file: a, count: 0}]", "parts.0.count is 0", "a whole number above 0, or all"),
        ("parts: [{file: a, count: true}]", "parts.0.count is True", None),
        ("parts: [{file: a, per: task}]", "parts.0.per needs a count", None),
        ("parts: [{file: x/a.jsonl}, {file: y/a.jsonl}]", "two parts are called 'a'", "another name"),
        ("seed: -1\nparts: [{file: a}]", "seed is -1", None),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(written(tmp_path, text))
    assert message in caught.value.message
    assert "recipe.yaml" in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_lists_that_hold_one_another_are_not_shown(tmp_path: Path) -> None:
    bomb = "\n".join(["parts: &l0 []", *(f"x{i}: &l{i} [*l{i - 1}, *l{i - 1}]" for i in range(1, 30))])
    with pytest.raises(UsageError, match="no option 'x1'"):
        read_recipe(written(tmp_path, bomb))
    with pytest.raises(UsageError, match="about is an empty list") as caught:
        read_recipe(written(tmp_path, bomb.replace("parts:", "parts: [{file: a}]\nabout:").split("x1")[0]))
    assert "a text" in (caught.value.hint or "")


def test_a_file_that_cannot_be_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path)
    with pytest.raises(UsageError, match="too large"):
        read_recipe(written(tmp_path, "#" * (1 << 20) + "#"))
