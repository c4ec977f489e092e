"""Hooks of MkDocs: pages for linked source files, the notebook as a page, and the live report and explorer.

`make docs` trains the study of docs/live/study.py into runs/live before the site is built.
"""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "runs/live"
SOURCE_LINK = re.compile(r"\]\(\.\./(?!docs/)([^)#\s]+)(?:#[^)\s]*)?\)")
"""A link of a page of docs/ to a file or folder beside docs/."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is not written in docs/: source files, the notebook, the live study."""
    for path in sorted(linked_sources(files)):
        files.append(File.generated(config, f"source/{path.relative_to(ROOT)}.md", content=source_page(path)))
    for name, content in notebook_files(Path(config.docs_dir) / "quickstart.ipynb").items():
        files.append(File.generated(config, name, content=content))
    for name, path in (("report", STUDY / "comparison/report.html"), ("explorer", STUDY / "comparison/explorer.html")):
        if not path.exists():
            raise PluginError(f"{path.relative_to(ROOT)} is missing: run make docs, which trains the study")
        files.append(File.generated(config, f"live/{name}.html", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to source files to their pages, and the notebook's to its page."""
    up = "../" * page.file.src_uri.count("/")
    return SOURCE_LINK.sub(rf"]({up}source/\1.md)", markdown).replace("](quickstart.ipynb)", "](quickstart.md)")


def linked_sources(files: Files) -> set[Path]:
    """The files and folders that pages link to, and what lies in such a folder."""
    text = "".join(file.content_string for file in files.documentation_pages())
    linked = {ROOT / target.rstrip("/").replace("\\_", "_") for target in SOURCE_LINK.findall(text)}
    if missing := sorted(str(path.relative_to(ROOT)) for path in linked if not path.exists()):
        raise PluginError(f"linked to in docs/, and not there: {', '.join(missing)}")
    return linked.union(*(path.glob("*.py") for path in linked if path.is_dir()))


def source_page(path: Path) -> str:
    """A page that shows a source file, or lists the modules of a folder."""
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {path.relative_to(ROOT)}\n\n"
    if path.is_dir():
        return head + "\n".join(f"- [{file.name}]({path.name}/{file.name}.md)" for file in sorted(path.glob("*.py")))
    language = {".py": "python", ".sh": "bash", ".md": "markdown"}.get(path.suffix, "text")
    return f"{head}``````{language}\n{path.read_text()}\n``````\n"


def notebook_files(notebook: Path) -> dict[str, str | bytes]:
    """The notebook as a page, and the pictures that its cells show."""
    made: dict[str, str | bytes] = {}
    parts = []
    for number, cell in enumerate(json.loads(notebook.read_text())["cells"]):
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            parts += output_parts(output, f"quickstart/{number}.png", made)
    return made | {f"{notebook.stem}.md": "\n\n".join(parts) + "\n"}


def output_parts(output: dict, picture: str, made: dict[str, str | bytes]) -> Iterator[str]:
    """What a cell printed or showed, as Markdown; a picture is put into `made`."""
    data = output.get("data", {})
    if "image/png" in data:
        made[picture] = base64.b64decode("".join(data["image/png"]))
        yield f"![what the cell above draws]({picture})"
    elif "text/html" in data:
        yield "".join(data["text/html"])
    elif text := "".join(output.get("text", data.get("text/plain", ""))):
        yield f"```text\n{text}\n```"
