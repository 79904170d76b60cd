"""Renders a dataset to disk: whole, by several processes, once."""

import json
import multiprocessing
import shutil
import sys
from functools import partial
from pathlib import Path

from reid_core.data.rendering.layouts import Shot, find_layout, remove_files
from reid_core.data.rendering.options import VERSION, RenderingOptions
from reid_core.data.rendering.picture import draw_picture, draw_view, encode_picture
from reid_core.data.rendering.plan import Job, plan_jobs
from reid_core.data.rendering.vehicle import viewpoint
from reid_core.utils.file_io import write_atomically

MARKER = "rendering.json"  # written last: a folder without it is not whole


def render_dataset(root: str | Path, options: RenderingOptions, workers: int = 1, overwrite: bool = False) -> Path:
    """Render the dataset below `root`; returns its folder, whose name the layout gives.

    What is there already from the same options is re-used; an interrupted rendering is done again. workers:
    processes; their number does not change a byte. overwrite: replace what other options rendered.
    Raises FileExistsError for a folder that holds something else, which is left as it is.
    """
    layout = find_layout(options.layout)
    folder = Path(root) / layout.folder
    state = {"version": VERSION, "options": options.as_dict()}
    marker = folder / MARKER
    if marker.exists() and json.loads(marker.read_text()) == state:
        return folder
    unfinished = folder / f".{MARKER}.unfinished"
    earlier = _earlier_rendering(folder, marker, unfinished)
    if earlier is not None and marker.exists() and not overwrite:
        _refuse_other_options(folder, earlier, state)
    folder.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    layouts = {options.layout, earlier["options"]["layout"]} if earlier else {options.layout}
    for name in sorted(layouts):  # two layouts may share a folder, and a reader would find the older one's files
        for entry in remove_files(find_layout(name), folder):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
    write_atomically(unfinished, json.dumps(state).encode())
    jobs = plan_jobs(options)
    for parent in sorted({(folder / layout.path(job.shot)).parent for job in jobs}):
        parent.mkdir(parents=True, exist_ok=True)
    draw = partial(_draw_file, options, folder)
    if workers > 1:
        with _processes().Pool(workers) as pool:
            pool.map(draw, jobs, chunksize=32)
    else:
        for job in jobs:
            draw(job)
    layout.write_texts(folder, [_with_viewpoint(options, job) for job in jobs])
    write_atomically(marker, (json.dumps(state, indent=2) + "\n").encode())
    unfinished.unlink()
    return folder


def _draw_file(options: RenderingOptions, folder: Path, job: Job) -> None:
    path = folder / find_layout(options.layout).path(job.shot)
    if path.suffix == ".png":
        draw_picture(options, job).save(path, format="PNG")
    else:
        path.write_bytes(encode_picture(options, job))


def _with_viewpoint(options: RenderingOptions, job: Job) -> Shot:
    if options.kind != "vehicle":
        return job.shot
    return job.shot.seen_from(viewpoint(draw_view(options, job)))


def _earlier_rendering(folder: Path, marker: Path, unfinished: Path) -> dict | None:
    """The marker of what this renderer wrote or began in the folder, None for a new or empty one.

    Raises FileExistsError for a folder with other files, whatever was asked for: they may be the real dataset.
    """
    for path in (marker, unfinished):
        if path.exists():
            return json.loads(path.read_text())
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} holds files that were not rendered (no {MARKER}); choose another root. Nothing was changed."
        )
    return None


def _refuse_other_options(folder: Path, earlier: dict, state: dict) -> None:
    old, new = earlier["options"], state["options"]
    changed = [f"{key} {old.get(key)!r} -> {value!r}" for key, value in new.items() if old.get(key) != value]
    what = ", ".join(changed) or f"renderer version {earlier['version']} -> {state['version']}"
    raise FileExistsError(f"{folder} was rendered with other options ({what}); choose another root or overwrite it.")


def _processes() -> multiprocessing.context.BaseContext:
    """Fork where it is the rule: the pool is up at once, and drawing starts no threads that a fork could disturb."""
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)
