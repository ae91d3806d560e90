// Draws the page with Preact. Its templates need no build step.
import { Component, h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { Component, render };

export const counted = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

export function debounce(work, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait);
  };
}

export const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function saveAs(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const MOST_HEIGHT = 0.4; // most of the window's height that a text area takes, as a share

// Makes a text area as high as its text.
export function grow(box) {
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, innerHeight * MOST_HEIGHT)}px`;
}

// Scrolls a form that was just drawn, so that the box at the page's foot does not cover it.
export function uncover(form) {
  scrollBy(0, Math.max(0, form.getBoundingClientRect().bottom - document.getElementById("foot").getBoundingClientRect().top));
}

const SHAPES = {
  new: "M12 5v14M5 12h14", compare: "M4 5h7v14H4zM13 5h7v14h-7z", close: "M6 6l12 12M18 6 6 18", menu: "M4 7h16M4 12h16M4 17h16",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4", save: "M12 4v11M7 11l5 5 5-5M5 20h14", send: "M12 20V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z", attach: "M8 12.5 14.5 6a3 3 0 0 1 4.2 4.2l-8 8a5 5 0 0 1-7-7L11 4", look: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  folder: "M3 6h6l2 3h10v10H3z", copy: "M9 9h10v11H9zM5 15V4h10", edit: "M5 19l1-4L16 5l3 3L9 18z", again: "M19 12a7 7 0 1 1-2-5M17 3v4h-4",
  leave: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9", revise: "M5 7h14M5 12h9M5 17h5M14 19l6-6",
};

export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 24 24" width="18" height="18" aria-hidden="true"><path d=${SHAPES[name]}
  fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" /></svg>`;
