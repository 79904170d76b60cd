"""The hooks one by one, on a trainer whose model is one layer."""

import gc
import json
import signal
import threading
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from reid_core.config import get_cfg
from reid_core.engine import hooks
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.engine.hooks.nan_guard import NonFiniteLossError
from reid_core.engine.stages import Stage
from reid_core.engine.step import TrainStep
from reid_core.engine.trainer import Trainer
from reid_core.modeling.checkpoint import CheckpointError, list_checkpoints, read_checkpoint
from reid_core.solver import build_optimizer
from reid_core.utils.writers import JSONLinesWriter, Writer, read_json_lines


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, batch):
        return {"loss_fit": self.layer(batch["images"]).square().mean()}


class Loader:
    """Epochs of `iterations` batches of four; batch `bad` (counted over all epochs) holds a NaN."""

    def __init__(self, iterations=3, bad=None):
        self.iterations, self.bad = iterations, bad

    def length(self, epoch):
        return self.iterations

    def close(self): ...

    def epoch(self, epoch, first_iteration=0):
        for iteration in range(first_iteration, self.iterations):
            number = epoch * self.iterations + iteration
            images = torch.full((4, 3), float(number + 1))
            if number == self.bad:
                images[2] = float("nan")
            yield {"images": images, "indices": torch.arange(4) + 4 * number}


def make_trainer(*used, epochs=2, loader=None, schedule=lambda index, base_lr: base_lr, stages=1):
    solver = get_cfg().SOLVER
    solver.BASE_LR = 1e-3
    model = Layer()
    made = [
        Stage(
            f"stage{number}",
            loader or Loader(),
            TrainStep(model, build_optimizer(solver, model.named_parameters()), torch.device("cpu")),
            schedule,
            epochs,
        )
        for number in range(stages)
    ]
    return Trainer(model, made, used)


class Recorder(hooks.Hook):
    def __init__(self, name="recorder"):
        self._name, self.calls = name, []

    @property
    def name(self):
        return self._name

    def __getattribute__(self, attribute):
        if attribute.startswith(("before_", "after_")):
            return lambda *arguments: self.calls.append(attribute)
        return super().__getattribute__(attribute)


def test_the_order_of_moments():
    recorder = Recorder()
    make_trainer(recorder, epochs=1, loader=Loader(1), stages=2).train()
    step = ["before_step", "after_backward", "after_step"]
    stage = ["before_stage", "before_epoch", *step, "after_epoch", "after_stage"]
    assert recorder.calls == ["before_train", *stage, *stage, "after_train"]


def test_hooks_that_close_a_step_come_last_whenever_they_are_registered():
    first, last = Recorder("first"), Recorder("last")
    last.closes = 2
    trainer = make_trainer(last, first)
    late = Recorder("late")
    trainer.register_hook(late)
    assert [hook.name for hook, _ in trainer.hooks] == ["first", "late", "last"]


def test_a_log_period_of_zero_is_refused():
    with pytest.raises(ValueError, match="LOG.PERIOD must be at least 1"):
        hooks.LogMetrics([], 0)


def test_two_hooks_need_two_names():
    with pytest.raises(ValueError, match="Two hooks are named 'same'"):
        make_trainer(Recorder("same"), Recorder("same"))


def test_a_failure_reaches_the_hooks_and_goes_on():
    class Failing(hooks.Hook):
        def after_step(self):
            raise RuntimeError("broken")

    class Listener(hooks.Hook):
        def after_train(self, failure):
            self.failure = failure

    listener = Listener()
    with pytest.raises(RuntimeError, match="broken"):
        make_trainer(Failing(), listener).train()
    assert str(listener.failure) == "broken"


def test_rates_follow_the_schedule_of_the_epoch():
    class Rates(hooks.Hook):
        def __init__(self):
            self.seen = []

        def after_step(self):
            self.seen.append(self.trainer.stage.step.optimizer.param_groups[0]["lr"])

    rates = Rates()
    make_trainer(
        hooks.LearningRateHook(), rates, epochs=3, loader=Loader(2), schedule=lambda index, lr: lr * (index + 1)
    ).train()
    assert rates.seen == pytest.approx([1e-3, 1e-3, 2e-3, 2e-3, 3e-3, 3e-3])


