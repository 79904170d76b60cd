"""Project folders: found by path, imported once as `projects.<folder>`, wherever they lie.

A project is a folder with an `__init__.py` that defines `add_config(cfg)`. Importing it registers its classes; then
`add_config` adds its keys. `REQUIRES = ["OTHER"]` in its `__init__.py` names sibling folders (or paths) whose config
is added first; their package root can be imported as `projects.OTHER`.
"""

import copy
import importlib.util
import sys
import types
from pathlib import Path

from reid_core.config import CfgNode, ConfigError, get_cfg
from reid_core.config.node import read_chain

PACKAGE = "projects"
_FILE_KEYS = (
    ("DEMO", "SOURCE"),
    ("MODEL", "WEIGHTS"),
    ("MODEL.BACKBONE", "ARCHITECTURE"),
    ("MODEL.BACKBONE", "PRETRAINED"),
)


def find_project(path: str | Path) -> Path | None:
    """The nearest folder at or above `path` that is a project, None if there is none."""
    path = Path(path).expanduser().resolve()
    for folder in (path, *path.parents):
        if is_project(folder):
            return folder
    return None


def is_project(folder: Path) -> bool:
    """True for a folder whose `__init__.py` defines `add_config`; the file is read, not run."""
    init = folder / "__init__.py"
    return init.is_file() and "add_config" in init.read_text(encoding="utf-8")


def import_project(folder: str | Path) -> types.ModuleType:
    """Import a project folder as `projects.<folder's name>`, once.

    Raises ConfigError if it is no project, or if another folder of the same name was imported before.
    """
    folder = Path(folder).expanduser().resolve()
    if not is_project(folder):
        raise ConfigError(
            f"{folder} is not a project: it needs an __init__.py that defines add_config(cfg)."
            + ("" if folder.is_dir() else " The folder does not exist.")
        )
    if not folder.name.isidentifier():
        raise ConfigError(f"The project folder {folder} must have a name that Python can import (letters, digits, _).")
    name = f"{PACKAGE}.{folder.name}"
    _make_siblings_importable(folder.parent)
    if name in sys.modules:
        loaded = Path(sys.modules[name].__file__).resolve().parent
        if loaded != folder:
            raise ConfigError(f"Two projects are named '{folder.name}': {loaded} and {folder}. Rename one of them.")
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    setattr(sys.modules[PACKAGE], folder.name, module)
    return module


def add_project(cfg: CfgNode, folder: str | Path, _asked_by: tuple[Path, ...] = ()) -> None:
    """Import the project and those that it requires; add their config keys, the required ones first.

    The project's path is noted in `cfg.PROJECTS`, once, so that the resolved config names all that it needs.
    """
    folder = Path(folder).expanduser().resolve()
    if str(folder) in cfg.PROJECTS:
        return
    if folder in _asked_by:
        circle = " -> ".join(p.name for p in (*_asked_by, folder))
        raise ConfigError(f"Projects require each other in a circle: {circle}.")
    module = import_project(folder)
    for required in getattr(module, "REQUIRES", ()):
        add_project(cfg, folder.parent / required, (*_asked_by, folder))
    module.add_config(cfg)
    cfg.PROJECTS = [*cfg.PROJECTS, str(folder)]


def load_config(config_file: str | Path | None, overrides: list[str] = ()) -> CfgNode:
    """The resolved config: core defaults, the projects' keys, the file with its bases, then `KEY value` overrides.

    Projects are the nearest project folder around each file of the `_BASE_` chain, and those that the PROJECTS key
    of a file or of the overrides names (relative to the file; on the command line to the working folder).
    Raises ConfigError or FileNotFoundError; nothing is half merged into anything that lives on.
    """
    cfg = get_cfg()
    chain = read_chain(Path(config_file)) if config_file is not None else []
    overrides = list(overrides)
    for path, content in chain:
        around = find_project(path.parent)
        if around is not None:
            add_project(cfg, around)
        for named in _project_list(content.pop("PROJECTS", []), str(path)):
            add_project(cfg, path.parent / Path(named).expanduser())
    for at in [i for i, word in enumerate(overrides) if word == "PROJECTS" and i % 2 == 0][::-1]:
        probe = get_cfg()
        probe.merge_from_list(overrides[at : at + 2])
        for named in probe.PROJECTS:
            add_project(cfg, Path.cwd() / Path(named).expanduser())
        del overrides[at : at + 2]
    for path, content in chain:
        cfg.merge_from_dict(_with_paths_from(path.parent, content), source=str(path))
    cfg.merge_from_list(overrides)
    return cfg


def _with_paths_from(folder: Path, content: dict) -> dict:
    """The content with the files that it names made absolute where they lie relative to the YAML, as its bases do.

    An open_clip name or tag is no file beside the YAML and stays as it is; so does a path from the working folder.
    """
    content = copy.deepcopy(content)
    for group, key in _FILE_KEYS:
        node = content
        for part in group.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        value = node.get(key) if isinstance(node, dict) else None
        if isinstance(value, str) and value and (folder / value).is_file():
            node[key] = str((folder / value).resolve())
    return content


def _project_list(value: object, source: str) -> list[str]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ConfigError(f"'PROJECTS' ({source}) must be a list of project folders, got {value!r}.")
    return [str(entry) for entry in value]


def _make_siblings_importable(parent: Path) -> None:
    """Let `import projects.X` find X in this folder too: the package is a list of folders that grows."""
    package = sys.modules.get(PACKAGE)
    if package is None:
        package = types.ModuleType(PACKAGE)
        package.__path__ = []
        sys.modules[PACKAGE] = package
    if not isinstance(package.__path__, list):  # a namespace package found through sys.path
        package.__path__ = list(package.__path__)
    if str(parent) not in package.__path__:
        package.__path__.append(str(parent))
