"""The layout of the page in Gradio, and what happens at each click.

What is shown of models is HTML of `view` in Markdown components, which sanitise it once more in the browser.
Scripts in strings, as `gr.HTML` and `js=` take them, would need a policy that allows `eval`.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr
from fastapi import FastAPI
from gradio import queueing

from redraft.engines.threads import in_daemon_thread
from redraft.errors import RedraftError
from redraft.revision.session import Conversation
from redraft.serve.errors import told
from redraft.serve.keys import ANYONE, Key
from redraft.serve.models import Model
from redraft.serve.page.view import alert, safe, status
from redraft.serve.page.work import Duel, Service, Store, Talk, Wanted, Winner, own
from redraft.serve.requests import REVISIONS

_log = logging.getLogger(__name__)

EXAMPLES = (
    "Describe a lighthouse in two sentences.",
    "Explain to a child why the sky is blue.",
    "Write a polite mail that asks for a refund.",
)
Updates = dict[Any, Any]


def make_page(service: Service, store: Store) -> FastAPI:
    """Return the page as an application, still to be started."""
    blocks = gr.Blocks(title="redraft", analytics_enabled=False, fill_width=True)
    with blocks, gr.Tabs(elem_id="tabs"):
        with gr.Tab("Chat"):
            Chat(service, blocks)
        with gr.Tab("Compare"):
            Compare(service, store, blocks)
    blocks.queue(default_concurrency_limit=None, api_open=False)
    queue = blocks._queue  # noqa: SLF001  (it would look for something to do 1,000 times a second)
    queue.sleep_when_free = queue.progress_update_sleep_when_free = 0.02
    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    app = FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        app,
        blocks,
        "/",
        theme=theme,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        show_error=False,
    )
    app.state.inputs = {number: len(handler.inputs) for number, handler in blocks.fns.items()}
    queueing.traceback = _Faults  # type: ignore[attr-defined,assignment]  # it would print what the visitor sent
    return app


class _Faults:
    """Stands for the module `traceback` in Gradio's queue. Messages of errors have texts of the visitor."""

    @staticmethod
    def print_exc() -> None:
        """Log the kind of the error that is handled, and where it was raised."""
        kind, error, _ = sys.exc_info()
        places = traceback.extract_tb(error.__traceback__)[-3:] if error else []
        where = ", ".join(f"{place.name} ({place.filename}:{place.lineno})" for place in places)
        _log.warning("a request of the page failed: %s in %s", kind and kind.__name__, where)


class Choice:
    """A model and how often it revises, as a visitor chooses them."""

    def __init__(self, service: Service, label: str) -> None:
        self._service = service
        self.model = gr.Dropdown([], label=label, interactive=True, filterable=False)
        self.about = gr.Markdown(elem_classes="about", latex_delimiters=[])
        with gr.Row(elem_classes="sliders"):
            self.least = gr.Slider(0, REVISIONS, 0, step=1, label="Revisions, at least")
            self.most = gr.Slider(0, REVISIONS, 0, step=1, label="Revisions, at most")
        self.model.input(self._chosen, self.model, [self.about, self.least, self.most], **QUIET)

    @property
    def inputs(self) -> list[Any]:
        """What a handler takes: model, fewest and most revisions."""
        return [self.model, self.least, self.most]

    def updates(self, request: gr.Request, place: int) -> Updates:
        """Return the models of this visitor; the one at this place of the list is chosen."""
        models = self._service.choices(key_of(request))
        if not models:
            return {self.about: alert("Your key is for no model that is served.")}
        models = sorted(models, key=lambda model: own(model).most == 0)  # those that revise come first
        chosen = models[min(place, len(models) - 1)]
        about, least, most = about_of(chosen)
        names = [model.name for model in models]
        return {
            self.model: gr.Dropdown(choices=names, value=chosen.name),
            self.about: about,
            self.least: least,
            self.most: most,
        }

    def _chosen(self, name: str, request: gr.Request) -> tuple[str, int, int]:
        models = {model.name: model for model in self._service.choices(key_of(request))}
        return about_of(models[name])


