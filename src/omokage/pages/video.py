"""Films: frames of faces side by side, written as MP4 (H.264), WebP or GIF."""

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from omokage.errors import UserError
from omokage.pages.files import checked_file, replacing, told_text
from omokage.pages.sheet import WHITE, enlarged, tile

# In a film, a face is enlarged by a whole factor until its shorter side has at least this many pixels.
FILM_SIZE = 256
# The longest side in H.264 level 5.1, which every player plays.
LONGEST_SIDE = 4096
# x264's constant rate factor. 18 looks like the original and takes about 1 Mbit/s for a walk.
CRF = 18
WEBP_QUALITY = 85


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


FORMATS = (".mp4", ".webp", ".gif")


def checked_film(out: str | Path) -> Path:
    """``out`` as a path; its folder is made if missing. UserError if it is no film's name."""
    path = Path(out)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: a film's name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return checked_file(path, path.suffix.lower())


def write_video(
    frames: Iterable[np.ndarray], path: Path, *, frames_per_second: float = 30, text: dict[str, str]
) -> Path:
    """Write frames, uint8 (H, W, 3) of one size, as MP4, WebP or GIF by the name. Whole or not at all.

    Frames are encoded as they come, so the memory needed does not grow with the length.

    - ``.mp4``: H.264, sides must be even. Colours are BT.709 in limited range, and the file says so. Chroma
      is 4:2:0, which browsers and phones play. ``text`` is stored in the file's comment as JSON.
    - ``.webp``: lossy, plays in a loop.
    - ``.gif``: 256 colours chosen for each frame, plays in a loop. Its clock counts hundredths of a second,
      so at 30 frames a second every third frame stays for four of them.

    Raises:
        UserError: PyAV or its encoder is missing, or the file cannot be written.
    """
    kind = path.suffix.lower()
    av = _av_with({".webp": "libwebp_anim", ".gif": "gif"}.get(kind, "libx264"))
    options = {"movflags": "+faststart"} if kind == ".mp4" else {"loop": "0"}
    encoded = {".webp": _webp, ".gif": _gif}.get(kind, _h264)
    with replacing(path) as unfinished:
        container = av.open(str(unfinished), "w", options=options)
        with container:
            if kind == ".mp4" and told_text(text):
                container.metadata["comment"] = json.dumps(text, ensure_ascii=False)
            stream = None
            for pixels in frames:
                if stream is None:
                    rate = Fraction(frames_per_second).limit_denominator(1000)
                    stream, convert = encoded(av, container, rate, pixels.shape)
                container.mux(stream.encode(convert(np.ascontiguousarray(pixels))))
            if stream is None:
                raise ValueError("a video needs at least one frame")
            container.mux(stream.encode(None))
    return path


def _h264(av: Any, container: Any, rate: Fraction, shape: tuple[int, ...]) -> tuple[Any, Any]:
    from av.video.reformatter import ColorRange, Colorspace

    stream = _stream(container, "libx264", rate, shape, "yuv420p")
    stream.options = {"crf": str(CRF), "preset": "medium", "tune": "animation"}
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
    context.color_range = ColorRange.MPEG

    def convert(pixels: np.ndarray) -> Any:
        return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )

    return stream, convert


def _webp(av: Any, container: Any, rate: Fraction, shape: tuple[int, ...]) -> tuple[Any, Any]:
    stream = _stream(container, "libwebp_anim", rate, shape, "yuv420p")
    stream.options = {"quality": str(WEBP_QUALITY), "compression_level": "4"}

    def convert(pixels: np.ndarray) -> Any:
        return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")

    return stream, convert


def _gif(av: Any, container: Any, rate: Fraction, shape: tuple[int, ...]) -> tuple[Any, Any]:
    stream = _stream(container, "gif", rate, shape, "pal8")

    def convert(pixels: np.ndarray) -> Any:
        # The colours are chosen on a reduced picture: as good for faces, and 15 times as fast.
        whole = Image.fromarray(pixels)
        small = whole.reduce(max(1, min(whole.size) // 64))
        chosen = small.quantize(256, method=Image.Quantize.MEDIANCUT)
        picture = whole.quantize(palette=chosen, dither=Image.Dither.NONE)
        colours = np.array(picture.getpalette()[:768], np.uint8).reshape(-1, 3)  # type: ignore[index]
        palette = np.zeros((256, 4), np.uint8)
        palette[:, 0], palette[: len(colours), 1:] = 255, colours
        return av.VideoFrame.from_ndarray((np.asarray(picture), palette), format="pal8")

    return stream, convert


def _stream(container: Any, codec: str, rate: Fraction, shape: tuple[int, ...], form: str) -> Any:
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = form
    return stream


def _av_with(codec: str) -> Any:
    try:
        import av
    except ImportError:
        raise UserError("videos are written with PyAV, which is not installed: pip install av") from None
    if codec not in av.codecs_available:
        what = "H.264 encoder (libx264)" if codec == "libx264" else f"encoder {codec}"
        raise UserError(
            f"this PyAV has no {what}; its wheels have one:"
            " pip install --force-reinstall --only-binary av av"
        )
    return av
