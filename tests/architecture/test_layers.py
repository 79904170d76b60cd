"""The folder tells which imports are allowed, and the core knows no method by name."""

import ast
import re
from pathlib import Path

import pytest

from tests.paths import ROOT

LEVEL = {
    "config": 0,
    "registry": 0,
    "utils": 0,
    "structures": 1,
    "data": 2,
    "modeling": 2,
    "retrieval": 2,
    "solver": 3,
    "evaluation": 3,
    "engine": 4,
    "inference": 4,
    "projects": 4,
    "commands": 5,
}
MAY_KNOW = {("config", "utils"), ("engine", "projects"), ("inference", "projects")}
"""Pairs of one level: the config writes its files through utils; training and loading a model import projects."""


def imported_modules(path: Path) -> list[str]:
    """Dotted names of everything that a file imports, `from a import b` as both `a` and `a.b`."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def room(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0].removesuffix(".py")


def upward_imports(root: Path) -> list[str]:
    bad = []
    for path in sorted(root.rglob("*.py")):
        here = room(path, root)
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] in ("projects", "tools", "tests", "benchmarks"):
                bad.append(f"{path.relative_to(root)} imports {name}")
            if parts[0] != "reid_core" or len(parts) < 2 or parts[1] not in LEVEL or here not in LEVEL:
                continue
            there = parts[1]
            if there != here and LEVEL[there] >= LEVEL[here] and (here, there) not in MAY_KNOW:
                bad.append(f"{path.relative_to(root)} imports {there}")
    return bad


def test_every_folder_has_its_level():
    rooms = {room(path, ROOT / "reid_core") for path in (ROOT / "reid_core").rglob("*.py")} - {"__init__"}
    assert rooms <= set(LEVEL)


def test_imports_point_downward():
    assert upward_imports(ROOT / "reid_core") == []


def test_the_check_itself_finds_an_upward_import(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.py").write_text("from reid_core import engine\n")
    (tmp_path / "config.py").write_text("import projects.X\n")
    assert upward_imports(tmp_path) == ["config.py imports projects.X", "data/a.py imports engine"]


def test_a_project_imports_of_another_only_its_package_root():
    for path in sorted((ROOT / "projects").rglob("*.py")):
        own = path.relative_to(ROOT / "projects").parts[0]
        for name in imported_modules(path):
            parts = name.split(".")
            assert parts[0] not in ("tools", "tests"), f"{path} imports {name}"
            if parts[0] == "projects" and len(parts) > 2 and parts[1] != own:
                root_names = (ROOT / "projects" / parts[1] / "__init__.py").read_text()
                assert re.search(rf"\b{parts[2]}\b", root_names), f"{path} imports {name}"


def test_only_the_clip_folder_imports_open_clip():
    for path in sorted((ROOT / "reid_core").rglob("*.py")):
        if "clip" not in path.parts:
            assert not any(name.split(".")[0] == "open_clip" for name in imported_modules(path)), path


@pytest.mark.parametrize("folder", ["reid_core", "tools"])
def test_the_core_contains_no_methods_name(folder):
    methods = {path.name.lower() for path in (ROOT / "projects").iterdir() if (path / "__init__.py").exists()}
    methods |= {"pcl_clip", "clip_reid", "svll_reid", "svll"}
    words = {method.replace("_", separator) for method in methods for separator in ("_", "-", "", " ")}
    pattern = re.compile("|".join(rf"(?<![a-z]){re.escape(word)}(?![a-z])" for word in sorted(words)), re.I)
    allowed = re.compile(r"projects/PCL_CLIP/configs/\w+\.yml" if folder == "tools" else r"(?!)")  # real examples
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and path.suffix in (".py", ".html", ".css", ".json", ".yml"):
            text = allowed.sub("", path.read_text(encoding="utf-8"))
            found = pattern.search(text)
            assert found is None, f"{path} names a method: {found and found.group()}"
