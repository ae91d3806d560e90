"""Make the site from the pages of the repository. mkdocs.yml names this module as hooks of MkDocs.

The site's root is docs/. Its first page is README.md, and files outside docs/ that pages link to are added.
Links in pages are paths in a checkout, and become paths on the site.
For language models, llms.txt (llmstxt.org) lists the pages, and the site also has each page as Markdown.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
ADDED = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/RESULTS.md",
    "benchmarks/LOST.md",
    "benchmarks/choose_answers.json",
    "benchmarks/steer_pairs.json",
    *(f"benchmarks/results/{file.name}" for file in sorted(ROOT.glob("benchmarks/results/*.json"))),
    "deploy/compose/front.yaml",
    "deploy/compose/model.yaml",
    "deploy/grafana/redraft.json",
    "deploy/kubernetes/serve.yaml",
    "deploy/redraft.service",
    "src/redraft/engines/default/README.md",
    "src/redraft/serve/page/static/icon.svg",
    "tests/engines/servers/clients/agents.md",
)
SEARCHED_LAST = ("benchmarks/RESULTS.md", "benchmarks/LOST.md", "CHANGELOG.md", "architecture.md")
_PROGRAM = re.compile(r"^\[(examples/\w+\.py)\]\(\S+\)$", re.M)
_EXAMPLE = re.compile(r"^<!-- model -->\n((?:<!--.*-->\n)*)```console\n(?=\$ (?:.*\\\n)*.*\n[^$`])", re.M)
_OPENING = re.compile(r"^(?: {2})?(?!```|Usage)[A-Z*`].*\n(?:.+\n)*", re.M)  # help is indented
_MENU = re.compile(  # the label that it names is hidden on small screens
    r'(<nav class="md-nav" data-md-level="\d" )aria-labelledby="\w+"'
    r"([^>]*>\s*<label[^>]*>\s*<span[^>]*></span>\s*(.*?)\s*<)"
)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def place_of(path: str) -> str:
    """Return a repository file's path on the site: `docs/checks.md` becomes `checks.md`."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/").removeprefix("src/redraft/serve/page/static/")


PATHS = {place_of(path): path for path in ADDED}
PAGES: list[Page] = []
"""All pages, in the order of the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/."""
    for place, path in PATHS.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Change the links of a page to paths on the site. A link to a program on its own line becomes its text.

    Blocks with a model's output get a title, which says that output differs between machines.
    """
    place = page.file.src_uri
    if place in SEARCHED_LAST:
        page.meta["search"] = {"boost": 0.1}
    path = PATHS.get(place, f"docs/{place}")

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link[0]))
        return posixpath.relpath(place_of(target), posixpath.dirname(place) or ".")

    def shown(program: re.Match[str]) -> str:
        code = (ROOT / program[1]).read_text("utf-8")
        return f'```python title="{program[1]}"\n{code}```'

    markdown = _EXAMPLE.sub(r'\1```console title="Example output, yours will differ"\n', markdown)
    page.markdown = _PROGRAM.sub(shown, _LINK.sub(turned, markdown))
    return page.markdown


def on_post_page(output: str, **_: object) -> str:
    """Name search and menus for screen readers, and replace empty table headings."""
    named = output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
    return _MENU.sub(r'\1aria-label="\3"\2', named).replace("<th></th>", "<td></td>")


def on_nav(nav: Navigation, **_: object) -> None:
    """Store the pages in the order of the navigation."""
    PAGES[:] = nav.pages


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt and the Markdown of each page."""
    site = Path(config.site_dir)
    parts = [f"# {config.site_name}\n\n> {config.site_description}."]
    for tab, pages in itertools.groupby(PAGES, lambda page: [*page.ancestors][-1].title):
        parts.append(f"## {tab}\n\n" + "\n".join(map(_entry, pages)))
    for page in PAGES:
        (site / page.file.src_uri).write_text(page.markdown or "", encoding="utf-8")
    (site / "llms.txt").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _entry(page: Page) -> str:
    """Return a page's line in llms.txt: its title, its path, and the beginning of its first paragraph."""
    opening = _OPENING.search(page.markdown or "")
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(opening[0].split())) if opening else ""
    sentences = re.match(r".{60,}?[.?!:](?=\s|$)|.*", text)
    return f"- [{page.title}]({page.file.src_uri}): {sentences[0] if sentences else ''}"
