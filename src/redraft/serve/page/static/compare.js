// Two models answer the same questions side by side, on randomly chosen sides. Both texts are shown as they are
// written, without names or steps. The server stores the vote, and the page then shows names and steps.
import { post } from "./api.js";
import { Live, answerOf, parted } from "./chain.js";
import { Component, Icon, grow, html, newId } from "./dom.js";
import { Text } from "./markdown.js";
import { faultIn } from "./settings.js";
import { readSetting, state, update, writeSetting } from "./store.js";
import * as talk from "./talk.js";
import { Final, Path } from "./turn.js";

const VOTES = [["1", "Answer 1 is better"], ["tie", "Equally good"], ["2", "Answer 2 is better"], ["bad", "Both are bad"]];

const match = { id: "", rounds: [], swapped: false, voted: "", wrong: "", busy: null }; // stays when the view changes
const sides = [{ settings: { checks: [] } }, { settings: { checks: [] } }];
let tally = null, voter = "";

function nameOf(side) {
  const model = talk.modelOf(side.settings), own = model.redraft, most = side.settings.max ?? own.max;
  const least = Math.min(own.min, most), revisions = least >= most ? `${most}` : `${least} to ${most}`;
  return `${model.id}, ${revisions} revision${revisions === "1" ? "" : "s"}`;
}

const shown = () => (match.swapped ? [1, 0] : [0, 1]); // which side is answer 1, and which is answer 2

async function ask(text) {
  const fault = sides.map((side) => faultIn(side.settings)).find(Boolean);
  const same = nameOf(sides[0]) === nameOf(sides[1]);
  match.wrong = fault || (same ? "Both sides are the same. Choose two models, or different numbers of revisions." : "");
  if (match.wrong) return update();
  if (match.voted || !match.rounds.length)
    Object.assign(match, { id: newId(), rounds: [], voted: "", swapped: crypto.getRandomValues(new Uint8Array(1))[0] > 127 });
  const before = (at) => match.rounds.flatMap((round) => [
    { role: "user", content: round.text }, { role: "assistant", content: answerOf(round.chains[at]) },
  ]);
  const round = { text, chains: [null, null], lives: sides.map((_, at) => new Live([...before(at), { role: "user", content: text }])) };
  match.rounds.push(round);
  match.busy = new AbortController();
  update();
  await Promise.all(oneByOne(round));
  match.busy = null;
  if (round.chains.some((chain) => !answerOf(chain) || ["cancelled", "error"].includes(chain.stop))) {
    match.rounds.pop();
    match.wrong ||= "An answer is incomplete. Ask again to compare.";
    return update({ unasked: text });
  }
  return update({ said: "Both answers are ready." });
}

// Requests both answers at once. If the key allows one request at a time, the second waits for the first.
function oneByOne(round) {
  const made = [];
  for (const at of shown()) {
    const run = () => talk.answer(round.lives[at], talk.fieldsOf(sides[at].settings), match.busy.signal, () => update());
    made.push((async (first) => {
      let found = await run();
      if (found.limited && first) {
        await first;
        found = await run();
      }
      round.chains[at] = found.chain;
      if (found.error) {
        match.wrong = found.error;
        match.busy?.abort();
      }
    })(made[0]));
  }
  return made;
}

async function vote(what) {
  const [first, second] = shown(), last = match.rounds.at(-1), names = [nameOf(sides[first]), nameOf(sides[second])];
  const ballot = {
    id: match.id, question: match.rounds.map((round) => round.text).join("\n\n"), names, swapped: match.swapped,
    answers: [answerOf(last.chains[first]), answerOf(last.chains[second])], voter,
    winner: what === "bad" ? "tie" : what, bad: what === "bad",
  };
  try {
    await post("page/votes", ballot);
  } catch (error) {
    match.wrong = error.message;
    return update();
  }
  Object.assign(match, { voted: what, wrong: "" });
  names.forEach((name, place) => {
    const kind = what === "bad" ? "bad" : what === "tie" ? "tied" : what === `${place + 1}` ? "won" : "lost";
    tally[name] = { ...tally[name], [kind]: (tally[name]?.[kind] || 0) + 1 };
  });
  writeSetting("tally", tally);
  return update({ said: "The vote is stored." });
}

function Choice({ side, label }) {
  const own = talk.modelOf(side.settings)?.redraft, number = (event) => {
    const text = event.target.value.trim();
    side.settings.max = text === "" ? undefined : Number(text);
    update();
  };
  return html`<fieldset disabled=${!!match.busy || (match.rounds.length > 0 && !match.voted)}><legend class="sr">${label}</legend>
    <select aria-label=${label} onChange=${(event) => { side.settings.model = event.target.value; update(); }}>
      ${state.models.map((model) => html`<option value=${model.id} selected=${model === talk.modelOf(side.settings)}>${model.id}</option>`)}</select>
    <label>revisions, at most <input type="number" min="0" max="16" value=${side.settings.max ?? ""} placeholder=${own?.max} onInput=${number} /></label>
  </fieldset>`;
}

