// What a person does with a conversation: ask, stop, edit, retry, revise again, delete.
import { Live, answerOf, brokenOff, errorOf } from "./chain.js";
import { Lost, Refused, chunks, get } from "./api.js";
import { newId } from "./dom.js";
import * as store from "./store.js";
import { busy, keep, newConversation, path, state, update } from "./store.js";

export const modelOf = (settings) =>
  state.models.find((model) => model.id === settings.model) || state.models[0];

// The fields of a request that a conversation's settings ask for.
export function fieldsOf(settings) {
  const { min, max, mode, drafts, critic, checks, temperature, max_tokens } = settings;
  const revision = { min, max, mode, drafts, critic, checks: checks?.length ? checks : undefined };
  const found = { model: modelOf(settings)?.id, temperature, max_tokens };
  return Object.values(revision).some((value) => value !== undefined) ? { ...found, revision } : found;
}

function contentOf(turn) {
  const files = turn.files || [];
  const texts = files.filter((file) => file.kind === "text").map((file) => `File ${file.name}:\n\n${file.data}`);
  const text = [...texts, turn.text].filter(Boolean).join("\n\n");
  const images = files.filter((file) => file.kind === "image");
  if (!images.length) return text;
  const parts = images.map((file) => ({ type: "image_url", image_url: { url: file.data } }));
  return [{ type: "text", text }, ...parts];
}

export function messagesOf(conversation, turn) {
  const before = [];
  for (let each = conversation.turns[turn.parent]; each; each = conversation.turns[each.parent]) before.unshift(each);
  const messages = before.filter((each) => answerOf(each.chain)).flatMap((each) => [
    { role: "user", content: contentOf(each) }, { role: "assistant", content: answerOf(each.chain) },
  ]);
  const system = conversation.settings.system?.trim();
  return [...(system ? [{ role: "system", content: system }] : []), ...messages, { role: "user", content: contentOf(turn) }];
}

// Let a model answer messages. `live` collects the events, and its chain is returned, whole or cut.
export async function answer(live, body, signal, drawn) {
  const stream_options = { include_steps: true };
  try {
    for await (const chunk of chunks({ ...body, messages: live.messages, stream: true, stream_options, redraft: true }, signal)) {
      live.take(chunk);
      drawn();
    }
    return { chain: live.chain, ended: live.chain?.stop === "cancelled" };
  } catch (error) {
    const begun = live.steps.length || live.answer.trim();
    if (error.name === "AbortError") return { chain: begun ? live.cut("cancelled") : null };
    troubled(error);
    if (error instanceof Lost && !begun) { // nothing is lost: ask again when the server is there
      live.state = "lost";
      await connected(signal);
      live.state = "";
      return signal.aborted ? { chain: null } : answer(live, body, signal, drawn);
    }
    const limited = !begun && error.code === "rate_limit_exceeded";
    return { chain: begun ? live.cut("error") : null, error: state.locked ? state.wrong : error.message, limited };
  }
}

// The login has ended: its key was revoked, or its time is over.
function lock() {
  update({ locked: true, trouble: "", wrong: state.ready ? "Your login has ended. Log in again. If your key is refused, ask the server's operator for a new key." : state.wrong });
}

export function troubled(error) {
  if (error instanceof Lost) connect();
  else if (error instanceof Refused && error.status === 401) lock();
  else if (!(error instanceof Refused)) console.error(error);
}

async function run(conversation, turn, revision) {
  const live = new Live(messagesOf(conversation, turn), revision?.places && "Rewriting the passage"), stop = new AbortController();
  const body = fieldsOf(conversation.settings);
  if (turn.checks?.length) body.revision = { ...body.revision, checks: [...new Set([...(body.revision?.checks || []), ...turn.checks])] };
  if (revision) body.revision = { ...body.revision, ...revision };
  const asked = [...(modelOf(conversation.settings)?.redraft.checks || []), ...(body.revision?.checks || [])];
  Object.assign(turn, { model: body.model, asked, left: true }); // `left`: until it is finished
  busy.set(turn.id, { live, stop });
  let kept = 0;
  const save = () => { // so that the text so far survives a reload
    kept = live.steps.length;
    turn.chain = live.cut("cancelled");
    keep(conversation);
  };
  const drawn = () => {
    if (live.steps.length > kept) save();
    update();
  };
  update({ said: "" });
  const clock = setInterval(() => {
    if (live.answer && !live.chain) save();
    update();
  }, 1000);
  const { chain, error = "", ended } = await answer(live, body, stop.signal, drawn);
  clearInterval(clock);
  busy.delete(turn.id);
  if (state.locked && !chain) return unask(conversation, turn);
  const { thought, thoughts } = live;
  Object.assign(turn, { chain, error, ended, left: false, thought, thoughts }); // `ended`: by the server
  keep(conversation);
  return update({ said: turn.error ? "" : "The answer is complete." });
}

