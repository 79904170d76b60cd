"""The pictures of a run with both stages that takes a second: what is drawn is what the model computes."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from projects.SVLL_ReID import figures
from reid_core.data.images import read_image
from reid_core.data.transforms import Resize
from reid_core.engine.launch import main as train
from reid_core.evaluation.embedding_figure import PANEL_PIXELS, identity_distances
from reid_core.modeling.checkpoint import list_checkpoints, read_checkpoint, save_checkpoint
from reid_core.projects import load_config
from tests.conftest import SMALL_RUN
from tests.paths import ROOT

SMALL = ["--identities", "3", "--images", "4"]


def config_of(path):
    """The config of a checkpoint, as the commands make it."""
    return figures.config_for_report(None, ["MODEL.WEIGHTS", str(path)])


def model_of(cfg):
    return figures.model_with_test_sets(cfg, {}, cfg.MODEL.WEIGHTS)[0]


@pytest.fixture(scope="module", params=["CLIP_ReID/configs/market_vit.yml", "SVLL_ReID/configs/market.yml"])
def run(request, small_market, small_clip, tmp_path_factory):
    """The output folder of a run whose checkpoints of both stages are kept, with side information of cameras."""
    folder = tmp_path_factory.mktemp("figures") / "run"
    keys = {
        **SMALL_RUN,
        "DATASETS.ROOT": small_market,
        "MODEL.BACKBONE.ARCHITECTURE": small_clip,
        "MODEL.BACKBONE.SIE_CAMERA": True,
        "OUTPUT_DIR": folder,
        "STAGES.PROMPTS.SOLVER.MAX_EPOCHS": 2,
        "STAGES.PROMPTS.SOLVER.WARMUP_EPOCHS": 0,
        "STAGES.PROMPTS.BATCH_SIZE": 8,
        "STAGES.PROMPTS.CHECKPOINT_PERIOD": 1,
        "SOLVER.BASE_LR": 0.001,
        "CHECKPOINT.PERIOD": 1,
        "CHECKPOINT.KEEP": 10,
    }
    if request.param.startswith("SVLL_ReID"):
        keys |= {"SVLL.PROJECTOR_HIDDEN_WIDTH": 32, "SVLL.PROJECTOR_OUTPUT_WIDTH": 8}
    config = ROOT / "projects" / request.param
    assert train(["--config-file", str(config), *(str(word) for pair in keys.items() for word in pair)]) == 0
    return folder


@pytest.fixture(scope="module")
def stage_ends(run):
    """The last checkpoint of each stage."""
    by_stage = {}
    for path in list_checkpoints(run):
        by_stage["text.prompts.table" in read_checkpoint(path)["model"]] = path
    return by_stage[True], by_stage[False]


def test_a_checkpoint_of_stage_one_shows_its_own_prompts(run, stage_ends, tmp_path):
    """...also when the run started from another one's text features."""
    words = ["MODEL.WEIGHTS", str(stage_ends[1]), "OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_EPOCHS", "0"]
    words += ["STAGES.PROMPTS.CHECKPOINT_PERIOD", "1"]
    assert train(["--config-file", str(run / "config.yaml"), *words]) == 0
    cfg = config_of(list_checkpoints(tmp_path)[-1])
    content = read_checkpoint(cfg.MODEL.WEIGHTS)
    assert not content["model"]["text_features"].any()
    expected = figures.build_trained(cfg, content, "", torch.device("cpu"), num_identities=6).eval().text.all_features()
    assert torch.equal(figures.text_features(cfg), expected)
    assert not torch.allclose(expected, figures.text_features(config_of(stage_ends[1])))


