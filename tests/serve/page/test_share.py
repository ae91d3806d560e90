"""`--share`: refused without keys or page, and an error that teaches where the tunnel is out of reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from redraft.cli import app
from redraft.errors import RedraftError
from redraft.serve.start import open_tunnel


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "there are no keys"), (["--no-page", "--api-key-file", "keys"], "there is no page")],
)
def test_what_cannot_be_shared_is_refused(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    Path("keys").write_text("a-key-of-the-tests-1")
    Path("rain.jsonl").write_text('"Rain."\n')
    result = CliRunner().invoke(app, ["serve", "--model", "script:rain.jsonl", "--share", *words])
    assert result.exit_code == 2
    assert said in result.stderr
    assert "--api-key-file FILE" in result.stderr or "--no-page" in result.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_tunnel_out_of_reach_is_an_error_that_teaches() -> None:
    pytest.importorskip("gradio")
    with pytest.raises(RedraftError, match="cannot be shared") as caught:
        open_tunnel(8321)
    assert "ssh -L 8321:127.0.0.1:8321" in str(caught.value)
