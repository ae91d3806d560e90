// A conversation as a file.
import { answerOf, brokenOff, checksOf, errorOf, finalIndex, finalStep, nameOf, parted, pathOf, verdictsOf } from "./chain.js";
import { saveAs } from "./dom.js";
import { rendered } from "./markdown.js";
import { path, titleOf } from "./store.js";

export function exported(conversation, kind) {
  const title = titleOf(conversation), name = title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "conversation";
  const turns = path(conversation).filter((turn) => turn.chain);
  const makers = { md: [asMarkdown, "text/markdown"], html: [asHtml, "text/html"], jsonl: [asChains, "application/jsonl"] };
  const [make, type] = makers[kind];
  saveAs(`${name}.${kind}`, type, make(title, turns));
}

const asChains = (_, turns) => turns.map((turn) => `${JSON.stringify(turn.chain)}\n`).join("");

// Which model answered and when, and what was found about the answer.
function noteOf(turn) {
  const found = finalStep(turn.chain) ? verdictsOf(finalStep(turn.chain)) : [];
  const date = new Date(turn.when).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return [turn.model, date, ...found.map(([, sign, text]) => `${sign} ${text}`), brokenOff(turn), errorOf(turn)].filter(Boolean).join(" · ");
}

const lineOf = (check) => `${check.passed ? "✓" : "✗"} ${check.name}: ${check.message}`;

function asMarkdown(title, turns) {
  const parts = [`# ${title}`];
  for (const turn of turns) {
    parts.push(turn.text.replace(/^/gm, "> "), parted(answerOf(turn.chain)).answer, `*${noteOf(turn)}*`);
    turn.chain.steps.forEach((step, index) => {
      if (index === finalIndex(turn.chain)) return;
      const found = checksOf(step).map((check) => `- ${lineOf(check)}`).join("\n");
      parts.push(`<details><summary>${nameOf(index)}</summary>`, step.answer, found, "</details>");
    });
  }
  return `${parts.filter(Boolean).join("\n\n")}\n`;
}

const STYLE = `body { font: 1rem/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
.you { background: #e4ecf5; border-radius: 12px; padding: .6rem 1rem; white-space: pre-wrap } pre { background: #f1efe9; padding: .7rem; overflow: auto }
table { border-collapse: collapse } td, th { border: 1px solid #dedbd3; padding: .2rem .6rem } .note { color: #5d6066; font-size: .9rem } h1 { font-size: 1.5rem }
details { border-left: 3px solid #dedbd3; padding-left: 1rem; margin-bottom: 1.5rem } summary { cursor: pointer } details h2 { font-size: 1rem; margin-bottom: .3rem }
body { color: #202226; background: #faf9f6; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { body { color: #e6e4df; background: #17181b } .you { background: #263850 } pre { background: #292b30 }
td, th, details { border-color: #3a3d44 } .note { color: #a9acb3 } a { color: #7fb0e2 } }`;

function asHtml(title, turns) {
  const page = document.implementation.createHTMLDocument(title), add = (to, tag, text = "", name = "") => {
    const made = page.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    return to.appendChild(made);
  };
  page.documentElement.lang = navigator.language || "en";
  add(page.head, "meta").setAttribute("charset", "utf-8");
  Object.assign(add(page.head, "meta"), { name: "viewport", content: "width=device-width" });
  Object.assign(add(page.head, "meta"), { name: "color-scheme", content: "light dark" });
  const main = add(page.body, "main");
  add(main, "h1", title);
  for (const turn of turns) {
    add(main, "p", turn.text, "you").dir = "auto";
    add(main, "div").append(page.adoptNode(bare(parted(answerOf(turn.chain)).answer)));
    add(main, "p", noteOf(turn), "note");
    if (turn.chain.steps.length > 1) steps(main, page, add, turn.chain);
  }
  // A style element in a document of this page would be blocked by its policy.
  return `<!doctype html>\n${page.documentElement.outerHTML.replace("</head>", `<style>${STYLE}</style></head>`)}\n`;
}

function bare(text) {
  const holder = document.createElement("div");
  holder.append(rendered(text).nodes);
  for (const each of holder.querySelectorAll(".head, .katex-html")) each.remove();
  return holder;
}

function steps(main, page, add, chain) {
  const folded = add(main, "details");
  add(folded, "summary", pathOf(chain) || "Steps");
  chain.steps.forEach((step, index) => {
    add(folded, "h2", nameOf(index));
    add(folded, "div").append(page.adoptNode(bare(step.answer)));
    for (const check of checksOf(step)) add(folded, "p", lineOf(check), "note");
  });
}
