// Builds chains from the events of a stream, and describes chains in words.
import { counted } from "./dom.js";

export class Live {
  steps = [];
  drafts = [];
  answer = "";
  feedback = "";
  index = 0;
  again = false;
  state = "";
  patch = { text: "", place: null }; // the new text of a passage, and its place
  chain = null;
  began = Date.now();
  thought = 0; // seconds
  thoughts = {}; // thoughts that a server sends apart from answers, by index of the answer

  constructor(messages, begins = thinkingOf(messages)) {
    Object.assign(this, { messages, begins }); // `begins`: what the model does until there is text
  }

  take(chunk) {
    if (chunk.redraft) this.chain = chunk.redraft;
    const delta = chunk.choices[0]?.delta || {};
    if (delta.content && !this.steps.length) this.#text("answer", 0, delta.content);
    if (delta.redraft) this.#event(delta.redraft);
  }

  #text(kind, index, text) {
    this.state = "";
    this.patch = { text: "", place: null };
    if (this.thinks && !this.thought) this.thought = this.seconds;
    this.thinks = false;
    if (kind === "answer") {
      if (index !== this.index || this.feedback) this.answer = this.feedback = "";
      this.answer += text;
    } else this.feedback += text;
    this.index = index;
    if (this.answer && !this.steps.length && !parted(this.answer).thinking) this.thought ||= this.seconds;
  }

  #event(event) {
    if (event.type === "text") this.#text(event.kind, event.index, event.text);
    else if (event.type === "patch") {
      Object.assign(this, { state: "", patch: { text: event.text && this.patch.text + event.text, place: event.place } });
    } else if (event.type === "thought") {
      if (event.kind === "answer") this.thoughts[event.index] = (this.thoughts[event.index] || "") + event.text;
      this.thinks = true;
    } else if (event.type === "draft") this.drafts.push(event.step);
    else if (event.type === "step") this.steps = [...this.steps.slice(0, event.index), event.step];
    else if (event.type === "again") {
      this.steps.length = Math.min(this.steps.length, event.steps);
      this.drafts.length = Math.min(this.drafts.length, event.drafts);
    } else this.state = event.type;
    if (["draft", "step", "again"].includes(event.type)) {
      this.answer = this.feedback = "";
      this.again = event.type === "again";
    }
  }

  get seconds() {
    return (Date.now() - this.began) / 1000;
  }

  get doing() {
    if (this.state === "waiting") return "Waiting in the queue";
    if (this.state === "lost") return "Waiting for the server";
    const again = this.again ? " again: a reply broke off" : "";
    if (this.chain) return "Finishing";
    if (this.feedback) return `Criticising ${nameOf(this.index).toLowerCase()}${again}`;
    const index = this.answer ? this.index : this.steps.length;
    if (!this.answer && !this.steps.length && !this.drafts.length && !again) return this.begins;
    const number = this.drafts.length && !index ? ` ${this.drafts.length + 1}` : "";
    return `Writing ${index ? nameOf(index).toLowerCase() : "a draft"}${number}${again}`;
  }

  // The last answer with its passage replaced by the text so far. For several passages, only the text so far.
  get patched() {
    const { answer = "" } = this.steps.at(-1) || {}, { text, place } = this.patch;
    const [begin, end] = spanAt(answer, place), said = text.trim();
    return begin >= 0 && end >= 0 ? answer.slice(0, begin) + said.replace(/"$/, "") + answer.slice(end) : said;
  }

  // The chain as it stands, for an answer that was stopped or broke off.
  cut(stop) {
    const steps = [...this.steps];
    if (this.answer.trim() && steps.length <= this.index) steps.push({ answer: this.answer, finish: stop });
    return {
      version: 1, prompt: { messages: this.messages }, steps, drafts: this.drafts, best: bestOf(this.steps), stop,
      usage: { completion_tokens: sum(steps, "completion_tokens"), seconds: this.seconds },
    };
  }
}

const sum = (steps, name) => steps.reduce((all, step) => all + (step.usage?.[name] || 0), 0);

function bestOf(steps) {
  let best = null, most = -1;
  steps.forEach((step, index) => {
    const checks = checksOf(step), scores = checks.reduce((all, check) => all + check.score, 0);
    const score = step.echo ? -0.5 : checks.length ? scores / checks.length : 1;
    if (score > most || (!checks.length && score === most)) [best, most] = [index, score];
  });
  return best;
}

