// Conversations, stored only in this browser (IndexedDB), and the state of the page.
import { debounce, newId } from "./dom.js";

export const state = {
  ready: false, // the models are known
  trouble: "", // why they are unknown, or that the server is gone
  locked: false, // a key is needed
  wrong: "", // what is wrong with the key
  keys: false, // the server has keys
  models: [],
  kinds: [],
  conversations: [],
  current: null,
  query: "",
  view: "chat",
  panel: "", // the open panel: settings or conversations
  editing: "", // the turn whose question is edited
  toast: null,
  said: "", // read aloud by screen readers
};

const watchers = new Set();
export const watch = (each) => watchers.add(each);

export function update(patch = {}) {
  Object.assign(state, patch);
  for (const each of watchers) each();
}

let database = null;

export function openDatabase() {
  return new Promise((resolve) => {
    if (!globalThis.indexedDB) return resolve(null); // then nothing is stored
    const asked = indexedDB.open("redraft", 1);
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore("conversations", { keyPath: "id" });
      asked.result.createObjectStore("settings");
    };
    asked.onsuccess = () => resolve((database = asked.result));
    asked.onerror = asked.onblocked = () => resolve(null);
    return undefined;
  });
}

function on(store, mode, work) {
  if (!database) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const asked = work(database.transaction(store, mode).objectStore(store));
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

export const readAll = () => on("conversations", "readonly", (all) => all.getAll());
const readOne = (id) => on("conversations", "readonly", (all) => all.get(id));
export const readSetting = (name) => on("settings", "readonly", (all) => all.get(name));
export const writeSetting = (name, value) => on("settings", "readwrite", (all) => all.put(value, name));

const others = new BroadcastChannel("redraft"); // other tabs
others.onmessage = async ({ data }) => {
  if (data === state.current?.id && busy.size) return;
  const found = await readOne(data);
  const rest = state.conversations.filter((each) => each.id !== data);
  const current = state.current?.id === data && found ? { ...found, unsent: state.current.unsent } : state.current;
  update({ conversations: found ? [...rest, current?.id === data ? current : found] : rest, current });
};

export const busy = new Map(); // the answers that are being written: Live and AbortController by turn

export async function keep(conversation) {
  await on("conversations", "readwrite", (all) => all.put(conversation)).catch(() => {
    update({ toast: { text: "The browser's storage is full, so this conversation is not saved." } });
  });
  others.postMessage(conversation.id);
}

export const keepSoon = debounce(keep, 300);

export async function drop(id) {
  await on("conversations", "readwrite", (all) => all.delete(id));
  others.postMessage(id);
}

export function newConversation(settings = {}) {
  return {
    id: newId(), title: "", folder: "", when: Date.now(), turns: {}, chosen: {}, unsent: "", files: [],
    settings: { checks: [], ...settings },
  };
}

// The turns from the first to the last, along the branches that were chosen.
export function path(conversation) {
  const found = [];
  for (let id = conversation.chosen[""]; id; id = conversation.chosen[id]) found.push(conversation.turns[id]);
  return found;
}

export const siblings = (conversation, turn) =>
  Object.values(conversation.turns).filter((each) => each.parent === turn.parent).sort((a, b) => a.when - b.when);

const DAY = 86_400_000; // milliseconds

// The heading under which a conversation stands, by the time of its last question.
export function periodOf(when, now = Date.now()) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (when >= midnight) return "Today";
  if (when >= midnight - DAY) return "Yesterday";
  if (when >= midnight - 7 * DAY) return "The last 7 days";
  return new Date(when).toLocaleDateString("en", { month: "long", year: "numeric" });
}

export const titleOf = (conversation) =>
  conversation.title || path(conversation)[0]?.text.trim().split("\n")[0].slice(0, 80) || "New conversation";
