// A conversation's settings: its checks as chips, how answers are revised, and the options of the model.
import { faultOf } from "./api.js";
import { plainOf } from "./chain.js";
import { Component, Icon, debounce, grow, html } from "./dom.js";
import { keepSoon, state, update, writeSetting } from "./store.js";
import { modelOf } from "./talk.js";

const PRESETS = [
  "words<=50", "sentences==1", "bullets>=3", "json", "number", "lacks:leverage", "language:en", "language:de",
];
const MODES = {
  auto: "checks if there are any, else a model", native: "the model, in the same text", prompted: "the model, or the critic", verified: "checks",
  "best-of": "nobody: drafts are chosen from", repair: "checks, without showing the draft",
};

export function change(owner, patch) {
  Object.assign(owner.settings, patch);
  for (const name of Object.keys(patch)) if (owner.settings[name] === undefined) delete owner.settings[name];
  const { system, ...rest } = owner.settings;
  writeSetting("settings", rest);
  if (state.conversations.includes(owner)) keepSoon(owner);
  update();
}

// What a model does, after its name: "drafts, and revises up to 3 times".
export function doingOf({ redraft: own }) {
  const most = own.max === 1 ? "once" : `${own.min === own.max ? "" : "up to "}${own.max} times`;
  if (own.max) return `drafts${own.drafts > 1 ? ` ${own.drafts} answers` : ""}, and revises ${most}`;
  return own.drafts > 1 ? `keeps the best of ${own.drafts} drafts` : "answers once";
}

export const isSmall = (model) => (model?.redraft.weights || Infinity) < 300_000_000;

// What a model is: "135 million weights · context of 4,096 tokens".
export function beingOf(model) {
  const { weights, context } = model.redraft;
  const parts = [weights && `${SHORT.format(weights)} weights`, context && `context of ${context.toLocaleString("en")} tokens`];
  const small = ". It is small: for short exercises, and to try redraft. For everyday answers, use another model.";
  return parts.filter(Boolean).join(" · ") + (isSmall(model) ? small : "");
}

const SHORT = new Intl.NumberFormat("en", { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 3 });

export function ModelChoice({ owner, label = "Model" }) {
  const model = modelOf(owner.settings);
  return html`<label class="model"><span class="sr">${label}</span>
    <select aria-label=${label} value=${model?.id} onChange=${(event) => change(owner, { model: event.target.value })}>
      ${state.models.map((each) => html`<option value=${each.id} selected=${each === model}>${each.id}</option>`)}
    </select></label>${model && html`<p class="about">${doingOf(model)}</p>`}`;
}

// The checks of a conversation: its model's checks, which are fixed, and its own, which can be changed.
export class Checks extends Component {
  state = { at: null, text: "", fault: "" }; // at: the number of the check that is edited, or "new"

  #try = debounce(async (text) => {
    const fault = text.trim() ? await faultOf(text.trim()).catch(() => "") : "";
    if (text === this.state.text) this.setState({ fault });
  }, 120);

  edit(at, text = "") {
    this.setState({ at, text, fault: "" });
    if (text) this.#try(text);
  }

  type = (event) => {
    this.setState({ text: event.target.value });
    this.#try(event.target.value);
  };

  async take(text) {
    const wanted = text.trim(), { at, text: typed } = this.state, { owner } = this.props;
    const own = [...owner.settings.checks];
    if (wanted) {
      const fault = await faultOf(wanted).catch((error) => error.message);
      // Text that was typed meanwhile stays.
      if (fault) return typed === this.state.text && this.setState({ at: at ?? "new", text, fault });
      if (typeof at === "number") own[at] = wanted;
      else own.push(wanted);
    } else if (typeof at === "number") own.splice(at, 1);
    change(owner, { checks: [...new Set(own)] });
    this.setState({ at: null, text: "", fault: "" });
    return this.all.querySelector(".add")?.focus();
  }

  drop(at) {
    const { owner } = this.props;
    change(owner, { checks: owner.settings.checks.filter((_, place) => place !== at) });
    this.all.querySelector(".add")?.focus();
  }

  keys = (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      this.edit(null);
    }
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    this.take(this.state.text);
  };

  box() {
    const { at, text, fault } = this.state, removes = typeof at === "number" && !text.trim();
    const focused = (element) => {
      if (element && element !== this.shown) element.focus();
      this.shown = element;
    };
    return html`<span class="typing"><input value=${text} onInput=${this.type} onKeyDown=${this.keys} ref=${focused}
      aria-label="Check" aria-invalid=${fault ? "true" : "false"} aria-describedby="check-fault" list="kinds"
      placeholder="words<=50" size=${Math.max(14, text.length + 1)} spellcheck=${false} autocapitalize="off" />
      <button type="button" onClick=${() => this.take(text)} disabled=${!!fault || (at === "new" && !text.trim())}>${removes ? "Remove" : "Keep"}</button>
      <button type="button" onClick=${() => this.edit(null)}>Cancel</button></span>`;
  }

  chip(check, at) {
    if (this.state.at === at) return this.box();
    return html`<span class="chip" key=${check}><button type="button" onClick=${() => this.edit(at, check)}
      title=${check} aria-label=${`Change the check ${check}`}>${plainOf(check)}</button><button type="button" class="drop"
      aria-label=${`Remove the check ${check}`} onClick=${() => this.drop(at)}>×</button></span>`;
  }

  render({ owner }, { at, fault }) {
    const fixed = modelOf(owner.settings)?.redraft.checks || [];
    return html`<div class="chips" role="group" aria-label="Checks" ref=${(box) => { this.all = box || this.all; }}>
      <span class="label">Checks</span>
      ${fixed.map((check) => html`<span class="chip fixed" title=${`A check of the model: ${check}`}>${plainOf(check)}<span class="sr"> (a check of the model)</span></span>`)}
      ${owner.settings.checks.map((check, place) => this.chip(check, place))}
      ${at === "new" ? this.box() : html`<button type="button" class="add" onClick=${() => this.edit("new")}>+ Check</button>`}
      ${at === "new" && PRESETS.filter((check) => this.known(check)).map((check) => html`
        <button type="button" class="preset" onClick=${() => this.take(check)}><span>${plainOf(check)}</span> <code>${check}</code></button>`)}
      <span id="check-fault" class="fault" role="status">${fault}</span>
      <datalist id="kinds">${state.kinds.map((kind) => html`<option value=${kind.form}>${kind.about}</option>`)}</datalist>
    </div>`;
  }

  known = (check) => state.kinds.some((kind) => check.startsWith(kind.id));
}

