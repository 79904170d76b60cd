"""A stage's own solver: what it sets, what it takes from SOLVER, and errors for what neither has."""

import pytest

from reid_core.config import CfgNode, ConfigError, get_cfg, overridden, overriding


def _cfg():
    cfg = get_cfg()
    cfg.STAGES.WARM = CfgNode()
    cfg.STAGES.WARM.SOLVER = overriding(cfg.SOLVER, OPTIMIZER="Adam", MAX_EPOCHS=7)
    return cfg


def _solver(cfg):
    return overridden(cfg.SOLVER, cfg.STAGES.WARM.SOLVER, "STAGES.WARM.SOLVER")


def test_set_values_win_and_all_others_follow():
    cfg = _cfg()
    cfg.merge_from_list(["SOLVER.BASE_LR", "0.5", "SOLVER.MAX_EPOCHS", "90", "STAGES.WARM.SOLVER.GAMMA", "0.25"])
    solver = _solver(cfg)
    assert (solver.OPTIMIZER, solver.MAX_EPOCHS, solver.BASE_LR, solver.GAMMA) == ("Adam", 7, 0.5, 0.25)
    assert cfg.SOLVER.GAMMA != 0.25


def test_written_and_read_again(tmp_path):
    cfg = _cfg()
    cfg.merge_from_list(["STAGES.WARM.SOLVER.BASE_LR", "2"])
    cfg.save(tmp_path / "a.yaml")
    again = _cfg()
    again.merge_from_file(str(tmp_path / "a.yaml"))
    assert again == cfg
    assert _solver(again).BASE_LR == 2.0


def test_errors_name_the_stage():
    cfg = _cfg()
    with pytest.raises(ConfigError, match=r"STAGES.WARM.SOLVER.BASE_LRR.*Did you mean 'STAGES.WARM.SOLVER.BASE_LR'"):
        cfg.merge_from_list(["STAGES.WARM.SOLVER.BASE_LRR", "1"])
    cfg.merge_from_list(["STAGES.WARM.SOLVER.BASE_LR", "fast"])
    with pytest.raises(ConfigError, match=r"'BASE_LR' \(STAGES.WARM.SOLVER\) must be a number"):
        _solver(cfg)
    with pytest.raises(ConfigError, match="MAX_EPOCHS"):
        overriding(cfg.SOLVER, MAX_EPOCH=3)
