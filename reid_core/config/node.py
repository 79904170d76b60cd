"""CfgNode: fvcore's config tree with errors that a person can act on.

A key that does not exist names the nearest one and the file (or command line) where it stands; a value of the wrong
type says what was expected. Numbers that YAML reads as text (`1e-4`) or as whole numbers (`1`) are accepted where
the default is a float.
"""

import ast
import difflib
import os
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as FvcoreCfgNode

from reid_core.utils.file_io import write_atomically


class ConfigError(ValueError):
    """A config key or value that cannot be used; the text says which, where, and what would fit."""


class CfgNode(FvcoreCfgNode):
    """A config tree. `merge_from_file` reads `_BASE_` chains (a path or a list, relative to the file)."""

    def merge_from_file(self, cfg_filename: str | os.PathLike, allow_unsafe: bool = False) -> None:
        """Merge a YAML file and its bases, the file itself last.

        Raises FileNotFoundError for a missing file, ConfigError for an unknown key or a wrong type.
        """
        if allow_unsafe:
            raise ConfigError(f"{cfg_filename}: YAML with code in it is never loaded; leave allow_unsafe out.")
        for path, content in read_chain(Path(cfg_filename)):
            self.merge_from_dict(content, source=str(path))

    def merge_from_dict(self, content: dict, source: str) -> None:
        """Merge a nested dictionary; `source` is named in errors. Checks all keys before it changes anything."""
        flat = list(_flatten(content, self))
        for key, _ in flat:
            self._check_key(key, source)
        coerced = [(key, _coerce(value, self.value_of(key), key, source)) for key, value in flat]
        for key, value in coerced:
            parent, _, leaf = key.rpartition(".")
            node = self.value_of(parent) if parent else self
            setattr(node, leaf, value)

    def merge_from_list(self, cfg_list: list[str], source: str = "command line") -> None:
        """Merge `[KEY, value, KEY, value ...]`; text values are read as Python literals where they are such."""
        if len(cfg_list) % 2:
            raise ConfigError(
                f"Overrides come in pairs 'KEY value', got {len(cfg_list)} words: {' '.join(map(str, cfg_list))}."
            )
        for key, text in zip(cfg_list[0::2], cfg_list[1::2], strict=True):
            self._check_key(key, source)
            expected = self.value_of(key)
            if isinstance(expected, CfgNode):
                raise ConfigError(
                    f"'{key}' ({source}) is a group of keys, not a value; it holds {', '.join(expected.keys())}."
                )
            value = _literal(text) if not isinstance(expected, str) else text
            self.merge_from_dict(_nested(key, value), source)

    def value_of(self, dotted_key: str) -> Any:
        """The value or sub-tree at `A.B.C`. Raises KeyError if there is none."""
        node: Any = self
        for part in dotted_key.split("."):
            if not isinstance(node, CfgNode) or part not in node:
                raise KeyError(dotted_key)
            node = node[part]
        return node

    def flat_keys(self) -> list[str]:
        """All keys that hold values, dotted, sorted."""
        return sorted(key for key, _ in _flatten(self, self))

    def save(self, path: str | os.PathLike) -> None:
        """Write the whole tree as YAML that `merge_from_file` reads back."""
        write_atomically(Path(path), self.dump().encode())

    def _check_key(self, key: str, source: str) -> None:
        try:
            self.value_of(key)
        except KeyError:
            known = self.flat_keys()
            raise ConfigError(f"Unknown config key '{key}' ({source}).{_nearest(key, known)}") from None


def read_chain(path: Path, _above: tuple[Path, ...] = ()) -> list[tuple[Path, dict]]:
    """The YAML file and its `_BASE_` files as (path, content without `_BASE_`), bases first.

    Raises FileNotFoundError (naming the file that asked for it), ConfigError for bad YAML or a circle of bases.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))
    if path in _above:
        raise ConfigError(f"{path} is its own base: {' -> '.join(str(p) for p in (*_above, path))}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        asked = f", the {BASE_KEY} of {_above[-1]}" if _above else ""
        raise FileNotFoundError(f"Config file {path}{asked} does not exist.{_neighbours(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder, not a config file.{_neighbours(path / 'x.yml')}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable YAML: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold 'KEY: value' pairs, found a {type(content).__name__}.")
    bases = content.pop(BASE_KEY, None) or []
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{BASE_KEY} of {path} must be a file name or a list of them, got {bases!r}.")
    chain = []
    for base in bases:
        chain += read_chain(path.parent / Path(base).expanduser(), (*_above, path))
    return [*chain, (path, content)]


def _neighbours(path: Path) -> str:
    found = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    return f" In {path.parent}: {', '.join(found[:20])}." if found else f" No YAML files in {path.parent}."


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if not near:  # the right key in the wrong group
        leaf = key.rpartition(".")[2]
        leaves = {name.rpartition(".")[2]: name for name in known}
        near = [leaves[match] for match in difflib.get_close_matches(leaf, list(leaves), n=1, cutoff=0.7)]
    return f" Did you mean '{near[0]}'?" if near else " No key is near it; see reid_core/config/defaults.py."


def _flatten(tree: dict, schema: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of a nested dictionary; where the schema has a value (not a group) a dictionary is that value."""
    pairs = []
    for name, value in tree.items():
        below = schema.get(name) if isinstance(schema, dict) else None
        is_group = isinstance(value, dict) and (below is None or isinstance(below, CfgNode))
        if is_group and value:
            pairs += _flatten(value, below, f"{prefix}{name}.")
        elif not is_group:
            pairs.append((f"{prefix}{name}", value))
    return pairs


def _nested(key: str, value: Any) -> dict:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _literal(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _coerce(value: Any, default: Any, key: str, source: str) -> Any:
    """`value` as the type of `default`; only changes that lose nothing. A default of None takes any value."""
    if default is None:
        return value
    if isinstance(default, CfgNode):
        raise ConfigError(
            f"'{key}' ({source}) is a group of keys ({', '.join(default.keys())}), not a value; got {value!r}."
        )
    if isinstance(default, float) and not isinstance(value, bool):
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):  # YAML 1.1 reads 1e-4 (no point) as text
            try:
                return float(value)
            except ValueError:
                pass
    elif isinstance(default, list | tuple) and isinstance(value, list | tuple):
        return type(default)(_coerce_entries(value, default, key, source))
    elif isinstance(default, str) and value is None:
        return ""
    elif type(value) is type(default):
        return value
    if isinstance(default, str) and isinstance(value, bool):
        hint = ' YAML reads on, off, yes and no as true or false: quote the word, "off".'
    else:
        hint = ""
    raise ConfigError(
        f"'{key}' ({source}) must be {_type_name(default)} like {default!r}, got {_type_name(value)} {value!r}.{hint}"
    )


def _coerce_entries(value: list | tuple, default: list | tuple, key: str, source: str) -> list:
    """Entries of the type that all of the default's have; anything where the default is empty or mixed."""
    if len({type(entry) for entry in default}) != 1:
        return list(value)
    return [_coerce(entry, default[0], f"{key}[{place}]", source) for place, entry in enumerate(value)]


def _type_name(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), f"a {type(value).__name__}")
