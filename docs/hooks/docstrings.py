"""Docstrings are prose with shapes in them: what HTML or Markdown would take for its own is escaped."""

import re
from typing import Any

import griffe

CODE = re.compile(r"(`[^`]*`|^ {4,}.*$)", re.M)


class PlainDocstrings(griffe.Extension):
    """Escapes `<`, `[` and `*` outside code, and makes `::` before a block a colon."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = re.sub(r"::$", ":", obj.docstring.value, flags=re.M)
            parts = CODE.split(text)
            parts[::2] = [re.sub(r"([<\[\]*])", r"\\\1", part) for part in parts[::2]]
            obj.docstring.value = "".join(parts)
