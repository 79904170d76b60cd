"""The names that the published CLIP-based ReID programs share: image encoder, necks, classifiers, side information."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from reid_core.config import CfgNode
from reid_core.modeling.clip import read_architecture
from reid_core.modeling.conversion.converter import Converter, Sizes
from reid_core.modeling.conversion.sources import ConversionError
from reid_core.registry import CONVERTER_REGISTRY, META_ARCHITECTURE_REGISTRY

_SIE_TABLE = "backbone.cv_embed"
_POSITION_TABLES = ("backbone.visual.positional_embedding", "backbone.visual.attnpool.positional_embedding")
_USUAL_SIZES = ((256, 128), (256, 256), (384, 128), (384, 192), (224, 224), (320, 320), (384, 384))


@CONVERTER_REGISTRY.register(name="Baseline")
class BaselineConverter(Converter):
    """`image_encoder.X` (CLIP's `visual.X`), `cv_embed`, `bottleneck`, `bottleneck_proj`, `classifier`,
    `classifier_proj`. Also the base of converters of methods that add to these."""

    names = (
        (r"image_encoder\.(.+)", r"backbone.visual.\1"),
        (r"cv_embed", _SIE_TABLE),
        (r"((?:bottleneck|classifier)(?:_proj)?\..+)", r"heads.\1"),
    )
    own = (*Converter.own, (r"backbone\.position_grid", "grid of the position table: follows from the input size"))

    def sizes(self, state: Mapping[str, Tensor], cfg: CfgNode, num_cameras: int, num_views: int) -> Sizes:
        sizes = Sizes(_num_identities(state, cfg))
        sizes.num_cameras, sizes.num_views = _side_information(state, cfg, num_cameras, num_views)
        table = next((state[name] for name in _POSITION_TABLES if name in state), None)
        if table is not None:
            _fit_patch_stride(sizes, len(table) - 1, cfg)
        return sizes


def _num_identities(state: Mapping[str, Tensor], cfg: CfgNode) -> int:
    """Rows of the tables that belong to identities; 0 if there are none. Raises ConversionError if they disagree."""
    bound = META_ARCHITECTURE_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE).identity_bound
    rows = {name: len(value) for name, value in state.items() if name.startswith(bound or ("\0",))}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in sorted(rows.items()))
        raise ConversionError(f"The source's tables are of different numbers of identities: {listed}.")
    return next(iter(rows.values()), 0)


def _side_information(state: Mapping[str, Tensor], cfg: CfgNode, num_cameras: int, num_views: int) -> tuple[int, int]:
    """Cameras and viewpoints of the side information table, and 1 for what it does not tell apart."""
    camera, view = cfg.MODEL.BACKBONE.SIE_CAMERA, cfg.MODEL.BACKBONE.SIE_VIEW
    table = state.get(_SIE_TABLE)
    if table is None:
        if camera or view:
            key = "MODEL.BACKBONE.SIE_CAMERA" if camera else "MODEL.BACKBONE.SIE_VIEW"
            raise ConversionError(f"The source has no side information (cv_embed), but {key} is on: set it False.")
        return max(num_cameras, 1), max(num_views, 1)
    rows = len(table)
    if not (camera or view):
        raise ConversionError(
            f"The source has side information (cv_embed, {rows} rows) and the config has none: set "
            "MODEL.BACKBONE.SIE_CAMERA True (rows are cameras), SIE_VIEW True (viewpoints), or both (pairs of them)."
        )
    if camera and view:
        if not (num_cameras or num_views):
            raise ConversionError(
                f"cv_embed has {rows} rows, one for each pair of a camera and a viewpoint: say how many of either, "
                "--num-cameras or --num-views."
            )
        cameras, views = num_cameras or rows // num_views, num_views or rows // num_cameras
    else:
        cameras, views = (rows, max(num_views, 1)) if camera else (max(num_cameras, 1), rows)
    used = (cameras if camera else 1) * (views if view else 1)
    if used != rows or (camera and num_cameras not in (0, cameras)) or (view and num_views not in (0, views)):
        raise ConversionError(
            f"cv_embed has {rows} rows, which {num_cameras or 'any number of'} cameras and "
            f"{num_views or 'any number of'} viewpoints do not give (SIE_CAMERA {camera}, SIE_VIEW {view})."
        )
    return cameras, views


def _fit_patch_stride(sizes: Sizes, cells: int, cfg: CfgNode) -> None:
    """Note the patch stride that gives so many positions at the config's input size."""
    size, options = tuple(cfg.INPUT.SIZE_TRAIN), cfg.MODEL.BACKBONE
    vision = read_architecture(options.ARCHITECTURE)["vision_cfg"]
    patch = 0 if isinstance(vision["layers"], list | tuple) else vision["patch_size"]  # 0: a ModifiedResNet
    if _cells(size, patch, options.PATCH_STRIDE) == cells:
        return
    strides = [stride for stride in range(1, patch + 1) if _cells(size, patch, stride) == cells]
    if strides:  # the largest where several give the same grid: those skip no pixels that the others see
        why = f"the source's position table has {cells} cells"
        sizes.changes["MODEL.BACKBONE.PATCH_STRIDE"] = (strides[-1] % patch, why)
        return
    raise ConversionError(
        f"The source's position table has {cells} cells, which INPUT.SIZE_TRAIN {list(size)} does not give with "
        f"{Path(options.ARCHITECTURE).name}, whatever the stride.{_hint(cells, patch)} "
        "Convert at the size of the training; the result can be used at any other, its positions are resized then."
    )


def _hint(cells: int, patch: int) -> str:
    fits = [
        f"{list(size)}" + (f" with MODEL.BACKBONE.PATCH_STRIDE {stride}" if stride != patch else "")
        for size in _USUAL_SIZES
        for stride in ((patch, patch * 3 // 4) if patch else (0,))
        if _cells(size, patch, stride) == cells
    ]
    return f" INPUT.SIZE_TRAIN and SIZE_TEST that do: {' or '.join(fits)}." if fits else ""


def _cells(size: tuple[int, int], patch: int, stride: int) -> int:
    """Positions beside the class token: of the patch grid, or of a ModifiedResNet's last map (patch 0)."""
    if patch:
        height, width = ((side - patch) // (stride or patch) + 1 for side in size)
    else:
        height, width = ((side + 1) // 2 // 8 for side in size)
    return height * width
