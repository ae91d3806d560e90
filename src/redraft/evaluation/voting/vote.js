// Shows a voter one pair of answers at a time, and sends what the voter says of it.
(() => {
  const who = byId("who"), name = byId("name"), booth = byId("booth"), shown = byId("pair");
  const note = byId("note"), fault = byId("fault");
  const token = location.hash.slice(1), TITLES = ["Answer 1", "Answer 2"];
  let voter = "", pair = null, busy = false;

  async function act(what) {
    if (busy) return;
    busy = true;
    try {
      const body = { voter, do: what, id: pair ? pair.id : "", note: pair ? note.value : "" };
      const reply = await fetch("/act", {
        method: "POST", body: JSON.stringify(body),
        headers: { "Content-Type": "application/json", "X-Redraft-Token": token },
      });
      const said = await reply.json();
      fault.textContent = reply.ok ? said.remark : said.error;
      if (reply.ok) show(said, what);
    } catch {
      fault.textContent = "redraft vote does not answer: does it still run? This was not stored, all before it was.";
    } finally {
      busy = false;
    }
  }

  function turn(question, answers, last) {
    const title = element("h2", "", last ? "Question" : "Question before");
    title.tabIndex = -1;
    const sides = answers.map((text, side) => {
      const column = element("article", "said", element("h3", "", TITLES[side]), plain(text));
      column.setAttribute("aria-label", TITLES[side]);
      return column;
    });
    return [title, element("div", "asked", plain(question)), element("div", "sides", ...sides)];
  }

  function show(state, what) {
    sessionStorage.setItem("voter", voter);
    who.hidden = true;
    booth.hidden = false;
    pair = state.pair;
    booth.classList.toggle("done", !pair);
    const turns = pair ? pair.questions.map((question, at) =>
      turn(question, pair.answers.map((answer) => answer[at]), at + 1 === pair.questions.length)) : [];
    shown.replaceChildren(...turns.flat());
    if (turns.length > 1) shown.append(element("p", "note", "Judge the answers to the last question."));
    if (!pair) shown.append(element("p", "", "All pairs are judged. Thank you!"));
    note.value = pair ? pair.note : "";
    byId("count").textContent = `${state.done} of ${state.total} judged by ${voter}`;
    byId("progress").value = state.total ? state.done / state.total : 0;
    const first = shown.querySelector("h2");
    if (first && what !== "show") first.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  function start() {
    voter = name.value.trim();
    act("show");
  }

  const keys = { 1: "1", 2: "2", "=": "=", s: "skip", u: "undo" };
  document.addEventListener("keydown", (event) => {
    if (booth.hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target === note) {
      if (event.key === "Escape") note.blur();
    } else if (event.key === "n" && pair) {
      event.preventDefault();
      note.focus();
    } else if (keys[event.key] && (pair || keys[event.key] === "undo")) {
      event.preventDefault();
      act(keys[event.key]);
    }
  });
  for (const button of booth.querySelectorAll("[data-do]"))
    button.addEventListener("click", (event) => {
      if (event.detail < 2) act(button.dataset.do); // a double click is one vote
    });
  who.addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });

  if (!token) fault.textContent = "The address is not whole: open the one that redraft vote shows.";
  const before = sessionStorage.getItem("voter");
  if (before && !("known" in name.dataset)) name.value = before;
  if (before || "known" in name.dataset) return void start();
  who.hidden = false;
  name.focus();
})();
