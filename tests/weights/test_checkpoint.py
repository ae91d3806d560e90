from __future__ import annotations

import json
import os
import pickle
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from redraft.errors import ModelError, UsageError
from redraft.weights.checkpoint import MAX_JSON, Checkpoint, ahead, open_checkpoint, read_json
from redraft.weights.header import (
    MAX_HEADER,
    TensorInfo,
    dtype_name,
    read_safetensors_header,
    safetensors_header,
    torch_dtype,
)
from tests.weights.model_files import bits, same_bits, saved

INDEX, PART, OTHER = "model.safetensors.index.json", "part.safetensors", "other.safetensors"
OUTSIDE = ("../part.safetensors", "/etc/part.safetensors", "sub/part.safetensors", "./part.safetensors")
OUTSIDE += ("part.safetensors/", "..", "", "part.bin", "part.py", 7, None, ["part.safetensors"])
NAMES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "BOOL", "C64")
NAMES += ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")


def header(entries: Any, data: bytes = b"") -> bytes:
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path, **options)
    return caught.value.message


class TestDtypes:
    @pytest.mark.parametrize("name", NAMES)
    def test_names_and_sizes_are_those_of_safetensors_and_torch(self, tmp_path: Path, name: str) -> None:
        tensor = bits((3,), torch_dtype(name), 0)
        safetensors.torch.save_file({"t": tensor}, tmp_path / "m.safetensors")
        [found], _ = read_safetensors_header(tmp_path / "m.safetensors")
        assert (found.dtype, found.size) == (name, tensor.nbytes)
        assert dtype_name(tensor.dtype) == name
        assert dtype_name(torch.complex128) is None


