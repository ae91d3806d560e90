"""Opening and replacing files where others may have put something in the way."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from redraft.errors import ModelError, OutputError
from redraft.jobs import files


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "id_rsa"
    path.parent.mkdir()
    path.write_text("PRIVATE KEY")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


class TestModels:
    def test_a_link_out(self, model: Path, secret: Path) -> None:
        (model / "a.jinja").symlink_to(secret)
        with pytest.raises(ModelError, match=r"a\.jinja is a link to .*id_rsa, outside of its folder"):
            files.open_inside(model / "a.jinja")
        with pytest.raises(ModelError, match="outside of its folder"):
            files.check_model_links(model)

    def test_a_folder_of_templates_elsewhere(self, model: Path, secret: Path) -> None:
        (model / "additional_chat_templates").symlink_to(secret.parent)
        with pytest.raises(ModelError, match=r"additional_chat_templates is a link"):
            files.check_model_links(model)

    def test_a_link_to_nowhere(self, model: Path) -> None:
        (model / "a.json").symlink_to("../not/there.json")
        with pytest.raises(ModelError, match="outside of its folder"):
            files.inside(model / "a.json")

    def test_links_within_the_folder_and_to_the_folder(self, model: Path, tmp_path: Path) -> None:
        (model / "a.json").symlink_to("config.json")
        (tmp_path / "named").symlink_to("model")
        files.check_model_links(tmp_path / "named")
        with files.open_inside(tmp_path / "named" / "a.json") as file:
            assert file.read() == b"{}"

    def test_the_cache_of_the_hub(self, tmp_path: Path, secret: Path) -> None:
        revision, blobs = tmp_path / "hub" / "snapshots" / "1", tmp_path / "hub" / "blobs"
        (revision / "deep").mkdir(parents=True)
        blobs.mkdir()
        (blobs / "abc").write_text("{}")
        (revision / "config.json").symlink_to("../../blobs/abc")
        (revision / "deep" / "config.json").symlink_to("../../../blobs/abc")
        for path in (revision / "config.json", revision / "deep" / "config.json"):
            with files.open_inside(path) as file:
                assert file.read() == b"{}"
        (revision / "out.json").symlink_to(secret)
        with pytest.raises(ModelError, match="outside of its folder"):
            files.inside(revision / "out.json")

    def test_blobs_that_are_themselves_elsewhere(self, tmp_path: Path, secret: Path) -> None:
        revision = tmp_path / "hub" / "snapshots" / "1"
        revision.mkdir(parents=True)
        (tmp_path / "hub" / "blobs").symlink_to(secret.parent)
        (revision / "config.json").symlink_to("../../blobs/id_rsa")
        with pytest.raises(ModelError, match="outside of its folder"):
            files.inside(revision / "config.json")

    def test_a_pipe_is_not_waited_for(self, model: Path) -> None:
        os.mkfifo(model / "a.json")
        with pytest.raises(ModelError, match="not a regular file"):
            files.open_inside(model / "a.json")


class TestOwn:
    def test_a_link_is_not_followed(self, tmp_path: Path, secret: Path) -> None:
        (tmp_path / "lock").symlink_to(secret)
        with pytest.raises(OutputError, match="it is a link"):
            files.open_own(tmp_path / "lock")
        assert secret.read_text() == "PRIVATE KEY"

    def test_a_hard_link_and_a_pipe(self, tmp_path: Path, secret: Path) -> None:
        (tmp_path / "lock").hardlink_to(secret)
        with pytest.raises(OutputError, match="hard link"):
            files.open_own(tmp_path / "lock")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OutputError, match="not a regular file"):
            files.open_own(tmp_path / "pipe")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_another_users_file(self, tmp_path: Path) -> None:
        (tmp_path / "lock").touch()
        os.chown(tmp_path / "lock", 65534, 65534)
        with pytest.raises(OutputError, match="another user's file"):
            files.open_own(tmp_path / "lock")


class TestLocks:
    def test_one_holder_at_a_time(self, tmp_path: Path) -> None:
        first = files.open_locked(tmp_path / "lock")
        assert first is not None
        assert files.open_locked(tmp_path / "lock") is None
        os.close(first)
        with files.locked(tmp_path / "lock"):
            assert files.open_locked(tmp_path / "lock") is None

    def test_a_lock_that_its_holder_removes_is_taken_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, flock = tmp_path / "lock", fcntl.flock

        def removed_meanwhile(handle: int, how: int) -> None:
            monkeypatch.setattr(fcntl, "flock", flock)
            path.unlink()
            flock(handle, how)

        monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
        handle = files.open_locked(path)
        assert handle is not None
        assert os.path.samestat(os.fstat(handle), path.stat())
        os.close(handle)

    def test_who_waits_is_told_and_gets_it(self, tmp_path: Path) -> None:
        first = files.open_locked(tmp_path / "lock")
        assert first is not None
        with files.locked(tmp_path / "lock", lambda: os.close(first)):
            assert files.open_locked(tmp_path / "lock") is None

    def test_a_disk_without_locks_is_used_without(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def without(*_: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", without)
        with (tmp_path / "lock").open("w") as file:
            assert files.lock(file.fileno())


class TestReplacing:
    def test_a_link_is_replaced_and_not_what_it_names(self, tmp_path: Path, secret: Path) -> None:
        (tmp_path / "state").symlink_to(secret)
        files.replace_file(tmp_path / "state", b"new")
        assert not (tmp_path / "state").is_symlink()
        assert (tmp_path / "state").read_bytes() == b"new"
        assert secret.read_text() == "PRIVATE KEY"

    def test_what_fails_leaves_what_was_there(self, tmp_path: Path) -> None:
        files.replace_file(tmp_path / "state", b"old")
        with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "state") as file:
            file.write(b"half" * (1 // 0))
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]

    def test_it_is_on_the_disk_before_it_has_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []
        fsync, replace = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("sync"), fsync(handle)))
        monkeypatch.setattr(Path, "replace", lambda one, two: (calls.append("rename"), replace(one, two)))
        files.replace_file(tmp_path / "state", b"new")
        assert calls == ["sync", "rename", "sync"]
