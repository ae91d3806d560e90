// The layout of the page, its routes and its keyboard shortcuts.
import { Compare } from "./compare.js";
import { Composer } from "./composer.js";
import { post } from "./api.js";
import { answerOf, plainOf, roughly, tokensOf } from "./chain.js";
import { Icon, html, render } from "./dom.js";
import { exported } from "./export.js";
import { Checks, ModelChoice, Settings, beingOf, doingOf } from "./settings.js";
import * as store from "./store.js";
import { path, periodOf, state, titleOf, update, watch } from "./store.js";
import * as talk from "./talk.js";
import { Turn } from "./turn.js";
import { Vote } from "./vote.js";

const MARK = new URL("./icon.svg", import.meta.url).href;
const EXAMPLES = [ // with each of three seeds, the default model answers them well
  ["Describe the sea in one sentence.", "sentences==1"],
  ["Name three fruits as a list.", "bullets==3"],
  ["The film starts at 20:15 and lasts 1 h 50 min. When does it end?"],
];

function Conversations() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (each) => {
    const text = [titleOf(each), each.folder || "", ...Object.values(each.turns).flatMap((turn) => [turn.text, ...(turn.chain?.steps || []).map((step) => step.answer)])].join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const found = state.conversations.filter((each) => Object.keys(each.turns).length && has(each)).sort((a, b) => b.when - a.when);
  const list = (all) => html`<ul>${all.map((each) => html`<${Kept} key=${each.id} conversation=${each} />`)}</ul>`;
  return html`<nav id="conversations" aria-label="Conversations">
    <div class="head"><p class="name"><img src=${MARK} alt="" width="24" height="24" />redraft</p><button type="button" class="quiet only-small" aria-label="Close the list"
      onClick=${() => update({ panel: "" })}><${Icon} name="close" /></button></div>
    <button type="button" class="wide" onClick=${() => talk.begin()}><${Icon} name="new" />New conversation</button>
    <button type="button" class="wide" aria-current=${state.view === "compare" ? "page" : null}
      onClick=${() => { location.hash = "#/compare"; }}><${Icon} name="compare" />Compare two models</button>
    <input type="search" aria-label="Search conversations" placeholder="Search" value=${state.query}
      onInput=${(event) => update({ query: event.target.value })} />
    <div class="kept">${grouped(found, (each) => each.folder).map(([folder, all]) => (folder
      ? html`<details class="folder" open key=${folder}><summary><${Icon} name="folder" /><span dir="auto">${folder}</span></summary>${list(all)}</details>`
      : grouped(all, (each) => periodOf(each.when)).map(([period, some]) => html`<h2 class="label">${period}</h2>${list(some)}`)))}
      ${!found.length && html`<p class="note">${words.length ? "No conversation matches." : "Conversations are stored only in this browser."}</p>`}</div>
    <div class="foot"><button type="button" class="quiet" onClick=${turnLights}><${Icon} name="look" />Light or dark</button>
      ${state.keys && html`<button type="button" class="quiet" onClick=${leave}><${Icon} name="leave" />Log out</button>`}</div>
  </nav>`;
}

// Groups conversations by `nameOf`, in order of their newest; the group without a name comes last.
function grouped(all, nameOf) {
  const groups = Map.groupBy(all, (each) => nameOf(each) || "");
  return [...groups].sort(([one], [other]) => !one - !other);
}

