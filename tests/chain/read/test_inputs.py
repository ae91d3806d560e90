from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from redraft.chain.read.files import read_lines
from redraft.chain.read.inputs import inputs_of
from redraft.errors import UsageError
from tests.engines.fake_hub import COMMIT, NOWHERE, publish
from tests.engines.fake_server import FakeServer, Reply, json_reply


def put(path: Path, content: str = '{"prompt": "p"}\n') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_file_is_called_by_its_name(tmp_path: Path) -> None:
    [file] = inputs_of(put(tmp_path / "some" / "train.jsonl.gz"))
    assert file[1:5] == ("train.jsonl.gz", "train", "train", None)


def test_endings_are_of_any_case(tmp_path: Path) -> None:
    put(tmp_path / "data" / "A.CSV", "a,b\n1,2\n")
    put(tmp_path / "data" / "B.JSONL.GZ").write_bytes(gzip.compress(b"{}\n", mtime=0))
    files = inputs_of(tmp_path / "data")
    assert [(file.stem, len(list(file.rows()))) for file in files] == [("data/A", 1), ("data/B", 1)]


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    names = "b/2.json b/10.json a/1.json z.csv LICENSE.txt b/.hidden.json .git/x.json"
    for name in names.split():
        put(tmp_path / "MATH" / name)
    files = inputs_of(tmp_path / "MATH")
    assert [file.name for file in files] == ["z.csv", "a/1.json", "b/10.json", "b/2.json"]
    assert [file.stem for file in files] == ["MATH/z", "MATH/a/1", "MATH/b/10", "MATH/b/2"]
    assert {file.dataset for file in files} == {"MATH"}


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file or folder .*x\.jsonl"):
        inputs_of(tmp_path / "x.jsonl")
    put(tmp_path / "README.md")
    with pytest.raises(UsageError, match=r" contains no file to read.\n.* \.json \.jsonl"):
        inputs_of(tmp_path)


FILES = {
    "README.md": b"# Questions",
    "questions.py": b"raise SystemExit('run')",
    "data/train.jsonl": b'{"question": "q", "answer": "a"}\n',
}


@pytest.fixture
def server(hub: FakeServer, here: Path) -> FakeServer:
    publish(hub, "org/questions", FILES, "datasets", "cc-by-4.0")
    return hub


SETS = {
    "README.md": b"---\nlicense: mit\n---\n",
    **{
        f"{config}/{split}.jsonl": b'{"question": "q", "answer": "a"}\n'
        for config in ("main", "socratic")
        for split in ("test", "train-00000-of-00002", "train-00001-of-00002")
    },
}


