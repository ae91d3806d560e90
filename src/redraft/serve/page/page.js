/* What Gradio does not do: keep what was opened open while an answer is written, follow the text, say aloud what
   goes on, say that the server is gone or the login ended, Escape to stop, buttons that copy, log out, settings on a
   phone, and a switch between light and dark. */
"use strict";

const opened = new Map(); // what a person opened or closed, by id
const said = document.createElement("div"); // read aloud by screen readers
said.className = "sr";
said.setAttribute("role", "status");
said.setAttribute("aria-live", "polite");

const find = (selector) => document.querySelector(selector);
const shown = (element) => element && element.offsetParent !== null;

const GONE = "The connection to the server was lost. Copy what you need, then reload the page.";
const LEFT = "You are logged out. Log in in another tab, then ask again.";
const warning = document.createElement("div");
warning.id = "warning";
warning.setAttribute("role", "alert");

function warn(text) {
  if (warning.textContent !== GONE && warning.textContent !== text) warning.textContent = text;
}

async function watch(stream) { // a stream that breaks off ended without saying so; the heartbeat never ends
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let end = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    end = (end + value).slice(-200);
  }
  if (!end.includes('"close_stream"')) throw new Error("it broke off");
}

const lost = (error) => {
  if (error.name !== "AbortError") setTimeout(warn, 300, GONE); // a person who leaves the page need not know
};
const ask = window.fetch.bind(window);
window.fetch = async (what, how) => {
  const path = new URL(what.url || what, location.href).pathname;
  if (!path.startsWith("/gradio_api/")) return ask(what, how);
  if (warning.textContent === GONE) throw new TypeError(GONE); // this conversation is no longer on the server
  const reply = await ask(what, how).catch((error) => { lost(error); throw error; });
  warn(reply.status === 401 ? LEFT : "");
  if (reply.ok && /\/(data|heartbeat\/\w+)$/.test(path)) watch(reply.clone().body).catch(lost);
  return reply;
};

const copied = new WeakSet(); // what has a button
async function copy(of, button) { // an answer with its formatting for editors that have it, else in Markdown
  const source = of.querySelector(".source"), bare = of.cloneNode(true);
  for (const each of bare.querySelectorAll(".sr, .copy, .source")) each.remove();
  const forms = { "text/plain": (source || of).textContent.trimEnd(), ...(source && { "text/html": bare.innerHTML }) };
  const blobs = Object.entries(forms).map(([type, text]) => [type, new Blob([text], { type })]);
  await navigator.clipboard.write([new ClipboardItem(Object.fromEntries(blobs))]);
  said.textContent = "Copied.";
  button.classList.add("copied");
  setTimeout(() => button.classList.remove("copied"), 1500);
}

function offerCopies() {
  if (!navigator.clipboard) return; // browsers have it for https and this machine alone
  for (const of of document.querySelectorAll("#done .final, #answers .final, #done pre, #answers pre")) {
    if (copied.has(of)) continue;
    const code = of.matches("pre");
    const button = document.createElement("button");
    button.className = "copy";
    button.setAttribute("aria-label", code ? "Copy the code" : "Copy the answer");
    button.onclick = () => copy(of, button);
    if (code) of.before(button);
    else of.after(button);
    copied.add(of);
  }
}

function logOut() {
  const form = document.createElement("form");
  form.method = "post";
  form.action = "logout";
  document.body.append(form);
  form.submit();
}

document.addEventListener("click", (event) => {
  const summary = event.target.closest("details[id] > summary");
  if (summary) opened.set(summary.parentElement.id, !summary.parentElement.open);
  if (event.target.closest("#settings-button")) {
    const open = find("#settings").classList.toggle("open");
    find("#settings-button").setAttribute("aria-expanded", open);
  }
  if (event.target.closest("#logout")) logOut();
  if (event.target.closest("#look")) choose(!document.body.classList.contains("dark"));
});

document.addEventListener("keydown", (event) => {
  const stop = [...document.querySelectorAll("#stop, #stop-both")].find(shown);
  if (event.key === "Escape" && stop) stop.click();
});

function choose(dark) {
  document.body.classList.toggle("dark", dark);
  localStorage.setItem("redraft-dark", dark ? "yes" : "no");
}

function atBottom() {
  return window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 160;
}

let following = true;
let busy = false;
let comparing; // how far a comparison is
let turns = 0;
let until = 0; // when to stop following: Gradio draws the end of an answer a moment after it
document.addEventListener("pointerdown", () => { until = 0; }, { passive: true });
window.addEventListener("scroll", () => { following = atBottom(); }, { passive: true });

function changed() {
  for (const step of document.querySelectorAll("details[id]")) {
    if (opened.has(step.id) && step.open !== opened.get(step.id)) step.open = opened.get(step.id);
  }
  const state = find("#live .alert, #live .status, #both .alert, #both .status, #both .done");
  const text = state ? !state.matches(".alert") && state.textContent : busy && "The answer is complete."; // alerts say themselves
  if (text && said.textContent !== text) said.textContent = text;
  const working = Boolean(find("#live .status"));
  const count = document.querySelectorAll(".turn").length;
  if (working || busy || count > turns) until = Date.now() + 1000;
  turns = count;
  if (following && Date.now() < until) window.scrollTo(0, document.documentElement.scrollHeight);
  if (busy && !working && document.activeElement === document.body) find("#box textarea")?.focus();
  if (working && !busy) following = true;
  busy = working;
  const both = find("#both p, #both .alert")?.className;
  if (both !== comparing) setTimeout(() => find("#asking").scrollIntoView(), 300); // what it shows is drawn by then
  comparing = both;
  offerCopies();
}

document.addEventListener("DOMContentLoaded", () => {
  document.body.append(said, warning);
  new MutationObserver(changed).observe(find("gradio-app"), { childList: true, subtree: true, characterData: true });
  const kept = localStorage.getItem("redraft-dark");
  if (kept) {
    const wait = new MutationObserver(() => {
      if (find("#box textarea")) { choose(kept === "yes"); wait.disconnect(); }
    });
    wait.observe(find("gradio-app"), { childList: true, subtree: true });
  }
});