def composer(
    ids: tuple[str, str, str, str], label: str, hint: str, send: str, **more: Any
) -> tuple[gr.Textbox, gr.Button, gr.Button]:
    """Make a row (the first id) with a box for questions, and buttons that send and stop."""
    row, box, send_id, stop_id = ids
    with gr.Row(elem_id=row):
        return (
            gr.Textbox(
                label=label,
                show_label=False,
                placeholder=hint,
                lines=1,
                max_lines=10,
                container=False,
                scale=8,
                elem_id=box,
                **more,
            ),
            gr.Button(send, variant="primary", elem_id=send_id, min_width=80, scale=0),
            gr.Button("Stop", variant="stop", visible=False, elem_id=stop_id, min_width=80, scale=0),
        )


QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def key_of(request: gr.Request) -> Key:
    """Return the key that a visitor came with."""
    assert request.request is not None  # noqa: S101  (events come from requests)
    found: Key = request.request.scope["state"]["key"]
    return found


def about_of(model: Model) -> tuple[str, int, int]:
    """Return what a model does by itself: in words, and its fewest and most revisions."""
    wanted, checks = own(model), [getattr(check, "name", check) for check in model.options.checks]
    does = "Answers once." if not wanted.most else "Drafts, criticises and rewrites."
    listed = "".join(f"<code>{safe(str(check))}</code> " for check in checks)
    return f"<div>{does}{' Checks: ' * bool(listed)}{listed}</div>", wanted.least, wanted.most