function Kept({ conversation }) {
  const current = state.current === conversation && state.view === "chat", edited = state.naming?.id === conversation.id && state.naming.what;
  const named = (event) => {
    if (event.key === "Escape") event.stopPropagation();
    if (event.key === "Enter") {
      conversation[edited] = event.target.value.trim();
      store.keep(conversation);
    }
    if (["Enter", "Escape"].includes(event.key)) update({ naming: null });
  };
  const begin = (what) => () => update({ naming: { id: conversation.id, what } });
  if (edited) {
    const folder = edited === "folder", folders = new Set(state.conversations.map((each) => each.folder).filter(Boolean));
    return html`<li class="current"><input aria-label=${folder ? "The conversation's folder" : "The conversation's name"} onKeyDown=${named}
      defaultValue=${folder ? conversation.folder || "" : titleOf(conversation)} placeholder=${folder ? "Folder; empty for none" : ""} list="folders" dir="auto"
      onBlur=${() => update({ naming: null })} ref=${(box) => box && document.activeElement !== box && box.select()} />
      ${folder && html`<datalist id="folders">${[...folders].map((each) => html`<option value=${each} />`)}</datalist>`}</li>`;
  }
  return html`<li class=${current ? "current" : ""}>
    <a href=${`#/c/${conversation.id}`} aria-current=${current ? "page" : null} dir="auto" title=${new Date(conversation.when).toLocaleString()}>${titleOf(conversation)}</a>
    ${current && html`<span class="tools"><button type="button" class="quiet" onClick=${begin("title")}>Rename</button>
      <button type="button" class="quiet" onClick=${begin("folder")}>Move</button>
      <button type="button" class="quiet" onClick=${() => talk.remove(conversation)}>Delete</button></span>`}</li>`;
}

function Chat() {
  const conversation = state.current, turns = path(conversation);
  return html`<main id="chat"><h1 class="sr">${turns.length ? titleOf(conversation) : "redraft"}</h1>
    <${Head}><${ModelChoice} owner=${conversation} />
      ${turns.length > 0 && html`<${Export} conversation=${conversation} />`}
      <button type="button" class="quiet" aria-expanded=${state.panel === "settings"} aria-controls="settings"
        onClick=${() => update({ panel: state.panel === "settings" ? "" : "settings" })}><${Icon} name="settings" /><span>Settings</span></button><//>
    <div id="turns">
      ${!turns.length && html`<${Empty} />`}
      ${turns.map((turn) => html`<${Turn} key=${turn.id} conversation=${conversation} turn=${turn} />`)}
    </div>
    <div id="foot">${state.trouble && html`<p id="trouble" role="alert">${state.trouble}</p>`}
      <${Composer} key=${conversation.id} conversation=${conversation}><${Checks} owner=${conversation} /><//>
      <${Filled} conversation=${conversation} turn=${turns.at(-1)} /></div>
  </main>`;
}

// About how much of the model's context a conversation fills.
function Filled({ conversation, turn }) {
  const answer = answerOf(turn?.chain), room = talk.modelOf(conversation.settings)?.redraft.context;
  if (!answer) return null;
  const filled = tokensOf([...talk.messagesOf(conversation, turn), { content: answer }]);
  const said = `${roughly(filled)}${room ? ` of ${room.toLocaleString("en")}` : ""} tokens of context`;
  return html`<p class="filled">${room && html`<meter max=${room} high=${0.8 * room} value=${filled} aria-label="Context used"></meter>`} ${said}</p>`;
}

function Head({ children }) {
  return html`<header id="head"><button type="button" class="quiet only-small" aria-expanded=${state.panel === "conversations"}
    aria-controls="conversations" aria-label="Conversations"
    onClick=${() => update({ panel: state.panel === "conversations" ? "" : "conversations" })}><${Icon} name="menu" /></button>${children}</header>`;
}

function Export({ conversation }) {
  const kinds = [["Markdown", "md"], ["HTML", "html"], ["Chains (JSON lines)", "jsonl"]];
  const done = (event, kind) => {
    event.currentTarget.closest("details").open = false;
    exported(conversation, kind);
  };
  return html`<details class="menu"><summary><${Icon} name="save" /><span>Export</span></summary><div>${kinds.map(([label, kind]) => html`
    <button type="button" onClick=${(event) => done(event, kind)}>${label}</button>`)}</div></details>`;
}

function Empty() {
  const { settings } = state.current, model = talk.modelOf(settings), revises = model?.redraft.max > 0;
  return html`<div class="empty"><img src=${MARK} alt="" width="44" height="44" /><h2>What would you like to know?</h2>
    ${model && html`<p><b>${model.id}</b> ${doingOf(model)}${revises && " until the answer passes your checks"}.
      ${revises && !settings.checks.length && !model.redraft.checks.length && " You have none yet: use “+ Check” below."}
      <small>${beingOf(model)}</small></p>`}
    <div class="examples">${EXAMPLES.map(([text, ...checks]) => [text, ...offered(model, checks)]).map(([text, ...checks]) => html`<button type="button"
      disabled=${!state.ready} onClick=${() => talk.ask(state.current, text, [], checks)}>${text}${checks.map((check) => html`<small title=${check}>checked: ${plainOf(check)}</small>`)}</button>`)}</div></div>`;
}

// The checks of an example, without those of a kind that the model has.
function offered(model, checks) {
  const own = model?.redraft.checks || [], kind = /^[a-z]+/;
  return checks.filter((check) => !own.some((each) => each.startsWith(kind.exec(check)[0])));
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
  return html`<main id="login"><form onSubmit=${enter}><img src=${MARK} alt="" width="44" height="44" /><h1>Log in to redraft</h1><p>Enter the API key that you were given.</p>
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
    <button type="button" class="quiet" aria-label="Close this note" onClick=${() => update({ toast: null })}><${Icon} name="close" /></button></div>`;
}

function Page() {
  if (state.view === "vote") return html`<${Vote} />`;
  if (state.locked) return html`<${Login} />`;
  return html`<div id="shell" class=${state.panel ? `open-${state.panel}` : ""}>
    <${Conversations} />
    ${state.view === "compare" ? html`<${Compare} head=${Head} />` : html`<${Chat} />`}
    ${state.view === "chat" && state.panel === "settings" && html`<${Settings} owner=${state.current} />`}
    <${Toast} /><div class="sr" role="status" aria-live="polite">${saying()}</div></div>`;
}

function tabTitle() {
  if (state.locked) return "Log in · redraft";
  if (state.view === "compare") return "Compare · redraft";
  const title = path(state.current).length ? `${titleOf(state.current)} · redraft` : "redraft";
  return talk.running(state.current) ? `… ${title}` : title;
}

// What a screen reader says: what is being written, and that the answer is complete.
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
    if (state.view !== "vote") document.title = tabTitle();
    if (store.busy.size) until = Date.now() + 500; // the end of an answer is drawn a moment later
    if (following && Date.now() < until && !state.marked && !state.editing) scrollTo(0, document.documentElement.scrollHeight);
  });
}

function route() {
  const id = /^#\/c\/(\w+)$/.exec(location.hash)?.[1];
  const found = state.conversations.find((each) => each.id === id);
  if (location.hash === "#/compare") update({ view: "compare", panel: "" });
  else if (found) update({ current: found, view: "chat", panel: "", editing: "" });
  else if (state.view !== "chat" || Object.keys(state.current.turns).length) talk.begin({ push: false });
}

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

document.addEventListener("keydown", (event) => {
  const types = event.key.length === 1 && !(event.ctrlKey || event.metaKey || event.altKey);
  if (types && document.activeElement === document.body) document.querySelector("[name=wish]")?.focus(); // the selection can still be copied
  const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
  if (menu) menu.open = false;
  if (menu || event.key !== "Escape" || state.view === "vote" || event.defaultPrevented) return;
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
  state.send = sent || early.value.endsWith("\n"); // Enter was pressed before the page was ready
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
