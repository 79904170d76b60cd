"""Crops of a rendered video: the right pixels of the right frame, in whatever order they are asked for."""

import numpy as np
import pytest

from reid_core.inference.video_crops import VideoCrops

av = pytest.importorskip("av", reason='needs PyAV: pip install "reid-core[video]"')

HEIGHT, WIDTH, FRAMES = 48, 64, 12


def colour(frame, left):
    return np.array([20 * frame, 200 if left else 40, 120])


def write_video(path, frames=FRAMES):
    """Every frame has a colour on its left half and one on its right."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 4_000_000
        for number in range(frames):
            pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
            pixels[:, : WIDTH // 2], pixels[:, WIDTH // 2 :] = colour(number, True), colour(number, False)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "film.mp4")


def boxes(tmp_path, rows, header="frame,x,y,w,h,track,camid"):
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_crops_are_those_of_the_boxes(video, tmp_path):
    rows = ["7,0,0,20,48,t1,9", "2,40,10,20.4,30,t2,9", "7,40,4,100,9,t2,9", "0,-5,-5,20,20,t1,9"]
    source = VideoCrops(video, boxes(tmp_path, rows))
    found = list(source.images(np.arange(4)))
    columns = source.columns(np.arange(4))
    assert columns["frame"].tolist() == [0, 2, 7, 7]  # sorted, rows of one frame as listed
    assert columns["track"] == ["t1", "t2", "t1", "t2"]
    assert columns["x"].tolist() == [-5, 40, 0, 40]
    assert columns["camid"].tolist() == [9] * 4
    np.testing.assert_allclose(columns["timestamp"], [0, 0.2, 0.7, 0.7])
    assert [crop.shape for crop in found] == [(15, 15, 3), (30, 20, 3), (48, 20, 3), (9, 24, 3)]
    for crop, frame, left in zip(found, (0, 2, 7, 7), (True, False, True, False), strict=True):
        assert np.abs(crop.mean(axis=(0, 1)) - colour(frame, left)).max() < 6
    later = next(source.images(np.array([1])))  # an earlier frame than the last that was decoded
    assert np.array_equal(later, found[1])


def test_frames_may_count_from_one(video, tmp_path):
    source = VideoCrops(video, boxes(tmp_path, [f"{FRAMES},0,0,9,9", "1,0,0,9,9"], "frame,x,y,w,h"), first_frame=1)
    first, last = source.images(np.arange(2))
    assert np.abs(first.mean(axis=(0, 1)) - colour(0, True)).max() < 6
    assert np.abs(last.mean(axis=(0, 1)) - colour(FRAMES - 1, True)).max() < 6


def test_boxes_that_cannot_be_cut(video, tmp_path):
    source = VideoCrops(video, boxes(tmp_path, ["1,0,0,9,9,a,1", "2,64,0,9,9,b,1", f"{FRAMES},0,0,9,9,c,1"]))
    with pytest.raises(ValueError, match=r"the box \[64.0, 0.0, 9.0, 9.0\] .* in frame 2 lies outside .* 64 x 48"):
        list(source.images(np.arange(3)))
    refused = source.refused(np.arange(3), 1)
    assert list(refused) == [1, 2]
    assert f"frame {FRAMES}, but" in refused[2] and f"ends with frame {FRAMES - 1}" in refused[2]


@pytest.mark.parametrize(
    ("header", "row", "text"),
    [
        ("frame,x,y,w", "0,0,0,1", "no column 'h'. Found: frame, x, y, w"),
        ("frame,x,y,w,h", "0,0,0,0,5", "line 2: a frame is a whole number from 0, w and h are positive"),
        ("frame,x,y,w,h", "-1,0,0,5,5", "a frame is a whole number from 0"),
        ("frame,x,y,w,h", "0.5,0,0,5,5", "a frame is a whole number"),
        ("frame,x,y,w,h", "0,nan,0,5,5", "must be numbers, got 0, nan"),
        ("frame,x,y,w,h", "0,a,0,5,5", "must be numbers"),
        ("frame,x,y,w,h", "", "holds no boxes"),
    ],
)
def test_tables_that_do_not_fit(video, tmp_path, header, row, text):
    with pytest.raises(ValueError, match=text):
        VideoCrops(video, boxes(tmp_path, [row], header))


def test_files_that_are_no_videos(video, tmp_path):
    table = boxes(tmp_path, ["5,0,0,9,9,a,1"])
    for name, content in (
        ("text.mp4", b"a text is no film\n" * 100),  # which FFmpeg would draw
        ("list.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{video}\n#EXT-X-ENDLIST\n".encode()),
        ("list.ffconcat", f"ffconcat version 1.0\nfile {video}\n".encode()),
        ("empty.mp4", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match=f"{name} is no video that can be read"):
            VideoCrops(tmp_path / name, table)
    with pytest.raises(FileNotFoundError, match="gone.mp4"):
        VideoCrops(tmp_path / "gone.mp4", table)
    assert len(VideoCrops(video, table)) == 1


def test_without_pyav_it_says_what_to_install(video, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install \"reid-core\[video\]\""):
        VideoCrops(video, boxes(tmp_path, ["0,0,0,9,9,a,1"]))
