"""OpenAI's SDK for JavaScript, from npm, against our server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serve.running import LONG, SHORT, both, served

SCRIPT = """\
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.SERVED, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Describe rain." }];

const whole = await client.chat.completions.create({ model: "short", messages });
let streamed = "", thought = "";
for await (const chunk of await client.chat.completions.create({ model: "short", messages, stream: true })) {
  streamed += chunk.choices[0].delta.content ?? "";
  thought += chunk.choices[0].delta.reasoning_content ?? "";
}
const response = await client.responses.create({ model: "short", input: "Describe rain." });
let refused;
try {
  await client.chat.completions.create({ model: "none", messages });
} catch (error) {
  refused = [error.constructor.name, error.code, error.requestID.slice(0, 4)];
}
const models = (await client.models.list()).data.map((model) => model.id);
const content = whole.choices[0].message.content;
console.log(JSON.stringify({ content, streamed, thought, response: response.output_text, refused, models }));
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package."""
    folder = tmp_path_factory.mktemp("npm")
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("npm is not installed (Debian: apt install npm)")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "openai@7"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install openai in two minutes")
    if done.returncode:
        pytest.skip(f"npm cannot install openai: {done.stderr.strip().splitlines()[0]}")
    (folder / "test.mjs").write_text(SCRIPT)
    return folder


@pytest.mark.slow
def test_the_javascript_sdk_chats_streams_and_raises_its_own_errors(project: Path) -> None:
    with served(both(LONG, SHORT)) as server:
        env = {**os.environ, "SERVED": server.url}
        command = ["node", "test.mjs"]
        done = subprocess.run(
            command, cwd=project, env=env, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "Draft:\n" + LONG in found.pop("thought")
    assert found == {
        "content": SHORT,
        "streamed": SHORT,
        "response": SHORT,
        "refused": ["NotFoundError", "model_not_found", "req_"],
        "models": ["plain", "short"],
    }
