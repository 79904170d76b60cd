"""A project folder for a method of one's own, from a template that trains and is tested."""

import keyword
import os
import re
from pathlib import Path
from string import Template

import reid_core.engine.default_trainer  # noqa: F401  (registers the core's classes, whose names are taken)
from reid_core import registry
from reid_core.config import get_cfg
from reid_core.utils.file_io import atomic_folder

TEMPLATE = Path(__file__).with_name("project_template")
SUFFIX = ".template"
MAXIMAL_LENGTH = 30
"""Longer names would make lines of the template too long."""

_OWN_PROJECTS = Path(__file__).resolve().parents[2] / "projects"


def make_project(name: str, folder: str | Path = "projects") -> Path:
    """Make the project `folder/name` and return its path; it appears whole or not at all.

    Its config group is the name in capitals, its model the name in camel case with "Model" behind it.
    Raises ValueError for a name that cannot be used, FileExistsError where something has it, OSError of the disk.
    """
    name = check_name(name)
    path = Path(folder).expanduser() / name
    own = _OWN_PROJECTS / name
    for taken in (path, own):  # `reid.load` looks for a project's name among the toolkit's own
        if taken.exists():
            raise FileExistsError(f"{taken} exists; choose another name than '{name}'. Nothing was changed.")
    words = {
        "name": name,
        "group": name.upper(),
        "model": model_name(name),
        "output": name.lower(),
        "folder": Path(os.path.relpath(path)).as_posix(),
    }
    with atomic_folder(path) as new:
        for source in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
            target = new / str(source.relative_to(TEMPLATE)).removesuffix(SUFFIX)
            target = target.with_name(target.name.replace("test_model", f"test_{name.lower()}"))
            target.parent.mkdir(exist_ok=True)
            target.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
    return path


def check_name(name: str) -> str:
    """The name, if a project can have it. Raises ValueError that says why it cannot, and gives one that can."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise ValueError(
            f"A project's name must be one that Python can import (a letter, then letters, digits, _; no keyword), got "
            f"'{name}'. For example: my_method."
        )
    if len(name) > MAXIMAL_LENGTH:
        raise ValueError(f"A project's name has at most {MAXIMAL_LENGTH} characters, got {len(name)}: '{name}'.")
    if name.upper() in get_cfg():
        raise ValueError(
            f"The project '{name}' would have the config group {name.upper()}, which the core has. Rename it."
        )
    wanted = {name, camel_case(name), model_name(name)}
    for known in vars(registry).values():
        taken = [entry for entry, _ in known if entry in wanted] if isinstance(known, registry.Registry) else []
        if taken:
            raise ValueError(f"'{taken[0]}' is registered by the core; choose another name than '{name}'.")
    return name


def camel_case(name: str) -> str:
    """my_method -> MyMethod; capitals stay."""
    return "".join(word[0].upper() + word[1:] for word in name.split("_") if word)


def model_name(name: str) -> str:
    """The name of a project's meta-architecture: my_method -> MyMethodModel."""
    return f"{camel_case(name)}Model"