export const checksOf = (step) => step.feedback?.checks || [];
export const nameOf = (index) => (index ? `Revision ${index}` : "Draft");
// In an exercise, a step that nothing has judged is no answer.
export const finalIndex = (chain) => chain.best ?? (chain.steps.length && !chain.meta?.own_steps ? chain.steps.length - 1 : null);
export const finalStep = (chain) => chain.steps[finalIndex(chain)];
export const answerOf = (chain) => (chain && finalStep(chain)?.answer.trim()) || "";

const STOPS = {
  accepted: "the feedback accepted it", passed: "every check passed", ended: "the model revised no further",
  tool_calls: "the model calls a tool", max_revisions: "no further revision was allowed", budget: "the budget is used up",
  unchanged: "a revision changed nothing", max_tokens: "the limit of new tokens was reached",
  context: "the context is full", malformed: "the model broke the format", cancelled: "it was stopped", error: "an error",
};
const CUTS = { filtered: "the server filtered it", lost: "no continuation could make it pass" };
// The place of the page's selection in the text that `box` shows: its first character, and the one after its last.
// Markdown's marks may stand between the words and characters of the selection.
export function placeOf(text, box) {
  const chosen = getSelection();
  if (!box || chosen.isCollapsed || !box.contains(chosen.getRangeAt(0).startContainer)) return null;
  const { endContainer } = chosen.getRangeAt(0); // a triple click selects up to what follows the answer
  if (!box.contains(endContainer)) chosen.getRangeAt(0).setEnd(box, box.childNodes.length);
  const quoted = (letter) => letter.replace(/[.*+?^${}()|[\]\\]/, "\\$&");
  const words = chosen.toString().trim().split(/\s+/).map((word) => [...word].map(quoted).join("[*_`~]*"));
  const passage = new RegExp(words.join("[\\s*_`>#|~-]+"), "gu"), before = document.createRange();
  before.selectNodeContents(box);
  before.setEnd(chosen.getRangeAt(0).startContainer, chosen.getRangeAt(0).startOffset);
  const earlier = before.toString().match(passage)?.length || 0, found = [...text.matchAll(passage)][earlier];
  if (!found?.[0]) return null;
  const begin = [...text.slice(0, found.index)].length;
  return [begin, begin + [...found[0]].length];
}

export const whyCut = (step) => CUTS[step.finish] || STOPS[step.finish] || step.finish;

const MOST_FOUND = 4; // results of checks that are shown without a click
const JUDGED = /^(?:judge|reward)\b/; // checks in which a model judged the content: others measure what they name
const LOOP = /(?<![\p{L}\p{N}_])(\p{L}[^\n]{4,60}?)(?:[^\p{L}\p{N}_]+\1){2}[^\p{L}\p{N}_]*$/u; // chain.loop
const COUNT = /^[a-z]+(<=|>=|==|=)(\d+)(?:\.\.(\d+))?$/;

// What a check found, in a few words: "28 words, at most 30".
export function foundBy(check) {
  const told = inShort(check.message.trim().split("\n").at(-1)), [, sign, low, high] = COUNT.exec(check.name) || [];
  if (!told || told.length > 120) return check.name;
  if (!check.passed || !sign) return told;
  return `${told}, ${high ? `${low} to ${high}` : { "<=": `at most ${low}`, ">=": `at least ${low}` }[sign] || "as wanted"}`;
}

const PLAIN = {
  json: "JSON", number: "a number", unique: "no line twice", uppercase: "in capitals", lowercase: "in small letters", auto: "from the question",
  "language:en": "in English", "language:de": "in German",
};

// A check in plain words, if it is a common one: "at most 50 words".
export function plainOf(check) {
  const [, kind, text] = /^(contains|lacks|starts|ends|keys):(.+)$/.exec(check) || [];
  const how = { contains: "with", lacks: "without", starts: "begins with", ends: "ends with", keys: "JSON with" }[kind];
  if (text) return `${how} ${kind === "keys" ? text : `“${text}”`}`;
  const [, noun, sign, low, high] = /^([a-z]+s)(<=|>=|==|=)(\d+)(?:\.\.(\d+))?$/.exec(check) || [];
  const least = { "<=": "at most ", ">=": "at least " }[sign] || (high ? "" : "exactly ");
  return noun ? `${least}${low}${high ? ` to ${high}` : ""} ${low === "1" && !high ? noun.slice(0, -1) : noun}` : PLAIN[check] || check;
}