class TestHub:
    def test_the_files_of_records_are_fetched_and_no_code(self, server: FakeServer, tmp_path: Path) -> None:
        [file] = inputs_of(Path("org/questions"))
        assert file[1:4] == ("data/train.jsonl", "questions/data/train", "org/questions")
        assert (file.licence, file.revision, file.offline) == ("cc-by-4.0", COMMIT, False)
        [(_, data)] = file.rows()
        assert isinstance(data, bytes)
        assert json.loads(data) == {"question": "q", "answer": "a"}
        assert [path.name for path in (tmp_path / "hub").rglob("*.py")] == []

    def test_what_is_here_comes_first(self, server: FakeServer, tmp_path: Path) -> None:
        put(tmp_path / "org" / "questions", "text")
        assert inputs_of(Path("org/questions"))[0].licence is None
        assert server.requests == []

    def test_without_files_of_records_it_says_what_there_is(self, server: FakeServer) -> None:
        about = {"id": "org/code", "sha": COMMIT, "siblings": [{"rfilename": "load.py"}]}
        server.on("GET /api/datasets/org/code", json_reply(about))
        with pytest.raises(UsageError, match=r"org/code has no files of records\. It has: load\.py"):
            inputs_of(Path("org/code"))

    @pytest.mark.parametrize(
        ("status", "message"), [(401, "lacks this dataset or denies access"), (500, "failed with status 500")]
    )
    def test_a_refusal_is_said(self, server: FakeServer, status: int, message: str) -> None:
        server.on("GET /api/datasets/org/none", Reply(status))
        with pytest.raises(UsageError, match=message):
            inputs_of(Path("org/none"))

    def test_without_a_connection_the_copy_in_the_cache_is_read(
        self, server: FakeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(server, "org/sets", SETS, "datasets")
        fetched = inputs_of(Path("org/sets/main/train"))
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
        again = inputs_of(Path("org/sets/main/train"))
        assert [file.path for file in again] == [file.path for file in fetched]
        assert {(file.offline, file.licence, file.revision) for file in again} == {(True, "mit", COMMIT)}
        with pytest.raises(UsageError, match="neither a local path nor completely cached, and the hub"):
            inputs_of(Path("org/sets/socratic/train"))

    @pytest.mark.parametrize(
        ("path", "names"),
        [
            ("main/train", ["main/train-00000-of-00002.jsonl", "main/train-00001-of-00002.jsonl"]),
            ("main/test", ["main/test.jsonl"]),
            ("socratic/test.jsonl", ["socratic/test.jsonl"]),
        ],
    )
    def test_a_part_is_named_by_its_path(self, server: FakeServer, path: str, names: list[str]) -> None:
        publish(server, "org/sets", SETS, "datasets")
        files = inputs_of(Path("org/sets") / path)
        assert [file.name for file in files] == names
        assert {file.dataset for file in files} == {"org/sets"}

    @pytest.mark.parametrize(
        ("path", "sets"),
        [
            ("org/sets", "main/test, main/train, socratic/test, socratic/train"),
            ("org/sets/main", "main/test, main/train"),
        ],
    )
    def test_several_sets_are_not_read_as_one(self, server: FakeServer, path: str, sets: str) -> None:
        publish(server, "org/sets", SETS, "datasets")
        with pytest.raises(UsageError) as caught:
            inputs_of(Path(path))
        assert caught.value.message == f"{path} has several sets of records: {sets}."
        assert (caught.value.hint or "").endswith("redraft data import org/sets/main/train")

    @pytest.mark.parametrize("path", ["data/trian.jsonl", "dta/train.jsonl.gz", "data/train", "a/../b"])
    def test_a_mistyped_path_is_not_of_the_hub(self, server: FakeServer, tmp_path: Path, path: str) -> None:
        put(tmp_path / "data" / "train.jsonl")
        with pytest.raises(UsageError, match="there is no file or folder"):
            inputs_of(Path(path))
        assert server.requests == []


class TestOtherVerbs:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("quiz.csv.gz", "is a table. Import it first"),
            ("quiz.parquet", "is a table. Import it first"),
            ("folder", "is a folder. Import it first"),
            ("org/questions", "is not a file here"),
        ],
    )
    def test_what_import_alone_reads_is_said_to_be_that(self, here: Path, path: str, kind: str) -> None:
        put(here / "folder" / "a.jsonl")
        put(here / "quiz.csv.gz")
        with pytest.raises(UsageError, match=f"{path} {kind}") as caught:
            next(read_lines(Path(path)))
        assert f"redraft data import {path} -o " in (caught.value.hint or "")

    def test_a_folder_of_comparisons_is_read_by_diagnose(self, here: Path) -> None:
        put(here / "pays" / "runs.json")
        with pytest.raises(UsageError, match="pays is a folder of runs, not a file") as caught:
            next(read_lines(Path("pays")))
        assert caught.value.hint == "View it: redraft diagnose pays"


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems allow no such names")
def test_a_name_that_is_not_utf_8_is_said_in_utf_8(tmp_path: Path) -> None:
    put(tmp_path / "data" / "a\udcff.jsonl")
    [file] = inputs_of(tmp_path / "data")
    assert (file.name, file.stem) == ("a\ufffd.jsonl", "data/a\ufffd")
