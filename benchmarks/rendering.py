"""Claim: the renderer draws at least 100 images a second on two cores.

Both kinds at two sizes, written to a temporary folder as JPEG files: one process against two, in one call.

    python benchmarks/rendering.py
"""

import argparse
import tempfile
import time

from common import print_json

from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.data.rendering.plan import plan_jobs


def images_per_second(options: RenderingOptions, workers: int) -> float:
    with tempfile.TemporaryDirectory() as root:
        began = time.perf_counter()
        render_dataset(root, options, workers)
        return len(plan_jobs(options)) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=60)
    arguments = parser.parse_args()
    results = {}
    print(f"{'images/s':24}{'1 process':>12}{'2 processes':>12}{'ratio':>8}")
    for layout, kind in (("market1501", "person"), ("veri776", "vehicle")):
        for height, width in ((128, 64 if kind == "person" else 128), (256, 128 if kind == "person" else 256)):
            options = RenderingOptions(
                layout=layout, train_identities=arguments.identities, test_identities=1, height=height, width=width
            )
            one, two = images_per_second(options, 1), images_per_second(options, 2)
            name = f"{kind}_{height}x{width}"
            print(f"{name:24}{one:12.0f}{two:12.0f}{two / one:8.2f}")
            results |= {f"{name}_one_process": one, f"{name}_two_processes": two}
    print_json(results)


if __name__ == "__main__":
    main()
