"""The log: one logger for the toolkit and its projects, to the terminal (coloured there) and to a file."""

import logging
import sys
from pathlib import Path

from termcolor import colored
from tqdm import tqdm

from reid_core.utils import comm

LOGGER_NAME = "reid"
_COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class _TerminalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        stamp = colored(self.formatTime(record, "%H:%M:%S"), "dark_grey")
        if record.levelno in _COLORS:
            text = f"{colored(record.levelname.lower(), _COLORS[record.levelno], attrs=['bold'])}: {text}"
        return f"{stamp} {text}"


class _TerminalHandler(logging.Handler):
    """Writes around a progress bar that may be on the screen, instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            encoding = sys.stdout.encoding or "utf-8"
            text = self.format(record).encode(encoding, "backslashreplace").decode(encoding)
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
        except (OSError, ValueError):  # a closed pipe: logging must not end the run
            self.handleError(record)


def setup_logger(output_folder: Path | None = None) -> logging.Logger:
    """Configure and return the toolkit's logger; calling it again replaces the handlers.

    The main process logs to the terminal and, with a folder, to `log.txt` there (tracebacks only there); other
    processes log warnings only.
    """
    logger = logging.getLogger(LOGGER_NAME)
    logger.setLevel(logging.DEBUG if comm.is_main() else logging.WARNING)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    terminal = _TerminalHandler()
    terminal.setFormatter(_TerminalFormatter())
    terminal.setLevel(logging.INFO)
    logger.addHandler(terminal)
    if output_folder is not None and comm.is_main():
        Path(output_folder).mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(Path(output_folder) / "log.txt", encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)
    return logger


def get_logger() -> logging.Logger:
    """The toolkit's logger; silent below warnings until `setup_logger` is called (use as a library)."""
    return logging.getLogger(LOGGER_NAME)
