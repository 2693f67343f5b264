"""Films: frames of faces side by side, written as H.264."""

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from omokage.errors import UserError
from omokage.pages.files import replacing, told_text
from omokage.pages.sheet import WHITE, enlarged, tile

# In a film, a face is enlarged by a whole factor until its shorter side has at least this many pixels.
FILM_SIZE = 256
# The longest side in H.264 level 5.1, which every player plays.
LONGEST_SIDE = 4096
# x264's constant rate factor. 18 looks like the original and takes about 1 Mbit/s for a walk.
CRF = 18


def check_film(size: tuple[int, int], tiles: tuple[int, int]) -> int:
    """The factor that enlarges faces of ``size`` (height, width) in a film of ``tiles`` (columns, rows).

    Raises:
        UserError: a side is longer than most players can show.
    """
    (height, width), (columns, rows) = size, tiles
    factor = ceil(FILM_SIZE / min(height, width))
    if height * factor % 2 or width * factor % 2:
        factor += 1  # an odd side times an odd factor is odd, and 4:2:0 chroma needs even sides
    gutter = _gutter(columns * rows)
    if max(columns * (width * factor + gutter), rows * (height * factor + gutter)) > LONGEST_SIDE:
        raise UserError(
            f"{columns}x{rows} walks of {width * factor}x{height * factor} px make a picture that few players"
            f" show (a side is over {LONGEST_SIDE} px); ask for fewer tiles"
        )
    return factor


def _gutter(walks: int) -> int:
    return 8 if walks > 1 else 0


def tiled(steps: Iterable[np.ndarray], columns: int) -> Iterator[np.ndarray]:
    """Frames uint8 (H, W, 3) of faces side by side. ``steps``: uint8 (N, h, w, 3), all with the same N."""
    for faces in steps:
        factor = check_film(faces.shape[1:3], (columns, ceil(len(faces) / columns)))
        large = np.stack([enlarged(face, factor) for face in faces])
        gutter = _gutter(len(faces))
        yield tile(large, columns, gutter=gutter, border=gutter, background=WHITE)


def write_video(
    frames: Iterable[np.ndarray], path: Path, *, frames_per_second: int = 30, text: dict[str, str]
) -> Path:
    """Write frames, uint8 (H, W, 3) of one even size, as H.264 in an MP4, whole or not at all.

    ``text`` is stored in the file's comment as JSON. Colours are BT.709 in limited range, and the file says
    so. Chroma is 4:2:0, which browsers and phones play.

    Raises:
        UserError: PyAV or its encoder is missing, or the file cannot be written.
    """
    av = _av_with_h264()
    from av.video.reformatter import ColorRange, Colorspace

    with replacing(path) as unfinished:
        container = av.open(str(unfinished), "w", options={"movflags": "+faststart"})
        with container:
            if told_text(text):
                container.metadata["comment"] = json.dumps(text, ensure_ascii=False)
            stream = None
            for pixels in frames:
                if stream is None:
                    stream = container.add_stream("libx264", rate=Fraction(frames_per_second))
                    stream.height, stream.width = pixels.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    stream.options = {"crf": str(CRF), "preset": "medium", "tune": "animation"}
                    context = stream.codec_context
                    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
                    context.color_range = ColorRange.MPEG
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
                )
                container.mux(stream.encode(frame))
            if stream is None:
                raise ValueError("a video needs at least one frame")
            container.mux(stream.encode(None))
    return path


def _av_with_h264() -> Any:
    try:
        import av
    except ImportError:
        raise UserError("videos are written with PyAV, which is not installed: pip install av") from None
    if "libx264" not in av.codecs_available:
        raise UserError(
            "this PyAV has no H.264 encoder (libx264); its wheels have one:"
            " pip install --force-reinstall --only-binary av av"
        )
    return av
