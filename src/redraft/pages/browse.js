// Shows records with their answers and what was said of them, one at a time.
(() => {
  const pairs = JSON.parse(byId("pairs").textContent);
  const list = byId("list"), shown = byId("pair"), search = byId("search"), only = byId("only");
  const READABLE = 0.4;      // smallest share of common words for marks, as in `redraft show`
  const CELLS = 4_000_000;   // largest table of two texts' words to compare
  let current = -1, marks = null, visible = [];

  const words = (text) => text.match(/\s*(?:[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_])|\s+$/gu) || [];

  // Which words of two texts are common, in order: their longest common subsequence.
  function common(one, other) {
    const a = one.map((word) => word.trim()), b = other.map((word) => word.trim());
    const wide = b.length + 1, best = new Uint16Array((a.length + 1) * wide);
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        best[i * wide + j] = a[i] === b[j] ? best[(i + 1) * wide + j + 1] + 1
          : Math.max(best[(i + 1) * wide + j], best[i * wide + j + 1]);
    const inOne = new Uint8Array(a.length), inOther = new Uint8Array(b.length);
    for (let i = 0, j = 0; i < a.length && j < b.length;) {
      if (a[i] === b[j]) { inOne[i++] = 1; inOther[j++] = 1; }
      else if (best[(i + 1) * wide + j] >= best[i * wide + j + 1]) i++;
      else j++;
    }
    return { inOne, inOther, share: 2 * best[0] / Math.max(a.length + b.length, 1) };
  }

  function marked(list, known, kind) {
    const box = element("pre", "");
    box.dir = "auto";
    for (let start = 0; start < list.length;) {
      let end = start;
      while (end < list.length && known[end] === known[start]) end++;
      const text = list.slice(start, end).join("");
      box.append(known[start] ? text : element("mark", kind, text));
      start = end;
    }
    return box;
  }

  function answers(pair) {
    const row = element("div", "sides"), texts = pair.answers.map((each) => each.text);
    let found = null, bodies = texts.map(plain);
    if (texts.length === 2) {
      const [one, other] = texts.map(words);
      found = one.length * other.length <= CELLS ? common(one, other) : null;
      if (marks === null ? found && found.share >= READABLE : marks && found)
        bodies = [marked(one, found.inOne, "ours"), marked(other, found.inOther, "theirs")];
    }
    pair.answers.forEach((each, side) => {
      const about = `${each.text.length.toLocaleString("en")} characters`;
      row.append(element("div", "said answer", element("b", "", each.name), element("small", "", about), bodies[side]));
    });
    if (texts.length !== 2) return [row];
    const share = found ? `${Math.round(100 * found.share)} % of the words are common` : "too long to compare";
    const key = found ? ` · d ${row.querySelector("mark") ? "hides the marks" : "marks the others"}` : "";
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
