import pytest
import torch

from reid_core.data.device_copies import DeviceCopies, copies_to


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_without_cuda_tensors_stay_where_they_are(device):
    tensor = torch.arange(5)
    assert copies_to(device)(tensor) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copies_hold_what_was_copied_while_the_device_is_busy():
    device = torch.device("cuda", torch.cuda.current_device())
    copies, busy = copies_to(device), torch.randn(2000, 2000, device=device)
    assert isinstance(copies, DeviceCopies)
    sums = []
    for number in range(50):
        images = torch.full((64, 3, 128, 64), number, dtype=torch.uint8).pin_memory()
        copy = copies(images)
        assert copy.device == device
        busy = busy @ busy / 1000
        sums.append(copy.float().mean())
        del copy, images  # their memory may be used again while the device still reads the copy
    assert torch.stack(sums).tolist() == list(range(50))