// A field for a number. If it is empty, the model's own number applies.
function Number_({ owner, name, label, own, min = 0, max, step = 1, about }) {
  const given = (event) => {
    const text = event.target.value.trim();
    change(owner, { [name]: text === "" || Number.isNaN(Number(text)) ? undefined : Number(text) });
  };
  return html`<label>${label}<input type="number" min=${min} max=${max} step=${step} value=${owner.settings[name] ?? ""}
    placeholder=${own} onInput=${given} />${about && html`<small>${about}</small>`}</label>`;
}

// Why the settings are invalid; empty if they are valid.
export function faultIn(settings) {
  const { min, max } = settings, own = modelOf(settings)?.redraft || {};
  const most = max ?? own.max;
  if (min !== undefined && most !== undefined && min > most && (max !== undefined || own.max > 0))
    return `At least ${min} revisions, and at most ${most}: change one of them.`;
  for (const [name, least, limit] of [["min", 0, 16], ["max", 0, 16], ["drafts", 1, 8], ["temperature", 0, 2], ["max_tokens", 1, 16384]]) {
    const value = settings[name], whole = name !== "temperature";
    if (value !== undefined && (value < least || value > limit || (whole && !Number.isInteger(value))))
      return `${NAMES[name]}: ${value} is not a ${whole ? "whole " : ""}number from ${least} to ${limit}.`;
  }
  return "";
}

const NAMES = { min: "Revisions, at least", max: "Revisions, at most", drafts: "Drafts", temperature: "Temperature", max_tokens: "Tokens" };

export function Settings({ owner }) {
  const own = modelOf(owner.settings)?.redraft || {};
  return html`<section id="settings" aria-label="Settings">
    <div class="head"><h2>Settings</h2><button type="button" class="quiet" aria-label="Close the settings"
      onClick=${() => update({ panel: "" })}><${Icon} name="close" /></button></div>
    ${state.models.length > 0 && html`<p class="note"><b>${modelOf(owner.settings).id}</b> ${doingOf(modelOf(owner.settings))}. ${beingOf(modelOf(owner.settings))}</p>
    <p class="note">An empty box means the model's own value.</p>`}
    <${Number_} owner=${owner} name="min" label=${NAMES.min} own=${own.min} max="16" />
    <${Number_} owner=${owner} name="max" label=${NAMES.max} own=${own.max} max="16" />
    <label>Mode<select value=${owner.settings.mode || ""} onChange=${(event) => change(owner, { mode: event.target.value || undefined })}>
      <option value="">the model's own: ${own.mode}</option>
      ${Object.keys(MODES).map((mode) => html`<option value=${mode} selected=${owner.settings.mode === mode}>${mode}</option>`)}</select>
      <small>Who criticises: ${MODES[owner.settings.mode || own.mode]}.</small></label>
    <${Number_} owner=${owner} name="drafts" label=${NAMES.drafts} own=${own.drafts} min="1" max="8" about="First answers. Checks choose the best one." />
    ${state.models.length > 1 && html`<label>Critic<select onChange=${(event) => change(owner, { critic: event.target.value || undefined })}>
      <option value="">the model's own</option>
      ${state.models.map(({ id }) => html`<option value=${id} selected=${owner.settings.critic === id}>${id}</option>`)}</select>
      <small>The model that says what to revise.</small></label>`}
    <details class="advanced"><summary>Advanced</summary>
      <label>System prompt<textarea rows="3" dir="auto" value=${owner.settings.system || ""} ref=${(box) => box && grow(box)}
        onInput=${(event) => change(owner, { system: event.target.value || undefined })}></textarea></label>
      <${Number_} owner=${owner} name="temperature" label=${NAMES.temperature} own="the model's own" max="2" step="0.1" />
      <${Number_} owner=${owner} name="max_tokens" label="Tokens of each text, at most" own="2048" min="1" max="16384" />
    </details>
    <p class="fault" role="status">${faultIn(owner.settings)}</p>
  </section>`;
}
