"""PCL-CLIP: CLIP fine-tuned for ReID with a prototypical contrastive loss (arXiv 2310.17218), with labels or without.

Registers the meta-architectures `PrototypeContrastiveCLIP` (supervised) and `ClusterContrastiveCLIP` (unsupervised),
the heads `ConcatenatedBNNeckHeads`, and the hooks `PrototypeMemoryHook` and `PseudoLabelHook`. The patch projection is
frozen by `MODEL.BACKBONE.FREEZE: ["conv1"]` in the configs.
"""

from projects.PCL_CLIP.config import add_config
from projects.PCL_CLIP.converter import ClusterConverter, PrototypeConverter
from projects.PCL_CLIP.heads import ConcatenatedBNNeckHeads
from projects.PCL_CLIP.memory_hook import PrototypeMemoryHook
from projects.PCL_CLIP.model import PrototypeContrastiveCLIP
from projects.PCL_CLIP.pseudo_label_hook import PseudoLabelHook
from projects.PCL_CLIP.unsupervised_model import ClusterContrastiveCLIP

__all__ = [
    "ClusterContrastiveCLIP",
    "ClusterConverter",
    "ConcatenatedBNNeckHeads",
    "PrototypeContrastiveCLIP",
    "PrototypeConverter",
    "PrototypeMemoryHook",
    "PseudoLabelHook",
    "add_config",
]
