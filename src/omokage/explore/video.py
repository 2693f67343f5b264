"""Films of generated faces: the writer, and the latent walk."""

import json
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omokage.errors import UserError
from omokage.explore.grid import WHITE
from omokage.explore.interpolate import closed_walk
from omokage.explore.pictures import checked_file, checked_seeds, enlarged, provenance, replacing, tile
from omokage.progress import Progress, opened
from omokage.sampling import BATCH, decoded, latents, to_pixels

# A face is enlarged by a whole number until its shorter side has at least this many pixels.
SHOWN_SIZE = 256
# The limit of a side in H.264 level 5.1, which every player plays.
LONGEST_SIDE = 4096
# x264's constant rate factor: 18 cannot be told from the original by eye, at about 1 Mbit/s a walk.
CRF = 18


def write_walk(
    model: Any,
    seeds: Sequence[int],
    out: str | Path,
    *,
    psi: float = 1.0,
    frames_per_leg: int = 45,
    frames_per_second: int = 30,
    tiles: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write an MP4 in which faces turn into one another: a closed walk over the latents of ``seeds``.

    ``frames_per_leg``: frames from one seed's face to the next. ``tiles``: (columns, rows) of walks shown
    side by side; the seeds are dealt to them in order, so that the first frame shows the first seeds in
    reading order. Played in a loop, the film has no seam. Returns the path written. Numbers of frames with an
    image that is not finite are appended to ``broken``.

    UserError: fewer than two seeds a walk, a number of seeds that the walks cannot share, impossible
    values, a picture too large to play, a name that does not end in .mp4 or cannot be written, no encoder.
    """
    seeds = checked_seeds(seeds, psi)
    columns, rows = tiles
    if min(columns, rows, frames_per_leg, frames_per_second) < 1:
        raise UserError(
            "tiles, frames a leg and frames a second must be at least 1, got"
            f" {columns}x{rows}, {frames_per_leg}, {frames_per_second}"
        )
    walks = columns * rows
    if len(seeds) < 2 * walks or len(seeds) % walks:
        raise UserError(
            f"{columns}x{rows} walks need a multiple of {walks} seeds, at least {2 * walks}; got {len(seeds)}"
        )
    text = provenance(model, seeds, psi) | {"tiles": f"{columns}x{rows}"}
    stops = latents(seeds, model.latent_shape).unflatten(0, (-1, walks))
    return film(
        model,
        stops,
        out,
        text,
        psi=psi,
        frames_per_leg=frames_per_leg,
        frames_per_second=frames_per_second,
        columns=columns,
        progress=progress,
        broken=broken,
    )


def film(
    model: Any,
    stops: Tensor,
    out: str | Path,
    text: dict[str, str],
    *,
    psi: float = 1.0,
    frames_per_leg: int = 45,
    frames_per_second: int = 30,
    columns: int = 1,
    progress: Progress | None = None,
    broken: list[int] | None = None,
) -> Path:
    """Write an MP4 of closed walks over ``stops`` (stops, walks, *latent_shape), walks side by side.

    The rest as `write_walk`, which names the stops by seeds; ``text`` is what the file says of itself.
    """
    walks = stops.shape[1]
    rows = walks // columns
    height, width = model.resolution
    factor = ceil(SHOWN_SIZE / min(height, width))
    if height * factor % 2 or width * factor % 2:
        factor += 1  # odd sides times an odd factor: 4:2:0 chroma needs even ones
    gutter = 8 if walks > 1 else 0
    if max(columns * (width * factor + gutter), rows * (height * factor + gutter)) > LONGEST_SIDE:
        raise UserError(
            f"{columns}x{rows} walks of {width * factor}x{height * factor} px make a picture that few players"
            f" show (a side over {LONGEST_SIDE} px); ask for fewer tiles"
        )
    path = checked_file(out, ".mp4")
    lost = [] if broken is None else broken

    def frames() -> Iterator[np.ndarray]:
        for faces in _decoded(model, closed_walk(stops, frames_per_leg), psi, lost):
            large = np.stack([enlarged(face, factor) for face in faces])
            yield tile(large, columns, gutter=gutter, border=gutter, background=WHITE)

    with opened(progress, "filming", len(stops) * frames_per_leg) as task:
        write_video(_counted(frames(), task), path, frames_per_second=frames_per_second, text=text)
    return path


def write_video(
    frames: Iterable[np.ndarray], path: Path, *, frames_per_second: int, text: dict[str, str]
) -> None:
    """Write frames, each uint8 (H, W, 3) of one even size, as H.264 in an MP4, whole or not at all.

    ``text`` goes into the file's comment as JSON. The colours are BT.709 in limited range and marked so;
    4:2:0 chroma, which is what browsers and phones play. UserError where PyAV or its encoder is missing or
    the file cannot be written.
    """
    av = _av_with_h264()
    from av.video.reformatter import ColorRange, Colorspace

    with replacing(path) as unfinished:
        container = av.open(str(unfinished), "w", options={"movflags": "+faststart"})
        with container:
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


def _counted(frames: Iterator[np.ndarray], task: Any) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame
        task.advance()


def _decoded(model: Any, steps: Iterator[Tensor], psi: float, broken: list[int]) -> Iterator[np.ndarray]:
    """The faces of each step, uint8 (walks, H, W, 3), decoded several steps at a time."""
    first = 0
    while group := list(islice(steps, BATCH)):
        images = torch.cat(list(decoded(model, torch.cat(group), psi))).unflatten(0, (len(group), -1))
        finite = images.isfinite().flatten(1).all(1).tolist()
        broken += [first + i for i, whole in enumerate(finite) if not whole]
        first += len(group)
        for step in images:
            yield to_pixels(step)
