"""The page of all config keys, from the config itself and the comments on its lines."""

import ast
import html
import inspect
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from reid_core.config import CfgNode, defaults, get_cfg
from reid_core.projects import add_project, import_project, is_project

ROOT = Path(__file__).parents[2]
INTRODUCTION = """# Config keys

Every key with its default and its meaning, read from the sources when this page is built. Any of them can stand in a
YAML file, or behind a command's options as `KEY value`; the command line wins, then the file, then the files that its
`_BASE_` names. A typo is answered with the nearest key. A method's published settings are in its project's `configs/`.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, "config_keys.md", content=page()))
    return files


def page() -> str:
    """The Markdown of the page: the core's groups, then each project's."""
    core = get_cfg()
    parts = [INTRODUCTION, *_sections(core, core.flat_keys(), comments(Path(defaults.__file__)))]
    for folder in sorted(path for path in (ROOT / "projects").iterdir() if is_project(path)):
        before = get_cfg()
        module = import_project(folder)
        for required in getattr(module, "REQUIRES", ()):
            add_project(before, folder.parent / required)
        cfg = before.clone()
        add_project(cfg, folder)
        added = sorted(set(cfg.flat_keys()) - set(before.flat_keys()))
        parts.append(
            f"## The project {folder.name} {{ #project-{folder.name.lower()} }}\n\nAdds, where it is loaded:\n"
        )
        parts += _sections(cfg, added, comments(Path(inspect.getsourcefile(module.add_config))), level=3)
    return "\n".join(parts)


def comments(source: Path) -> dict[str, str]:
    """Dotted key or group -> the comment on its line, "" for none, in the order of the file."""
    text = source.read_text(encoding="utf-8")
    lines, found = text.splitlines(), {}
    for function in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)):
        names = {"cfg": ""}  # what a local name stands for
        for statement in function.body:
            attributes = [t for t in getattr(statement, "targets", ()) if isinstance(t, ast.Attribute)]
            for target in attributes:
                base, _, rest = ast.unparse(target).partition(".")
                key = ".".join(part for part in (names[base], rest) if part)
                names.update({t.id: key for t in statement.targets if isinstance(t, ast.Name)})
                found[key] = lines[statement.end_lineno - 1].partition("  # ")[2]
                if not found[key]:
                    found[key] = lines[statement.lineno - 1].partition("  # ")[2]
    return found


def _sections(cfg: CfgNode, keys: list[str], meanings: dict[str, str], level: int = 2) -> list[str]:
    """A heading and a table for each group of keys; keys in the order of the source."""
    order = {key: place for place, key in enumerate(meanings)}
    groups: dict[str, list[str]] = {}
    for key in sorted(keys, key=lambda key: order.get(key, order.get(key.rpartition(".")[0], 0))):
        groups.setdefault(key.rpartition(".")[0], []).append(key)
    parts = []
    for group, members in groups.items():
        anchor = group.lower().replace(".", "-") or "top"
        parts.append(f"{'#' * level} {group or 'The top'} {{ #{anchor} }}\n")
        if meanings.get(group):
            parts.append(f"{_text(meanings[group][0].upper() + meanings[group][1:])}.\n")
        rows = [_row(key, cfg.value_of(key), meanings.get(key, "")) for key in members if cfg.value_of(key) is not None]
        parts.append("\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n")
    return parts


def _row(key: str, value: object, meaning: str) -> str:
    group, _, name = key.rpartition(".")
    if not meaning and group.startswith("STAGES."):  # a stage's own solver repeats the keys of SOLVER
        meaning = f"see SOLVER.{name}"
    anchor = key.lower().replace(".", "-")
    return f'| <code id="{anchor}">{name}</code> | <code>{_text(value)}</code> | {_text(meaning)} |'


def _text(value: object) -> str:
    text = value if isinstance(value, str) and value else repr(value)
    return html.escape(text, quote=False).replace("|", "&#124;").replace("_", "&#95;").replace("*", "&#42;")
