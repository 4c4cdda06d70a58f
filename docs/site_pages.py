"""A hook of MkDocs: what stands outside `docs/` and is linked from it becomes part of the site.

In the repository every link is a path, so that it works wherever Markdown is shown. In the site

    README.md                            is the first page
    another Markdown file at the root    is a page of its own, as is bench/RESULTS.md
    a folder (recipes, examples)         is a page that shows its files
    any other file that a page links to  is copied as it is
"""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
PAGES |= {
    "bench/RESULTS.md": "bench/RESULTS.md",
    "recipes": "recipes/index.md",
    "examples": "examples/index.md",
}
LANGUAGES = {".yaml": "yaml", ".py": "python"}
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of `PAGES`, and every other file that a page links to."""
    for source, uri in PAGES.items():
        text = _listing(ROOT / source) if (ROOT / source).is_dir() else (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, uri, content=text))
    for page in files.documentation_pages():
        for _, target, _ in LINK.findall(page.content_string):
            place = _place(page.src_uri, target)
            ours = place in PAGES or place.startswith(("docs/", "../")) or files.get_file_from_path(place)
            if not ours and (ROOT / place).is_file():
                files.append(File.generated(config, place, abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns each link between places in the repository into one between places in the site."""
    uri = page.file.src_uri

    def in_site(link: re.Match[str]) -> str:
        place = _place(uri, link[2])
        target = PAGES.get(place, place.removeprefix("docs/"))
        return f"{link[1]}{relpath(target, dirname(uri) or '.')}{link[3]}"

    return LINK.sub(in_site, markdown)


def _place(uri: str, link: str) -> str:
    """The path in the repository that a link on the site's page `uri` names."""
    source = next((source for source, page in PAGES.items() if page == uri), f"docs/{uri}")
    folder = source if (ROOT / source).is_dir() else dirname(source)
    return normpath(join(folder, link))


def _listing(folder: Path) -> str:
    return f"# {folder.name.capitalize()}\n\n" + "".join(_shown(folder))


def _shown(folder: Path) -> Iterator[str]:
    """Each file of a folder: in full where it is short text, else as a link."""
    for path in sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts):
        name = path.relative_to(folder).as_posix()
        if language := LANGUAGES.get(path.suffix):
            yield f"## {name}\n\n```{language}\n{path.read_text('utf-8')}```\n\n"
        elif path.is_file():
            yield f"## {name}\n\n[{name}]({name})\n\n"