class Chat:
    """The tab with a conversation."""

    def __init__(self, service: Service, blocks: gr.Blocks) -> None:
        self._service = service
        self.talk = gr.State()
        gr.Button("Settings", size="sm", elem_id="settings-button")
        with gr.Row(elem_id="chat", equal_height=False):
            with gr.Column(scale=1, min_width=240, elem_id="settings"):
                self.choice = Choice(service, "Model")
                self.new = gr.Button("New conversation", size="sm")
                self.save = gr.Markdown(elem_id="save", latex_delimiters=[])
                gr.Button("Light or dark", size="sm", elem_id="look")
                self.leave = gr.Button(visible=False, size="sm", elem_id="logout")
            with gr.Column(scale=4, min_width=300, elem_id="main"):
                self.done = gr.Markdown(EMPTY, elem_id="done", latex_delimiters=[])
                with gr.Row(elem_id="examples") as self.examples:
                    self.tries = [gr.Button(text, size="sm") for text in EXAMPLES]
                self.live = gr.Markdown(elem_id="live", latex_delimiters=[])
                with gr.Row(elem_id="actions", visible=False) as self.actions:
                    self.revise = gr.Button("Revise again", size="sm", elem_id="revise")
                    self.retry = gr.Button("Retry", size="sm", elem_id="retry")
                    self.edit = gr.Button("Edit", size="sm", elem_id="edit")
                    self.undo = gr.Button("Undo", size="sm", elem_id="undo")
                ids = "composer", "box", "send", "stop"
                hint = "Ask something"
                self.box, self.send, self.stop = composer(ids, "Your message", hint, "Send", autofocus=True)
        self._of_a_turn = self.revise, self.retry, self.edit
        self._events(blocks)

    def _events(self, blocks: gr.Blocks) -> None:
        everything = [
            self.done, self.live, self.examples, self.actions, self.box, self.send, self.stop, self.save,
            self.talk, *self.choice.inputs, self.choice.about, *self._of_a_turn, self.leave,
        ]  # fmt: skip
        given = [self.talk, self.box, *self.choice.inputs]
        for do, triggers in {
            "ask": [self.box.submit, self.send.click],
            "revise": [self.revise.click],
            "retry": [self.retry.click],
        }.items():
            gr.on(triggers, self._answering(do), given, everything, **QUIET)
        for button, text in zip(self.tries, EXAMPLES, strict=True):
            button.click(self._answering("ask", text), given, everything, **QUIET)
        for button, change in {self.undo: "undo", self.edit: "edit", self.new: "new"}.items():
            button.click(self._changing(change), self.talk, everything, **QUIET)
        self.stop.click(self._stop, **QUIET)
        blocks.load(self._open, None, everything, **QUIET)

    def _open(self, request: gr.Request) -> Updates:
        talk = Talk()
        self._service.conversations[talk.token] = talk
        key = key_of(request)
        name = f" · {key.name}" * (key.name != key.digest.hex()[:8])
        leave = gr.Button(f"Log out{name}", visible=key is not ANYONE)
        return {self.talk: talk, self.leave: leave, **self.choice.updates(request, 0)}

    def _stop(self, request: gr.Request) -> None:
        self._service.leave(str(request.session_hash))

    def _answering(self, do: str, example: str = "") -> Callable[..., AsyncIterator[Updates]]:
        async def answer(
            talk: Talk, text: str, model: Any, least: Any, most: Any, request: gr.Request
        ) -> AsyncIterator[Updates]:
            text = example or text
            if do == "ask" and not text.strip():
                yield {self.box: gr.skip()}  # Gradio takes an empty dict for a value
                return
            try:
                wanted = Wanted(str(model), int(least), int(most))
                work = talk.work(self._service, key_of(request), wanted, do, text)
            except RedraftError as error:
                yield {self.live: alert(told(error))}
                return
            yield {
                **await in_daemon_thread(lambda: self._settled(talk, without_last=do != "ask", busy=True)),
                self.box: gr.Textbox(value="") if do == "ask" else gr.skip(),
            }
            before = len(talk.turns.turns)
            async for html in talk.answer(self._service, str(request.session_hash), work):
                yield {self.live: html}
            lost = do == "ask" and len(talk.turns.turns) == before
            yield {
                **await in_daemon_thread(lambda: self._settled(talk)),
                self.box: gr.Textbox(value=text) if lost else gr.skip(),
            }

        return answer

    def _changing(self, change: str) -> Callable[[Talk, gr.Request], Updates]:
        def changed(talk: Talk, request: gr.Request) -> Updates:
            self._stop(request)
            talk.wrong, text = "", None
            try:
                if change == "undo":
                    talk.turns.undo()
                elif change == "edit":
                    text = talk.turns.take_back()
                else:
                    talk.turns, text = Conversation(), ""
            except RedraftError as error:
                talk.wrong = alert(told(error))
            box = gr.skip() if text is None else gr.Textbox(value=text)
            return {**self._settled(talk, edited=bool(text)), self.box: box}

        return changed

    def _settled(
        self, talk: Talk, *, without_last: bool = False, busy: bool = False, edited: bool = False
    ) -> Updates:
        """Return the page with the turns as they stand, for a visitor who waits or one who may go on.

        Whoever edits the only question has no turn, and may undo that. Long turns take seconds to render: not
        for the event loop.
        """
        empty = not talk.turns.turns
        return {
            self.done: EMPTY if empty and not busy else talk.html(without_last=without_last),
            self.live: status("Thinking") if busy else talk.wrong,
            self.examples: gr.Row(visible=empty and not busy),
            self.actions: gr.Row(visible=(edited or not empty) and not busy),
            **{button: gr.Button(visible=not empty) for button in self._of_a_turn},
            self.send: gr.Button(visible=not busy),
            self.stop: gr.Button(visible=busy),
            self.save: "" if empty else SAVE.format(talk.token),
        }


EMPTY = (
    '<div class="empty"><h2>What would you like to know?</h2>'
    "<p>The model drafts an answer, criticises it and rewrites it. You can open each step.</p></div>"
)
SAVE = '<a class="button" href="page/{}/conversation.jsonl">Save conversation</a>'


