"""Small renderings in every layout, and the reader of each."""

from reid_core.data.rendering import LAYOUTS, RenderingOptions

READERS = {
    "market1501": "Market1501",
    "msmt17_v1": "MSMT17",
    "msmt17_v2": "MSMT17V2",
    "msmt17_market": "MSMT17V2",
    "dukemtmc": "DukeMTMC",
    "occluded_duke": "OccludedDuke",
    "cuhk03_labeled": "CUHK03Labeled",
    "cuhk03_detected": "CUHK03Detected",
    "veri776": "VeRi776",
    "vehicleid": "VehicleID",
    "veri_wild": "VERIWild",
}


def small_options(layout: str = "market1501", **more: object) -> RenderingOptions:
    """Four identities to train on and three to test on, each seen twice by two cameras; three distractors."""
    small = {
        "train_identities": 4,
        "test_identities": 3,
        "cameras": min(3, LAYOUTS[layout].cameras) if layout in LAYOUTS else 3,
        "cameras_per_identity": 2,
        "images_per_camera": 2,
        "distractors": 3,
        "height": 64,
        "width": 32,
    }
    return RenderingOptions(layout=layout, **{**small, **more})
