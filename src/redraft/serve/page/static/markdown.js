// Renders texts of models as harmless elements: they load nothing, run nothing and cannot imitate the page.
// Markdown is rendered without HTML and built again from the few tags that are allowed. Pictures become their
// description, because loading one would tell its server of the conversation. Links show their host.
import { compare, wrap } from "./diff.js";
import { Component, html } from "./dom.js";
import MarkdownIt from "./vendor/markdown-it.js";
import "./vendor/purify.js";

const LONGEST = 100_000; // characters of a text that is rendered; a longer one is shown as it is
const LONGEST_CODE = 20_000; // characters of code in colours
const LONGEST_MATH = 2_000; // characters of a formula
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

export const printable = (text) => text.replace(/\r\n/g, "\n").replace(CONTROL, "\ufffd");

const TAGS = (
  "p br hr h1 h2 h3 h4 h5 h6 em strong s blockquote pre code ul ol li table thead tbody tr th td a span"
).split(" ");
const CLEAN = {
  ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ["href", "start", "class"], ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i, RETURN_DOM_FRAGMENT: true,
};

const markdown = new MarkdownIt({ html: false, linkify: false });
markdown.renderer.rules.image = (tokens, at) =>
  markdown.utils.escapeHtml(`[picture: ${tokens[at].content || "no description"}]`);
for (const name of ["th_open", "td_open"])
  markdown.renderer.rules[name] = (tokens, at, options, env, self) => {
    const side = /(right|center)/.exec(tokens[at].attrGet("style") || "");
    tokens[at].attrs = side ? [["class", side[0]]] : null;
    return self.renderToken(tokens, at, options);
  };
markdown.use(math);

