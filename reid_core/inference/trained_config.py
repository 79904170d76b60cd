"""The config that a model was trained with, read without running code that its author names.

A config names project folders by path. The path is another machine's, or an attacker's: only the folder's name is
taken from it, and looked for where the user's own code lies.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from reid_core.config import CfgNode, ConfigError, get_cfg
from reid_core.projects import PACKAGE, add_project, is_project

TOOLKIT_PROJECTS = Path(__file__).resolve().parents[2] / "projects"


def read_trained_config(text: str, source: str | Path, projects: Sequence[str | Path] = ()) -> CfgNode:
    """The resolved config that stands in a checkpoint or model folder.

    text: YAML. source: where it is from, for messages. projects: folders that the caller names, imported first.
    Raises ConfigError for a project that is not found, and for text that is no config of this version.
    """
    try:
        saved = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"The config of {source} is not readable YAML: {error}") from error
    if not isinstance(saved, dict):
        raise ConfigError(f"The config of {source} must hold 'KEY: value' pairs, found a {type(saved).__name__}.")
    named = saved.pop("PROJECTS", None) or []
    if not isinstance(named, list):
        raise ConfigError(f"'PROJECTS' in the config of {source} must be a list of folders, got {named!r}.")
    cfg = get_cfg()
    _add_projects(cfg, (Path(str(folder)).name for folder in named), projects, source)
    cfg.merge_from_dict(saved, source=str(source))
    return cfg


def _add_projects(cfg: CfgNode, names: Iterable[str], projects: Sequence[str | Path], source: str | Path) -> None:
    if isinstance(projects, str | Path):
        projects = [projects]
    for folder in projects:
        add_project(cfg, folder)
    for name in names:
        if name not in {Path(folder).name for folder in cfg.PROJECTS}:
            add_project(cfg, _find_by_name(name, source))


def _find_by_name(name: str, source: str | Path) -> Path:
    """The folder of a project that is imported already, or one of the toolkit's own. Raises ConfigError."""
    imported = sys.modules.get(f"{PACKAGE}.{name}")
    if imported is not None:
        return Path(imported.__file__).parent
    own = sorted(folder.name for folder in TOOLKIT_PROJECTS.glob("*") if is_project(folder))
    if name in own:
        return TOOLKIT_PROJECTS / name
    raise ConfigError(
        f"{source} was made with the project '{name}', which is not among the toolkit's own ({', '.join(own) or 'none'}"
        f"). No code is loaded from where a model says that it is: name the folder that you trust, "
        f"projects=['path/to/{name}']."
    )
