"""A contact sheet: rows are identities, columns cameras."""

from pathlib import Path

from PIL import Image

from reid_core.data.rendering.options import RenderingOptions
from reid_core.data.rendering.picture import draw_picture
from reid_core.data.rendering.plan import plan_jobs

GAP = 2  # pixels between pictures


def write_contact_sheet(path: str | Path, options: RenderingOptions, identities: int = 12, per_camera: int = 2) -> None:
    """Draw the first training identities, `per_camera` images by each camera that sees them, into one PNG."""
    jobs = [job for job in plan_jobs(options) if job.shot.split == "train" and job.identity < identities]
    rows = min(identities, options.train_identities)
    columns = options.cameras * per_camera
    wide, tall = options.width + GAP, options.height + GAP
    sheet = Image.new("RGB", (columns * wide + GAP, rows * tall + GAP), (245, 245, 242))
    for job in jobs:
        if job.index < per_camera:
            column = (job.shot.camera - 1) * per_camera + job.index
            sheet.paste(draw_picture(options, job), (GAP + column * wide, GAP + job.identity * tall))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")
