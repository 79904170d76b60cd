"""The parts of the site that are made from the sources."""

import importlib.util
import re
from types import SimpleNamespace

import pytest

from reid_core.config import get_cfg
from reid_core.projects import load_config
from tests.paths import ROOT

pytest.importorskip("mkdocs", reason="needs the extra docs: make docs")


def load_hook(name):
    spec = importlib.util.spec_from_file_location(f"docs_hook_{name}", ROOT / "docs" / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def key_rows():
    """Dotted key -> (default, meaning) as the page of config keys shows them."""
    group, rows = "", {}
    for line in load_hook("config_keys").page().splitlines():
        heading = re.match(r"##+ (\S+).* \{", line)
        row = re.match(r"\| <code id=\"[^\"]+\">(\w+)</code> \| <code>(.*)</code> \| (.*) \|$", line)
        if heading:
            group = "" if heading[1] == "The" else f"{heading[1]}."
        elif row:
            rows[group + row[1]] = (row[2], row[3])
    return rows


def test_every_key_of_the_core_and_of_the_projects_has_its_meaning(key_rows):
    keys = set(get_cfg().flat_keys())
    for path in sorted((ROOT / "projects").glob("*/configs/rendered.yml")):
        cfg = load_config(path)
        keys |= {key for key in cfg.flat_keys() if cfg.value_of(key) is not None}
    missing = {key for key in keys if key not in key_rows and not key.startswith("STAGES.")}
    assert not missing
    assert not [key for key, (_, meaning) in key_rows.items() if not meaning]


def test_defaults_are_shown_as_they_are(key_rows):
    assert key_rows["SOLVER.MAX_EPOCHS"][0] == str(get_cfg().SOLVER.MAX_EPOCHS)
    assert key_rows["MODEL.BACKBONE.NAME"][0] == get_cfg().MODEL.BACKBONE.NAME
    assert key_rows["STAGES.PROMPTS.SOLVER.OPTIMIZER"][1] == "see SOLVER.OPTIMIZER"


def test_no_anchor_is_there_twice():
    page = load_hook("config_keys").page()
    anchors = re.findall(r'id="([^"]+)"', page) + re.findall(r"\{ #(\S+) \}", page)
    assert len(anchors) == len(set(anchors))


def test_comments_of_a_file(tmp_path):
    source = tmp_path / "config.py"
    source.write_text(
        "def add_config(cfg):\n    node = cfg.A = CfgNode()  # a group\n    node.X = 1  # one\n    cfg.B = 'x'\n"
        "    below = node.C = CfgNode()\n    below.Y = [\n        1,\n    ]  # many lines\n"
    )
    assert load_hook("config_keys").comments(source) == {
        "A": "a group",
        "A.X": "one",
        "B": "",
        "A.C": "",
        "A.C.Y": "many lines",
    }


def test_equations():
    turn = load_hook("equations").on_page_content
    page = '<p>a <span class="arithmatex">\\(x &lt; y\\)</span></p><div class="arithmatex">\\[\\frac{1}{2}\\]</div>'
    html = turn(page)
    assert html.count("<math") == 2
    assert 'display="block"' in html
    assert "<mo>&#x0003C;</mo>" in html
    assert "arithmatex" not in html


def test_a_page_that_nobody_listed_is_in_the_navigation():
    files = SimpleNamespace(
        documentation_pages=lambda: [SimpleNamespace(src_uri=u) for u in ("a.md", "b/c.md", "d.md")]
    )
    config = SimpleNamespace(nav=[{"Home": "a.md"}, {"More pages": [{"Deep": ["d.md"]}]}])
    load_hook("navigation").on_files(files, config)
    assert config.nav[-1] == {"More": ["b/c.md"]}


def test_links_of_the_readme():
    hook = load_hook("readme")
    known = {"evaluation.md", "methods/pcl_clip.md"}

    def turned(text):
        return hook.LINK.sub(lambda match: hook._turned(match, known), text)

    assert turned("[docs/evaluation.md](docs/evaluation.md)") == "[evaluation.md](evaluation.md)"
    assert turned("[`projects/PCL_CLIP`](projects/PCL_CLIP/README.md)") == "[`projects/PCL_CLIP`](methods/pcl_clip.md)"
    assert turned("[licence](LICENSE)") == "`LICENSE`"
    assert turned("[x](https://a.b/c)") == "[x](https://a.b/c)"


def test_the_api_pages_name_what_the_packages_offer():
    hook = load_hook("api")
    names = [path for modules in hook.PAGES.values() for path in re.findall(r"::: (\S+)", hook.page("x", modules))]
    assert {"reid_core.inference.loading.load", "reid_core.evaluation.ranking.evaluate"} <= set(names)
    assert len(names) == len(set(names))