function math(md) {
  const kinds = [["$$", "$$", true], ["\\[", "\\]", true], ["\\(", "\\)", false], ["$", "$", false]];

  let seen = { text: "" }; // a text without a closing mark would be searched again for each opening mark
  function lastOf(text, close) {
    if (seen.text !== text) seen = { text };
    return (seen[close] ??= text.lastIndexOf(close));
  }

  function found(text, from) {
    for (const [open, close, block] of kinds) {
      if (!text.startsWith(open, from)) continue;
      const begin = from + open.length;
      if (lastOf(text, close) < begin) return null;
      const length = text.slice(begin, begin + LONGEST_MATH).indexOf(close);
      const end = begin + length, tex = text.slice(begin, end);
      if (length < 0 || !tex.trim()) return null;
      // Dollar signs with a space inside, or a digit behind them, mean money.
      if (open === "$" && (/^\s|\s$|\n\n/.test(tex) || /\d/.test(text[end + 1] || ""))) return null;
      return { tex, block, end: end + close.length };
    }
    return null;
  }

  md.inline.ruler.before("escape", "math", (state, silent) => {
    if (!"$\\".includes(state.src[state.pos])) return false;
    const formula = found(state.src, state.pos);
    if (!formula) return false;
    if (!silent) Object.assign(state.push("math", "", 0), { content: formula.tex, block: formula.block });
    state.pos = formula.end;
    return true;
  });
  md.block.ruler.before("fence", "math_block", (state, line, last, silent) => {
    const from = state.bMarks[line] + state.tShift[line];
    if (!/^(\$\$|\\\[)/.test(state.src.slice(from, from + 2))) return false;
    const formula = found(state.src.slice(0, state.eMarks[last - 1]), from);
    if (!formula) return false;
    let after = line;
    while (after < last && state.eMarks[after] < formula.end) after++;
    if (state.src.slice(formula.end, state.eMarks[after]).trim()) return false;
    if (!silent) Object.assign(state.push("math", "", 0), { content: formula.tex, block: true });
    state.line = after + 1;
    return true;
  }, { alt: ["paragraph"] });
  md.renderer.rules.math = (tokens, at) =>
    `<span class="math${tokens[at].block ? " block" : ""}">${md.utils.escapeHtml(tokens[at].content)}</span>`;
}

// Libraries that not every conversation needs.
const late = { katex: null, highlight: null };
const waiting = new Set();

async function fetchLate(name) {
  late[name] = false;
  if (name === "katex") {
    const style = document.createElement("link");
    Object.assign(style, { rel: "stylesheet", href: new URL("./vendor/katex.css", import.meta.url).href });
    document.head.append(style);
    await import("./vendor/katex.js");
    late.katex = globalThis.katex;
  } else late.highlight = (await import("./vendor/highlight.js")).default;
  const ready = [...waiting];
  waiting.clear();
  for (const each of ready) each.draw();
}

function need(name) {
  if (late[name] === null) fetchLate(name).catch(() => { late[name] = null; });
  return late[name];
}

// Underlines faults, [begin, end, message] each, in the elements that show the text. A fault is located by its
// words; if Markdown hides or repeats the words, the fault is left out.
function underline(nodes, text, faults) {
  const walker = document.createTreeWalker(nodes, NodeFilter.SHOW_TEXT), pieces = [];
  while (walker.nextNode()) if (!walker.currentNode.parentElement?.closest(".head, .host, .math")) pieces.push(walker.currentNode);
  const shown = pieces.map((piece) => piece.data).join(""), own = printable(text), found = [];
  for (const [begin, end, message] of faults) {
    const said = printable(text.slice(begin, end)), parts = shown.split(said);
    if (parts.length !== own.split(said).length) continue;
    const at = parts.slice(0, printable(text.slice(0, begin)).split(said).length).join(said).length;
    if (at >= (found.at(-1)?.[1] ?? 0)) found.push([at, at + said.length, message]);
  }
  wrap(nodes, found, "u", (mark, [, , message]) => Object.assign(mark, { className: "wrong", title: message }), pieces);
}

// Elements for a text in Markdown, with its faults underlined. `settled` is false while a library is loading.
export function rendered(text, faults = []) {
  const own = text;
  text = printable(text);
  if (text.length > LONGEST) {
    const whole = document.createElement("p");
    whole.className = "asis";
    whole.textContent = text;
    return { nodes: whole, settled: true };
  }
  const nodes = parsed(text), settled = dressed(nodes);
  if (faults.length) underline(nodes, own, faults);
  return { nodes, settled };
}

// The same, with the changes since an earlier text marked. Both texts should have much in common.
export function compared(before, text, faults = []) {
  const nodes = parsed(printable(text));
  if (faults.length) underline(nodes, text, faults);
  compare(parsed(printable(before)), nodes);
  return { nodes, settled: dressed(nodes) };
}

const parsed = (text) => globalThis.DOMPurify.sanitize(markdown.render(text), CLEAN);

// Formats links, tables, code and formulas. Returns false while a library is loading.
function dressed(nodes) {
  let settled = true;
  for (const each of nodes.querySelectorAll("p, li, h1, h2, h3, h4, h5, h6, td, th, blockquote")) each.dir = "auto";
  for (const each of nodes.querySelectorAll("a")) link(each);
  for (const each of nodes.querySelectorAll("table")) around(each, "table", "Table");
  for (const each of nodes.querySelectorAll("pre")) settled = code(each) && settled;
  for (const each of nodes.querySelectorAll(".math")) settled = formula(each) && settled;
  return settled;
}

function link(each) {
  const address = each.getAttribute("href");
  if (!address) return each.replaceWith(...each.childNodes);
  const url = URL.canParse(address) && new URL(address);
  const host = url && (url.protocol === "mailto:" ? url.pathname : url.host);
  if (!host) return each.replaceWith(...each.childNodes);
  Object.assign(each, { target: "_blank", rel: "noopener noreferrer nofollow" });
  if (each.textContent.includes(host)) return undefined;
  const where = document.createElement("span");
  where.className = "host";
  where.textContent = ` (${host})`;
  each.append(where);
  return undefined;
}

function around(each, kind, label) {
  const box = document.createElement("div");
  box.className = kind;
  box.tabIndex = 0; // it may scroll
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  each.replaceWith(box);
  box.append(each);
  return box;
}

function code(pre) {
  const inner = pre.firstElementChild, text = pre.textContent.replace(/\n$/, "");
  const name = /language-([\w+#.-]+)/.exec(inner?.className || "")?.[1] || "";
  const box = document.createElement("div"), head = document.createElement("div"), copy = document.createElement("button");
  box.className = "code";
  head.className = "head";
  head.append(name);
  box.dir = "ltr";
  pre.tabIndex = 0;
  const changed = !!pre.querySelector("ins, del"); // code with marked changes is not to be copied
  if (navigator.clipboard && !changed) {
    Object.assign(copy, { type: "button", className: "copy", textContent: "Copy" });
    copy.setAttribute("aria-label", "Copy the code");
    copy.onclick = () => copied(copy, { "text/plain": text });
    head.append(copy);
  }
  pre.replaceWith(box);
  box.append(head, pre);
  if (!name || changed || text.length > LONGEST_CODE) return true;
  const highlight = need("highlight");
  if (!highlight) return false;
  if (!highlight.getLanguage(name)) return true;
  const coloured = highlight.highlight(text, { language: name, ignoreIllegals: true }).value;
  inner.replaceChildren(globalThis.DOMPurify.sanitize(coloured, { ...CLEAN, ALLOWED_TAGS: ["span"] }));
  return true;
}

function formula(each) {
  if (each.querySelector("ins, del")) return true;
  const katex = need("katex");
  if (!katex) return false;
  const tex = each.textContent, block = each.classList.contains("block");
  try {
    katex.render(tex, each, { displayMode: block, trust: false, strict: "ignore", maxSize: 20, maxExpand: 200 });
  } catch {
    each.textContent = block ? `$$${tex}$$` : `$${tex}$`;
    each.classList.add("plain");
  }
  return true;
}

export async function copied(button, forms) {
  const blobs = Object.entries(forms).map(([type, text]) => [type, new Blob([text], { type })]);
  await navigator.clipboard.write([new ClipboardItem(Object.fromEntries(blobs))]);
  const label = button.querySelector("span") || button, before = label.textContent;
  label.textContent = "Copied";
  button.classList.add("copied");
  setTimeout(() => { label.textContent = before; button.classList.remove("copied"); }, 1500);
}

const PAUSE = 80; // least milliseconds between two drawings of a text that grows
const SHARE = 4; // the pause after a drawing, as a multiple of the drawing's duration

// Draws a text in Markdown. A growing text is not redrawn for each letter.
export class Text extends Component {
  #next = 0;
  #timer = 0;

  shouldComponentUpdate(next) {
    return next.text !== this.props.text || next.faults !== this.props.faults;
  }

  componentDidMount() {
    this.draw();
  }

  componentDidUpdate() {
    const wait = this.#next - performance.now();
    if (wait <= 0) this.draw();
    else this.#timer ||= setTimeout(() => this.draw(), wait);
  }

  componentWillUnmount() {
    clearTimeout(this.#timer);
    waiting.delete(this);
    this.element = null;
  }

  draw() {
    this.#timer = 0;
    if (!this.element) return;
    const { before, text, faults } = this.props, began = performance.now();
    const { nodes, settled } = before === undefined ? rendered(text, faults) : compared(before, text, faults);
    this.element.replaceChildren(nodes);
    if (settled) waiting.delete(this);
    else waiting.add(this);
    const ended = performance.now();
    this.#next = ended + Math.max(PAUSE, SHARE * (ended - began));
  }

  render() {
    return html`<div class="text" ref=${(element) => { this.element = element || this.element; }}></div>`;
  }
}