// Take back a question that was not accepted. Its text returns to the box, unless an earlier turn has it.
function unask(conversation, turn) {
  const before = store.siblings(conversation, turn).filter((each) => each !== turn).at(-1);
  delete conversation.turns[turn.id];
  conversation.chosen[turn.parent] = before?.id;
  if (before?.text !== turn.text) Object.assign(conversation, { unsent: conversation.unsent || turn.text, files: turn.files });
  keep(conversation);
}

function add(conversation, turn, revision) {
  conversation.turns[turn.id] = turn;
  conversation.chosen[turn.parent] = turn.id;
  conversation.when = Date.now();
  if (!state.conversations.includes(conversation)) state.conversations.push(conversation);
  if (location.hash !== `#/c/${conversation.id}`) history.pushState(null, "", `#/c/${conversation.id}`);
  const done = run(conversation, turn, revision);
  keep(conversation);
  return done;
}

export const running = (conversation) => path(conversation).find((turn) => busy.has(turn.id));

// `checks` are for this question alone.
export function ask(conversation, text, files = [], checks = []) {
  const parent = path(conversation).at(-1)?.id || "";
  return add(conversation, { id: newId(), parent, when: Date.now(), text, files, checks, chain: null, error: "" });
}

// Ask a question once more, changed or not, in a branch of its own.
export function again(conversation, turn, text = turn.text) {
  const { parent, files } = turn, checks = text === turn.text ? turn.checks : [];
  return add(conversation, { id: newId(), parent, when: Date.now(), text, files, checks, chain: null, error: "" });
}

// Let the answer of a turn be revised once more, in a branch of its own.
export function revise(conversation, turn) {
  const { parent, files, text, checks } = turn;
  const revision = { given: answerOf(turn.chain), min: 1, max: 1, prefer_last: true, drafts: undefined, mode: undefined };
  return add(conversation, { id: newId(), parent, when: Date.now(), text, files, checks, chain: null, error: "" }, revision);
}

// Let one passage of the answer be written anew, as a person wants it, in a branch of its own if that changes it.
export async function patch(conversation, turn, place, wish) {
  const { parent, files, text, checks } = turn, whole = { min: undefined, max: undefined, drafts: undefined, mode: undefined };
  const revision = { ...whole, given: answerOf(turn.chain), places: [[place, wish]] };
  const made = { id: newId(), parent, when: Date.now(), text, files, checks, chain: null, error: "" };
  turn.unchanged = "";
  await add(conversation, made, revision);
  if (answerOf(made.chain) && answerOf(made.chain) !== answerOf(turn.chain)) return;
  state.said = turn.unchanged = made.chain ? errorOf(made) || brokenOff(made) : made.error;
  delete conversation.turns[made.id];
  choose(conversation, turn);
}

export function stop(conversation) {
  for (const turn of Object.values(conversation.turns)) busy.get(turn.id)?.stop.abort();
}

export function choose(conversation, turn) {
  conversation.chosen[turn.parent] = turn.id;
  keep(conversation);
  update();
}

function open(conversation) {
  history.pushState(null, "", `#/c/${conversation.id}`);
  update({ current: conversation, view: "chat", panel: "", editing: "" });
}

export function begin({ push = true } = {}) {
  if (push) history.pushState(null, "", "#/");
  update({ current: newConversation(state.current?.settings), view: "chat", panel: "", editing: "" });
}

// Delete a conversation; a toast offers to undo it.
export function remove(conversation) {
  stop(conversation);
  update({
    conversations: state.conversations.filter((each) => each !== conversation),
    toast: { text: "The conversation is deleted.", undo: () => restore(conversation) },
  });
  store.drop(conversation.id);
  if (state.current === conversation) begin();
}

function restore(conversation) {
  update({ conversations: [...state.conversations, conversation], toast: null });
  keep(conversation);
  open(conversation);
}

let connecting = null;

// Ask for the models until the server has them.
export function connect() {
  connecting ||= connectNow().finally(() => { connecting = null; });
  return connecting;
}

const connected = (signal) =>
  Promise.race([connect(), new Promise((resolve) => signal.addEventListener("abort", resolve))]);

// Whether the server is still there, when a person comes back to the page.
export const glance = () => get("health").catch(troubled);

async function connectNow() {
  for (let wait = 500; ; wait = Math.min(wait * 1.5, 5000)) {
    try {
      const [models, kinds] = await Promise.all([get("v1/models"), get("v1/checks")]);
      const revising = (model) => (model.redraft.max ? 0 : 1);
      models.data.sort((a, b) => revising(a) - revising(b)); // those that revise come first
      update({ models: models.data, kinds: kinds.data, ready: true, trouble: "", locked: false });
      break;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        lock();
        break;
      }
      update({ trouble: error instanceof Lost ? "The server does not answer. Connecting again …" : `${error.message} …` });
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}