function Side({ round, at, place, last }) {
  const chain = round.chains[at], live = round.lives[at], open = match.voted && chain;
  const text = parted(live.chain ? answerOf(live.chain) : live.answer || live.steps.at(-1)?.answer || "").answer;
  return html`<article class="side" aria-label=${`Answer ${place + 1}`}>
    <h2>Answer ${place + 1}${match.voted ? ` · ${nameOf(sides[at])}` : ""}</h2>
    ${open ? html`<${Path} chain=${chain} turn=${{ id: `${match.id}-${last}-${at}` }} /><${Final} chain=${chain} model=${talk.modelOf(sides[at].settings).id} />`
      : html`<${Text} text=${text} />`}
    ${!live.chain && !chain && html`<p class="status"><span class="dots"></span>Answering …</p>`}</article>`;
}

function Tally() {
  const names = Object.keys(tally || {});
  if (!names.length) return null;
  const kinds = ["won", "tied", "lost", "bad"];
  const forget = () => { tally = {}; writeSetting("tally", tally); update(); };
  return html`<details class="tally"><summary>Your votes so far</summary><div class="table" tabindex="0" role="region" aria-label="Your votes">
    <table><thead><tr><th>Model</th>${kinds.map((kind) => html`<th>${kind === "bad" ? "both bad" : kind}</th>`)}</tr></thead>
    <tbody>${names.map((name) => html`<tr><th scope="row">${name}</th>${kinds.map((kind) => html`<td class="right">${tally[name][kind] || 0}</td>`)}</tr>`)}</tbody></table></div>
    <button type="button" class="quiet" onClick=${forget}>Forget them</button></details>`;
}

export class Compare extends Component {
  async componentDidMount() {
    tally ||= (await readSetting("tally")) || {};
    update();
  }

  send = (event) => {
    event.preventDefault();
    const text = this.box.value;
    if (!text.trim() || match.busy || !state.ready) return;
    this.box.value = "";
    grow(this.box);
    ask(text).then(() => {
      if (match.wrong && !this.box.value) this.box.value = text;
    });
  };

  keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.send(event);
  };

  again = () => {
    Object.assign(match, { rounds: [], voted: "", wrong: "" });
    update();
  };

  render({ head }) {
    sides[1].settings.model ||= state.models[1]?.id;
    const ready = match.rounds.length > 0 && !match.busy && match.rounds.at(-1).chains.every(Boolean);
    return html`<main id="compare"><${head}><h1>Compare</h1>
      ${state.ready && html`<div class="row choices"><${Choice} side=${sides[0]} label="One model" /><span class="label">and</span><${Choice} side=${sides[1]} label="The other model" /></div>`}<//>
      <div id="turns">
        ${!match.rounds.length && html`<div class="empty"><h2>Which model answers better?</h2>
          <p>Both models answer your question, side by side and without names. After your vote, you see their names and steps.</p></div>`}
        <div id="rounds">${match.rounds.map((round, number) => html`<section aria-label="Question and answers"><p class="you"><span class="asis" dir="auto">${round.text}</span></p>
          <div class="sides">${shown().map((at, place) => html`<${Side} round=${round} at=${at} place=${place} last=${number} />`)}</div></section>`)}</div>
        ${match.wrong && html`<p class="alert" role="alert">${match.wrong}</p>`}
        ${ready && match.rounds.at(-1).chains.every((chain) => chain.steps.length === 1) && html`<p class="note">Both answered without revising.</p>`}
        <${Tally} />
      </div>
      <div id="foot">
        ${state.trouble && html`<p id="trouble" role="alert">${state.trouble}</p>`}
        ${match.voted && html`<p class="done">Thank you, the vote is stored. <button type="button" onClick=${this.again}>Compare again</button></p>`}
        ${ready && !match.voted && html`<div id="votes" class="row">${VOTES.map(([what, label]) => html`
          <button type="button" onClick=${() => vote(what)}>${label}</button>`)}
          ${!state.keys && html`<label>Your name, stored with the vote <input value=${voter} maxlength="100" placeholder="anonymous"
            onInput=${(event) => { voter = event.target.value; }} /></label>`}</div>`}
        <form id="asking" class="box" onSubmit=${this.send}>
        <textarea id="question" rows="1" aria-label="Question for both" dir="auto" placeholder=${match.rounds.length && !match.voted ? "Ask both the next question" : "A question for both"}
          ref=${(box) => { this.box = box || this.box; }} onKeyDown=${this.keys} onInput=${() => grow(this.box)}></textarea>
        <div class="line">${match.busy ? html`<button type="button" id="stop-both" onClick=${() => match.busy.abort()}><${Icon} name="stop" />Stop</button>`
          : html`<button class="main"><${Icon} name="send" />Ask both</button>`}</div></form></div></main>`;
  }
}
