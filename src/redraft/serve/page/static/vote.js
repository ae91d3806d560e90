// `redraft vote`: a voter sees one pair of answers at a time, without names, and says which is better.
import { get, post } from "./api.js";
import { Component, html } from "./dom.js";
import { printable } from "./markdown.js";

const KEYS = { 1: "1", 2: "2", "=": "=", s: "skip", u: "undo" };
const GONE = "redraft vote does not answer. Is it still running? Your last action was not stored; all earlier votes were.";

const plain = (text) => (text.trim() ? html`<p class="asis" dir="auto">${printable(text)}</p>` : html`<p class="note">(empty)</p>`);

export class Vote extends Component {
  state = { voter: "", name: "", now: null, fault: "", note: "", asked: false };

  async componentDidMount() {
    document.title = "Which answer is better?";
    addEventListener("keydown", this.keys);
    try {
      const key = /^#\/vote\/([\w-]+)$/.exec(location.hash)?.[1];
      if (key) await post("login", { key });
      history.replaceState(null, "", "#/vote"); // keeps the key out of the history
      const { voter, known } = await get("page/booth"), before = sessionStorage.getItem("voter");
      if (known || before) return this.begin(known ? voter : before);
      return this.setState({ asked: true, name: voter });
    } catch (error) {
      const why = error.status === 401 ? "The address is incomplete. Open the address that redraft vote shows." : error.message;
      return this.setState({ fault: error.status ? why : GONE });
    }
  }

  componentWillUnmount() {
    removeEventListener("keydown", this.keys);
  }

  begin(voter) {
    this.setState({ voter, asked: false }, () => this.act("show"));
  }

  async act(what) {
    if (this.busy) return;
    this.busy = true;
    const { voter, now, note } = this.state;
    try {
      const found = await post("page/booth", { voter, do: what, id: now?.pair?.id || "", note: now?.pair ? note : "" });
      sessionStorage.setItem("voter", voter);
      this.setState({ now: found, fault: found.remark, note: found.pair?.note || "" }, () => this.shown(what));
    } catch (error) {
      this.setState({ fault: error.status ? error.message : GONE, asked: !now });
    }
    this.busy = false;
  }

  shown(what) {
    if (what !== "show") this.base_?.querySelector("h2")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  keys = (event) => {
    const { now } = this.state, noting = event.target.id === "note";
    if (!now || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (noting) {
      if (event.key === "Escape") event.target.blur();
    } else if (event.key === "n" && now.pair) {
      event.preventDefault();
      document.getElementById("note").focus();
    } else if (KEYS[event.key] && (now.pair || event.key === "u")) {
      event.preventDefault();
      this.act(KEYS[event.key]);
    }
  };

  name() {
    const entered = (event) => {
      event.preventDefault();
      this.begin(this.state.name.trim());
    };
    return html`<form id="who" class="row" onSubmit=${entered}><label>Your name <input id="name" maxlength="100" required autocomplete="off"
      value=${this.state.name} onInput=${(event) => this.setState({ name: event.target.value })}
      ref=${(box) => box && document.activeElement === document.body && box.select()} /></label><button class="main">Start</button></form>`;
  }

  button(what, key, label) {
    const once = (event) => event.detail < 2 && this.act(what); // a double click is one vote
    return html`<button type="button" data-do=${what} onClick=${once}><kbd>${key}</kbd> ${label}</button>`;
  }

  turn(pair, at) {
    const last = at + 1 === pair.questions.length;
    return html`<h2 tabindex="-1">${last ? "Question" : "Earlier question"}</h2><div class="asked">${plain(pair.questions[at])}</div>
      <div class="sides">${pair.answers.map((turns, side) => html`<article class="side" aria-label=${`Answer ${side + 1}`}>
        <h3>Answer ${side + 1}</h3>${plain(turns[at])}</article>`)}</div>`;
  }

  render(_, { asked, now, fault, note, voter }) {
    const pair = now?.pair;
    return html`<main id="vote" ref=${(box) => { this.base_ = box || this.base_; }}><h1>Which answer is better?</h1>
      <p id="fault" class=${fault ? "alert" : ""} role="alert">${fault}</p>
      ${asked && this.name()}
      ${now && html`<div id="pair">${pair ? pair.questions.map((_, at) => this.turn(pair, at)) : html`<p>All pairs are judged. Thank you!</p>`}
        ${pair?.questions.length > 1 && html`<p class="note">Judge the answers to the last question.</p>`}</div>
      <div id="bar">
        ${pair && html`<div class="row votes" role="group" aria-label="Which answer is better?">${this.button("1", "1", "Answer 1")}
          ${this.button("=", "=", "Tie")}${this.button("2", "2", "Answer 2")}</div>
        <textarea id="note" rows="1" maxlength="10000" placeholder="Note" aria-label="Note on this pair. Press n to write it, and Escape to leave it"
          value=${note} onInput=${(event) => this.setState({ note: event.target.value })}></textarea>`}
        <div class="row">${pair && this.button("skip", "s", "Skip")}${this.button("undo", "u", "Undo")}</div>
        <p id="far"><progress max="1" value=${now.total ? now.done / now.total : 0} aria-label="Judged pairs"></progress>
          <span id="count" role="status">${now.done} of ${now.total} judged by ${voter}</span></p></div>`}</main>`;
  }
}
