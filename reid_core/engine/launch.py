"""The training command: arguments, processes, what is shown when something is wrong."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

import reid_core.engine.default_trainer  # noqa: F401  (registers the usual trainer)
from reid_core.config import CfgNode, ConfigError
from reid_core.data.bad_images import list_skipped
from reid_core.data.worker_pool import LoaderError
from reid_core.engine.evaluate_only import evaluate_only
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.engine.hooks.nan_guard import NonFiniteLossError
from reid_core.evaluation import results_table, save_results
from reid_core.modeling.checkpoint import CheckpointError, list_checkpoints
from reid_core.projects import load_config
from reid_core.registry import TRAINER_REGISTRY, UnknownNameError
from reid_core.utils import comm
from reid_core.utils.device import resolve_device
from reid_core.utils.file_io import remove_left_overs
from reid_core.utils.logging import get_logger, setup_logger

_EXAMPLE = """examples:
  %(prog)s --config-file projects/A_METHOD/configs/market.yml
  %(prog)s --config-file output/config.yaml --resume
  %(prog)s --config-file output/config.yaml --eval-only MODEL.WEIGHTS output/best.pt
  %(prog)s --config-file my_project/configs/a.yml SOLVER.BASE_LR 1e-4 OUTPUT_DIR output/a
  torchrun --nproc-per-node 4 tools/train_net.py --config-file ...
"""

USER_ERRORS = (ValueError, UnknownNameError, CheckpointError, LoaderError, NonFiniteLossError, OSError)
"""Errors that speak to the user (a ConfigError is a ValueError): shown as one message, the traceback in log.txt."""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the training command."""
    parser = argparse.ArgumentParser(
        description="Train or evaluate a ReID model.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, help="YAML file; its project is the nearest one around it")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS and stop")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in OUTPUT_DIR")
    parser.add_argument("--num-gpus", type=int, default=0, metavar="N", help="start N processes, one for each GPU")
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY value", help="config keys to change")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code: 0, 2 after a user's error, 128 + signal when stopped by one."""
    arguments = parse_arguments(argv)
    if arguments.num_gpus > 1 and "RANK" not in os.environ:
        return _start_processes(arguments.num_gpus, list(sys.argv[1:] if argv is None else argv))
    return run_command(lambda: load_config(arguments.config_file, arguments.overrides), arguments)


def console() -> None:
    """Entry point of the installed command `reid-train`."""
    sys.exit(main())


def run_command(make_config: Callable[[], CfgNode], arguments: argparse.Namespace) -> int:
    """Run with errors shown as a user wants them; their tracebacks go to log.txt."""
    setup_logger()
    try:
        cfg = make_config()
        _start_group(cfg)
        setup_logger(Path(cfg.OUTPUT_DIR))
        code = run(cfg, eval_only=arguments.eval_only, resume=arguments.resume)
        _end_group()  # only where all processes get here: after one's failure the others may wait in a collective
        return code
    except Interrupted as stop:
        stop.__traceback__ = None  # its frames hold the trainer
        _end_group()
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        get_logger().error("Stopped at once; the last checkpoint is whole.")
        return 128 + signal.SIGINT
    except USER_ERRORS as error:
        get_logger().error("%s", error)
        get_logger().debug("traceback", exc_info=error)
        return 2
    except Exception:
        get_logger().debug("traceback", exc_info=True)
        raise


def run(cfg: CfgNode, eval_only: bool = False, resume: bool = False) -> int:
    """Train, or evaluate, what the config says; writes config.yaml, checkpoints and metrics.json to OUTPUT_DIR.

    Without DATASETS.TEST there is no metrics.json. Raises ConfigError if such a config is only to be evaluated.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if eval_only:
        if not cfg.DATASETS.TEST:
            raise ConfigError("--eval-only: DATASETS.TEST is empty, there is nothing to evaluate.")
        if comm.is_main():
            cfg.save(folder / "eval_config.yaml")
        _show(evaluate_only(cfg), folder / "eval_metrics.json")
        return 0
    earlier = list_checkpoints(folder)
    if earlier and not resume:
        raise CheckpointError(
            f"OUTPUT_DIR {folder} holds the checkpoints of an earlier run ({earlier[-1].name}). Go on with it by "
            "--resume, or choose another OUTPUT_DIR; nothing was changed."
        )
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER)(cfg)
    if comm.is_main():
        remove_left_overs(folder)
        cfg.save(folder / "config.yaml")
    if resume:
        trainer.resume()
    try:
        trainer.train()
    finally:
        trainer.close()
    for dataset in trainer.datasets.values():
        list_skipped(dataset)
    if not cfg.DATASETS.TEST:
        return 0
    if not trainer.results:  # resumed after the last evaluation
        trainer.test()
    _show(trainer.results, folder / "metrics.json")
    return 0


def _show(results: dict[str, dict], path: Path) -> None:
    if comm.is_main():
        save_results(path, results)
        get_logger().info("\n%s\nwritten to %s", results_table(results), path)


def _start_group(cfg: CfgNode) -> None:
    """Join the process group that torchrun described in the environment, if it did."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        return
    device = resolve_device(cfg.DEVICE)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def _end_group() -> None:
    """Leave the process group together: whoever goes first would close connections that the others still use."""
    if dist.is_initialized():
        gc.collect()  # the parallel model holds the group; left to the interpreter's exit it ends after its threads
        dist.barrier()
        dist.destroy_process_group()


def _start_processes(number: int, argv: list[str]) -> int:
    """Run this command again through torchrun, one process for each GPU."""
    available = torch.cuda.device_count()
    if number > available:
        setup_logger().error(
            f"--num-gpus {number}: torch sees {available} GPUs here. For several processes on CPUs use "
            f"torchrun --nproc-per-node {number} tools/train_net.py ... DEVICE cpu."
        )
        return 2
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(["--standalone", "--nproc-per-node", str(number), "-m", "reid_core.engine.launch", *argv])
    except ChildFailedError as error:  # the process has said what was wrong
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0


if __name__ == "__main__":
    console()
