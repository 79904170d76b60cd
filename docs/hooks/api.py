"""The API pages: what each public package offers in `__all__`, by its docstrings."""

import importlib
import inspect

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "inference": ["reid_core"],
    "evaluation": ["reid_core.evaluation"],
    "retrieval": ["reid_core.retrieval"],
    "data": ["reid_core.structures", "reid_core.data", "reid_core.data.feature_files", "reid_core.data.rendering"],
    "modeling": [
        "reid_core.modeling.meta_arch",
        "reid_core.modeling.losses",
        "reid_core.modeling.heads",
        "reid_core.modeling.backbones",
        "reid_core.modeling.memory",
        "reid_core.modeling.prompts",
    ],
    "engine": [
        "reid_core.engine.trainer",
        "reid_core.engine.default_trainer",
        "reid_core.engine.stages",
        "reid_core.engine.hooks",
        "reid_core.solver",
    ],
    "config": ["reid_core.config", "reid_core.registry", "reid_core.projects"],
}

INHERITING = {"reid_core.retrieval"}
"""Packages whose classes are shown with what they inherit: their interface stands in a common base."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, modules in PAGES.items():
        files.append(File.generated(config, f"api/{name}.md", content=page(name, modules)))
    return files


def page(title: str, modules: list[str]) -> str:
    """The Markdown of a page: a heading for each module, and a directive of mkdocstrings for each name in it."""
    parts = [f"# {title.capitalize()}\n"]
    for name in modules:
        module = importlib.import_module(name)
        parts.append(f"## {name}\n\n{(module.__doc__ or '').strip().splitlines()[0]}\n")
        options = "    options: {inherited_members: true}\n" if name in INHERITING else ""
        parts += [f"::: {path}\n{options}" for path in public_names(module)]
    return "\n".join(parts)


def public_names(module: object) -> list[str]:
    """Where each class and function of a module's `__all__` is defined; without one, those defined in it."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    names = getattr(module, "__all__", [name for name in own if not name.startswith("_")])
    objects = [getattr(module, name) for name in names]
    return [f"{o.__module__}.{o.__qualname__}" for o in objects if inspect.isclass(o) or inspect.isfunction(o)]
