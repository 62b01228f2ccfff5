"""What of the repository belongs to the site, though it does not lie in ``docs/``.

README.md is the first page, and wasm_client/README.md one of the others. A link from any of them to
another file or folder of the repository leads to a page that shows it, so that the site is whole by
itself wherever it is put. What is not there is left as it is, and fails the strict build.

Each room of the package has a page in ``api/``, of its docstrings; ``<!-- rooms -->`` lists them.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "index.md", "wasm_client/README.md": "client-sdk.md"}
"""Files of the repository that are pages, and which."""

_MADE = {"__pycache__", "node_modules"}
_PACKAGE = ROOT / "host" / "propeller_fl"
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".ts": "typescript", ".yaml": "yaml"}
_LANGUAGES |= {".json": "json", ".toml": "toml", ".service": "ini", ".timer": "ini", ".cddl": ""}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    origins = {page: source for source, page in PAGES.items()}
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for page in [file.src_uri for file in files.documentation_pages()]:
        origin = origins.get(page, f"docs/{page}")
        for _, link, _ in _LINK.findall((ROOT / origin).read_text()):
            _show(files, config, _at(origin, link))
    for room in _rooms():
        page = f"# {room}\n\n::: propeller_fl.{room}\n"
        files.append(File.generated(config, f"api/{room}.md", content=page))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    if here.startswith(("source/", "api/")):
        return markdown
    origin = {name: source for source, name in PAGES.items()}.get(here, f"docs/{here}")

    def moved(found: re.Match[str]) -> str:
        path = _at(origin, found[2])
        if path is None or not (ROOT / path).exists():
            return found[0]
        link = posixpath.relpath(_page(path), posixpath.dirname(here) or ".")
        return f"{found[1]}{link}{found[3] or ''}"

    rooms = "".join(f"- [`{room}`](api/{room}.md): {what}\n" for room, what in _rooms().items())
    return _LINK.sub(moved, markdown).replace("<!-- rooms -->", rooms)


def _rooms() -> dict[str, str]:
    """Each package or module of the house that others may import, and its first sentence."""
    found = {}
    for file in sorted([*_PACKAGE.glob("*/__init__.py"), *_PACKAGE.glob("*.py")]):
        room = file.parent.name if file.name == "__init__.py" else file.stem
        if not room.startswith("_") and room not in ("propeller_fl", "cli"):
            docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
            found[room] = docstring.partition("\n\n")[0].replace("\n", " ")
    return dict(sorted(found.items()))


def _at(origin: str, link: str) -> str | None:
    """Where in the repository a link leads to; ``None``: out of it."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    return None if ":" in link or path.startswith(("..", "/")) else path


def _page(path: str) -> str:
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def _show(files: Files, config: MkDocsConfig, path: str | None) -> None:
    """Add the page of a file, or of a folder and of what lies in it."""
    if path is None or not (ROOT / path).exists():
        return
    name = _page(path)
    if files.get_file_from_path(name) is not None or path.startswith("docs/"):
        return
    files.append(File.generated(config, name, content=_content(path)))
    if (ROOT / path).is_dir():
        for inner in _inside(path):
            _show(files, config, inner)


def _inside(folder: str) -> list[str]:
    return [
        f"{folder}/{file.name}"
        for file in sorted((ROOT / folder).iterdir())
        if not file.name.startswith(".") and file.name not in _MADE and file.suffix != ".wasm"
    ]


def _content(path: str) -> str:
    title = f"---\nsearch: {{exclude: true}}\n---\n\n# `{path}`\n\n"
    if (ROOT / path).is_dir():
        names = [(posixpath.relpath(_page(one), f"source/{path}"), one) for one in _inside(path)]
        return title + "".join(f"- [{Path(one).name}]({link})\n" for link, one in names)
    text = (ROOT / path).read_text()
    return f"{title}~~~~{_LANGUAGES.get(Path(path).suffix, '')}\n{text.rstrip()}\n~~~~\n"
