"""Pictures of the report that are PNGs: as HTML, with a description for those who do not see them."""

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Picture(NamedTuple):
    """A PNG of the report. caption: above it. description: what it shows, in words."""

    caption: str
    description: str
    png: bytes


def picture_plots(pictures: Sequence[Picture]) -> str:
    """HTML of pictures side by side where there is room for it."""
    drawn = "".join(
        f"<figure><figcaption>{escape(picture.caption)}</figcaption>"
        f'<img src="data:image/png;base64,{base64.b64encode(picture.png).decode("ascii")}" '
        f'alt="{escape(picture.description)}"></figure>'
        for picture in pictures
    )
    return f'<div class="plots">{drawn}</div>' if drawn else ""