@pytest.mark.parametrize("period", [1, 100])
def test_nan_guard_names_loss_step_and_images_before_the_update(period):
    paths = [f"image_{number}.jpg" for number in range(40)]
    trainer = make_trainer(hooks.NaNGuard(paths, period), loader=Loader(3, bad=4))
    with pytest.raises(NonFiniteLossError, match=r"loss_fit, total_loss at step 4") as error:
        trainer.train()
    assert [f"image_{number}.jpg" in str(error.value) for number in (15, 16, 19, 20)] == [False, True, True, False]
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_evaluation_every_period_and_at_the_end():
    seen = []
    hook = hooks.EvaluationHook(lambda: seen.append(trainer.epoch) or {"mAP": 1.0}, period=2)
    trainer = make_trainer(hook, epochs=5)
    trainer.train()
    assert seen == [2, 4, 5]
    seen.clear()
    hook = hooks.EvaluationHook(lambda: seen.append(trainer.epoch) or {"mAP": 1.0}, period=0)
    trainer = make_trainer(hook, epochs=3, stages=2)
    trainer.train()
    assert seen == [3]


def _checkpoint_hooks(folder, scores, **options):
    values = iter(scores)
    evaluation = hooks.EvaluationHook(lambda: {"mAP": next(values)}, period=1)
    saving = hooks.CheckpointHook(folder, lambda: {"model": {}, "data": {}}, **{"period": 1, **options})
    return evaluation, saving


def test_the_newest_and_the_best_are_kept(tmp_path):
    evaluation, saving = _checkpoint_hooks(tmp_path, [3.0, 9.0, 5.0, 4.0], keep=2)
    make_trainer(evaluation, saving, epochs=4).train()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint_00000009.pt", "checkpoint_00000012.pt"]
    assert read_checkpoint(tmp_path / "best.pt")["trainer"]["global_iteration"] == 6
    assert saving.state_dict() == {"best": 9.0, "best_iteration": 6}


def test_an_unknown_best_metric_names_those_that_there_are(tmp_path):
    evaluation, saving = _checkpoint_hooks(tmp_path, [3.0], best_metric="map")
    with pytest.raises(CheckpointError, match="'map', the evaluation gave mAP"):
        make_trainer(evaluation, saving, epochs=1).train()


def test_best_is_named_after_a_kill_between_checkpoint_and_name(tmp_path):
    evaluation, saving = _checkpoint_hooks(tmp_path, [3.0, 2.0])
    trainer = make_trainer(evaluation, saving, epochs=1)
    trainer.train()
    (tmp_path / "best.pt").unlink()
    state = read_checkpoint(list_checkpoints(tmp_path)[-1])["trainer"]
    evaluation, saving = _checkpoint_hooks(tmp_path, [2.0])
    trainer = make_trainer(evaluation, saving, epochs=2)
    trainer.load_state_dict(state)
    trainer.train()
    assert read_checkpoint(tmp_path / "best.pt")["trainer"]["global_iteration"] == 3


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_saves(tmp_path, number, repeats):
    class Send(hooks.Hook):
        def before_step(self):
            if self.trainer.global_iteration == 1:
                for _ in range(repeats):  # a scheduler and torchrun may both send it
                    signal.raise_signal(number)

    before = signal.getsignal(number)
    _, saving = _checkpoint_hooks(tmp_path, [])
    trainer = make_trainer(Send(), saving, hooks.InterruptHook(torch.device("cpu")))
    with pytest.raises(Interrupted) as stop:
        trainer.train()
    assert stop.value.signal_number == number
    assert trainer.global_iteration == 2
    assert read_checkpoint(list_checkpoints(tmp_path)[-1])["trainer"]["iteration"] == 2
    assert signal.getsignal(number) is before


def test_rows_of_metrics(tmp_path):
    class Rows(Writer):
        def __init__(self):
            self.rows, self.steps = [], 0

        def step(self, stage, epoch, epochs, iteration, iterations):
            self.steps += 1

        def write(self, row):
            self.rows.append(row)

    rows = Rows()
    evaluation = hooks.EvaluationHook(lambda: {"mAP": 12.0}, period=1)
    make_trainer(hooks.LogMetrics([rows], period=2), evaluation, epochs=1, loader=Loader(3)).train()
    assert rows.steps == 3
    assert [(row["iteration"], row["epoch"], "loss_fit" in row) for row in rows.rows] == [
        (2, 1, True),
        (3, 1, True),
        (3, 1, False),
    ]
    assert rows.rows[-1]["mAP"] == 12.0


def test_json_lines_drop_what_lies_ahead_of_a_resumed_run(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JSONLinesWriter(path)
    writer.start(0, resumed=False)
    for iteration in (1, 2, 3):
        writer.write({"iteration": iteration, "loss": float("nan") if iteration == 2 else 1.5})
    writer.close()
    with path.open("a") as file:
        file.write('{"iteration": 4, "lo')  # killed while it wrote
    assert [row["iteration"] for row in read_json_lines(path)] == [1, 2, 3]
    writer = JSONLinesWriter(path)
    writer.start(2, resumed=True)
    writer.write({"iteration": 3, "loss": 9.0})
    writer.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1.5, None, 9.0]
    Path(path).write_text("not json\n{}\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1 is not JSON"):
        read_json_lines(path)


