"""The pages of the methods: published values are those of the configs, equations become MathML without a rest."""

import re

import pytest

from reid_core.projects import load_config
from tests.docs.pages import page_id
from tests.paths import ROOT

METHODS = sorted((ROOT / "docs" / "methods").glob("*.md"))
EQUATION = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.S)


@pytest.mark.parametrize("page", METHODS, ids=page_id)
def test_published_values_are_those_of_the_config(page):
    text = page.read_text(encoding="utf-8")
    cfg = load_config(ROOT / re.search(r"--config-file (\S+)", text)[1])
    rows = re.findall(r"^\| .* \| `([A-Z0-9_.]+)` \| `(.+)` \|$", text, re.M)
    assert len(rows) > 5
    for key, shown in rows:
        value = cfg.value_of(key)
        same = float(shown) == value if isinstance(value, float) else shown == str(value)
        assert same, f"{key} is {value!r} in the config, {shown} on the page"


@pytest.mark.parametrize("page", METHODS, ids=page_id)
def test_equations_become_mathml(page):
    converter = pytest.importorskip("latex2mathml.converter", reason="needs the extra docs: make docs")
    equations = [display or inline for display, inline in EQUATION.findall(page.read_text(encoding="utf-8"))]
    assert len(equations) > 5
    for latex in equations:
        mathml = converter.convert(latex)
        assert "\\" not in mathml, f"{page.name}: a command that latex2mathml does not know in {latex}"


def test_every_project_has_a_page():
    projects = {path.parent.name.lower() for path in (ROOT / "projects").glob("*/README.md")}
    assert projects <= {page.stem for page in METHODS}
