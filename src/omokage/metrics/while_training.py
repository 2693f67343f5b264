"""FID during training: samples of the averaged weights against the face set, with a small protocol."""

import time
from collections.abc import Callable

import torch

from ..data.store.faceset import FaceSet
from ..errors import UserError
from ..model import Model
from ..progress import Progress
from ..sampling import BATCH, decoded, latents, to_pixels
from .features import face_features, load_extractor
from .fid import Moments, fid
from .protocol import Measurement, parse_protocol

Measure = Callable[[], dict[str, float]]


def training_protocol(name: str) -> Measurement:
    """The settings of ``training.fid_protocol``.

    Raises:
        UserError: the protocol is unknown, or names a critic.
    """
    asked = parse_protocol(name)
    if asked.critic != 1:
        raise UserError(
            f"training.fid_protocol {name!r}: a model in training has no critic; leave "
            f"-critic{asked.critic:g} out"
        )
    return asked


def fid_measure(protocol: str, faces: FaceSet, model: Model, progress: Progress | None) -> Measure:
    """A function that measures ``model`` by ``protocol``; the key of the number is ``fid/`` and the name.

    The features of the faces are computed here, before training begins, or read from the cache.

    Raises:
        UserError: the protocol is unknown, or its feature network is missing.
    """
    asked = training_protocol(protocol)
    extractor = load_extractor(asked.extractor, device=model.device, progress=progress)
    reference = face_features(faces, model.resolution, extractor, progress=progress)

    def measure() -> dict[str, float]:
        started, moments = time.monotonic(), Moments(extractor.dimensions)
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            for first in range(0, asked.samples, BATCH):
                seeds = range(first, min(first + BATCH, asked.samples))
                for images in decoded(model, latents(seeds, model.latent_shape), asked.settings):
                    finite = images.isfinite().flatten(1).all(1).cpu().numpy()
                    moments.add(extractor(to_pixels(images)[finite]))
        numbers: dict[str, float] = {}
        if moments.count > 1:
            mean, covariance = moments.result()
            numbers[f"fid/{asked.name}"] = fid(mean, covariance, reference.mean, reference.covariance)
        if moments.count < asked.samples:
            numbers["samples not finite"] = float(asked.samples - moments.count)
        return numbers | {"speed/seconds of measuring": time.monotonic() - started}

    return measure
