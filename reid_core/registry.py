"""Registries: how a class is found by the name that stands in the config.

Each registry maps a name to a class that has `from_config(cfg, **runtime) -> dict`, the keyword arguments of its
constructor. A project adds to them with a decorator::

    @HEADS_REGISTRY.register()
    class MyHead(nn.Module): ...
"""

import difflib
from typing import Any

from fvcore.common import registry as fvcore_registry


class UnknownNameError(LookupError):
    """A name that no class is registered under; the text lists those that are."""


class Registry(fvcore_registry.Registry):
    """fvcore's registry with errors that name what is registered, and a two-line `build`."""

    def register(self, obj: Any = None, *, name: str | None = None) -> Any:
        """Decorator that registers a class or function, under its own name or another one."""
        if obj is None:
            return lambda decorated: self.register(decorated, name=name)
        self._do_register(name or obj.__name__, obj)
        return obj

    def get(self, name: str) -> Any:
        """The object registered as `name`. Raises UnknownNameError that lists the registered names, nearest first."""
        if name in self:
            return super().get(name)
        known = sorted(entry for entry, _ in self)
        known.sort(key=lambda entry: -difflib.SequenceMatcher(None, str(name).lower(), entry.lower()).ratio())
        near = difflib.get_close_matches(str(name).lower(), [entry.lower() for entry in known], n=1)
        hint = f" Did you mean '{known[0]}'?" if near else ""
        raise UnknownNameError(f"No {self._name} named '{name}'.{hint} Registered: {', '.join(known) or 'none'}.")

    def build(self, name: str, cfg: Any, **runtime: Any) -> Any:
        """Construct the class registered as `name` from the config and from what is known only at run time."""
        cls = self.get(name)
        return cls(**cls.from_config(cfg, **runtime))


META_ARCHITECTURE_REGISTRY = Registry("meta-architecture")
BACKBONE_REGISTRY = Registry("backbone")
HEADS_REGISTRY = Registry("heads")
DATASET_REGISTRY = Registry("dataset")
SAMPLER_REGISTRY = Registry("sampler")
TRANSFORM_REGISTRY = Registry("transform")
OPTIMIZER_REGISTRY = Registry("optimizer")
SCHEDULE_REGISTRY = Registry("schedule")
EVALUATOR_REGISTRY = Registry("evaluator")
HOOK_REGISTRY = Registry("hook")
TRAINER_REGISTRY = Registry("trainer")
CONVERTER_REGISTRY = Registry("converter")
