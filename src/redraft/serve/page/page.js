/* What Gradio does not do: keep opened steps open while an answer is written, follow the text, say aloud what
   goes on, Escape to stop, settings on a phone, and a switch between light and dark. */
"use strict";

const opened = new Map(); // what a person opened or closed, by id of the step
const said = document.createElement("div"); // read aloud by screen readers
said.className = "sr";
said.setAttribute("role", "status");
said.setAttribute("aria-live", "polite");

const find = (selector) => document.querySelector(selector);
const shown = (element) => element && element.offsetParent !== null;

document.addEventListener("click", (event) => {
  const summary = event.target.closest("details.step > summary");
  if (summary) opened.set(summary.parentElement.id, !summary.parentElement.open);
  if (event.target.closest("#settings-button")) {
    const open = find("#settings").classList.toggle("open");
    find("#settings-button").setAttribute("aria-expanded", open);
  }
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
let turns = 0;
let until = 0; // when to stop following: Gradio draws the end of an answer a moment after it
window.addEventListener("scroll", () => { following = atBottom(); }, { passive: true });

function changed() {
  for (const step of document.querySelectorAll("details.step")) {
    if (opened.has(step.id) && step.open !== opened.get(step.id)) step.open = opened.get(step.id);
  }
  const alert = find("#live .alert, #both .alert");
  const state = alert || find("#live .status, #both .status, #both .done");
  const text = state ? state.textContent : busy && "The answer is complete.";
  if (text && said.textContent !== text) said.textContent = text;
  const working = Boolean(find("#live .status"));
  const count = document.querySelectorAll(".turn").length;
  if (working || busy || count > turns) until = Date.now() + 1000;
  turns = count;
  if (following && Date.now() < until) window.scrollTo(0, document.documentElement.scrollHeight);
  if (busy && !working && document.activeElement === document.body) find("#box textarea")?.focus();
  if (working && !busy) following = true;
  busy = working;
}

document.addEventListener("DOMContentLoaded", () => {
  document.body.append(said);
  new MutationObserver(changed).observe(find("gradio-app"), { childList: true, subtree: true, characterData: true });
  const kept = localStorage.getItem("redraft-dark");
  if (kept) {
    const wait = new MutationObserver(() => {
      if (find("#box textarea")) { choose(kept === "yes"); wait.disconnect(); }
    });
    wait.observe(find("gradio-app"), { childList: true, subtree: true });
  }
});
