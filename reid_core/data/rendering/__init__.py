"""Draws persons and vehicles seen by several cameras, and writes them in a real dataset's layout."""

from reid_core.data.rendering.contact_sheet import write_contact_sheet
from reid_core.data.rendering.dataset import render_dataset
from reid_core.data.rendering.layouts import LAYOUTS
from reid_core.data.rendering.options import RenderingOptions

__all__ = ["LAYOUTS", "RenderingOptions", "render_dataset", "write_contact_sheet"]
