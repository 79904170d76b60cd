"""load: the same model from a file and a folder, no code from a checkpoint, one line for what cannot be loaded."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import reid_core as reid
from reid_core.config import ConfigError
from reid_core.inference.trained_config import read_trained_config
from reid_core.modeling.checkpoint import CheckpointError, read_checkpoint, save_checkpoint
from tests.inference.conftest import train_small

CODE = "raise RuntimeError('code of the checkpoint ran')\n\n\ndef add_config(cfg):\n    pass\n"


def _rewritten(checkpoint, path, change):
    content = read_checkpoint(checkpoint)
    content.pop("format")
    change(content)
    save_checkpoint(path, content)
    return path


def test_the_random_generator_is_left_alone(checkpoint):
    torch.manual_seed(3)
    reid.load(checkpoint, device="cpu")
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)))


def test_the_pretrained_file_is_not_needed(checkpoint, tmp_path):
    def change(content):
        assert "PRETRAINED: ''" in content["config"]
        content["config"] = content["config"].replace("PRETRAINED: ''", "PRETRAINED: gone.pt")

    images = np.zeros((2, 64, 32, 3), dtype=np.uint8)
    changed = reid.load(_rewritten(checkpoint, tmp_path / "a.pt", change), device="cpu")
    assert np.array_equal(changed.encode(images), reid.load(checkpoint, device="cpu").encode(images))


def test_code_where_a_checkpoint_says_is_not_run(checkpoint, tmp_path):
    evil = tmp_path / "evil_method"
    evil.mkdir()
    (evil / "__init__.py").write_text(CODE)

    def change(content):
        lines = content["config"].splitlines()
        place = next(i for i, line in enumerate(lines) if line.startswith("- ") and line.endswith("PCL_CLIP"))
        lines.insert(place, f"- {evil}")
        content["config"] = "\n".join(lines)

    path = _rewritten(checkpoint, tmp_path / "a.pt", change)
    with pytest.raises(ConfigError, match=r"made with the project 'evil_method'.*projects=\['path/to/evil_method'\]"):
        reid.load(path, device="cpu")
    with pytest.raises(RuntimeError, match="code of the checkpoint ran"):  # named by the caller it is trusted
        reid.load(path, device="cpu", projects=[evil])


def test_an_own_project_is_named(checkpoint, tmp_path):
    own = tmp_path / "own_method"
    own.mkdir()
    (own / "__init__.py").write_text("def add_config(cfg):\n    cfg.OWN_METHOD = 5\n")
    text = "PROJECTS: [/elsewhere/own_method]\nOWN_METHOD: 7\n"
    assert read_trained_config(text, "x.pt", [own]).OWN_METHOD == 7
    assert read_trained_config(text, "x.pt").OWN_METHOD == 7  # imported by now
    del sys.modules["projects.own_method"]
    with pytest.raises(ConfigError, match="PCL_CLIP"):
        read_trained_config(text, "x.pt")


@pytest.mark.parametrize("name", ["..", ".", "/", "a/b/.."])
def test_a_projects_name_is_no_way_out_of_the_folder(name):
    with pytest.raises(ConfigError, match="was made with the project"):
        read_trained_config(f"PROJECTS: ['{name}']", "x.pt")


@pytest.mark.parametrize("text", ["- 1", "PROJECTS: 3", "a: [", "!!python/object/apply:os.getcwd []"])
def test_text_that_is_no_config(text):
    with pytest.raises(ConfigError, match="config of x.pt"):
        read_trained_config(text, "x.pt")


def test_a_device_that_is_not_there(checkpoint):
    with pytest.raises(ValueError, match="is no torch device"):
        reid.load(checkpoint, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no CUDA device here"):
            reid.load(checkpoint, device="cuda")


def test_what_is_no_model(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*gone\.pt"):
        reid.load(tmp_path / "gone.pt")
    with pytest.raises(CheckpointError, match="it holds no checkpoint"):
        reid.load(tmp_path)
    with pytest.raises(CheckpointError, match="name a file in it: checkpoint_"):
        reid.load(checkpoint.parent)
    bare = _rewritten(checkpoint, tmp_path / "bare.pt", lambda content: content.pop("config"))
    with pytest.raises(CheckpointError, match="does not say how its model is built"):
        reid.load(bare)


def test_models_of_two_stages_and_of_required_projects(tmp_path):
    config = "SVLL_ReID/configs/market.yml"
    more = {"STAGES.PROMPTS.SOLVER.MAX_EPOCHS": 1, "SVLL.PROJECTOR_HIDDEN_WIDTH": 8, "SVLL.PROJECTOR_OUTPUT_WIDTH": 8}
    model = reid.load(train_small(tmp_path, config, **more), device="cpu")
    assert model.encode(np.zeros((1, 64, 32, 3), dtype=np.uint8)).shape == (1, 48)


def test_importing_the_package_loads_no_torch():
    code = """
        import sys
        import reid_core
        assert "torch" not in sys.modules
        assert reid_core.__version__ == "0.1.0"
        try:
            reid_core.laod
        except AttributeError as error:
            assert "load" in str(error)
        else:
            raise AssertionError
        assert callable(reid_core.load) and "load" in dir(reid_core)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
