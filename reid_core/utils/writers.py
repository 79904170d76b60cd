"""Where rows of metrics go: the terminal, a JSON-lines file, TensorBoard."""

import json
import math
import sys
from datetime import timedelta
from pathlib import Path

from tqdm import tqdm

from reid_core.utils.file_io import write_atomically
from reid_core.utils.logging import get_logger


class Writer:
    """Takes rows of scalars. `start` is told how many steps were done before, and whether by a run that is resumed:
    its epochs may have had no step."""

    def start(self, iteration: int, resumed: bool) -> None: ...

    def step(self, stage: str, epoch: int, epochs: int, iteration: int, iterations: int) -> None: ...

    def write(self, row: dict) -> None: ...

    def close(self) -> None: ...


class TerminalWriter(Writer):
    """A progress bar per epoch where the terminal is one, and a line of the log per row."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._epochs = 0

    def step(self, stage: str, epoch: int, epochs: int, iteration: int, iterations: int) -> None:
        self._epochs = epochs
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            self._bar = tqdm(total=iterations, desc=f"{stage} {epoch}/{epochs}", leave=False, dynamic_ncols=True)
        self._bar.update(iteration - self._bar.n)
        if iteration >= iterations:
            self.close()

    def write(self, row: dict) -> None:
        get_logger().info(self._line(row))

    def _line(self, row: dict) -> str:
        epochs = f"/{self._epochs}" if self._epochs else ""  # not known before the first step
        parts = [f"{row['stage']} epoch {row['epoch']}{epochs}", f"iteration {row['iteration']}"]
        hidden = ("stage", "epoch", "iteration", "seconds_per_iteration", "data_seconds", "eta_seconds")
        parts += [f"{name} {_number(name, value)}" for name, value in row.items() if name not in hidden]
        if "seconds_per_iteration" in row:
            share = row["data_seconds"] / max(row["seconds_per_iteration"], 1e-9)
            parts.append(f"{row['seconds_per_iteration']:.3f} s/iteration (data {share:.0%})")
            parts.append(f"eta {timedelta(seconds=round(row['eta_seconds']))}")
        return "  ".join(parts)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JSONLinesWriter(Writer):
    """One JSON object a line in `path`; numbers that JSON has no word for (NaN) become null."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._file = None

    def start(self, iteration: int, resumed: bool) -> None:
        """Keep the rows up to this step, drop those of steps that will be done again, and all of another run."""
        kept = [row for row in read_json_lines(self.path) if row.get("iteration", 0) <= iteration] if resumed else []
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, row: dict) -> None:
        plain = {name: value if isinstance(value, str) or math.isfinite(value) else None for name, value in row.items()}
        self._file.write(json.dumps(plain) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardWriter(Writer):
    """TensorBoard event files in `folder`; scalars by name, over the steps of the run."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._writer = None

    def start(self, iteration: int, resumed: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        if not resumed and self.folder.is_dir():
            for old in self.folder.glob("events.out.tfevents.*"):
                old.unlink()  # of a run that was stopped before its first checkpoint: its curves would lie beneath
        self._writer = SummaryWriter(str(self.folder), purge_step=iteration + 1 if resumed else None)

    def write(self, row: dict) -> None:
        for name, value in row.items():
            if name not in ("stage", "iteration") and isinstance(value, int | float):
                self._writer.add_scalar(name, value, row["iteration"])
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def read_json_lines(path: Path) -> list[dict]:
    """The rows of a JSON-lines file; a last line cut off by a killed process is left out. [] without a file."""
    if not Path(path).exists():
        return []
    rows, lines = [], Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
    return rows


def _number(name: str, value: float) -> str:
    if name == "lr":
        return f"{value:.3g}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
