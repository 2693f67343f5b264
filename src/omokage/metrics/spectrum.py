"""The radial power spectrum of samples over that of real faces, frequency by frequency.

A generator that enlarges its features step by step leaves traces at high frequencies: too little power where
it blurs, too much where its steps show as a fine pattern (Durall, Keuper & Keuper 2020, "Watch your
up-convolution", arXiv 2003.01826). The share of fine detail (`sharpness`) can be right while both happen.

Protocol ``radial-spectrum``: the first 2,000 samples and at most 2,000 faces. Take the luma (ITU-R BT.601),
subtract its mean and apply a Hann window, so that differences between opposite edges do not count. Power is
averaged over all images, and over rings of the Fourier plane one step wide (a step is one cycle in the
shorter side). The ratio of samples to faces is told for every ring from the first to the Nyquist frequency
(0.5 cycles a pixel). The figure is the ratio that is farthest from 1, with the lowest and the highest. The
corners of the plane, beyond the Nyquist frequency, are one more ratio: there lies a pattern that alternates
from pixel to pixel in both directions.

Protocol ``radial-spectrum-chroma``: the same of the colour differences Cb and Cr together. Networks that
judge faces look at colour less closely than at brightness, so a pattern of colour alone can go unpunished.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .metric import NEITHER, Column, Metric

if TYPE_CHECKING:
    from .context import Context

# By table of the record; in the order of the rows of `Spectrum.power`.
PROTOCOLS = {"spectrum": "radial-spectrum", "chroma_spectrum": "radial-spectrum-chroma"}
MAX_IMAGES = 2_000
# Rows: luma, Cb and Cr of RGB in [0, 1].
_PLANES = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
# Below this share of the luma's power a ring of the faces is empty: what it holds is rounding.
EMPTY = 1e-9


class Spectrum:
    """The mean power of at most ``limit`` images by ring: ring 0 is the mean, the last is all corners.

    >>> noise = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    >>> Spectrum().add(noise).power.shape  # luma and chroma; the mean, 8 rings, the corners
    (2, 10)
    """

    def __init__(self, limit: int = MAX_IMAGES) -> None:
        self.limit = limit
        self.images = 0
        self.side = 0
        self._sum = np.zeros((2, 0))

    def add(self, images: np.ndarray) -> "Spectrum":
        """Take in uint8 images (B, H, W, 3), while there are fewer than the limit; returns itself."""
        images = images[: self.limit - self.images]
        if len(images) == 0:
            return self
        height, width = images.shape[1:3]
        self.side = min(height, width)
        ring = rings(height, width)
        planes = (images.astype(np.float32) / 255) @ _PLANES.T
        window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
        mean = (planes * window[..., None]).sum((1, 2), keepdims=True) / window.sum()
        waves = np.fft.fft2((planes - mean) * window[..., None], axes=(1, 2))
        power = (np.abs(waves) ** 2).sum(0, dtype=np.float64)
        both = (power[..., 0], power[..., 1] + power[..., 2])
        ring = ring.ravel()
        found = np.stack([np.bincount(ring, part.ravel()) for part in both]) / np.bincount(ring)
        self._sum = found if self.images == 0 else self._sum + found
        self.images += len(images)
        return self

    @property
    def power(self) -> np.ndarray:
        """The mean power (2, rings) of luma and chroma."""
        return self._sum / max(self.images, 1)


def rings(height: int, width: int) -> np.ndarray:
    """The ring (H, W) of each coefficient of a Fourier transform; the last ring is all beyond Nyquist.

    >>> rings(4, 4)
    array([[0, 1, 2, 1],
           [1, 1, 3, 1],
           [2, 3, 3, 3],
           [1, 1, 3, 1]])
    """
    side = min(height, width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) * side
    last = side // 2
    return np.where(radius > last, last + 1, np.rint(radius)).astype(np.int64)


def spectra(fake: Spectrum, real: Spectrum) -> dict[str, dict[str, Any]]:
    """The tables ``spectrum`` (luma) and ``chroma_spectrum`` for a JSON line.

    ``ratio`` has one value for each of the frequencies 1/side, 2/side, ... up to Nyquist, in cycles a pixel.
    A table is absent where the real images lack power at some frequency; grey ones have no chroma.
    """
    found = {}
    for plane, (name, protocol) in enumerate(PROTOCOLS.items()):
        ratios = _ratios(fake, real, plane)
        if ratios is not None:
            ratio = ratios[:-1]
            with np.errstate(divide="ignore"):
                worst = int(np.abs(np.log(ratio)).argmax())
            found[name] = {
                "protocol": protocol,
                "value": float(ratio[worst]),
                "frequency": (worst + 1) / real.side,
                "range": [float(ratio.min()), float(ratio.max())],
                "corners": float(ratios[-1]),
                "ratio": [round(float(value), 4) for value in ratio],
                "samples": fake.images,
                "faces": real.images,
            }
    return found


def _ratios(fake: Spectrum, real: Spectrum, plane: int) -> np.ndarray | None:
    """By ring, without the mean; None if a ring of the faces has no power: nothing can be compared there."""
    if fake.images == 0 or real.images == 0:
        return None
    above, below = fake.power[plane, 1:], real.power[plane, 1:]
    least = EMPTY * max(real.power[0, 1:].sum(), EMPTY)
    return None if (below <= least).any() else above / below


def of(batches: Iterable[np.ndarray]) -> Spectrum:
    """`Spectrum` of batches of images."""
    found = Spectrum()
    for batch in batches:
        found.add(batch)
    return found


def _of_faces(context: "Context") -> Spectrum:
    """`Spectrum` of at most `MAX_IMAGES` faces."""
    return context.once("spectrum of faces", lambda: of(context.some_real_pixels(MAX_IMAGES)))


def check(context: "Context") -> None:
    """Read the faces beforehand, so that a damaged one is found before samples are drawn."""
    real = _of_faces(context)
    if _ratios(real, real, 0) is None:
        context.warn("the spectrum is left out: at some frequency the faces have nothing to compare with")


def measure(context: "Context") -> dict[str, Any]:
    """The tables of `spectra` for a record."""
    return dict(spectra(cast(Spectrum, context.watched[METRIC.name]), _of_faces(context)))


METRIC = Metric(
    "spectrum",
    (
        Column(
            "spectrum",
            "spectrum.value",
            "{:.2f}",
            NEITHER,
            "power of samples over that of faces, at the frequency where it is farthest from 1",
            "Durall et al. 2020",
            ideal="1 is that of real faces",
            interval="spectrum.range",
        ),
        Column(
            "colour spectrum",
            "chroma_spectrum.value",
            "{:.2f}",
            NEITHER,
            "the same of colour: much above 1 is a pattern of coloured dots",
            "Durall et al. 2020",
            ideal="1 is that of real faces",
            interval="chroma_spectrum.range",
        ),
    ),
    measure,
    check,
    of_pixels=True,
    watcher=Spectrum,
)