class TestReading:
    @given(
        shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=4),
        dtypes=st.lists(st.sampled_from(NAMES), min_size=4, max_size=4),
        piece=st.integers(1, 40),
    )
    def test_the_pieces_make_the_whole(
        self, tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], dtypes: list[str], piece: int
    ) -> None:
        path = tmp_path_factory.mktemp("c") / "model.safetensors"
        every = {
            f"t{i}": bits(shape, torch_dtype(dtype), i)
            for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False))
        }
        safetensors.torch.save_file(every, path)
        checkpoint = open_checkpoint(path.parent)
        assert checkpoint.size == sum(each.nbytes for each in every.values())
        for name, tensor in every.items():
            info = checkpoint.tensors[name]
            assert (info.shape, torch_dtype(info.dtype)) == (tuple(tensor.shape), tensor.dtype)
            cuts = list(checkpoint.chunks(name, piece))
            flat = tensor.reshape(-1)
            assert same_bits(torch.cat([flat[:0], *(checkpoint.read(name, *cut) for cut in cuts)]), flat)
            checkpoint.read(name).zero_()
            assert same_bits(checkpoint.read(name), flat)

    @given(rows=st.integers(0, 40), width=st.integers(1, 40), size=st.integers(2, 200))
    def test_pieces_are_whole_rows_where_a_row_fits(self, rows: int, width: int, size: int) -> None:
        tensor = TensorInfo("t", "F16", (rows, width))
        cuts = list(Checkpoint(Path(), Path(), (), {"t": tensor}).chunks("t", size))
        assert [start for start, _ in cuts[1:]] == [stop for _, stop in cuts[:-1]]
        assert sum(stop - start for start, stop in cuts) == rows * width
        assert all(0 < 2 * (stop - start) <= size for start, stop in cuts)
        if width * 2 <= size:
            assert all(start % width == 0 for start, _ in cuts)

    def test_shards_by_their_index(self, tmp_path: Path) -> None:
        for number in (2, 1):
            file = tmp_path / f"part-{number}.safetensors"
            safetensors.torch.save_file({f"t{number}": torch.ones(1)}, file)
        weight_map = {"t1": "part-1.safetensors", "t2": "part-2.safetensors"}
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        (tmp_path / "model.safetensors").write_bytes(b"not looked at: the index says what counts")
        checkpoint = open_checkpoint(tmp_path)
        assert checkpoint.files == ("part-1.safetensors", "part-2.safetensors")
        assert {name: each.file for name, each in checkpoint.tensors.items()} == weight_map
        assert list(checkpoint.tensors) == ["t1", "t2"]

    def test_a_file_that_becomes_shorter(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        safetensors.torch.save_file({"t": torch.ones(100)}, path)
        checkpoint = open_checkpoint(tmp_path)
        os.truncate(path, path.stat().st_size - 4)
        with pytest.raises(ModelError, match="became shorter while it was read"):
            checkpoint.read("t")


class TestHeader:
    @given(
        st.dictionaries(
            st.text(max_size=8).filter(lambda name: name != "__metadata__"),
            st.tuples(st.sampled_from(NAMES), st.lists(st.integers(0, 3), max_size=3)),
            max_size=5,
        )
    )
    def test_what_is_written_is_what_safetensors_reads(
        self, tensors: dict[str, tuple[str, list[int]]]
    ) -> None:
        infos = [TensorInfo(name, dtype, tuple(shape)) for name, (dtype, shape) in tensors.items()]
        raw = safetensors_header(infos, {"by": "redraft"}) + bytes(sum(info.size for info in infos))
        assert len(raw) % 8 == sum(info.size for info in infos) % 8
        assert {name: tuple(each.shape) for name, each in safetensors.torch.load(raw).items()} == {
            info.name: info.shape for info in infos
        }

    @pytest.mark.parametrize(
        "raw",
        [
            b"", b"1234567", struct.pack("<Q", 1 << 42),
            struct.pack("<Q", (1 << 64) - 1) + b"{}",
            struct.pack("<Q", 3) + b"{}", header(b"\xff\xfe"), header(b"[" * 100_000), header([]),
            header(b'{"t": 1, "t": 2}'), header({"__metadata__": {"a": 1}}), header({"t": None}),
            header({"t": entry("F4")}), header({"t": entry(shape=[-2])}),
            header({"t": entry(shape=[1] * 65, offsets=[0, 4])}, bytes(4)),
            header({"t": entry(shape=[1 << 62, 1 << 62])}),
            header({"t": entry(offsets=[8, 0])}),
            header({"t": entry()}, bytes(7)), header({"t": entry()}, bytes(9)),
            header({"t": entry(offsets=[8, 16])}, bytes(16)),
            header({"t": entry(), "u": entry()}, bytes(8)),
        ],
    )  # fmt: skip
    def test_what_cannot_be(self, tmp_path: Path, raw: bytes) -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(raw)
        assert refused(tmp_path).startswith(f"{path} is not a valid safetensors file: ")

    def test_a_header_of_terabytes_in_a_large_file(self, tmp_path: Path) -> None:
        with (tmp_path / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", MAX_HEADER + 1))
            file.truncate(MAX_HEADER * 100)  # a sparse file: it takes no room
        assert "its header claims 67,108,865 bytes" in refused(tmp_path)

    @given(
        at=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
        length=st.integers(0, 300),
    )
    @example(at=[], length=300)
    def test_any_damage_is_refused_or_read(
        self, tmp_path_factory: pytest.TempPathFactory, at: list[tuple[int, int]], length: int
    ) -> None:
        every = {"a": torch.ones(3), "b": torch.ones(2, 2, dtype=torch.bfloat16)}
        raw = bytearray(safetensors.torch.save(every)[:length])
        for place, byte in at:
            if raw:
                raw[place % len(raw)] = byte
        path = tmp_path_factory.mktemp("d") / "model.safetensors"
        path.write_bytes(raw)
        try:
            checkpoint = open_checkpoint(path)
        except ModelError:
            return
        for name in checkpoint.tensors:
            assert len(checkpoint.read(name)) == checkpoint.tensors[name].count


class TestFolder:
    def index(self, folder: Path, weight_map: Any) -> Path:
        safetensors.torch.save_file({"t": torch.ones(2)}, folder / "part.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        return folder

    def test_what_is_no_checkpoint(self, tmp_path: Path) -> None:
        assert refused(tmp_path / "none") == f"there is no {tmp_path / 'none'}."
        assert "It contains: nothing." in refused(tmp_path)
        (tmp_path / "m.pt").touch()
        assert "It contains: m.pt." in refused(tmp_path)
        assert "must end in .safetensors or .bin" in refused(tmp_path / "m.pt")

    @pytest.mark.parametrize(
        ("weight_map", "says"),
        [
            *((odd, f"{INDEX} has no weight_map.") for odd in (None, [], {}, "t", 3)),
            ({"t": PART, "u": "gone.safetensors"}, "lacks gone.safetensors: its index names 2 files, but 1"),
            ({"t": PART, "u": PART}, f": the index says that 'u' is in {PART}, but that file lacks it."),
            ({"t": PART, "u": OTHER}, f"the tensor 't' is in {OTHER} and in {PART}"),
            ({"t": "a\0.safetensors"}, "lacks "),
            ({"t": "x" * 300 + ".safetensors"}, "lacks "),
            *(({"t": odd}, f" assigns 't' to {odd!r}, which is not the name of a") for odd in OUTSIDE),
        ],
    )
    def test_an_index_that_cannot_be(self, tmp_path: Path, weight_map: Any, says: str) -> None:
        safetensors.torch.save_file({"t": torch.ones(2), "u": torch.ones(1)}, tmp_path / OTHER)
        assert says in refused(self.index(tmp_path, weight_map))

    def test_halves_of_characters(self, tmp_path: Path) -> None:
        assert "has a lone surrogate" in refused(self.index(tmp_path, {"t": "\ud800.safetensors"}))
        (tmp_path / "odd.safetensors").write_bytes(header({"\ud800": entry("U8", [0], [0, 0])}))
        assert "is not a valid safetensors file" in refused(tmp_path / "odd.safetensors")
        torch.save({"\ud800": torch.zeros(1)}, tmp_path / "odd.bin")
        assert "a tensor's name has a lone surrogate" in refused(tmp_path / "odd.bin", allow_pickle=True)
        (tmp_path / "raw.json").write_bytes(b'{"a": "\xed\xa0\x80"}')
        with pytest.raises(ModelError, match="is not JSON"):
            read_json(tmp_path / "raw.json")

    def test_loops_of_links(self, tmp_path: Path) -> None:
        loop = tmp_path / "loop"
        loop.symlink_to("loop")
        assert refused(loop) == f"{loop} cannot be read: Too many levels of symbolic links."
        self.index(tmp_path, {"t": "a.safetensors"})
        (tmp_path / "a.safetensors").symlink_to("a.safetensors")
        assert "lacks a.safetensors" in refused(tmp_path)
        (tmp_path / "config.json").symlink_to("config.json")
        with pytest.raises(ModelError, match=r"config.json cannot be read: Too many levels"):
            read_json(tmp_path / "config.json")
        (tmp_path / "round").symlink_to(".")
        safetensors.torch.save_file({"t": torch.ones(2)}, tmp_path / "a.bin.safetensors")
        assert "lacks a.safetensors" in refused(tmp_path / "round" / "round" / "round")

    def test_links_to_what_never_ends(self, tmp_path: Path) -> None:
        for name in ("model.safetensors", "config.json"):
            (tmp_path / name).symlink_to("/dev/zero")
        assert "config.json is a link to /dev/zero, outside of its folder" in refused(tmp_path)
        with pytest.raises(ModelError, match=r"config.json is a link to /dev/zero"):
            read_json(tmp_path / "config.json")

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "model.safetensors")
        assert "is not a regular file" in refused(tmp_path)
        os.mkfifo(tmp_path / "w.bin")
        self.index(tmp_path, {"t": "part.safetensors"})
        (tmp_path / "part.safetensors").unlink()
        os.mkfifo(tmp_path / "part.safetensors")
        assert "is not a regular file" in refused(tmp_path)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "contains a list, not an object"),
        (None, "exceeds 64 MiB"),
    ],
)
def test_json_that_is_no_object(tmp_path: Path, raw: bytes | None, says: str) -> None:
    assert read_json(tmp_path / "config.json") == {}
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(MAX_JSON + 1) if raw is None else file.write(raw)
    with pytest.raises(ModelError, match=says):
        read_json(tmp_path / "config.json")
    with pytest.raises(ModelError, match="is not a regular file"):
        read_json(tmp_path)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


