"""Every command of the docs that calls a tool is one that the tool's own parser takes."""

import argparse
import functools
import importlib
import importlib.util
import sys

import pytest

from tests.docs.pages import INSTALLED, PAGES, page_id, tool_commands
from tests.paths import ROOT


class ParserFound(BaseException):
    """Ends a tool where it would parse its arguments; holds its own way of parsing."""


@pytest.fixture(scope="module")
def parser_of():
    """parser_of("tools/x.py"), or of "reid-x" -> the function with which it parses words; nothing else is done."""
    known = {}

    def stopping(name):
        parse = getattr(argparse.ArgumentParser, name)

        def stop(parser, *_):
            raise ParserFound(functools.partial(parse, parser))

        return stop

    def get(tool):
        if tool not in known:
            if tool in INSTALLED:
                module = importlib.import_module(INSTALLED[tool])
            else:
                spec = importlib.util.spec_from_file_location(f"tool_{tool.replace('/', '_')}"[:-3], ROOT / tool)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
            with pytest.MonkeyPatch.context() as patch:
                for name in ("parse_args", "parse_intermixed_args"):
                    patch.setattr(argparse.ArgumentParser, name, stopping(name))
                patch.setattr(sys, "argv", [tool])
                with pytest.raises(ParserFound) as found:
                    module.main()
            known[tool] = found.value.args[0]
        return known[tool]

    return get


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_have_options_that_exist(page, parser_of, capsys):
    for tool, words in tool_commands(page.read_text(encoding="utf-8")):
        if not words:  # the tool is only named
            continue
        try:
            arguments = parser_of(tool)(words)
        except SystemExit as stop:
            assert stop.code == 0, f"{page_id(page)}: {tool} {' '.join(words)}\n{capsys.readouterr().err}"
            continue
        keys = [word for word in getattr(arguments, "overrides", []) if word.startswith("--")]
        assert not keys, f"{page_id(page)}: {tool} takes {keys} for config keys; options stand before them"


def test_the_commands_are_found():
    text = (
        "```bash\npython tools/a.py --x 1 \\\n    --y 2   # a comment\ntorchrun --n 4 tools/b.py z | tail\n"
        "make x\nreid-export a b > c\n```\n"
        "    python tools/c.py --help\n\nor `python projects/P/d.py`, in `tools/e.py`.\n"
    )
    assert tool_commands(text) == [
        ("tools/a.py", ["--x", "1", "--y", "2"]),
        ("tools/b.py", ["z"]),
        ("reid-export", ["a", "b"]),
        ("tools/c.py", ["--help"]),
        ("projects/P/d.py", []),
    ]


def test_a_wrong_option_would_be_seen(parser_of):
    with pytest.raises(SystemExit) as stop:
        parser_of("tools/train_net.py")(["--resum", "--config-fil", "x.yml", "--evaluate-only"])
    assert stop.value.code == 2
