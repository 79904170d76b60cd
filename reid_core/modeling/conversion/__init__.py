"""Weights of other programs as weights of ours. Importing this package registers the baseline's converter."""

from reid_core.modeling.conversion.baseline import BaselineConverter
from reid_core.modeling.conversion.converter import Converter, Entry, Sizes, load_converted, rename
from reid_core.modeling.conversion.sources import ConversionError, SourceWeights, read_source

__all__ = [
    "BaselineConverter",
    "ConversionError",
    "Converter",
    "Entry",
    "Sizes",
    "SourceWeights",
    "load_converted",
    "read_source",
    "rename",
]