class TestPickles:
    def at(self, folder: Path, raw: bytes) -> Path:
        (folder / "pytorch_model.bin").write_bytes(raw)
        return folder

    @pytest.mark.parametrize("newer", [True, False])
    def test_read_where_it_is_allowed(self, tmp_path: Path, newer: bool) -> None:
        every = {
            "a": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
            "turned": torch.arange(6).reshape(2, 3).t(),
            "over": torch.arange(4).unfold(0, 2, 1)[1:],
            "trained": torch.nn.Parameter(torch.ones(2)),
            "steps": 7,
        }
        self.at(tmp_path, saved(every, _use_new_zipfile_serialization=newer))
        with pytest.raises(UsageError) as caught:
            open_checkpoint(tmp_path)
        assert str(caught.value.hint).endswith(": --allow-pickle")
        checkpoint = open_checkpoint(tmp_path, allow_pickle=True)
        assert set(checkpoint.tensors) == {"a", "turned", "over", "trained"}
        assert checkpoint.read("a", 1, 4).tolist() == [1, 2, 3]
        assert checkpoint.read("turned").tolist() == [0, 3, 1, 4, 2, 5]
        assert checkpoint.read("over").tolist() == [1, 2, 2, 3]
        assert checkpoint.read("trained").numpy().tolist() == [1, 1]

    def test_safetensors_are_preferred(self, tmp_path: Path) -> None:
        self.at(tmp_path, b"not looked at")
        safetensors.torch.save_file({"t": torch.ones(2)}, tmp_path / "model.safetensors")
        assert open_checkpoint(tmp_path, allow_pickle=True).files == ("model.safetensors",)

    @pytest.mark.parametrize("form", ["new", "old", "plain"])
    def test_code_does_not_run(self, tmp_path: Path, form: str) -> None:
        mark = tmp_path / "was-here"
        value = {"t": torch.ones(2), "e": Evil(mark)}
        raw = saved(value, _use_new_zipfile_serialization=form == "new")
        raw = pickle.dumps(value["e"]) if form == "plain" else raw
        message = refused(self.at(tmp_path, raw), allow_pickle=True)
        assert not mark.exists()
        if form == "plain":
            pickle.loads(raw)  # noqa: S301 - it would have run elsewhere
            assert mark.exists()
        else:
            assert "pytorch_model.bin contains more than tensors and was not loaded" in message
            assert "mkdir" in message

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ({"t": torch.eye(2).to_sparse()}, "the tensor 't' is sparse or has no values"),
            ({"t": torch.ones(2, device="meta")}, "the tensor 't' is sparse or has no values"),
            ({"t": torch.ones(1).expand(10**12)}, "the tensor 't' claims more elements than the file"),
            ({"t": torch.ones(2, dtype=torch.complex128)}, "has the dtype torch.complex128"),
            ({"state_dict": {"t": torch.ones(2)}}, "contains a dict without named tensors"),
            ([torch.ones(2)], "contains a list without named tensors"),
            (None, "contains a NoneType without named tensors"),
        ],
    )
    def test_what_is_not_weights(self, tmp_path: Path, value: Any, says: str) -> None:
        with warnings.catch_warnings(action="ignore"):  # torch: sparse tensors are in beta
            assert says in refused(self.at(tmp_path, saved(value)), allow_pickle=True)

    @given(
        places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
        newer=st.booleans(),
    )
    def test_any_damage_is_refused_or_read(
        self, tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]], newer: bool
    ) -> None:
        every = {"a": torch.ones(3), "b": torch.ones(2, 2)}
        raw = bytearray(saved(every, _use_new_zipfile_serialization=newer))
        for at, byte in places:
            raw[at % min(len(raw), 500)] = byte
        folder = self.at(tmp_path_factory.mktemp("p"), bytes(raw))
        with warnings.catch_warnings(action="ignore"):
            try:
                checkpoint = open_checkpoint(folder, allow_pickle=True)
            except ModelError:
                return
            for name in checkpoint.tensors:
                checkpoint.read(name)


# Reading ahead.


@given(items=st.lists(st.integers()))
def test_the_same_items_in_the_same_order(items: list[int]) -> None:
    assert list(ahead(iter(items))) == items


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_whoever_stops_early_stops_the_thread() -> None:
    made: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            made.append(1)
            yield 1

    before = threading.active_count()
    items = ahead(endless())
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]
    count = len(made)
    assert threading.active_count() == before
    assert len(made) == count <= 5