def picture(path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def test_the_prompts_at_the_end_of_stage_one_give_the_fixed_text_features(stage_ends):
    learned, fixed = (figures.text_features(config_of(path)) for path in stage_ends)
    assert torch.equal(fixed, read_checkpoint(stage_ends[1])["model"]["text_features"])
    assert fixed.norm(dim=1).min() > 0
    torch.testing.assert_close(learned, fixed, rtol=1e-5, atol=1e-6)


def test_image_features_are_those_of_a_plain_forward_pass(stage_ends, monkeypatch):
    cfg = config_of(stage_ends[1])
    records = figures.choose_images(cfg, 3, 4, seed=0)[1]
    model, resize = model_of(cfg), Resize(cfg.INPUT.SIZE_TEST)
    assert model.backbone.cv_embed.any()  # side information that is seen in the features
    with torch.no_grad():
        features = [
            model({"images": resize(read_image(record.path))[None], "camids": torch.tensor([record.camid])})[0]
            for record in records
        ]
    panels = {}
    drawn = figures.image_tsne({"a": cfg}, 3, 4)
    monkeypatch.setattr(figures, "embedding_figure", lambda found, *_: panels.update(found))
    figures.image_tsne({"a": cfg}, 3, 4)
    torch.testing.assert_close(panels["a"][0], torch.stack(features), rtol=1e-4, atol=1e-5)
    expected = identity_distances(torch.stack(features), torch.tensor([record.pid for record in records]))
    assert drawn.numbers == {"a": pytest.approx(expected, rel=1e-3)}


def test_attention_is_that_of_the_images_beside_it(stage_ends, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "attention_figure", lambda *arguments: drawn.update(arguments=arguments) or b"")
    cfg = config_of(stage_ends[1])
    assert figures.attention({"a": cfg}, 3, 2) == b""
    images, columns, names, _ = drawn["arguments"]
    model, records = model_of(cfg), figures.choose_images(cfg, 3, 2, seed=0)[1]
    camids = torch.tensor([record.camid for record in records])
    expected = model.backbone.forward_attention(model.normalise(images), camids).rollout
    torch.testing.assert_close(columns["a"], expected)
    assert names == [f"identity {record.pid}, camera {record.camid + 1}" for record in records]


def test_images_are_of_identities_with_queries(run):
    cfg = load_config(run / "config.yaml")
    draws = [figures.choose_images(cfg, 2, 3, seed)[1] for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert any(draw != draws[0] for draw in draws[2:])
    for draw in draws:
        pids = [record.pid for record in draw]
        assert pids == sorted(pids)
        assert len(set(pids)) == 2 and pids[0] == pids[2] != pids[3]
        assert len({record.path for record in draw}) == 6
        assert set(pids) <= {100, 101, 102, 103}


def test_distractors_are_not_drawn(small_market, run, tmp_path):
    folder = next(small_market.iterdir())
    copy = tmp_path / folder.name
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        (copy / split).mkdir(parents=True)
        for path in (folder / split).iterdir():
            (copy / split / path.name).symlink_to(path)
    source = next((folder / "query").iterdir())
    for number in range(9):
        (copy / "bounding_box_test" / f"0000_c1s1_{number:06d}_00.jpg").symlink_to(source)
    cfg = load_config(run / "config.yaml", ["DATASETS.ROOT", str(tmp_path)])
    assert {record.pid for record in figures.choose_images(cfg, 4, 4, 0)[1]} == {100, 101, 102, 103}
    with pytest.raises(ValueError, match="0 of the 4 test identities of Market1501 have 5 images or more, 1 were"):
        figures.choose_images(cfg, 1, 5, 0)


@pytest.mark.parametrize(("command", "options"), [("text-tsne", []), ("image-tsne", SMALL), ("attention", SMALL)])
def test_commands_write_a_picture_with_a_panel_for_each_checkpoint(command, options, stage_ends, tmp_path):
    first, second = (["--checkpoint", str(path)] for path in stage_ends)
    outputs = [tmp_path / f"{number}.png" for number in range(3)]
    for checkpoints, output in zip((first, first + second, first + second), outputs, strict=True):
        assert figures.main([command, *checkpoints, *options, "--output", str(output)]) == 0
    one, two, again = (picture(path) for path in outputs)
    assert outputs[1].read_bytes() == outputs[2].read_bytes()
    assert np.asarray(two).std() > 5
    assert np.array_equal(np.asarray(two), np.asarray(again))
    if command != "attention":
        assert (one.width, two.width) == (PANEL_PIXELS, 2 * PANEL_PIXELS)
    else:
        assert 1.4 < two.width / one.width < 1.6  # the image and one, the image and two


def test_the_picture_lies_beside_the_checkpoint(stage_ends, capsys):
    path = stage_ends[1]
    assert figures.main(["text-tsne", "--checkpoint", str(path), "--identities", "5"]) == 0
    output = path.with_name(f"{path.stem}_text_tsne.png")
    assert picture(output).width == PANEL_PIXELS
    text = " ".join(capsys.readouterr().out.split())
    assert f"written to {output}" in text
    assert f"{path.parent.name}: nearest " in text


def broken_checkpoint(path, folder, change):
    content = read_checkpoint(path)
    change(content)
    content.pop("format")
    save_checkpoint(folder / "broken.pt", content)
    (folder / "config.yaml").write_bytes((path.parent / "config.yaml").read_bytes())
    return folder / "broken.pt"


def test_a_checkpoint_without_texts_is_named(stage_ends, tmp_path, capsys):
    path = broken_checkpoint(stage_ends[1], tmp_path, lambda content: content["model"].pop("text_features"))
    assert figures.main(["text-tsne", "--checkpoint", str(path)]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert f"{path} (" in text
    assert "ReID on" in text
    assert "holds no text features" in text
    assert figures.main(["image-tsne", "--checkpoint", str(path), *SMALL]) == 0  # that needs none
    assert not list(tmp_path.glob("*text*.png"))


def test_a_backbone_without_attention_is_named(stage_ends, monkeypatch, capsys):
    from reid_core.modeling.backbones import CLIPImageBackbone

    monkeypatch.delattr(CLIPImageBackbone, "forward_attention")
    assert figures.main(["attention", "--checkpoint", str(stage_ends[1]), *SMALL]) == 2
    assert "has no attention to show" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "{run}/missing.pt"], "There is no checkpoint"),
        (["--checkpoint", "{run}/log.txt"], "log.txt was refused"),
        (["--checkpoint", "{run}/best.pt", "--config-file", "none.yml"], "none.yml does not exist"),
        (["--checkpoint", "{run}/best.pt", "--checkpoint", "{run}/best.pt"], "named twice"),
        (["--checkpoint", "{run}/best.pt", "--output", "a.svg"], "give it the ending .png"),
        (["--checkpoint", "{run}/best.pt", "--images", "0"], "must be positive"),
        (["--checkpoint", "{run}/best.pt", "--identities", "5", "--images", "4"], "4 of the 4 test identities"),
        (["--checkpoint", "{run}/best.pt", "--identities", "1", "--images", "4"], "no pair of two identities"),
        (["--checkpoint", "{run}/best.pt", "MODEL.HEADZ", "1"], "HEADZ"),
        (["--checkpoint", "{run}/best.pt", "DATASETS.TEST", "[]"], "DATASETS.TEST is empty"),
    ],
)
def test_broken_input_is_one_message(words, message, run, capsys):
    assert figures.main(["image-tsne", *(word.format(run=run) for word in words)]) == 2
    assert message in " ".join(capsys.readouterr().out.split())


def test_names_tell_checkpoints_apart(tmp_path):
    def names(*paths):
        return figures.panel_names([tmp_path / path for path in paths])

    assert names("a/best.pt", "b/best.pt") == ["a", "b"]
    assert names("a/best.pt", "a/last.pt") == ["a/best", "a/last"]
    assert names("x/a/best.pt", "y/a/best.pt") == [str(tmp_path / "x/a/best.pt"), str(tmp_path / "y/a/best.pt")]


@pytest.mark.parametrize("identities", ["0", "1", "-2"])
def test_text_tsne_of_fewer_than_two_identities_is_refused(run, identities, capsys):
    words = ["text-tsne", "--checkpoint", str(run / "best.pt"), "--identities", identities]
    assert figures.main(words) == 2
    assert f"--identities {identities}: a t-SNE needs at least 2 points" in " ".join(capsys.readouterr().out.split())
