"""Groups of keys that override another group: what a stage of training sets apart from SOLVER."""

from typing import Any

from reid_core.config.node import CfgNode, ConfigError


def overriding(group: CfgNode, **values: Any) -> CfgNode:
    """A group with the keys of `group`, all None ("as there") but the given values.

    Raises ConfigError, naming the nearest key, for a value whose key `group` has not, or of another type.
    """
    group.clone().merge_from_dict(values, source="overriding")
    node = CfgNode(dict.fromkeys(group))
    node.merge_from_dict(values, source="overriding")
    return node


def overridden(group: CfgNode, overrides: CfgNode, source: str) -> CfgNode:
    """A copy of `group` with the values of `overrides` that are not None. source: its key, named in errors.

    Raises ConfigError for a value of another type than the group's own.
    """
    unknown = [key for key in overrides if key not in group]
    if unknown:
        raise ConfigError(f"{source} has the keys {', '.join(unknown)}, which the group that it overrides has not.")
    result = group.clone()
    result.merge_from_dict({key: value for key, value in overrides.items() if value is not None}, source=source)
    return result
