// Shows records with their answers and the notes on them, one at a time.
(() => {
  const pairs = JSON.parse(byId("pairs").textContent);
  const list = byId("list"), shown = byId("pair"), search = byId("search"), only = byId("only");
  let current = -1, marks = null, visible = [];

  function marked(list, known, kind) {
    const box = element("pre", "");
    box.dir = "auto";
    for (const [same, text] of runs(list, known)) box.append(same ? text : element("mark", kind, text));
    return box;
  }

  function answers(pair) {
    const row = element("div", "sides"), texts = pair.answers.map((each) => each.text);
    let found = null, bodies = texts.map(plain);
    if (texts.length === 2) {
      const [one, other] = texts.map(words);
      found = common(one, other);
      if (marks === null ? found && found.share >= READABLE : marks && found)
        bodies = [marked(one, found.inOne, "ours"), marked(other, found.inOther, "theirs")];
    }
    pair.answers.forEach((each, side) => {
      const about = element("small", "", `${each.text.length.toLocaleString("en")} characters`);
      if (each.chain) about.append(" · ", link(each.chain, "its chain"));
      row.append(element("div", "said answer", element("b", "", each.name), about, bodies[side]));
    });
    if (texts.length !== 2) return [row];
    const share = found ? `${Math.round(100 * found.share)} % of the words are shared` : "too long to compare";
    const key = found ? ` · d ${row.querySelector("mark") ? "hides the marks" : "marks the differences"}` : "";
    return [row, element("p", "note", share + key)];
  }

  function note(each) {
    const by = each.by ? element("small", "", each.by) : null;
    return element("div", `said ${each.kind}`, element("b", "", each.title), by, each.text === null ? null : plain(each.text));
  }

  function show(index) {
    current = index;
    shown.replaceChildren();
    for (const row of list.querySelectorAll("[aria-current]")) row.removeAttribute("aria-current");
    const pair = pairs[index];
    if (!pair) return shown.append(element("p", "note", "Nothing found."));
    const row = list.children[index].firstChild;
    row.setAttribute("aria-current", "true");
    row.scrollIntoView({ block: "nearest" });
    shown.append(element("p", "note", pair.about), element("h3", "", pair.question));
    if (pair.answers.length) shown.append(...answers(pair));
    shown.append(element("div", "sides", ...pair.notes.map(note)));
    history.replaceState(null, "", `#pair-${index + 1}`);
  }

  const haystacks = pairs.map((pair) => [
    pair.about, pair.question, ...[...pair.answers, ...pair.notes].map((each) => each.text ?? ""),
  ].join("\n").toLocaleLowerCase());

  function filter() {
    const wanted = search.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    visible = [];
    pairs.forEach((pair, index) => {
      const chosen = !only.value || pair.kinds.includes(only.value);
      const fits = chosen && wanted.every((word) => haystacks[index].includes(word));
      list.children[index].hidden = !fits;
      if (fits) visible.push(index);
    });
    byId("count").textContent = `${visible.length.toLocaleString("en")} of ${pairs.length.toLocaleString("en")}`;
    if (!visible.includes(current)) show(visible.length ? visible[0] : -1);
  }

  function move(by) {
    const at = visible.indexOf(current);
    const next = visible[Math.min(Math.max(at + by, 0), visible.length - 1)];
    if (next !== undefined) show(next);
  }

  list.append(...pairs.map((pair, index) => {
    const row = element("button", pair.kind, element("span", "", pair.question.slice(0, 120)), element("small", "", pair.row));
    row.type = "button";
    row.addEventListener("click", () => show(index));
    return element("li", "", row);
  }));

  const keys = {
    j: () => move(1), k: () => move(-1),
    d: () => { marks = !shown.querySelector("mark"); show(current); },
    "/": () => { search.focus(); search.select(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === search) {
      if (event.key === "Escape" || event.key === "Enter") search.blur();
      if (event.key === "Escape") { search.value = ""; filter(); }
    } else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  search.addEventListener("input", filter);
  only.addEventListener("change", filter);
  const asked = /^#pair-(\d+)$/.exec(location.hash);
  current = asked ? Number(asked[1]) - 1 : -1;
  filter();
  if (pairs[current]) show(current);
  byId("browse").hidden = false;
})();
