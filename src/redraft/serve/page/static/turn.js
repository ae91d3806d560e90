// A question with the steps of its answer.
import { busy, siblings, state, update } from "./store.js";
import {
  answerOf, brokenOff, changes, checksOf, derivedIn, endOf, errorOf, faultsOf, finalIndex, finalStep, nameOf, parted, pathOf, pillsOf,
  placeOf, plainOf, shortly, verdictsOf, whyCut, whyEnded,
} from "./chain.js";
import { Icon, counted, grow, html, uncover } from "./dom.js";
import { Text, copied, printable, rendered } from "./markdown.js";
import { isSmall } from "./settings.js";
import * as talk from "./talk.js";

const MOST_CHECKS = 50; // most checks that are listed for an answer
const LONG = 1500; // most characters of a question that is shown whole

export function Turn({ conversation, turn, last }) {
  const at_work = busy.get(turn.id);
  return html`<article class="turn" id=${`turn-${turn.id}`} aria-label="Question and answer">
    <${Question} conversation=${conversation} turn=${turn} />
    ${at_work ? html`<${Writing} live=${at_work.live} turn=${turn} />`
      : html`<${Done} conversation=${conversation} turn=${turn} last=${last} />`}
  </article>`;
}

function Question({ conversation, turn }) {
  if (state.editing === turn.id) return html`<${Editor} conversation=${conversation} turn=${turn} />`;
  const long = turn.text.length > LONG || turn.text.split("\n").length > 15, derived = derivedIn(turn);
  return html`<div class="you">
    <h2 class="sr">You asked</h2>
    ${(turn.files || []).map((file) => html`<p class="file">${file.kind === "image"
      ? html`<img src=${file.data} alt=${`Attached: ${file.name}`} />` : file.name}</p>`)}
    ${long && html`<details class="more"><summary>Show all</summary></details>`}
    <p class="asis" dir="auto">${printable(turn.text)}</p>
    <div class="row">
      ${turn.checks?.length > 0 && html`<span class="label" title=${turn.checks.join("; ")}>Checked: ${turn.checks.map(plainOf).join(" · ")}</span>`}
      ${derived && html`<span class="label">${printable(derived)}</span>`}
      <${Branches} conversation=${conversation} turn=${turn} />
      <button type="button" class="quiet" disabled=${!!talk.running(conversation)}
        onClick=${() => update({ editing: turn.id })}><${Icon} name="edit" />Edit<span class="sr"> this question</span></button>
    </div>
  </div>`;
}

function Branches({ conversation, turn }) {
  const all = siblings(conversation, turn), place = all.indexOf(turn);
  if (all.length < 2) return null;
  const to = (step, label, sign) => html`<button type="button" class="quiet" aria-label=${label}
    disabled=${!all[place + step]} onClick=${() => talk.choose(conversation, all[place + step])}>${sign}</button>`;
  return html`<span class="branches">${to(-1, "Previous version", "‹")}
    <span>${place + 1} of ${all.length}</span>${to(1, "Next version", "›")}</span>`;
}

function Editor({ conversation, turn }) {
  let box;
  const leave = () => update({ editing: "" });
  const send = (event) => {
    event.preventDefault();
    if (!box.value.trim()) return;
    leave();
    talk.again(conversation, turn, box.value);
  };
  const keys = (event) => {
    if (event.key === "Escape") leave();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  };
  const place = (element) => {
    const drawn = element && element !== box && document.activeElement !== element;
    box = element || box;
    if (element) grow(element);
    if (drawn) {
      element.focus();
      uncover(element.form);
    }
  };
  return html`<form class="you editor" onSubmit=${send}>
    <textarea aria-label="Edit the question" rows="1" dir="auto" ref=${place} onKeyDown=${keys} onInput=${() => grow(box)}
      defaultValue=${turn.text}></textarea>
    <div class="row"><button type="button" onClick=${leave}>Cancel</button><button class="main">Ask again</button></div>
  </form>`;
}

function Writing({ live, turn }) {
  const { thought, answer, thinking } = parted(live.answer), apart = live.thoughts[live.steps.length];
  return html`<${Steps} steps=${live.steps} turn=${turn} />
    ${apart && html`<${Thought} text=${apart} seconds=${live.thinks ? live.seconds : live.thought} thinking=${live.thinks} />`}
    ${thought && html`<${Thought} text=${thought} seconds=${thinking ? live.seconds : live.thought} thinking=${thinking} />`}
    ${answer && html`<div class="writing">${live.feedback && html`<p class="label">${nameOf(live.index)}</p>`}<${Text} text=${answer} /></div>`}
    ${live.patch.text && html`<${Patch} before=${live.steps.at(-1)?.answer} after=${live.patched} place=${live.patch.place} />`}
    ${live.feedback && html`<div class="feedback"><p class="label">Feedback</p><${Text} text=${live.feedback} /></div>`}
    <p class="status"><span class="dots"></span>${live.doing} … <span class="clock">${Math.floor(live.seconds)} s</span></p>`;
}