class Compare:
    """The tab that compares two models."""

    def __init__(self, service: Service, store: Store, blocks: gr.Blocks) -> None:
        self._service, self._store = service, store
        self.duel = gr.State()
        gr.Markdown(INTRODUCTION, latex_delimiters=[])
        with gr.Row(elem_id="sides"):
            with gr.Column(min_width=280):
                self.left = Choice(service, "One model")
            with gr.Column(min_width=280):
                self.right = Choice(service, "The other model")
        self.box, self.ask, self.stop = composer(
            ("asking", "question", "ask", "stop-both"), "Question for both", "A question for both", "Compare"
        )
        self.status = gr.Markdown(elem_id="both", latex_delimiters=[])
        with gr.Row(elem_id="answers"):
            self.first = gr.Markdown(elem_id="first", latex_delimiters=[])
            self.second = gr.Markdown(elem_id="second", latex_delimiters=[])
        with gr.Row(elem_id="votes", visible=False) as self.votes:
            self.buttons = {gr.Button(label): winner for winner, label in VERDICTS.items()}
            self.voter = gr.Textbox(
                label="Your name, kept with the vote", placeholder="anonymous", max_lines=1, min_width=200
            )
        self._events(blocks)

    def _events(self, blocks: gr.Blocks) -> None:
        everything = [
            self.duel, self.status, self.first, self.second, self.votes, self.ask, self.stop,
            *self.left.inputs, self.left.about, *self.right.inputs, self.right.about,
        ]  # fmt: skip
        given = [self.duel, self.box, *self.left.inputs, *self.right.inputs]
        gr.on([self.ask.click, self.box.submit], self._answer, given, everything, **QUIET)
        for button, winner in self.buttons.items():
            vote = partial(self._vote, winner)
            button.click(vote, [self.duel, self.voter], everything, **QUIET)
        self.stop.click(self._stop, **QUIET)
        blocks.load(self._open, None, everything, **QUIET)

    def _open(self, request: gr.Request) -> Updates:
        sides = {**self.left.updates(request, 0), **self.right.updates(request, 1)}
        return {self.duel: Duel(), **sides}

    def _stop(self, request: gr.Request) -> None:
        self._service.leave(str(request.session_hash))

    async def _answer(  # Gradio passes the values of `given` one by one
        self, duel: Duel, text: str, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, request: gr.Request
    ) -> AsyncIterator[Updates]:
        if not text.strip():
            yield {self.status: gr.skip()}
            return
        both = Wanted(str(a), int(b), int(c)), Wanted(str(d), int(e), int(f))
        tab, key = str(request.session_hash), key_of(request)
        yield {self.ask: gr.Button(visible=False), self.stop: gr.Button(visible=True)}
        async for line in duel.answer(self._service, tab, key, text, both):
            yield {self.status: line, self.first: "", self.second: "", self.votes: gr.Row(visible=False)}
        shown = await in_daemon_thread(lambda: self._shown(duel))
        yield {**shown, self.ask: gr.Button(visible=True), self.stop: gr.Button(visible=False)}

    def _vote(self, winner: Winner, duel: Duel, voter: str) -> Updates:
        duel.vote(winner, voter, self._store)
        return self._shown(duel)

    def _shown(self, duel: Duel) -> Updates:
        first, second = duel.html()
        thanks = '<p class="done">Thank you, the vote is stored. Ask the next question.</p>' * duel.voted
        return {
            self.status: duel.wrong or thanks,
            self.first: first,
            self.second: second,
            self.votes: gr.Row(visible=duel.open),
        }


VERDICTS: dict[Winner, str] = {"1": "Answer 1 is better", "tie": "Equally good", "2": "Answer 2 is better"}
INTRODUCTION = (
    '<p class="intro">Two models answer the same question. You vote without knowing which is which, then the '
    "names are shown.</p>"
)
