import sys

import pytest

from reid_core.config import ConfigError
from reid_core.projects import find_project, import_project, load_config

INIT = "from reid_core.config import CfgNode\n\n\ndef add_config(cfg):\n    cfg.{key} = CfgNode({{'VALUE': 1}})\n"


@pytest.fixture
def make_project(tmp_path):
    made = []

    def make(name, key, extra="", parent=tmp_path):
        folder = parent / name
        (folder / "configs").mkdir(parents=True)
        (folder / "__init__.py").write_text(extra + INIT.format(key=key))
        made.append(name)
        return folder

    yield make
    for name in made:
        for module in [m for m in sys.modules if m == f"projects.{name}" or m.startswith(f"projects.{name}.")]:
            del sys.modules[module]


def test_the_nearest_folder_around_the_config_file(make_project):
    outer = make_project("outer_one", "OUTER")
    inner = make_project("inner_one", "INNER", parent=outer / "configs")
    path = inner / "configs" / "a.yml"
    path.write_text("INNER: {VALUE: 5}\n")
    assert find_project(path.parent) == inner
    cfg = load_config(path)
    assert cfg.INNER.VALUE == 5
    assert "OUTER" not in cfg


def test_a_resolved_config_finds_its_projects_again(make_project, tmp_path):
    folder = make_project("resolved_one", "RESOLVED")
    (folder / "configs" / "a.yml").write_text("RESOLVED: {VALUE: 3}\n")
    cfg = load_config(folder / "configs" / "a.yml", ["SEED", "9"])
    cfg.save(tmp_path / "elsewhere" / "config.yaml")
    assert load_config(tmp_path / "elsewhere" / "config.yaml") == cfg


def test_projects_key_in_a_file_and_on_the_command_line(make_project, tmp_path):
    make_project("named_one", "NAMED_ONE")
    other = make_project("named_two", "NAMED_TWO")
    path = tmp_path / "plain.yml"
    path.write_text("PROJECTS: [named_one]\nNAMED_ONE: {VALUE: 2}\n")
    cfg = load_config(path, ["NAMED_TWO.VALUE", "4", "PROJECTS", f"['{other}']"])
    assert (cfg.NAMED_ONE.VALUE, cfg.NAMED_TWO.VALUE) == (2, 4)


def test_required_projects_come_first_and_can_be_imported(make_project, tmp_path):
    make_project("needed", "NEEDED", "ANSWER = 42\n")
    needing = make_project("needing", "NEEDING", "from projects.needed import ANSWER\n\nREQUIRES = ['needed']\n")
    (needing / "configs" / "a.yml").write_text("NEEDED: {VALUE: 7}\n")
    cfg = load_config(needing / "configs" / "a.yml")
    assert cfg.NEEDED.VALUE == 7
    assert sys.modules["projects.needing"].ANSWER == 42
    assert [path.rsplit("/", 1)[1] for path in cfg.PROJECTS] == ["needed", "needing"]


def test_a_circle_of_requirements(make_project):
    first = make_project("circle_a", "CIRCLE_A", "REQUIRES = ['circle_b']\n")
    make_project("circle_b", "CIRCLE_B", "REQUIRES = ['circle_a']\n")
    (first / "configs" / "a.yml").write_text("SEED: 1\n")
    with pytest.raises(ConfigError, match="circle_a -> circle_b -> circle_a"):
        load_config(first / "configs" / "a.yml")


def test_two_projects_of_one_name(make_project, tmp_path):
    import_project(make_project("twin", "TWIN"))
    other = make_project("twin", "TWIN", parent=tmp_path / "other")
    with pytest.raises(ConfigError, match="Two projects are named 'twin'"):
        import_project(other)


def test_a_folder_that_is_no_project(tmp_path):
    with pytest.raises(ConfigError, match=r"needs an __init__\.py that defines add_config"):
        import_project(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        import_project(tmp_path / "nothing")


def test_a_project_that_fails_to_import_can_be_tried_again(make_project):
    folder = make_project("broken_one", "BROKEN_ONE", "raise ValueError('half written')\n")
    with pytest.raises(ValueError, match="half written"):
        import_project(folder)
    (folder / "__init__.py").write_text(INIT.format(key="BROKEN_ONE"))
    assert import_project(folder).add_config


def test_a_key_of_a_project_that_is_not_loaded_is_unknown(tmp_path):
    path = tmp_path / "a.yml"
    path.write_text("PCL: {TEMPERATURE: 0.1}\n")
    with pytest.raises(ConfigError, match=r"'PCL.TEMPERATURE'"):
        load_config(path)


def test_a_file_named_in_a_yaml_is_found_beside_it(make_project, monkeypatch, tmp_path):
    folder = make_project("with_json", "WITH_JSON")
    (folder / "small.json").write_text("{}")
    path = folder / "configs" / "a.yml"
    path.write_text("MODEL: {BACKBONE: {ARCHITECTURE: ../small.json, PRETRAINED: openai}}\n")
    monkeypatch.chdir(tmp_path)
    cfg = load_config(path)
    assert cfg.MODEL.BACKBONE.ARCHITECTURE == str(folder / "small.json")
    assert cfg.MODEL.BACKBONE.PRETRAINED == "openai"