// "The answer has 16 words, and at most 8 are allowed: 8 too many." is "16 words, at most 8".
const inShort = (message) => message.replace(/(\. It must not)?\.$/, "")
  .replace(/^The answer has (.+?), and (.+?) (?:is|are) (?:allowed|needed|wanted|required)\b.*$/s, "$1, $2")
  .replace(/^The answer (?:has |is )?/, "").replace(/^Not in (.+?)\. Use only .*$/s, "not in $1");

// The findings about an answer, [kind, sign, text] each, faults first. Only a judgement of its content is "good".
export function verdictsOf(step) {
  if (step.echo) return [["bad", "✗", "no answer: it only repeats or acknowledges what it was given, or stands in for a tool call"]];
  const { by, verdict } = step.feedback || {}, checks = by === "person" ? [] : checksOf(step);
  const found = [...checks.filter((check) => !check.passed), ...checks.filter((check) => check.passed)].map((check) => {
    if (!check.passed) return ["bad", "✗", foundBy(check)];
    return [JUDGED.test(check.name) ? "good" : "plain", "✓", foundBy(check)];
  });
  if (LOOP.test((step.answer || "").slice(-200))) found.unshift(["bad", "✗", "repeats itself"]);
  if (["model", "both"].includes(by) && verdict === "accept") found.push(["good", "✓", "its critic accepts it"]);
  if (by === "model" && verdict === "revise") found.push(["bad", "✗", "its critic wants it revised"]);
  if (by === "model" && verdict === "unknown") found.push(["plain", "–", "its critic gave no verdict"]);
  return found;
}

// What the check `auto` found in a question, in words; empty if it was not asked, or did not end.
export function derivedIn({ chain, asked = [] }) {
  const named = (check) => check.replace(/\s/g, "").replace(/^(\w+)=(?=\d)/, "$1==")
    .replace(/^(\w+)<(\d+)$/, (_, kind, most) => `${kind}<=${most - 1}`);
  const step = chain && finalStep(chain), given = asked.map(named);
  if (!step || !given.includes("auto") || ["budget", "cancelled", "error"].includes(chain.stop)) return "";
  const found = checksOf(step).map((check) => check.name).filter((name) => !given.includes(name.replace(/\s/g, "")));
  return found.length ? `Checks from the question: ${found.map(plainOf).join(" · ")}` : "Nothing to check in this question";
}

// The first findings, and the number of the others.
export function shortly(found, most = MOST_FOUND) {
  return found.length <= most ? found : [...found.slice(0, most), ["plain", "", `and ${found.length - most} more`]];
}

const times = (n) => ["", "once", "twice"][n] || `${n} times`;

// How an answer was made, in a sentence or two; empty if there is only the first draft.
export function pathOf(chain) {
  const { steps, drafts = [] } = chain, best = finalIndex(chain), revised = steps.filter((step, index) => index && !step.fresh);
  const all = 1 + drafts.length + steps.filter((step) => step.fresh).length, parts = [];
  if (steps[0]?.feedback?.by === "person" && revised.length) return "Changed as you asked";
  if (all > 1) parts.push(checksOf(steps[best] || {}).length ? `The best of ${counted(all, "draft")}` : `One of ${counted(all, "draft")}: no check compared them`);
  const faults = steps.length ? verdictsOf(steps[0]).filter(([kind]) => kind === "bad") : [];
  if (revised.length) parts.push(`Revised ${times(revised.length)}`);
  if (revised.length && faults.length) parts.push(`the draft: ${shortly(faults, 1).map(([, sign, text]) => `${sign} ${text}`).join(" ").trim()}`);
  if (revised.length && best !== null && best < steps.length - 1) parts.push(`${best ? `revision ${best}` : "the draft"} was kept: no later text was better`);
  return parts.join(" · ");
}

