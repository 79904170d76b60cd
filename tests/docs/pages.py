"""The pages that the tests of this folder read, and the commands in them."""

import re
import shlex
from pathlib import Path

from tests.paths import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "projects").glob("*/README.md")])
_FENCE = re.compile(r"^ *```[\w-]*\n(.*?)^ *```", re.S | re.M)
_INDENTED = re.compile(r"^ {4,}(python .*)$", re.M)
_IN_A_LINE = re.compile(r"`(python [^`\n]+)`")
_TOOL = re.compile(r"^(?:tools|projects/\w+)/\w+\.py$")
INSTALLED = dict(re.findall(r'"(reid-[\w-]+) = ([\w.]+):\w+"', (ROOT / "setup.py").read_text(encoding="utf-8")))
"""Installed command -> module."""

_ENDS = {";", "&&", "||", "|", ">", ">>", "&"}


def tool_commands(text: str) -> list[tuple[str, list[str]]]:
    """Commands of a page that call a tool: (its path, or its name as it is installed; the words behind it)."""
    blocks = [*_FENCE.findall(text), *_INDENTED.findall(_FENCE.sub("", text)), *_IN_A_LINE.findall(text)]
    found = []
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        if ".py" not in line and "reid-" not in line:
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a line of Python with an apostrophe
            continue
        tools = [place for place, word in enumerate(words) if _TOOL.match(word)]
        if words and words[0] in INSTALLED:
            tools = [0]
        if not tools or words[0] not in ("python", "torchrun", words[tools[0]]):
            continue
        rest = words[tools[0] + 1 :]
        end = next((place for place, word in enumerate(rest) if word in _ENDS), len(rest))
        found.append((words[tools[0]], rest[:end]))
    return found


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))
