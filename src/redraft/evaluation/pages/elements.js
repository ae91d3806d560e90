"use strict";
// Makes the elements of pages. All texts become text nodes, never markup.
const byId = (id) => document.getElementById(id);

function element(tag, kind, ...inside) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...inside.filter((each) => each !== null));
  return made;
}

function plain(text) {
  const box = element("pre", "", text.trim() ? text : element("em", "", "empty"));
  box.dir = "auto";
  return box;
}

function link(place, text) {
  const made = element("a", "", text);
  made.href = place;
  return made;
}
