"""Templates as tokens."""

import pytest

from reid_core.config import ConfigError
from reid_core.modeling.clip import build_tokenizer, tokenize_template

VIT = "ViT-B-16-quickgelu"


@pytest.mark.parametrize(
    ("template", "learned", "end"),
    [
        ("A photo of a X X X X person.", (5, 6, 7, 8), 11),
        ("A photo of a X X X X dog.", (5, 6, 7, 8), 11),
        ("X", (1,), 2),
        ("X, a person", (1,), 5),
        ("a X x-ray of X.", (2, 7), 9),
        (" ".join(["X"] * 75), tuple(range(1, 76)), 76),
    ],
)
def test_places_of_the_learned_tokens(template, learned, end):
    tokens = tokenize_template(template, VIT)
    assert (tokens.learned, tokens.end) == (learned, end)
    assert tokens.token_ids.tolist() == build_tokenizer(VIT)([template])[0].tolist()
    assert int(tokens.token_ids.argmax()) == end  # where the tower reads


@pytest.mark.parametrize("template", ["A photo of a person.", "", "an Xbox", "x x x", "an X-ray"])
def test_a_template_without_placeholders_is_refused(template):
    with pytest.raises(ConfigError, match="has no word X"):
        tokenize_template(template, VIT)


@pytest.mark.parametrize("template", [" ".join(["X"] * 76), "X " + "word " * 90])
def test_a_template_longer_than_the_context_is_refused(template):
    with pytest.raises(ConfigError, match=r"has \d+ tokens with the start and the end, .* reads 77"):
        tokenize_template(template, VIT)


def test_a_tokenizer_of_another_library_is_refused():
    with pytest.raises(ValueError, match="Hugging Face"):
        tokenize_template("a X", "ViT-L-14-worldwide")
