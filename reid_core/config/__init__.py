"""The config: core defaults (`get_cfg`) and the node type with errors that name the nearest key."""

from reid_core.config.defaults import get_cfg
from reid_core.config.node import CfgNode, ConfigError
from reid_core.config.overriding import overridden, overriding

__all__ = ["CfgNode", "ConfigError", "get_cfg", "overridden", "overriding"]
