import pytest

from reid_core.registry import Registry, UnknownNameError


class Widget:
    def __init__(self, size: int, color: str):
        self.size, self.color = size, color

    @classmethod
    def from_config(cls, cfg, color):
        return {"size": cfg["SIZE"], "color": color}


@pytest.fixture
def registry():
    registry = Registry("widget")
    registry.register(Widget)
    registry.register(name="Gadget")(Widget)
    return registry


def test_build_joins_config_and_run_time(registry):
    widget = registry.build("Widget", {"SIZE": 3}, color="red")
    assert (widget.size, widget.color) == (3, "red")
    assert registry.get("Gadget") is Widget


def test_an_unknown_name_lists_the_nearest_first(registry):
    with pytest.raises(UnknownNameError, match=r"No widget named 'Gidget'. Did you mean 'Gadget'\? Registered: Gadget"):
        registry.get("Gidget")
    with pytest.raises(UnknownNameError, match=r"No widget named 'zzz'. Registered: .*Gadget"):
        registry.get("zzz")


def test_an_empty_registry_says_so():
    with pytest.raises(UnknownNameError, match="Registered: none"):
        Registry("thing").get("x")


def test_registering_a_name_twice_is_refused(registry):
    with pytest.raises(AssertionError, match="already registered"):
        registry.register(Widget)
