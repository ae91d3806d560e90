"""The queue of the page and requests that no page sends: no fault, and none of their text in the log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.page.browsing import serving

FORGED = 'Hush.\n{"time": "2026", "level": "info", "message": "forged"}'


def joined(url: str, **event: Any) -> httpx.Response:
    body = {"data": [None] * 8, "session_hash": "tab", "fn_index": 0, **event}
    return httpx.post(f"{url}gradio_api/queue/join", json=body, timeout=30)


def ready(url: str) -> None:
    while "Getting ready" in httpx.get(url, timeout=30).text:
        time.sleep(0.1)


@pytest.mark.slow
def test_odd_requests_are_refused_and_leave_no_text_in_the_log(tmp_path: Path) -> None:
    with serving(tmp_path, {"rain": ["Rain is wet."]}) as url:
        ready(url)
        for event in (
            {"fn_index": 9999},
            {"fn_index": -1},
            {"fn_index": 2**70},
            {"fn_index": "0"},
            {"fn_index": None},
            {"data": FORGED},
            {"session_hash": FORGED},
            {"session_hash": None},
        ):
            reply = joined(url, **event)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, *event)
        for number in range(30):
            joined(url, fn_index=number, data=[FORGED] * 8, event_data={"text": FORGED})
        with httpx.stream("GET", f"{url}gradio_api/queue/data?session_hash=tab", timeout=30) as events:
            assert any("process_completed" in line for line in events.iter_lines())
        time.sleep(1)  # the other requests, which end without a word
    log = (tmp_path / "log").read_text()
    assert "WARNING a request of the page failed: " in log
    assert "Hush" not in log
