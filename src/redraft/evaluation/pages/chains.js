// Shows chains one at a time: the prompt, each draft and revision with its feedback, and the end.
(() => {
  const ROW = 52; // pixels of a row of the list
  const index = JSON.parse(byId("index").textContent); // [name, title, verdict, steps, kinds] each
  const packed = [...document.querySelectorAll(".block")].map((block) => block.textContent.trim());
  const BLOCK = Number(document.querySelector("[data-size]").dataset.size); // chains of a block
  const list = byId("list"), shown = byId("chain"), search = byId("search"), only = byId("only");
  const held = new Map(); // blocks that were opened
  let visible = index.map((_, place) => place), current = -1, marks = true, shows = 0, searches = 0;

  const STOPS = {
    accepted: "the feedback accepted it", passed: "every check passed", ended: "the model revised no further",
    tool_calls: "the model calls a tool", max_revisions: "no further revision was allowed", budget: "the budget is used up",
    unchanged: "a revision changed nothing", max_tokens: "the limit of new tokens was reached",
    context: "the context is full", malformed: "the model broke the format", cancelled: "it was stopped", error: "an error",
  };
  const SIGNS = { "2": ["", ""], "1": ["won", "✓"], "0": ["lost", "✗"], "-1": ["", "·"] }; // 2: nothing says that it is right

  async function block(number) {
    if (!held.has(number)) {
      const bytes = Uint8Array.from(atob(packed[number]), (char) => char.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      held.set(number, JSON.parse(await new Response(stream).text()));
    }
    return held.get(number);
  }

  const chainAt = async (place) => (await block(Math.floor(place / BLOCK)))[place % BLOCK];

  function draw() {
    const top = Math.floor(list.scrollTop / ROW), rows = Math.ceil(list.clientHeight / ROW) + 2;
    const inner = element("div", "rows");
    inner.style.height = `${visible.length * ROW}px`;
    visible.slice(top, top + rows).forEach((place, nth) => inner.append(row(place, top + nth)));
    list.replaceChildren(inner);
  }

  function row(place, nth) {
    const [name, title, verdict, steps] = index[place], [kind, sign] = SIGNS[verdict];
    const about = `${name} · ${steps === 1 ? "1 text" : `${steps} texts`}${verdict === 2 ? " · ✓ its checks" : ""}`;
    const made = element("div", `row ${kind}`, element("span", "", `${sign} ${title}`.trim()), element("small", "", about));
    made.style.top = `${nth * ROW}px`;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", String(place === current));
    made.addEventListener("click", () => show(place));
    return made;
  }

  function said(title, kind, ...inside) {
    return element("div", `said ${kind}`, element("b", "", title), ...inside);
  }

  function changed(before, after) {
    const [one, other] = [before, after].map(words), found = common(one, other);
    if (!found || found.share < READABLE) return null;
    const box = element("pre", "");
    box.dir = "auto";
    // Removed text comes before the text that replaces it.
    let old = [...runs(one, found.inOne)], now = [...runs(other, found.inOther)];
    while (old.length || now.length) {
      if (old.length && !old[0][0]) box.append(element("del", "", old.shift()[1]));
      else if (now.length && !now[0][0]) box.append(element("ins", "", now.shift()[1]));
      else {
        const count = Math.min(...[old, now].map((side) => words(side[0][1]).length));
        box.append(words(now[0][1]).slice(0, count).join(""));
        for (const side of [old, now]) {
          const rest = words(side[0][1]).slice(count).join("");
          rest ? (side[0] = [true, rest]) : side.shift();
        }
      }
    }
    return box;
  }

  // Sums up checks in a few words: the results of the first two, and the number of the others.
  const few = (checks) => checks.slice(0, 2).map((check) => inShort(check)).join("; ") + (checks.length > 2 ? `; and ${checks.length - 2} more` : "");

  // Shortens a check's message: "The answer has 28 words." of words<=30 becomes "28 words, at most 30".
  function inShort({ name, message, passed }) {
    const told = message.replace(/(\. It must not)?\.$/, "").replace(/^The answer has (.+?), and (.+?) (?:is|are) (?:allowed|needed|wanted|required)\b.*$/s, "$1, $2")
      .replace(/^The answer (?:has |is )?/, "");
    const [, sign, low, high] = /^[a-z]+(<=|>=|==|=)(\d+)(?:\.\.(\d+))?$/.exec(name) || [];
    if (!told || told.length > 120) return name;
    return passed && sign ? `${told}, ${high ? `${low} to ${high}` : { "<=": `at most ${low}`, ">=": `at least ${low}` }[sign] || "as wanted"}` : told;
  }

  // An answer, then each tool call on a line.
  const written = (answer, calls) => {
    const made = (Array.isArray(calls) ? calls : []).map((call) => call?.function).filter((each) => each?.name);
    const given = ({ arguments: all }) => (typeof all === "string" ? all : JSON.stringify(all));
    return [answer, ...made.map((each) => `${each.name}(${given(each)})`)].filter(Boolean).join("\n");
  };

  const verdictOf = (step) => {
    const checks = step.feedback?.checks || [], failed = checks.filter((check) => !check.passed);
    if (step.echo) return ["revise", "✗ not an answer: repeats the prompt or the feedback, only acknowledges it, or stands in place of a tool call"];
    if (failed.length) return ["revise", `✗ ${few(failed)}`];
    if (step.finish && step.finish !== "stop" && step.feedback?.by !== "model") return ["revise", `✗ cut: ${STOPS[step.finish] || step.finish}`];
    const judged = checks.some(({ name }) => /^(?:judge|reward)\b/.test(name)); // others measure what they name
    const good = judged || (step.feedback?.verdict === "accept" && step.feedback.by !== "checks");
    return [good ? "accept" : "", checks.length ? `✓ ${few(checks)}` : ""];
  };

  const found = (check, by = "") => element("li", check.passed ? "won" : "lost", `${check.passed ? "✓" : "✗"} ${by}${check.name}${check.message ? `: ${check.message}` : ""}`);

  function card(step, number, before, best, truth) {
    const [kind, verdict] = verdictOf(step);
    const name = step.by === "fix" ? "Repaired without the model" : number && !step.fresh ? `Revision ${number}` : number ? `Draft ${number + 1}` : "Draft";
    const text = written(step.answer, step.tool_calls), old = before && written(before.answer, before.tool_calls);
    const used = step.usage || {}, about = [verdict, text === old ? "unchanged" : "", best ? "the answer" : "", used.completion_tokens ? `${used.completion_tokens} tokens` : "", step.steered?.length ? `steered: ${step.steered.join(", ")}` : ""];
    const box = (marks && before && changed(old, text)) || plain(text);
    const made = said(name, `answer ${kind}`, element("small", "", about.filter(Boolean).join(" · ")), box);
    if (best) made.classList.add("best");
    const checks = [...(step.feedback?.checks || []).map((check) => found(check)), ...truth.map((check) => found(check, "task check: "))];
    const words_ = step.feedback && step.feedback.by !== "checks" && step.feedback.text ? said(`Feedback of the ${step.feedback.by}`, step.feedback.verdict, plain(step.feedback.text)) : null;
    return element("section", "step", made, checks.length ? element("ul", "checks", ...checks) : null, words_);
  }

  function promptOf(prompt) {
    if (prompt.messages) return prompt.messages.map((each) => said(each.role, "", plain(written(typeof each.content === "string" ? each.content : each.content && JSON.stringify(each.content), each.tool_calls))));
    return [prompt.instruction ? element("h2", "", prompt.instruction) : null, prompt.input ? said("Input", "", plain(prompt.input)) : null].filter(Boolean);
  }

  async function show(place) {
    current = place;
    const mine = ++shows, chain = place === undefined || place < 0 ? null : await chainAt(place);
    if (mine !== shows) return;
    reach(visible.indexOf(place));
    draw();
    if (!chain) return shown.replaceChildren(element("p", "note", "Nothing found."));
    const name = index[place][0], truth = chain.meta?.eval || {};
    const steps = chain.steps.map((step, number) => card(step, number, number && !step.fresh ? chain.steps[number - 1] : null, number === chain.best && chain.steps.length > 1, truth.steps?.[number] || []));
    const others = (chain.drafts || []).map((draft, number) => card(draft, number, null, false, truth.drafts?.[number] || []));
    const reward = chain.meta?.source?.reward;
    const ended = [typeof reward === "number" && `reward ${reward}`, chain.stop && `Ended: ${STOPS[chain.stop] || chain.stop}`, chain.model?.name, chain.model?.revision_mode];
    const unchosen = others.length ? element("details", "", element("summary", "", `${others.length === 1 ? "1 draft that was" : `${others.length} drafts that were`} not chosen`), ...others) : null;
    shown.replaceChildren(element("p", "note", name), ...promptOf(chain.prompt), ...steps, ...(unchosen ? [unchosen] : []), element("p", "note", ended.filter(Boolean).join(" · ")));
    history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  }

  const fits = ([, , , , kinds]) => !only.value || kinds.includes(only.value);
  const textOf = (chain) => JSON.stringify([chain.prompt, chain.steps, chain.drafts]).toLocaleLowerCase();

  async function filter() {
    const mine = ++searches, wanted = search.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    for (let place = 0; place < index.length; place++) {
      if (!fits(index[place])) continue;
      if (wanted.length && !(wanted.every((word) => `${index[place][0]} ${index[place][1]}`.toLocaleLowerCase().includes(word)))) {
        const text = textOf(await chainAt(place));
        if (mine !== searches) return;
        if (!wanted.every((word) => text.includes(word))) continue;
      }
      found.push(place);
      if (wanted.length && found.length % 200 === 0) tell(found, true);
    }
    tell(found, false);
    if (!visible.includes(current)) await show(visible[0]);
    else draw();
  }

  function tell(found, more) {
    visible = found;
    byId("count").textContent = `${found.length.toLocaleString("en")}${more ? " and more" : ""} of ${index.length.toLocaleString("en")}`;
    draw();
  }

  // Scrolls the list until a row can be seen.
  function reach(at) {
    if (at < 0) return;
    const top = at * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }

  function move(by) {
    const at = Math.min(Math.max(visible.indexOf(current) + by, 0), visible.length - 1);
    if (visible.length) show(visible[at]);
  }

  const keys = {
    j: () => move(1), k: () => move(-1), d: () => { marks = !marks; show(current); },
    "/": () => { search.focus(); search.select(); },
  };
  const arrows = { ArrowDown: () => move(1), ArrowUp: () => move(-1) };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const does = event.target === search || event.target === only ? null : keys[event.key] || (event.target === list && arrows[event.key]);
    if (event.target === search && (event.key === "Escape" || event.key === "Enter")) search.blur();
    if (event.target === search && event.key === "Escape") { search.value = ""; filter(); }
    if (does) { event.preventDefault(); does(); }
  });
  list.addEventListener("scroll", draw);
  addEventListener("resize", draw);
  search.addEventListener("input", filter);
  only.addEventListener("change", filter);
  byId("browse").hidden = false;
  const asked = decodeURIComponent(location.hash.slice(1));
  current = asked ? index.findIndex(([name]) => name === asked) : -1;
  draw();
  if (current >= 0) show(current);
  filter();
})();
