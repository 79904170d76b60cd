"""The model card: README.md in the Hugging Face hub's format, a YAML header and a text."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from reid_core.config import CfgNode
from reid_core.data.datasets import dataset_kind, dataset_name
from reid_core.evaluation import results_table

LIBRARY = "reid-core"
_TASK = "image-feature-extraction"
_TAGS = ["re-identification", "image-retrieval", "clip"]

_TEXT = """---
{header}
---

# {name}

Image features for object re-identification: images of the same {kind} by different cameras have similar features.
Made with the toolkit reid-core.

## Use

```python
import reid_core as reid

model = reid.load("{name}")  # this folder, or user/name on the hub
features = model.encode(["a.jpg", "b.jpg"])  # float32 [2, D], unit length
scores = model.similarity(features, features)
```
{projects}
Images are resized to {height} x {width} pixels (height x width) by `encode`.

## Training

{training}

## Evaluation

{evaluation}

## Licence

{licence}
"""


def model_card(cfg: CfgNode, results: Mapping[str, Mapping[str, float]], name: str, license: str | None = None) -> str:
    """The card's text. cfg: as trained. results: percent, by dataset and metric. license: None leaves it open."""
    height, width = cfg.INPUT.SIZE_TEST
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=_TASK,
        tags=_TAGS,
        license=license,
        model_name=name,
        metrics=sorted({metric for row in results.values() for metric in row}) or None,
        eval_results=_eval_results(results) or None,
    )
    text = _TEXT.format(
        header=data.to_yaml().strip(),
        name=name,
        kind=" or ".join(sorted({dataset_kind(cfg, entry) for entry in cfg.DATASETS.TRAIN})) or "object",
        projects=_projects(cfg),
        height=height,
        width=width,
        training=_training(cfg),
        evaluation=_evaluation(results),
        licence=f"`{license}`, as its author says." if license else _OPEN_LICENCE,
    )
    return str(ModelCard(text))


_OPEN_LICENCE = (
    "Not chosen yet: the author of the model has to. The data that it was trained on and the weights that it started "
    "from have terms of their own, which may bind it."
)


def _eval_results(results: Mapping[str, Mapping[str, float]]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=_TASK,
            task_name="Object re-identification",
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=metric,
            metric_name=f"{metric} (%)",
            metric_value=round(value, 2),
        )
        for dataset, row in results.items()
        for metric, value in row.items()
    ]


def _projects(cfg: CfgNode) -> str:
    names = [Path(folder).name for folder in cfg.PROJECTS]
    if not names:
        return ""
    return (
        f"\nThe method's project ({', '.join(names)}) has to be there: of the toolkit's own it is found by its name, "
        "any other is passed as `projects=[folder]`.\n"
    )


def _training(cfg: CfgNode) -> str:
    backbone, rows = cfg.MODEL.BACKBONE, {}
    rows["data"] = ", ".join(dataset_name(entry) for entry in cfg.DATASETS.TRAIN)
    rows["model"] = cfg.MODEL.META_ARCHITECTURE
    rows["architecture"] = Path(backbone.ARCHITECTURE).name
    rows["starting weights"] = Path(backbone.PRETRAINED).name or "random"
    sides = [word for word, used in (("cameras", backbone.SIE_CAMERA), ("viewpoints", backbone.SIE_VIEW)) if used]
    rows["side information"] = ", ".join(sides) or "none"
    rows["epochs, batch"] = f"{cfg.SOLVER.MAX_EPOCHS}, {cfg.DATALOADER.BATCH_SIZE} images"
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines, "", "All settings are in `config.yml`."])


def _evaluation(results: Mapping[str, Mapping[str, float]]) -> str:
    if not results:
        return "The checkpoint was not evaluated."
    return f"Percent, by each dataset's protocol; `metrics.json` has all digits.\n\n{results_table(results)}"
