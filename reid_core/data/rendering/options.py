"""What is rendered: one frozen value that, with the version, decides every byte of the dataset."""

from dataclasses import asdict, dataclass

from reid_core.data.rendering.layouts import find_layout

VERSION = 2  # raise it with every change that alters a pixel or a name, so that older renderings are not re-used
TEST_CAMERAS = ("same", "unseen")


@dataclass(frozen=True, kw_only=True)
class RenderingOptions:
    """Options of a rendered dataset; the same options give byte-identical files.

    layout: whose folders and file names are written, see `layouts.LAYOUTS`; persons or vehicles follow from it.
    train_identities, test_identities: disjoint sets of persons or vehicles.
    cameras: how many there are. cameras_per_identity: by how many of them each identity is seen.
    images_per_camera: of each identity. Of a test identity the first is a query, the others go to the gallery.
    distractors: gallery images of no queried identity. Where the layout marks junk (Market-1501), half as many
        junk images are added.
    height, width: of every image, in pixels; None takes the layout's usual size.
    difficulty: in [0, 1]. Scales colour casts, lighting, occlusion, blur, pose variety and how alike the colours are.
    test_cameras: "same", or "unseen": the test images come from other cameras of the same numbers, as at a new site.
    seed: not negative.

    Raises LookupError for an unknown layout, ValueError for a value out of its range.
    """

    layout: str = "market1501"
    train_identities: int = 100
    test_identities: int = 50
    cameras: int = 6
    images_per_camera: int = 2
    cameras_per_identity: int = 4
    distractors: int = 20
    height: int | None = None
    width: int | None = None
    difficulty: float = 0.35
    test_cameras: str = "same"
    seed: int = 0

    def __post_init__(self) -> None:
        layout = find_layout(self.layout)
        # A frozen value: the layout's size is filled in once, so that equal datasets have equal options.
        object.__setattr__(self, "height", layout.height if self.height is None else self.height)
        object.__setattr__(self, "width", layout.width if self.width is None else self.width)
        object.__setattr__(self, "difficulty", float(self.difficulty))
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
        if self.cameras > layout.cameras:
            raise ValueError(
                f"cameras is {self.cameras}, but {layout.title} has {layout.cameras} and its readers refuse more; "
                "ask for fewer, or take another layout."
            )
        if self.cameras_per_identity > self.cameras:
            raise ValueError(
                f"cameras_per_identity is {self.cameras_per_identity}, but there are only {self.cameras} cameras; "
                "lower it or raise cameras."
            )
        if not 0.0 <= self.difficulty <= 1.0:
            raise ValueError(f"difficulty must lie in [0, 1], got {self.difficulty}.")
        if self.test_cameras not in TEST_CAMERAS:
            raise ValueError(f"test_cameras must be one of {', '.join(TEST_CAMERAS)}, got {self.test_cameras!r}.")

    @property
    def kind(self) -> str:
        """ "person" or "vehicle"; follows from the layout."""
        return find_layout(self.layout).kind

    def as_dict(self) -> dict[str, object]:
        """Plain values, for the marker file."""
        return asdict(self)


# Two images per camera and two cameras per identity: a query needs a true match in another camera's gallery.
_LEAST = {
    "train_identities": 1,
    "test_identities": 1,
    "cameras": 2,
    "images_per_camera": 2,
    "cameras_per_identity": 2,
    "distractors": 0,
    "height": 32,
    "width": 16,
    "seed": 0,
}