// Why an answer is incomplete, as a sentence; empty if it is complete.
export function brokenOff(turn) {
  const { chain } = turn, step = chain && finalStep(chain);
  if (turn.left) return "This answer is not finished: the page was closed, or another window is still writing the answer.";
  if (!chain) return turn.error ? "" : "You stopped before there was an answer.";
  if (chain.stop === "cancelled") {
    const who = turn.ended ? "The server" : "You";
    return step?.finish === "cancelled" ? `${who} stopped this answer before its end.` : `${who} stopped the revision. This is the best answer so far.`;
  }
  if (chain.stop === "error") return ""; // the error says it
  const left = (chain.meta?.unchanged || []).map((each) => `“${each.passage.slice(0, 80)}” (${each.why})`).join(", ");
  if (left) return `Not changed: ${left}. Ask again, mark a whole sentence, or write the new text in quotation marks.`;
  if (step?.feedback?.by === "person") return "The passage was not changed. Ask again, or mark a whole sentence.";
  if (!step || !step.finish || step.finish === "stop") return "";
  const room = { max_tokens: " Allow more tokens in Settings, under Advanced.", length: " Allow more tokens in Settings, under Advanced.", context: " A new conversation has room." };
  return `The answer was cut: ${whyCut(step)}.${room[step.finish] || ""}`;
}

// What an error means for an answer, as a sentence; empty without an error.
export function errorOf({ chain, error }) {
  const whole = chain && finalStep(chain)?.finish !== "error";
  return error && `${whole ? "Revising broke off" : chain ? "The answer broke off" : "There is no answer"}: ${error}`;
}

const MOST_FAULTS = 100; // places that are underlined in an answer
const faults = new WeakMap(); // by step

// The faults that failed checks found, [begin, end, message] each, in order. Places outside the text are left out.
export function faultsOf(step) {
  if (!faults.has(step)) {
    const failed = checksOf(step).filter((check) => !check.passed && Array.isArray(check.places));
    const places = failed.flatMap((check) => check.places.slice(0, MOST_FAULTS).map((place) => [place, check.message]));
    const found = places.slice(0, MOST_FAULTS).flatMap(([place, message]) => {
      const [begin, end] = spanAt(step.answer, place);
      return 0 <= begin && begin < end ? [[begin, end, message]] : [];
    });
    faults.set(step, found.sort((one, other) => one[0] - other[0]));
  }
  return faults.get(step);
}

