"""What the README and the docs tell people to type exists."""

import re

import pytest

from tests.paths import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "projects").glob("*/README.md")])


def _code(text):
    return "\n".join(re.findall(r"```(?:bash)?\n(.*?)```", text, re.S)) + "\n".join(re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_configs_and_links_exist(page):
    text = page.read_text()
    assert not re.search(r"^[A-Z_]+$", text, re.M), f"{page.name} has a line that waits to be filled in"
    code = _code(text)
    for path in re.findall(r"(?<![\w/])((?:tools|benchmarks|projects|reid_core|configs|tests|docs)/[\w./-]+\w)", code):
        if "..." not in path:
            assert (ROOT / path).exists(), f"{page.name} names {path}"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)\b", code)) <= targets
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
    for key in re.findall(r"\b((?:[A-Z_]+\.)+[A-Z_]+)\b", code):
        assert _is_key(key), f"{page.name} names the key {key}"


def _is_key(key):
    from reid_core.projects import load_config

    for project in ("PCL_CLIP", "SVLL_ReID"):  # the second brings CLIP_ReID's keys along
        try:
            load_config(ROOT / "projects" / project / "configs" / "market.yml").value_of(key)
        except KeyError:
            continue
        return True
    return key.startswith(("MY.", "STAGES.WARM."))  # of the example


def test_both_set_up_commands_are_in_the_readme_and_the_gate_uses_one():
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()
