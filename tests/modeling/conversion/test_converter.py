"""Rules of a converter on a model of a few numbers: every name of both sides has one answer, or there is an error."""

import pytest
import torch
from torch import nn

from reid_core.modeling.conversion import ConversionError, Converter, load_converted, rename


class Model(nn.Module):
    identity_bound, temporary, training_only = ("classifier.",), ("text.",), ()

    def __init__(self, classes=3, text=True):
        super().__init__()
        self.encoder, self.norm = nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)
        self.classifier = nn.Linear(2, classes) if classes else None
        self.text = nn.Linear(2, 2) if text else None


class Rules(Converter):
    names = ((r"enc\.(.+)", r"encoder.\1"), (r"(norm|text)\.(.+)", r"\1.\2"), (r"cls\.(.+)", r"classifier.\1"))
    unused = ((r"step", "counts steps"),)


def _theirs(**model):
    torch.manual_seed(1)
    state = {key: value.clone() for key, value in Model(**model).state_dict().items()}
    return {key.replace("encoder.", "enc.").replace("classifier.", "cls."): value for key, value in state.items()}


def _convert(theirs, rules=Rules, **model):
    torch.manual_seed(0)
    ours = Model(**model)
    return ours.state_dict(), {entry.source or entry.target: entry for entry in load_converted(rules(), theirs, ours)}


def test_every_tensor_arrives():
    theirs = _theirs()
    state, report = _convert(theirs)
    assert report.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(state[report[name].target], value)
        assert report[name].shape == tuple(value.shape) and not report[name].note


def test_half_precision_becomes_the_models():
    theirs = {name: value.half() if value.is_floating_point() else value for name, value in _theirs().items()}
    state, _ = _convert(theirs)
    assert state["encoder.weight"].dtype == torch.float32
    assert torch.equal(state["encoder.weight"], theirs["enc.weight"].float())


def test_what_is_not_used_has_a_reason():
    _, report = _convert({**_theirs(), "step": torch.tensor(7)})
    assert report["step"].target == "" and report["step"].note == "not used: counts steps"


def test_a_missing_counter_is_no_error():
    theirs = _theirs()
    del theirs["norm.num_batches_tracked"]
    state, report = _convert(theirs)
    assert report["norm.num_batches_tracked"].source == "" and "stays 0" in report["norm.num_batches_tracked"].note
    assert int(state["norm.num_batches_tracked"]) == 0


def test_optional_parts_may_lack_in_the_model():
    _, report = _convert(_theirs(), classes=0, text=False)
    assert "the model of this config has no classifier.weight" in report["cls.weight"].note
    assert "no text.bias" in report["text.bias"].note


def test_an_early_stage_may_lack_in_the_source_as_a_whole():
    theirs = {name: value for name, value in _theirs().items() if not name.startswith("text.")}
    _, report = _convert(theirs)
    assert "left out" in report["text.weight"].note
    with pytest.raises(ConversionError, match=r"1 names or shapes .* nothing fills text\.bias \[2\]"):
        _convert({**theirs, "text.weight": torch.ones(2, 2)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enc.weight": None}, r"nothing fills encoder\.weight \[2, 2\]"),
        ({"other": torch.ones(4)}, r"other \[4\] is known to no rule"),
        ({"enc.bias": torch.ones(2)}, r"enc\.bias is encoder\.bias here, which the model of this config has not"),
        ({"enc.weight": torch.ones(2, 3)}, r"1 names .*enc\.weight: \[2, 3\], encoder\.weight needs \[2, 2\]"),
        ({"enc.weight": torch.ones(4)}, r"encoder\.weight needs \[2, 2\]"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change, message):
    theirs = {name: value for name, value in {**_theirs(), **change}.items() if value is not None}
    model = Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConversionError, match=message):
        load_converted(Rules(), theirs, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_two_for_one_name():
    class Greedy(Rules):
        names = (*Rules.names, (r"second", "encoder.weight"))

    with pytest.raises(ConversionError, match=r"second is one of several for encoder\.weight"):
        _convert({**_theirs(), "second": torch.ones(2, 2)}, Greedy)


def test_tensors_made_of_several():
    class Halves(Rules):
        def combine(self, source, model):
            return {"encoder.weight": (["top", "bottom"], torch.cat([source["top"], source["bottom"]]))}

    theirs = _theirs()
    top, bottom = theirs.pop("enc.weight").split(1)
    state, report = _convert({**theirs, "top": top, "bottom": bottom}, Halves)
    assert torch.equal(state["encoder.weight"], torch.cat([top, bottom]))
    assert report["top"].target == report["bottom"].target == "encoder.weight"
    with pytest.raises(ConversionError, match=r"top and bottom: \[3, 2\], encoder\.weight needs \[2, 2\]"):
        _convert({**theirs, "top": top, "bottom": torch.ones(2, 2)}, Halves)


def test_many_problems_are_counted():
    theirs = {**_theirs(), **{f"other{number}": torch.ones(1) for number in range(20)}}
    with pytest.raises(ConversionError, match=r"^20 names or shapes do not fit: .*; and 12 more\.$"):
        _convert(theirs)


def test_rename_leaves_out_what_no_rule_names():
    assert list(rename(Rules(), {"enc.weight": torch.ones(1), "step": torch.ones(1)})) == ["encoder.weight"]
