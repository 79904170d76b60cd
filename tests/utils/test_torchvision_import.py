import subprocess
import sys


def test_transforms_work_whatever_torchvision_was_built_for():
    code = (
        "import reid_core.utils.torchvision_import as first; first.ensure_torchvision_imports();"
        "import torch; from torchvision.transforms import v2;"
        "print(v2.functional.horizontal_flip(torch.tensor([[[1, 2]]])).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[[[2, 1]]]", done.stderr
