// The page: what is where, and what happens at each key.
import { Compare } from "./compare.js";
import { Composer } from "./composer.js";
import { post } from "./api.js";
import { html, render } from "./dom.js";
import { exported } from "./export.js";
import { Checks, ModelChoice, Settings } from "./settings.js";
import * as store from "./store.js";
import { path, state, titleOf, update, watch } from "./store.js";
import * as talk from "./talk.js";
import { Turn } from "./turn.js";
import { Vote } from "./vote.js";

const EXAMPLES = [
  ["Describe a lighthouse in two sentences.", "words<=25"],
  ["Explain to a child why the sky is blue.", "sentences<=3"],
  ["Who was Ada Lovelace? Give name and year of birth as JSON.", "json"],
];

function Conversations() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (each) => {
    const text = [titleOf(each), ...Object.values(each.turns).flatMap((turn) => [turn.text, ...(turn.chain?.steps || []).map((step) => step.answer)])].join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const found = state.conversations.filter((each) => Object.keys(each.turns).length && has(each)).sort((a, b) => b.when - a.when);
  return html`<nav id="conversations" aria-label="Conversations">
    <div class="head"><p class="name">redraft</p><button type="button" class="quiet only-small" aria-label="Close the list"
      onClick=${() => update({ panel: "" })}>✕</button></div>
    <button type="button" class="wide" onClick=${() => talk.begin()}>New conversation</button>
    <button type="button" class="wide" aria-current=${state.view === "compare" ? "page" : null}
      onClick=${() => { location.hash = "#/compare"; }}>Compare two models</button>
    <input type="search" aria-label="Search conversations" placeholder="Search" value=${state.query}
      onInput=${(event) => update({ query: event.target.value })} />
    <ul>${found.map((each) => html`<${Kept} key=${each.id} conversation=${each} />`)}</ul>
    ${!found.length && html`<p class="note">${words.length ? "Nothing is found." : "Conversations are kept in this browser alone."}</p>`}
    <div class="foot"><button type="button" class="quiet" onClick=${turnLights}>Light or dark</button>
      ${state.keys && html`<button type="button" class="quiet" onClick=${leave}>Log out</button>`}</div>
  </nav>`;
}

