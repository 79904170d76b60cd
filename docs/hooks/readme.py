"""The README is the home page: one text in two places, its links turned towards the site's pages."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    known = {file.src_uri for file in files}
    files.append(File.generated(config, "index.md", content=LINK.sub(lambda match: _turned(match, known), text)))
    return files


def _turned(link: re.Match, known: set[str]) -> str:
    """The link as it is on the site; one to a file that is no page becomes the file's name."""
    text, target = link.groups()
    project = re.fullmatch(r"projects/(\w+)/README\.md", target)
    page = f"methods/{project[1].lower()}.md" if project else target.removeprefix("docs/")
    if page in known:
        return f"[{text.removeprefix('docs/')}]({page})"
    return f"`{target}`"
