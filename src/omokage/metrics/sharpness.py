"""Sharpness: the share of fine detail in the energy of pictures, compared with real faces.

Blurred samples can have a fair FID, although people see the blur at once. The figure is taken from the power
spectrum. There, samples of generative models differ from photographs most at high frequencies (Durall,
Keuper & Keuper 2020, "Watch your up-convolution", arXiv 2003.01826).

Protocol ``detail-above-half``: take the luma (ITU-R BT.601), subtract its mean, and apply a Hann window, so
that differences between opposite edges do not count. Measure the share of the energy at radial frequencies
above half of the Nyquist frequency (0.25 cycles a pixel). Energies are summed over all images before the
division. The value is the share of the samples divided by the share of the faces: 1 is as sharp as real
faces, 0.3 is blurred. Above 1 there is detail that real faces do not have, most often noise or a pattern of
dots. So above 1, more is not better.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .metric import NEITHER, Column, Metric

if TYPE_CHECKING:
    from .context import Context

PROTOCOL = "detail-above-half"
LOWEST = 0.25  # cycles a pixel
# At most this many faces are measured; the energy of 2,000 faces varies by less than a percent.
MAX_FACES = 2_000
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Detail:
    """The share of fine detail in the energy of all images added so far.

    >>> noise, flat = np.random.default_rng(0).integers(0, 256, (2, 1, 16, 16, 3), np.uint8)
    >>> Detail().add(noise).share() > 0.5
    True
    """

    def __init__(self) -> None:
        self.images = 0
        self._fine = self._whole = 0.0

    def add(self, images: np.ndarray) -> "Detail":
        """Take in uint8 images (B, H, W, 3); returns itself."""
        if len(images) == 0:
            return self
        height, width = images.shape[1:3]
        luma = images.astype(np.float32) @ _LUMA / 255
        window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
        # Subtract the mean under the window; otherwise it would leak into the lowest frequencies.
        mean = (luma * window).sum((1, 2), keepdims=True) / window.sum()
        energy = np.abs(np.fft.rfft2((luma - mean) * window)) ** 2
        radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        # Columns between the first and the middle count twice: rfft leaves out their mirror images.
        weight = np.full(energy.shape[2], 2.0)
        weight[0] = 1.0
        if width % 2 == 0:
            weight[-1] = 1.0
        total = energy.sum(0, dtype=np.float64) * weight
        self._fine += float(total[radius > LOWEST].sum())
        self._whole += float(total.sum())
        self.images += len(images)
        return self

    def share(self) -> float:
        """The share, in [0, 1]; 0 for images without contrast."""
        return self._fine / self._whole if self._whole > 1e-9 * max(self.images, 1) else 0.0


def sharpness(fake: Detail, real: Detail) -> dict[str, Any] | None:
    """The figure and its inputs, for a JSON line; None if the real images have no detail at all."""
    if real.share() <= 0:
        return None
    return {
        "protocol": PROTOCOL,
        "value": fake.share() / real.share(),
        "share_samples": fake.share(),
        "share_faces": real.share(),
        "samples": fake.images,
        "faces": real.images,
    }


def detail(batches: Iterable[np.ndarray]) -> Detail:
    """`Detail` of batches of images."""
    found = Detail()
    for batch in batches:
        found.add(batch)
    return found


def _of_faces(context: "Context") -> Detail:
    """`Detail` of at most `MAX_FACES` faces."""
    return context.once("detail of faces", lambda: detail(context.some_real_pixels(MAX_FACES)))


def check(context: "Context") -> None:
    """Read the faces beforehand, so that a damaged one is found before samples are drawn."""
    if _of_faces(context).share() <= 0:
        context.warn("sharpness is left out: the faces have no detail to compare with")


def measure(context: "Context") -> dict[str, Any]:
    """The table ``sharpness`` for a record, if the faces have any detail."""
    found = sharpness(cast(Detail, context.watched[METRIC.name]), _of_faces(context))
    return {} if found is None else {"sharpness": found}


METRIC = Metric(
    "sharpness",
    (
        Column(
            "sharpness",
            "sharpness.value",
            "{:.2f}",
            NEITHER,
            "fine detail in samples, divided by that in faces; below 1 is blur, above 1 is noise",
            "Durall et al. 2020",
            ideal="1 is that of real faces",
        ),
    ),
    measure,
    check,
    of_pixels=True,
    watcher=Detail,
)
