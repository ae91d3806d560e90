// Shows what changed between two rendered texts: matches blocks, rows and cells first, then the words in them.
import { changes, common } from "./chain.js";

const HOLDER = /^(?:UL|OL|TABLE|THEAD|TBODY|TR|BLOCKQUOTE)$/; // elements whose children are matched, too
const BLOCK = /^(?:P|UL|OL|TABLE|BLOCKQUOTE|PRE|H[1-6])$/;
const PLACED = /^(?:TH|TD|THEAD|TBODY)$/; // elements that are matched by their position, whatever their text

// Marks in the elements `after` what is missing from `before`, and inserts what only `before` contains.
export function compare(before, after) {
  const old = childrenOf(before), now = childrenOf(after), said = (each) => `${each.tagName} ${each.textContent}`;
  if (after.tagName === "TR" && old.length === now.length) return now.forEach((each, at) => within(old[at], each));
  let i = 0, k = 0;
  for (const [j, m, size] of [...common(old.map(said), now.map(said)), [old.length, now.length, 0]]) {
    stretch(old.slice(i, j), now.slice(k, m), after, now[m] || null);
    [i, k] = [j + size, m + size];
  }
  return undefined;
}

// Compares elements that have all changed. `next` is the element after them.
function stretch(old, now, parent, next) {
  const left = [...old];
  for (const each of now) {
    const at = left.findIndex((other) => alike(other, each));
    for (const lost of left.splice(0, Math.max(at, 0))) parent.insertBefore(gone(lost), each);
    if (at < 0) wrap(each, [[0, each.textContent.length]], "ins");
    else within(left.shift(), each);
  }
  for (const lost of left) parent.insertBefore(gone(lost), next);
}

const alike = (one, other) =>
  one.tagName === other.tagName && (PLACED.test(one.tagName) || changes(one.textContent, other.textContent) !== null);

function within(before, after) {
  if (before.textContent === after.textContent) return undefined;
  const parts = (each) => HOLDER.test(each.tagName) || [...each.children].some((child) => BLOCK.test(child.tagName));
  if (parts(before) && parts(after)) return compare(before, after);
  const said = changes(before.textContent, after.textContent) || [["gone", before.textContent], ["new", after.textContent]];
  const added = [], removed = [];
  let at = 0;
  for (const [kind, text] of said) {
    if (kind === "gone") removed.push([at, text]);
    else if (kind === "new") added.push([at, at + text.length]);
    if (kind !== "gone") at += text.length;
  }
  wrap(after, added, "ins");
  for (const [place, text] of removed.reverse()) insert(after, place, text);
  return undefined;
}

function childrenOf(parent) {
  for (const run of looseIn(parent)) {
    const holder = document.createElement("span");
    run[0].before(holder);
    holder.append(...run);
  }
  return [...parent.children];
}

// The runs of text in an item that also contains blocks.
function looseIn(parent) {
  const runs = [];
  let open = null;
  for (const each of parent.childNodes) {
    const loose = parent.tagName === "LI" && !BLOCK.test(each.tagName || "") && (open || each.textContent.trim());
    if (!loose) open = null;
    else if (open) open.push(each);
    else runs.push((open = [each]));
  }
  return runs;
}

function gone(element) {
  const lost = element.cloneNode(true);
  wrap(lost, [[0, lost.textContent.length]], "del");
  return lost;
}

function textsIn(element) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) found.push(walker.currentNode);
  return found;
}

// Wraps stretches of an element's text, [begin, end] each and in order, in new elements.
export function wrap(element, stretches, tag, dress = () => {}, texts = textsIn(element)) {
  let place = texts.reduce((all, each) => all + each.data.length, 0);
  for (const piece of texts.reverse()) {
    place -= piece.data.length;
    for (const found of stretches.toReversed()) {
      const first = Math.max(found[0] - place, 0), last = Math.min(found[1] - place, piece.data.length);
      if (first >= last || (tag !== "u" && !piece.data.slice(first, last).trim())) continue;
      piece.splitText(last);
      const around = document.createElement(tag), inner = piece.splitText(first);
      dress(around, found);
      inner.replaceWith(around);
      around.append(inner);
    }
  }
}

function insert(element, place, text) {
  const lost = document.createElement("del");
  lost.textContent = text;
  let left = place;
  for (const piece of textsIn(element)) {
    if (left < piece.data.length) {
      const here = left ? piece.splitText(left) : piece;
      return (here.parentElement.tagName === "INS" && !here.previousSibling ? here.parentElement : here).before(lost);
    }
    left -= piece.data.length;
  }
  return element.append(lost);
}