function Patch({ before, after, place }) {
  return before && place ? html`<${Diff} before=${before} after=${after} />` : html`<div class="writing"><${Text} text=${after} /></div>`;
}

export function Thought({ text, seconds, thinking }) {
  const took = seconds >= 1 ? ` for ${Math.floor(seconds)} s` : "";
  return html`<details class="thinking"><summary>${thinking ? `Thinking${took} …` : `Thought${took}`}</summary>
    <${Text} text=${text} /></details>`;
}

function Done({ conversation, turn, last }) {
  const { chain } = turn, broken = brokenOff(turn);
  return html`
    ${chain && html`<${Path} chain=${chain} turn=${turn} />
      <div onMouseUp=${(event) => mark(turn, event.currentTarget, event.detail)}>
        <${Final} chain=${chain} model=${turn.model} thought=${turn.thought} apart=${turn.thoughts} /></div>
      <${Marked} conversation=${conversation} turn=${turn} />`}
    ${[broken, turn.unchanged].filter(Boolean).map((each) => html`<p class="broken">${printable(each)}</p>`)}
    ${turn.error && html`<p class="alert" role="alert">${printable(errorOf(turn))}</p>`}
    <${Actions} conversation=${conversation} turn=${turn} last=${last} />`;
}

let waiting = 0;

// Remembers the selected passage of an answer, for a field that asks what should be different there.
// A double click may become a triple one, and until then the page must not scroll.
function mark(turn, box, clicks) {
  clearTimeout(waiting);
  if (clicks === 2) {
    waiting = setTimeout(mark, 500, turn, box);
    return;
  }
  const place = placeOf(answerOf(turn.chain), box.querySelector(".final"));
  if (!place) return;
  update({ marked: { id: turn.id, place } });
  requestAnimationFrame(() => { // the form is drawn by then, unless an answer is being written
    const wish = document.querySelector("[name=wish]");
    if (wish) uncover(wish.form);
  });
}

function Marked({ conversation, turn }) {
  if (state.marked?.id !== turn.id || talk.running(conversation)) return null;
  const { place } = state.marked, leave = () => update({ marked: null });
  const send = (event) => {
    event.preventDefault();
    const wish = event.currentTarget.elements.wish.value.trim();
    if (!wish) return;
    leave();
    talk.patch(conversation, turn, place, wish);
  };
  const passage = [...answerOf(turn.chain)].slice(...place).join("");
  return html`<form class="you editor" onSubmit=${send} onKeyDown=${(event) => event.key === "Escape" && leave()}>
    <label><span>What should be different in <q>${printable(passage.length > 80 ? `${passage.slice(0, 79)}…` : passage)}</q>?</span>
      <input name="wish" maxlength="500" placeholder="shorter, no jargon, in euros …" autocomplete="off" /></label>
    ${isSmall(talk.modelOf(conversation.settings)) && html`<p class="note">This small model seldom makes the requested edit. A new text in quotation marks always replaces the passage.</p>`}
    <div class="row"><button type="button" onClick=${leave}>Cancel</button><button class="main">Change only this</button></div>
  </form>`;
}

// The answer of a chain, with the findings about it.
export function Final({ chain, model, thought, apart }) {
  const step = finalStep(chain);
  if (!step || !answerOf(chain)) return html`<p class="alert" role="alert">There is no answer: ${whyNone(chain)}.</p>`;
  const parts = parted(answerOf(chain));
  parts.thought ||= apart?.[finalIndex(chain)] || chain.steps[finalIndex(chain)]?.reasoning || "";
  return html`<h2 class="sr">Answer</h2>
    ${parts.thought && html`<${Thought} text=${parts.thought} seconds=${thought} />`}
    <div class="final"><${Text} text=${parts.answer} faults=${step.answer.startsWith(parts.answer) && step.feedback?.by !== "person" ? faultsOf(step) : undefined} /></div>
    <${Verdict} step=${step} />
    <p class="meta">${endOf(chain, model)}</p>`;
}

function whyNone(chain) {
  const step = chain.steps.at(-1);
  if (step?.echo) return "the model only repeated or acknowledged what it was given";
  return step?.finish && step.finish !== "stop" ? whyCut(step) : "the model wrote nothing";
}

function Verdict({ step }) {
  const found = verdictsOf(step);
  if (!found.length) return null;
  return html`<details class="verdict"><summary>${shortly(found).map(([kind, sign, text]) => html`
    <span class=${kind}><span aria-hidden="true">${sign} </span>${kind === "bad" && html`<span class="sr">failed: </span>`}${printable(text)}</span> `)}</summary>
    ${step.feedback && html`<${Feedback} given=${step.feedback} />`}</details>`;
}

