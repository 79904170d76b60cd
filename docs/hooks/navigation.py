"""A page that mkdocs.yml does not list stands under "More", so that none is lost."""

from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files


@event_priority(-100)  # when all generated pages are there
def on_files(files: Files, config: MkDocsConfig) -> Files:
    listed = set(_pages(config.nav))
    more = sorted(file.src_uri for file in files.documentation_pages() if file.src_uri not in listed)
    if more:
        config.nav = [*config.nav, {"More": more}]
    return files


def _pages(entry: Any) -> Iterator[str]:
    """The page names in a (part of a) navigation: text, lists, or titles with either."""
    if isinstance(entry, str):
        yield entry
    else:
        for below in entry.values() if isinstance(entry, dict) else entry:
            yield from _pages(below)
