import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_core.config import CfgNode, ConfigError, get_cfg


def _write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_base_files_merge_in_order(tmp_path):
    _write(tmp_path, "a.yml", "SOLVER: {GAMMA: 0.5, MAX_EPOCHS: 3}\n")
    _write(tmp_path, "b.yml", "SOLVER: {GAMMA: 0.25}\n")
    path = _write(tmp_path, "c.yml", "_BASE_: [a.yml, b.yml]\nSEED: 7\n")
    cfg = get_cfg()
    cfg.merge_from_file(path)
    assert (cfg.SOLVER.GAMMA, cfg.SOLVER.MAX_EPOCHS, cfg.SEED) == (0.25, 3, 7)


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("SOLVER: {BASE_LRR: 1.0}", "SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("SLOVER: {BASE_LR: 1.0}", "SLOVER.BASE_LR", "SOLVER.BASE_LR"),
        ("BASE_LR: 1.0", "BASE_LR", "SOLVER.BASE_LR"),
        ("MODEL: {SIE_CAMERA: true}", "MODEL.SIE_CAMERA", "MODEL.BACKBONE.SIE_CAMERA"),
    ],
)
def test_a_typo_names_the_nearest_key_and_the_file_it_stands_in(tmp_path, text, key, near):
    base = _write(tmp_path, "base.yml", text)
    path = _write(tmp_path, "run.yml", "_BASE_: base.yml\nSEED: 2\n")
    cfg = get_cfg()
    with pytest.raises(ConfigError) as error:
        cfg.merge_from_file(path)
    assert f"'{key}' ({base})" in str(error.value)
    assert f"Did you mean '{near}'?" in str(error.value)
    assert cfg == get_cfg()


def test_a_typo_on_the_command_line():
    with pytest.raises(ConfigError, match=r"'SOLVER.GAMA' \(command line\). Did you mean 'SOLVER.GAMMA'"):
        get_cfg().merge_from_list(["SOLVER.GAMA", "0.1"])


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("SOLVER.BASE_LR", "fast", "a number"),
        ("SEED", "1.5", "a whole number"),
        ("TEST.PER_QUERY", "yes", "true or false"),
        ("INPUT.SIZE_TRAIN", "256", "a list"),
        ("SOLVER", "1", "a group of keys"),
    ],
)
def test_a_wrong_type_says_what_was_expected(key, text, expected):
    with pytest.raises(ConfigError, match=expected):
        get_cfg().merge_from_list([key, text])


def test_numbers_that_yaml_reads_as_text_or_whole(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_file(_write(tmp_path, "a.yml", "SOLVER: {BASE_LR: 1e-4, GAMMA: 1}\n"))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA) == (1e-4, 1.0)
    assert isinstance(cfg.SOLVER.GAMMA, float)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("MODEL.BACKBONE.PRETRAINED", "", ""),
        ("MODEL.WEIGHTS", "123", "123"),
        ("INPUT.SIZE_TRAIN", "[64, 32]", [64, 32]),
        ("TEST.PER_QUERY", "true", True),
        ("DATASETS.TRAIN", "['A', 'B']", ["A", "B"]),
    ],
)
def test_overrides(key, text, value):
    cfg = get_cfg()
    cfg.merge_from_list([key, text])
    assert cfg.value_of(key) == value


def test_words_that_yaml_reads_as_true_or_false_are_explained(tmp_path):
    with pytest.raises(ConfigError, match='quote the word, "off"'):
        get_cfg().merge_from_file(_write(tmp_path, "a.yml", "SOLVER: {AMP: off}"))


@pytest.mark.parametrize("text", ["['a', 'b']", "[256.5, 128]"])
def test_entries_of_a_list_have_a_type(text):
    with pytest.raises(ConfigError, match=r"INPUT.SIZE_TRAIN\[0\]' .* must be a whole number"):
        get_cfg().merge_from_list(["INPUT.SIZE_TRAIN", text])


def test_an_empty_base_is_none_and_a_wrong_one_is_refused(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_file(_write(tmp_path, "a.yml", "_BASE_:\nSEED: 4\n"))
    assert cfg.SEED == 4
    with pytest.raises(ConfigError, match="must be a file name or a list"):
        cfg.merge_from_file(_write(tmp_path, "b.yml", "_BASE_: 3\n"))


def test_an_odd_number_of_override_words():
    with pytest.raises(ConfigError, match="pairs"):
        get_cfg().merge_from_list(["SEED"])


def test_a_missing_file_shows_its_neighbours_and_who_asked(tmp_path):
    _write(tmp_path, "market.yml", "SEED: 1")
    with pytest.raises(FileNotFoundError, match=r"markt.yml does not exist. In .*: market.yml"):
        get_cfg().merge_from_file(tmp_path / "markt.yml")
    path = _write(tmp_path, "run.yml", "_BASE_: nothing.yml")
    with pytest.raises(FileNotFoundError, match=r"nothing.yml, the _BASE_ of .*run.yml"):
        get_cfg().merge_from_file(path)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "SEED: !!python/object/apply:os.system ['true']"])
def test_bad_yaml_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"bad.yml"):
        get_cfg().merge_from_file(_write(tmp_path, "bad.yml", text))


def test_a_circle_of_bases(tmp_path):
    _write(tmp_path, "a.yml", "_BASE_: b.yml")
    path = _write(tmp_path, "b.yml", "_BASE_: a.yml")
    with pytest.raises(ConfigError, match="its own base"):
        get_cfg().merge_from_file(path)


@given(
    lr=st.floats(min_value=1e-9, max_value=1e3),
    seed=st.integers(0, 2**31),
    text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20),
    sizes=st.lists(st.integers(1, 999), min_size=2, max_size=2),
)
def test_what_is_saved_reads_back_the_same(tmp_path_factory, lr, seed, text, sizes):
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SEED, cfg.MODEL.WEIGHTS, cfg.INPUT.SIZE_TRAIN = lr, seed, text, sizes
    path = tmp_path_factory.mktemp("cfg") / "config.yaml"
    cfg.save(path)
    again = get_cfg()
    again.merge_from_file(path)
    assert again == cfg


def test_flat_keys_reach_every_leaf():
    cfg = CfgNode({"A": {"B": 1, "C": {"D": 2}}, "E": []})
    assert cfg.flat_keys() == ["A.B", "A.C.D", "E"]
