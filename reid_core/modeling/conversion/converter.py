"""The frame of a conversion: rules for names, sizes of the source, and an answer for every tensor of both sides."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from reid_core.config import CfgNode
from reid_core.modeling.checkpoint import model_parts
from reid_core.modeling.conversion.sources import ConversionError
from reid_core.modeling.meta_arch import MetaArchitecture

_SHOWN = 8  # names in an error


class Entry(NamedTuple):
    """A line of the report. source, target: names, "" for none. shape: of the tensor. note: what is worth saying."""

    source: str
    target: str
    shape: tuple[int, ...]
    note: str = ""


@dataclass
class Sizes:
    """What the source says about the model. num_identities: 0 if it has no table of them. changes: config keys ->
    (value, why) that differ from the given config's."""

    num_identities: int = 0
    num_cameras: int = 1
    num_views: int = 1
    changes: dict[str, tuple[Any, str]] = field(default_factory=dict)


class Converter:
    """How the weights of another program become those of a meta-architecture. Subclasses are registered under its name.

    names: (regular expression of a whole name of theirs, our name). unused: (expression, reason) of theirs that have no
    place here; goes before names. own: (expression, reason) of ours that theirs need not bring.
    """

    names: Sequence[tuple[str, str]] = ()
    unused: Sequence[tuple[str, str]] = ()
    own: Sequence[tuple[str, str]] = (
        (r".+\.num_batches_tracked", "stays 0: a counter that running statistics do not need"),
    )

    def our_name(self, name: str) -> str | None:
        """Our name of one of theirs; None if it has no place here or no rule fits."""
        if _reason(self.unused, name):
            return None
        for pattern, ours in self.names:
            if match := re.fullmatch(pattern, name):
                return match.expand(ours)
        return None

    def sizes(self, state: Mapping[str, Tensor], cfg: CfgNode, num_cameras: int, num_views: int) -> Sizes:
        """Sizes of the model that the weights, by our names, belong to. num_cameras, num_views: 0 for unknown.

        Raises ConversionError where the weights do not fit the config and only the user can say what to do.
        """
        return Sizes()

    def combine(self, source: Mapping[str, Tensor], model: MetaArchitecture) -> dict[str, tuple[list[str], Tensor]]:
        """Tensors of ours that are made from several of theirs: our name -> (their names, the tensor)."""
        return {}

    def finish(self, model: MetaArchitecture, brought: set[str]) -> dict[str, str]:
        """What follows from the loaded weights is computed, what is not kept is dropped. brought: our names that the
        source had. Returns our names of what was computed, and how."""
        return {}


def rename(converter: Converter, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a rule of the converter names, by our names."""
    named = ((converter.our_name(name), value) for name, value in source.items())
    return {name: value for name, value in named if name is not None}


def load_converted(converter: Converter, source: Mapping[str, Tensor], model: MetaArchitecture) -> list[Entry]:
    """Fill the model with another program's weights; an entry for every name of both sides.

    Raises ConversionError, and leaves the model as it is, for a name of theirs that no rule knows, a tensor of ours
    that nothing fills, and shapes that differ.
    """
    match = _Match(model.state_dict())
    combined = converter.combine(source, model)
    for target, (names, value) in combined.items():
        match.fill(names, target, value, [tuple(source[name].shape) for name in names], "a part of it")
    done = {name for names, _ in combined.values() for name in names}
    parts = _optional_parts(model)
    for name, value in source.items():
        if name not in done:
            _match_name(match, converter, name, value, parts)
    kept, missing = _unfilled(converter, model, match)
    problems = match.problems + [f"nothing fills {target} {list(match.own[target].shape)}" for target in missing]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ConversionError(f"{len(problems)} names or shapes do not fit: {'; '.join(problems[:_SHOWN])}{more}.")
    model.load_state_dict(match.filled, strict=False)  # what is not in it keeps its own values, each with a reason
    computed = converter.finish(model, set(match.filled))
    remains = model.state_dict()
    entries = [_with_fate(entry, remains) for entry in match.entries]
    for target, reason in {**kept, **computed}.items():
        if target in remains:
            entries.append(Entry("", target, tuple(remains[target].shape), reason))
    return sorted(entries, key=lambda entry: (entry.target == "", entry.source == "", entry.target, entry.source))


@dataclass
class _Match:
    """own: the model's tensors. filled: what they become. answered: ours that something was found for, right or not."""

    own: Mapping[str, Tensor]
    filled: dict[str, Tensor] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def fill(self, names: list[str], target: str, value: Tensor, shapes: list[tuple[int, ...]], note: str = "") -> None:
        """Take `value`, made of theirs by these names, for our `target`, if it fits."""
        theirs = " and ".join(names)
        if target not in self.own:
            self.problems.append(f"{theirs} is {target} here, which the model of this config has not")
        elif target in self.answered:
            self.problems.append(f"{theirs} is one of several for {target}")
        elif value.shape != self.own[target].shape:
            self.problems.append(f"{theirs}: {list(value.shape)}, {target} needs {list(self.own[target].shape)}")
        else:
            self.filled[target] = value
            self.entries += [Entry(name, target, shape, note) for name, shape in zip(names, shapes, strict=True)]
        self.answered.add(target)


def _match_name(match: _Match, converter: Converter, name: str, value: Tensor, parts: tuple[str, ...]) -> None:
    """Answer one name of theirs. parts: leading parts of ours that a model may lack."""
    target, shape = converter.our_name(name), tuple(value.shape)
    if target is None:
        reason = _reason(converter.unused, name)
        if reason is None:
            match.problems.append(f"{name} {list(shape)} is known to no rule")
        else:
            match.entries.append(Entry(name, "", shape, f"not used: {reason}"))
    elif target not in match.own and target.startswith(parts):
        match.entries.append(Entry(name, "", shape, f"not used: the model of this config has no {target}"))
    else:
        match.fill([name], target, value, [shape])


def _unfilled(converter: Converter, model: MetaArchitecture, match: _Match) -> tuple[dict[str, str], list[str]]:
    """Our names that nothing fills: those with a reason, and those without one."""
    kept, missing = {}, []
    temporary = tuple(model.temporary)
    # What only an early stage needs is brought whole or not at all, as in our own checkpoints.
    no_early_stage = bool(temporary) and not any(name.startswith(temporary) for name in match.answered)
    for target in match.own:
        if target in match.answered:
            continue
        if no_early_stage and target.startswith(temporary):
            kept[target] = "left out: the source has nothing of the early stage"
        elif reason := _reason(converter.own, target):
            kept[target] = reason
        else:
            missing.append(target)
    return kept, missing


def _optional_parts(model: MetaArchitecture) -> tuple[str, ...]:
    """Leading parts of the names that a model may lack."""
    return tuple(part for parts in model_parts(model).values() for part in parts) or ("\0",)


def _with_fate(entry: Entry, remains: Mapping[str, Tensor]) -> Entry:
    if not entry.target or entry.target in remains:
        return entry
    return entry._replace(target="", note=f"not kept: {entry.target} has done its work")


def _reason(rules: Sequence[tuple[str, str]], name: str) -> str | None:
    return next((reason for pattern, reason in rules if re.fullmatch(pattern, name)), None)