function Actions({ conversation, turn }) {
  const stopped = !!talk.running(conversation), text = answerOf(turn.chain);
  const copy = (event) => {
    const { answer } = parted(text), holder = document.createElement("div");
    holder.append(rendered(answer).nodes);
    for (const each of holder.querySelectorAll(".head")) each.remove();
    copied(event.currentTarget, { "text/plain": answer, "text/html": holder.innerHTML });
  };
  return html`<div class="row actions">
    ${text && navigator.clipboard && html`<button type="button" class="quiet" onClick=${copy}><${Icon} name="copy" /><span>Copy</span></button>`}
    ${text && html`<button type="button" class="quiet" disabled=${stopped}
      onClick=${() => talk.revise(conversation, turn)}><${Icon} name="revise" />Revise again</button>`}
    <button type="button" class="quiet" disabled=${stopped}
      onClick=${() => talk.again(conversation, turn)}><${Icon} name="again" />Retry</button>
  </div>`;
}

// How the answer of a chain was made: a line that opens to show each step.
export function Path({ chain, turn }) {
  const said = pathOf(chain), { drafts = [] } = chain;
  if (!said) return null;
  return html`<details class="path"><summary>${printable(said)}</summary>
    <${Steps} steps=${chain.steps} best=${finalIndex(chain)} turn=${turn} />
    ${drafts.length > 0 && html`<div class="steps">${drafts.map((step, index) => html`<${Step} key=${index} id=${`${turn.id}-d${index}`}
      name="Draft not chosen" step=${step} />`)}</div>`}
    ${chain.stop && chain.steps.length > 1 && html`<p class="meta">It ended for this reason: ${whyEnded(chain)}.</p>`}</details>`;
}

// Steps, each folded. `best` is the one that became the answer.
function Steps({ steps, best, turn }) {
  return html`<div class="steps">${steps.map((step, index) => html`<${Step} key=${index} id=${`${turn.id}-${index}`} name=${nameOf(index)}
    step=${step} before=${steps[index - 1]} best=${index === best} />`)}</div>`;
}

const opened = new Set(); // ids of steps

function Step({ id, name, step, before, best }) {
  const open = opened.has(id);
  const toggled = (event) => {
    if (event.currentTarget.open === open) return;
    opened[open ? "delete" : "add"](id);
    update();
  };
  return html`<details class="step" open=${open} onToggle=${toggled}><summary><span class="name">${name}</span>
    ${[...pillsOf(step, before, best)].map(([kind, text]) => html` <span class=${`pill ${kind}`}>${text}</span>`)}
    </summary>
    ${open && html`<div class="body">
      ${before ? html`<${Diff} before=${before.answer} after=${step.answer} faults=${faultsOf(step)} />`
        : html`<${Text} text=${step.answer} faults=${faultsOf(step)} />`}
      ${step.feedback && html`<${Feedback} given=${step.feedback} />`}
    </div>`}</details>`;
}

const known = new Map(); // whether two texts have enough in common to mark what changed

function comparable(before, after) {
  const key = `${before}\0${after}`;
  if (!known.has(key)) {
    if (known.size > 500) known.clear();
    known.set(key, changes(printable(before), printable(after)) !== null);
  }
  return known.get(key);
}

function Diff({ before, after, faults = [] }) {
  if (before === after) return html`<p class="label">Nothing was changed.</p>`;
  if (!comparable(before, after)) return html`<p class="label">Rewritten as a whole.</p><${Text} text=${after} faults=${faults} />`;
  return html`<p class="label">Changes: <ins>added</ins> <del>removed</del></p>
    <div class="diff"><${Text} before=${before} text=${after} faults=${faults} /></div>`;
}

function Feedback({ given }) {
  const person = given.by === "person", checks = person ? [] : checksOf({ feedback: given }); // the text has all wishes
  const own = given.text && (given.by !== "checks" || !checks.length);
  return html`
    ${own && html`<div class="feedback"><p class="label">${person ? "What should be different" : "Feedback"}</p><${Text} text=${given.text} /></div>`}
    ${checks.length > 0 && html`<ul class="checks">${checks.slice(0, MOST_CHECKS).map((check) => html`
      <li class=${check.passed ? "pass" : "fail"}><span class="sr">${check.passed ? "passed" : "failed"}: </span>
        <code>${printable(check.name)}</code> ${printable(check.message)}</li>`)}</ul>`}
    ${checks.length > MOST_CHECKS && html`<p class="label">… and ${counted(checks.length - MOST_CHECKS, "more check")}.</p>`}`;
}