function Kept({ conversation }) {
  const current = state.current === conversation && state.view === "chat";
  const named = (event) => {
    if (event.key === "Escape") event.stopPropagation();
    if (event.key === "Enter") {
      conversation.title = event.target.value.trim();
      store.keep(conversation);
    }
    if (["Enter", "Escape"].includes(event.key)) update({ naming: "" });
  };
  if (state.naming === conversation.id)
    return html`<li class="current"><input aria-label="The conversation's name" defaultValue=${titleOf(conversation)} onKeyDown=${named}
      onBlur=${() => update({ naming: "" })} ref=${(box) => box && document.activeElement !== box && box.select()} /></li>`;
  return html`<li class=${current ? "current" : ""}>
    <a href=${`#/c/${conversation.id}`} aria-current=${current ? "page" : null} dir="auto">${titleOf(conversation)}</a>
    ${current && html`<span class="tools"><button type="button" class="quiet" onClick=${() => update({ naming: conversation.id })}>Rename</button>
      <button type="button" class="quiet" onClick=${() => talk.remove(conversation)}>Delete</button></span>`}</li>`;
}

function Chat() {
  const conversation = state.current, turns = path(conversation);
  return html`<main id="chat"><h1 class="sr">${turns.length ? titleOf(conversation) : "redraft"}</h1>
    <${Head}><${ModelChoice} owner=${conversation} />
      ${turns.length > 0 && html`<${Export} conversation=${conversation} />`}
      <button type="button" aria-expanded=${state.panel === "settings"} aria-controls="settings"
        onClick=${() => update({ panel: state.panel === "settings" ? "" : "settings" })}>Settings</button><//>
    <div id="turns">
      ${!turns.length && html`<${Empty} />`}
      ${turns.map((turn) => html`<${Turn} key=${turn.id} conversation=${conversation} turn=${turn} />`)}
    </div>
    <div id="foot"><${Checks} key=${conversation.id} owner=${conversation} /><${Composer} key=${`box-${conversation.id}`} conversation=${conversation} /></div>
  </main>`;
}

function Head({ children }) {
  return html`<header id="head"><button type="button" class="only-small" aria-expanded=${state.panel === "conversations"}
    aria-controls="conversations" aria-label="Conversations"
    onClick=${() => update({ panel: state.panel === "conversations" ? "" : "conversations" })}>☰</button>${children}</header>`;
}

function Export({ conversation }) {
  const kinds = [["Markdown", "md"], ["HTML", "html"], ["Chains (JSON lines)", "jsonl"]];
  const done = (event, kind) => {
    event.currentTarget.closest("details").open = false;
    exported(conversation, kind);
  };
  return html`<details class="menu"><summary>Export</summary><div>${kinds.map(([label, kind]) => html`
    <button type="button" onClick=${(event) => done(event, kind)}>${label}</button>`)}</div></details>`;
}

function Empty() {
  const asked = ([text, check]) => {
    const { settings } = state.current;
    if (!settings.checks.length) settings.checks = [check];
    talk.ask(state.current, text);
  };
  return html`<div class="empty"><h2>What would you like to know?</h2>
    <p>The model drafts an answer, checks it and rewrites it. Each step can be opened.</p>
    <div class="row">${EXAMPLES.map((each) => html`<button type="button" disabled=${!state.ready}
      onClick=${() => asked(each)}>${each[0]}</button>`)}</div></div>`;
}

function Login() {
  const enter = async (event) => {
    event.preventDefault();
    const key = event.target.elements.key.value;
    try {
      await post("login", { key });
      update({ wrong: "" });
      await talk.connect();
    } catch (error) {
      update({ wrong: error.message });
    }
  };
  return html`<main id="login"><form onSubmit=${enter}><h1>Log in</h1><p>Enter the API key that you were given.</p>
    <label>API key<input id="key" name="key" type="password" autocomplete="current-password" required
      ref=${(box) => box && document.activeElement === document.body && box.focus()} /></label>
    <button class="main">Log in</button>${state.wrong && html`<p class="alert" role="alert">${state.wrong}</p>`}</form></main>`;
}

async function leave() {
  await post("logout", {}).catch(() => {});
  update({ locked: true, models: [], ready: false });
}

function Toast() {
  if (!state.toast) return null;
  return html`<div id="toast" role="status">${state.toast.text}
    ${state.toast.undo && html`<button type="button" onClick=${state.toast.undo}>Undo</button>`}
    <button type="button" class="quiet" aria-label="Close this note" onClick=${() => update({ toast: null })}>✕</button></div>`;
}

function Page() {
  if (state.view === "vote") return html`<${Vote} />`;
  if (state.locked) return html`<${Login} />`;
  return html`<div id="shell" class=${state.panel ? `open-${state.panel}` : ""}>
    <${Conversations} />
    ${state.view === "compare" ? html`<${Compare} head=${Head} />` : html`<${Chat} />`}
    ${state.view === "chat" && state.panel === "settings" && html`<${Settings} owner=${state.current} />`}
    ${state.trouble && html`<div id="trouble" role="alert">${state.trouble}</div>`}
    <${Toast} /><div class="sr" role="status" aria-live="polite">${saying()}</div></div>`;
}

// What a screen reader says: what goes on, and at the end that it is done.
function saying() {
  const turn = state.view === "chat" && talk.running(state.current);
  return turn ? store.busy.get(turn.id).live.doing : state.said;
}

function turnLights() {
  const root = document.documentElement, dark = getComputedStyle(root).colorScheme === "dark";
  root.dataset.look = dark ? "light" : "dark";
  localStorage.setItem("redraft-look", root.dataset.look);
}

let following = true, until = 0;
const atBottom = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 160;
addEventListener("scroll", () => { following = atBottom(); }, { passive: true });

let asked = false;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    render(html`<${Page} />`, document.getElementById("page"));
    if (store.busy.size) until = Date.now() + 500; // the end of an answer is drawn a moment later
    if (following && Date.now() < until) scrollTo(0, document.documentElement.scrollHeight);
  });
}

function route() {
  const id = /^#\/c\/(\w+)$/.exec(location.hash)?.[1];
  const found = state.conversations.find((each) => each.id === id);
  if (location.hash === "#/compare") update({ view: "compare", panel: "" });
  else if (found) update({ current: found, view: "chat", panel: "", editing: "" });
  else if (state.view !== "chat" || Object.keys(state.current.turns).length) talk.begin({ push: false });
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || state.view === "vote" || event.defaultPrevented) return;
  if (state.panel) update({ panel: "" });
  else if (state.view === "chat") talk.stop(state.current);
  else document.getElementById("stop-both")?.click();
});

async function start() {
  const early = document.getElementById("box"), look = localStorage.getItem("redraft-look");
  state.keys = document.body.dataset.keys === "yes";
  if (look) document.documentElement.dataset.look = look;
  const form = early.form;
  let sent = false;
  early.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    sent = true;
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  await store.openDatabase();
  const [kept, settings, unsent] = await Promise.all([store.readAll(), store.readSetting("settings"), store.readSetting("unsent")]);
  state.conversations = kept || [];
  state.current = store.newConversation(settings);
  state.current.unsent = early.value.replace(/\n$/, "") || unsent || "";
  state.send = sent || early.value.endsWith("\n"); // Enter before the page was ready
  const id = /^#\/c\/(\w+)$/.exec(location.hash)?.[1], found = state.conversations.find((each) => each.id === id);
  if (found) {
    if (early.value) found.unsent = state.current.unsent;
    state.current = found;
  }
  if (location.hash === "#/compare") state.view = "compare";
  document.getElementById("page").replaceChildren();
  watch(draw);
  if (location.hash.startsWith("#/vote")) return update({ view: "vote" });
  addEventListener("popstate", route);
  addEventListener("hashchange", route);
  document.addEventListener("visibilitychange", () => document.hidden || state.locked || talk.glance());
  addEventListener("online", talk.glance);
  update();
  return talk.connect();
}

start();
