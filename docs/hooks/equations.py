"""Equations as MathML, made when the site is built: browsers draw it without a script."""

import html as entities
import re

from latex2mathml.converter import convert
from mkdocs.plugins import event_priority

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)


@event_priority(100)  # before the search index is made
def on_page_content(html: str, **_: object) -> str:
    return EQUATION.sub(_mathml, html)


def _mathml(match: re.Match) -> str:
    tag, latex = match.groups()
    display = "block" if tag == "div" else "inline"
    return f'<{tag} class="equation">{convert(entities.unescape(latex).strip(), display=display)}</{tag}>'