// The offsets of a place in a text: [begin, end], or nothing.
function spanAt(text, place) {
  if (!Array.isArray(place)) return spanOf(text, place);
  const points = [...text]; // a place counts code points, not JavaScript's units
  return place.map((at) => (at >= 0 && at <= points.length ? points.slice(0, at).join("").length : -1));
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

// The offsets of a JSON pointer's value in the first object or list of a text: [begin, end], or nothing.
function spanOf(text, pointer) {
  if (typeof pointer !== "string" || !/^(?:\/|$)/.test(pointer)) return [];
  const wanted = pointer.split("/").slice(1).map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  const path = [], from = Math.max(text.search(/[{[]/), 0); // names and numbers; null before a name
  let begin = -1;
  for (const { 0: token, index } of text.slice(from).matchAll(TOKENS)) {
    const at = from + index, last = path.length - 1;
    if (token === ",") path[last] = typeof path[last] === "number" ? path[last] + 1 : null;
    else if ("}]".includes(token)) {
      path.pop();
      if (begin >= 0 && path.length === wanted.length) return [begin, at + 1];
    } else if (token !== ":" && last >= 0 && path[last] === null) path[last] = token.slice(1, -1);
    else if (token !== ":") {
      if (begin < 0 && path.length === wanted.length && path.every((key, place) => String(key) === wanted[place])) {
        if (!"{[".includes(token)) return [at, at + token.length];
        begin = at;
      }
      if ("{[".includes(token)) path.push(token === "[" ? 0 : null);
    }
    if (!path.length) return [];
  }
  return [];
}

export function* pillsOf(step, before, best) {
  const patched = `${counted(step.patch?.length || 0, "place")} rewritten`;
  if (step.patch?.length) yield ["plain", `${patched}, ${counted(step.usage?.completion_tokens || 0, "token")}`];
  if (step.fresh) yield ["plain", "another draft"];
  if (step.feedback?.by === "person") yield ["plain", "you marked a passage"];
  for (const [kind, sign, text] of shortly(verdictsOf(step), 2)) yield [kind, `${sign} ${text}`.trim()];
  if (step.finish && step.finish !== "stop") yield ["plain", `cut: ${whyCut(step)}`];
  if (before && before.answer === step.answer) yield ["plain", "unchanged"];
  if (best) yield ["best", "the answer"];
}

const LEAST_TIMED = 0.1; // seconds; the speed of a shorter answer says nothing

// Who wrote an answer, and what it took: time, length, speed, price.
export function endOf(chain, model = "") {
  const used = chain.usage || {}, by = chain.meta?.answered_by, parts = [model || chain.model?.name, by && `answered by ${by}`].filter(Boolean);
  if (used.seconds) parts.push(`${used.seconds.toFixed(1)} s`);
  const speed = used.completion_tokens && used.seconds >= LEAST_TIMED ? `, ${Math.round(used.completion_tokens / used.seconds).toLocaleString("en")} a second` : "";
  if (used.completion_tokens) parts.push(counted(used.completion_tokens, "token") + speed + (used.estimated ? " (estimated)" : ""));
  if (used.cost_usd) parts.push(`${used.cost_usd.toFixed(4)} USD`);
  return parts.join(" · ");
}

const BYTES = 4, PER_MESSAGE = 4; // of a token; tokens that a template puts around a message

// About how many tokens messages take. Their usage does not tell it: an answer's last call can be a criticism of one line.
export function tokensOf(messages) {
  const texts = messages.map(({ content }) => (typeof content === "string" ? content : content.map((part) => part.text || "").join("")));
  return PER_MESSAGE * messages.length + new TextEncoder().encode(texts.join("")).length / BYTES;
}

export const roughly = (n) => `about ${n.toLocaleString("en", { maximumSignificantDigits: 2 })}`;

function thinkingOf(messages) {
  const tokens = tokensOf(messages); // reading many takes long
  return tokens < 500 ? "Thinking" : `Reading ${roughly(tokens)} tokens and thinking`;
}

export const whyEnded = (chain) => (chain.stop ? STOPS[chain.stop] || chain.stop : "");

// Splits a text into the model's thought and its answer.
export function parted(text) {
  const begin = /^\s*<(?:think(?:ing)?|[Tt]hought|reasoning|seed:think)>/.exec(text);
  const end = /<\/(?:think(?:ing)?|[Tt]hought|reasoning|seed:think)>\s*/.exec(text);
  if (!begin && !end) return { thought: "", answer: text, thinking: false };
  const from = begin ? begin[0].length : 0;
  if (!end) return { thought: text.slice(from), answer: "", thinking: true };
  return { thought: text.slice(from, end.index).trim(), answer: text.slice(end.index + end[0].length), thinking: false };
}

const WORDS = /\s*(?:[\p{L}\p{N}\p{M}_]+|[^\p{L}\p{N}\p{M}_\s])|\s+$/gu;
const MOST_PAIRS = 4_000_000; // words of one text times words of the other: takes 20 ms
const READABLE = 0.4; // least share of common words
const ISLAND = 2; // fewest words in a row that count as common, unless at an end

// The word diff of two texts, [kind, text] each; null if they have little in common or are long.
export function changes(before, after) {
  const old = before.match(WORDS) || [], now = after.match(WORDS) || [];
  if (old.length * now.length > MOST_PAIRS) return null;
  const blocks = common(old, now), same = blocks.reduce((all, block) => all + block[2], 0);
  if ((2 * same) / (old.length + now.length || 1) < READABLE) return null;
  const parts = [];
  let i = 0, k = 0;
  for (const [j, m, size] of [...blocks, [old.length, now.length, 0]]) {
    const atEnd = !j || !m || j + size === old.length || m + size === now.length;
    if (size < ISLAND && !atEnd) continue;
    const gone = old.slice(i, j).join("");
    parts.push(["gone", gone.trim() ? gone : ""], ["new", now.slice(k, m).join("")], ["same", now.slice(m, m + size).join("")]);
    [i, k] = [j + size, m + size];
  }
  return parts.filter(([, text]) => text);
}

// The runs of words that two lists have in common: [place in one, place in the other, length].
export function common(old, now) {
  const wide = now.length + 1, longest = new Uint16Array((old.length + 1) * wide);
  for (let i = old.length - 1; i >= 0; i--)
    for (let k = now.length - 1; k >= 0; k--)
      longest[i * wide + k] = old[i] === now[k]
        ? longest[(i + 1) * wide + k + 1] + 1
        : Math.max(longest[(i + 1) * wide + k], longest[i * wide + k + 1]);
  const blocks = [];
  for (let i = 0, k = 0; i < old.length && k < now.length; ) {
    if (old[i] === now[k]) {
      const last = blocks.at(-1);
      if (last && last[0] + last[2] === i && last[1] + last[2] === k) last[2]++;
      else blocks.push([i, k, 1]);
      i++, k++;
    } else if (longest[(i + 1) * wide + k] >= longest[i * wide + k + 1]) i++;
    else k++;
  }
  return blocks;
}
