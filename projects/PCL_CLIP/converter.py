"""Checkpoints of the authors' program as ours, for the supervised and the unsupervised model."""

from reid_core.modeling.conversion import BaselineConverter
from reid_core.registry import CONVERTER_REGISTRY


@CONVERTER_REGISTRY.register(name="PrototypeContrastiveCLIP")
class PrototypeConverter(BaselineConverter):
    """The baseline's names; the memories are not in the authors' files, and are rebuilt as training begins."""

    own = (*BaselineConverter.own, (r"(?:memory|clusters|proxies)\..+", "filled as training begins"))


@CONVERTER_REGISTRY.register(name="ClusterContrastiveCLIP")
class ClusterConverter(PrototypeConverter):
    """The same for the model without identities: a classifier in the file is not used."""

    unused = ((r"classifier\..+", "there are no identities to classify"),)
