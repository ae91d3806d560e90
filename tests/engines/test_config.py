from __future__ import annotations

import os
from pathlib import Path

import pytest

from redraft.engines.config import Config, Key, KeyEntry, config_path, key_variable, load_config
from redraft.errors import UsageError
from tests.doc_blocks import blocks_of


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("REDRAFT_KEY_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("REDRAFT_CONFIG", raising=False)


def written(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_path() == tmp_path / "redraft" / "config.toml"
    for _ in range(2):
        assert load_config() == Config(config_path())  # not there: says nothing
        monkeypatch.setenv("REDRAFT_CONFIG", "")  # as compose files set it
    path = tmp_path / "mine.toml"
    monkeypatch.setenv("REDRAFT_CONFIG", str(path))
    with pytest.raises(UsageError, match="there is no config file at"):
        load_config()
    path.write_text("[defaults]\nseed = 3\n", encoding="utf-8")
    assert load_config().defaults == {"seed": 3}


ALL_TABLES = """
[defaults]
model = "http://localhost:8000/v1#qwen"
max-tokens = 100
check = ["words<=50"]
[keys]
"API.example.com" = "env:EXAMPLE_KEY"
"10.0.0.5:8000" = { key = "abc", plain_http = true }
[prices."API.example.com#big"]
prompt = 1
completion = 10.0
"""


def test_all_three_tables(tmp_path: Path) -> None:
    config = written(tmp_path, ALL_TABLES)
    model = "http://localhost:8000/v1#qwen"
    assert config.defaults == {"model": model, "max_tokens": 100, "check": ["words<=50"]}
    own, named = KeyEntry(key="abc", plain_http=True), KeyEntry(key="env:EXAMPLE_KEY")
    assert config.keys == {"api.example.com": named, "10.0.0.5:8000": own}
    assert config.price_for("https://api.example.com/v1", "big") == {"prompt": 1.0, "completion": 10.0}
    assert config.price_for("https://api.example.com/v1", "small") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[defaults\n", "config.toml is not TOML: "),
        ("[defaults]\nseed = \n", "line 2"),
        (f"a = {'[' * 5000}{']' * 5000}", "nested too deeply"),
        ("[default]\n", "there is no option 'default'."),
        ("[defaults]\ntemprature = 1\n", "there is no option 'defaults.temprature'."),
        ("[defaults]\nseed = true\n", "defaults.seed is True."),
        ("[defaults]\ntemperature = 'hot'\n", "defaults.temperature is 'hot'."),
        ("defaults = 3\n", "defaults is 3."),
        ("[keys]\n'http://a.b/v1' = 'x'\n", "is not the name of a host: leave out http:// and the path."),
        ("[keys]\n'a.b' = 'env:'\n", 'keys."a.b" has no key.'),
        ("[keys]\n'a.b' = ['x', 'y']\n", 'keys."a.b" should be a table.'),
        ("[keys]\n'a.b' = {key = 'x', plain_http = 1}\n", 'keys."a.b".plain_http is 1.'),
        ("[servers]\nlab = 8000\n", "servers is a dict."),
        ("[prices.'a.b']\nprompt = 1\ncompletion = 1\n", 'prices."a.b" does not name a model.'),
        ("[prices.'a.b#m']\nprompt = 1\n", 'prices."a.b#m".completion is missing.'),
        (f"[prices.'a.b#m']\nprompt = {10**400}\ncompletion = 1\n", 'prices."a.b#m".prompt is '),
        ("[prices.'a.b#m']\nprompt = nan\ncompletion = 1\n", 'prices."a.b#m".prompt is '),
        ("[prices.'a.b#m']\nprompt = -1\ncompletion = 1\n", 'prices."a.b#m".prompt is '),
    ],
)  # fmt: skip
def test_errors_name_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        written(tmp_path, text)
    assert message in caught.value.message
    assert str(tmp_path / "config.toml") in caught.value.message


URL = "https://api.example.com/v1"


def value_for(config: Config, url: str = URL) -> str:
    key = config.key_for(url)
    return key.value if key else ""


class TestKeys:
    def test_the_environment_comes_before_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = written(tmp_path, "[keys]\n'api.example.com' = 'from-file'\n")
        assert value_for(config) == "from-file"
        assert "from-file" not in repr(config) + repr(config.key_for(URL))
        monkeypatch.setenv("REDRAFT_KEY_API_EXAMPLE_COM", "from-environment")
        assert config.key_for(URL) == Key("from-environment", "REDRAFT_KEY_API_EXAMPLE_COM")

    def test_a_port_has_a_key_of_its_own(self, tmp_path: Path) -> None:
        config = written(tmp_path, "[keys]\nlocalhost = 'any'\n'localhost:8000' = 'one'\n")
        assert value_for(config, "http://localhost:8000/v1") == "one"
        assert value_for(config, "http://localhost:9000/v1") == "any"

    def test_from_a_variable_that_is_not_set(self, tmp_path: Path) -> None:
        config = written(tmp_path, "[keys]\n'api.example.com' = 'env:NOT_SET_HERE'\n")
        with pytest.raises(UsageError, match=r"from \$NOT_SET_HERE, which is not set") as caught:
            config.key_for(URL)
        assert caught.value.hint == "export NOT_SET_HERE=…"

    def test_openai_key_goes_to_openai_alone(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-open")
        config = Config(tmp_path / "none")
        assert value_for(config, "https://api.openai.com/v1") == "sk-open"
        for url in (
            "http://api.openai.com/v1",
            "https://api.openai.com.evil.example/v1",
            "https://openai.com/v1",
            "http://localhost:8000/v1",
        ):
            assert config.key_for(url) is None
        told = written(tmp_path, "[keys]\n'localhost:8000' = 'env:OPENAI_API_KEY'\n")
        assert value_for(told, "http://localhost:8000/v1") == "sk-open"

    def test_similar_hosts_have_different_variables(self) -> None:
        assert key_variable("a-b.com") == "REDRAFT_KEY_A__B_COM"
        assert key_variable("a.b.com") == "REDRAFT_KEY_A_B_COM"
        assert key_variable("localhost:8000") == "REDRAFT_KEY_LOCALHOST_8000"


def test_the_config_files_of_the_docs_are_read(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "engines.md"
    blocks = [block.body for block in blocks_of(page) if block.language == "toml"]
    config = written(tmp_path, "\n".join(blocks))
    assert config.keys["10.0.0.5:8000"].plain_http
    assert config.price_for("https://api.example.com/v1", "big") == {
        "prompt": 1.25,
        "completion": 10.0,
        "cached": 0.125,
    }
    assert config.defaults["max_tokens"] == 512