def test_timer_counts_down_to_the_end():
    seen = []

    class Look(hooks.Hook):
        def after_step(self):
            seen.append(self.trainer.metrics.read())

    make_trainer(hooks.IterationTimer(), Look(), epochs=2, loader=Loader(5)).train()
    estimates = [row["eta_seconds"] for row in seen if "eta_seconds" in row]
    assert len(estimates) == 7
    assert estimates[-1] == 0
    assert all(row["data_seconds"] <= row["seconds_per_iteration"] for row in seen if "data_seconds" in row)


def test_a_stage_that_is_not_evaluated():
    seen = []
    hook = hooks.EvaluationHook(lambda: seen.append(trainer.stage.name) or {"mAP": 1.0}, period=1)
    trainer = make_trainer(hook, epochs=2, stages=2)
    trainer.stages[0].evaluated = False
    trainer.train()
    assert seen == ["stage1", "stage1"]


def test_a_finished_stage_lets_go_of_what_it_held():
    trainer = make_trainer(epochs=1, stages=3)
    held = [weakref.ref(stage.step.optimizer) for stage in trainer.stages]
    seen = []

    class Look(hooks.Hook):
        def before_stage(self):
            gc.collect()
            seen.append([reference() is not None for reference in held])

    trainer.register_hook(Look())
    trainer.train()
    assert seen == [[True, True, True], [False, True, True], [False, False, True]]
    assert trainer.stage.step is not None  # the last one's stays, for whoever looks at the run afterwards


def test_a_run_resumed_in_a_later_stage_frees_the_earlier_ones():
    first = make_trainer(epochs=1, stages=3)
    first.train()
    state = {**first.state_dict(), "stage": "stage2"}
    second = make_trainer(epochs=1, stages=3)
    second.load_state_dict(state)
    assert [stage.step is None for stage in second.stages] == [True, True, False]
    with pytest.raises(ValueError, match="in stage 'stage9'; this run has stage0, stage1"):
        make_trainer(stages=2).load_state_dict({**state, "stage": "stage9"})


def test_the_estimate_of_a_stage_is_its_own():
    timer = hooks.IterationTimer()
    trainer = make_trainer(timer, epochs=1, loader=Loader(9), stages=2)
    counts = []

    class Count(hooks.Hook):
        def before_epoch(self):
            counts.append(timer._steps)

    trainer.register_hook(Count())
    trainer.train()
    assert counts == [0, 0]


class Rows(Writer):
    """Keeps the rows."""

    def __init__(self):
        self.rows, self.started = [], None

    def start(self, iteration, resumed):
        self.started = iteration, resumed

    def write(self, row):
        self.rows.append(row)


class Measures(hooks.Hook):
    """Puts a measure of each epoch into the metrics when the epoch is over."""

    def after_epoch(self):
        self.trainer.metrics.put({"clusters": 10.0 * self.trainer.epoch})


@pytest.mark.parametrize("iterations", [3, 0])
def test_what_an_epoch_ends_with_is_a_row_of_its_own(iterations):
    """Also of an epoch without a step."""
    rows = Rows()
    make_trainer(Measures(), hooks.LogMetrics([rows], period=2), epochs=2, loader=Loader(iterations)).train()
    found = [row for row in rows.rows if "clusters" in row]
    assert [(row["epoch"], row["iteration"], row["clusters"]) for row in found] == [
        (1, iterations, 10.0),
        (2, 2 * iterations, 20.0),
    ]
    assert not any("loss_fit" in row for row in found)
    assert len(rows.rows) == (2 + 4 if iterations else 2)


def test_an_epoch_that_ends_with_nothing_has_no_row():
    rows = Rows()
    make_trainer(hooks.LogMetrics([rows], period=10), epochs=2, loader=Loader(0)).train()
    assert rows.rows == [] and rows.started == (0, False)


def test_a_run_resumed_after_epochs_without_a_step_keeps_their_rows(tmp_path):
    """Its number of steps is that of a new run, which drops what another has left behind."""
    path, kept = tmp_path / "metrics.jsonl", []
    for epoch in (0, 1, 0):
        trainer = make_trainer(
            Measures(), hooks.LogMetrics([JSONLinesWriter(path)], period=1), epochs=epoch + 1, loader=Loader(0)
        )
        trainer.epoch = epoch
        trainer.train()
        kept.append([row["clusters"] for row in read_json_lines(path)])
    assert kept == [[10.0], [10.0, 20.0], [10.0]]
