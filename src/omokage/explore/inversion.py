"""The user's own pictures in latent space: inversion, encoding and decoding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from omokage.abilities import Encodes, Exact, HasDensity, HasStyles
from omokage.data.steps.detect import open_detector
from omokage.data.steps.read import RESIZE_RULE, Unreadable, cover, read_file, read_picture
from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.explore.alignment import eyes_of, faces_of
from omokage.explore.encoders import encoder_of
from omokage.explore.faces import Faces
from omokage.explore.fits import Editability, Fit, Judge, editability
from omokage.explore.optimising import Aim, descended, styles_of
from omokage.explore.points import Points
from omokage.metrics.perceptual import Perceptual
from omokage.model import Differentiable, Model
from omokage.progress import Progress, opened
from omokage.sampling import BATCH, decoded, gathered, in_batches, latents, pixels, to_pixels
from omokage.settings import Settings

# Differences are multiplied by this and shown around middle grey.
SHOWN_DIFFERENCE = 16
# What `Inversion.began` says where nothing is searched: an exact inverse, or an encoder alone.
DIRECT = ("exact", "encoded")


def read_pictures(files: Sequence[str | Path], size: tuple[int, int]) -> np.ndarray:
    """Read picture files as uint8 (N, height, width, 3), resized by `omokage.data.steps.read.RESIZE_RULE`.

    Raises:
        UserError: a file is not a picture or is damaged; the error names the first such file and the reason.
    """
    pictures = np.empty((len(files), *size, 3), np.uint8)
    for i, file in enumerate(files):
        try:
            pictures[i] = np.asarray(cover(read_picture(read_file(file)).image, size))
        except Unreadable as error:
            raise UserError(f"{one_line(file)}: {error}; give pictures such as PNG, JPEG or WebP") from None
    return pictures


def as_images(pixels: np.ndarray) -> Tensor:
    """Convert uint8 (N, H, W, 3) to float (N, 3, H, W) in [-1, 1].

    >>> as_images(np.full((1, 1, 1, 3), 255, np.uint8)).flatten()
    tensor([1., 1., 1.])
    """
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class RoundTrip:
    """Pictures that were encoded and decoded again.

    Attributes:
        pictures, back: uint8 (N, H, W, 3), before and after.
        latents: (N, *latent_shape).
        largest, mean: (N,), the largest and mean |before - after| of each image, values in [-1, 1]; NaN if
            not finite.
    """

    pictures: np.ndarray
    back: np.ndarray
    latents: Tensor
    largest: np.ndarray
    mean: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """(N,) share of colour values that differ afterwards, in 256 levels."""
        return (self.pictures != self.back).mean((1, 2, 3))

    @property
    def finite(self) -> np.ndarray:
        """(N,) which decoded pictures are finite."""
        return np.isfinite(self.largest)


def round_trip(
    model: Model,
    pictures: np.ndarray,
    progress: Progress | None = None,
) -> RoundTrip:
    """Encode ``pictures`` uint8 (N, H, W, 3) and decode the latents; for float64 pass `Model.double`.

    Raises:
        UserError: the family cannot encode.
    """
    model.require(Encodes)
    images = as_images(pictures).to(model.dtype)
    latents, back, largest, mean = [], [], [], []
    with opened(progress, "there and back", len(images)) as task:
        for part in images.split(BATCH):
            z = model.encode(part)
            again = torch.cat(list(in_batches(model.inverse, z))).cpu()
            error = (again - part).abs().flatten(1).double()
            error = torch.where(error.isfinite(), error, torch.nan)
            latents.append(z.cpu())
            back.append(to_pixels(again))
            largest.append(error.amax(1).numpy())
            mean.append(error.mean(1).numpy())
            task.advance(len(part))
    return RoundTrip(
        pictures,
        np.concatenate(back),
        torch.cat(latents),
        np.concatenate(largest),
        np.concatenate(mean),
    )


def names(files: Sequence[str | Path]) -> list[str]:
    """The captions of files on a page: their names without folders."""
    return [one_line(Path(file).name, 40) for file in files]


def reconstructions(trip: RoundTrip, called: Sequence[str]) -> list[Faces]:
    """Three bands: the pictures, the decoded pictures, and the difference. ``called``: their names."""
    change = trip.back.astype(np.int16) - trip.pictures
    difference = (127.5 + SHOWN_DIFFERENCE * change).clip(0, 255).astype(np.uint8)
    return [
        Faces(trip.pictures, called, f"Pictures, resized by {RESIZE_RULE}"),
        Faces(
            trip.back,
            [f"largest error {error:.2g}" for error in trip.largest],
            "Out of their latents",
            trip.finite,
        ),
        Faces(
            difference,
            [f"{share:.2%} of values differ" for share in trip.changed],
            f"Difference, {SHOWN_DIFFERENCE} times as large, around grey",
        ),
    ]


PLAIN = Settings()
SPACES = ("z", "w", "w+")
FRAMED = 32  # samples that show how a model's faces are cropped


@dataclass(frozen=True)
class Effort:
    """How long and how a face is searched.

    Attributes:
        steps: steps in z, or in w.
        more: steps in w+ after those in w; 0: stay in w.
        rate: the largest learning rate in z or w.
        more_rate: the largest learning rate in w+.
        samples: how many of the model's faces the fit is compared with. Where a model has no encoder, the
            search starts from the one of them that is most like the picture.
        side: pictures are compared at this many pixels a side, see `omokage.metrics.perceptual`.
    """

    steps: int = 50
    more: int = 250
    rate: float = 0.3
    more_rate: float = 0.6
    samples: int = 256
    side: int = 64


@dataclass(frozen=True)
class Inversion:
    """Faces of a model that are like given pictures, and the points that they are drawn from.

    Attributes:
        pictures, faces: uint8 (N, H, W, 3).
        z: (N, *latent_shape); None: the points are in w or w+.
        w: styles (N, layers, width); None: the points are in z.
        space: one of `SPACES`: in w all layers have the same style, in w+ each has its own.
        starts: uint8 (N, H, W, 3), the faces that the search started from; equal to ``faces`` for a flow.
        began: what they are, one for each picture: "encoder", "average", "seed 17", or
            one of `DIRECT`.
        fit: how near the faces are to the pictures.
        editable: the same changes in w and in w+; None where there is no w+.
        in_w: uint8 (N, H, W, 3), the faces before the steps in w+, with their fit; None where there are none.
        fit_in_w: as ``fit``, of the faces in w.
        largest: (N,), the largest error of a colour value in [-1, 1].
        seconds: how long it took for each picture.
        eyes: bool (N,), whether eyes were found in the picture, so that they weighed more; None: no search.
    """

    pictures: np.ndarray
    faces: np.ndarray
    z: Tensor | None
    w: Tensor | None
    space: str
    starts: np.ndarray
    began: list[str]
    fit: Fit
    largest: np.ndarray
    seconds: float
    editable: Editability | None = None
    in_w: np.ndarray | None = None
    fit_in_w: Fit | None = None
    eyes: np.ndarray | None = None

    @property
    def points(self) -> Points:
        """The points: in w for w and w+, else in z."""
        return Points(z=self.z) if self.w is None else Points(w=self.w)

    def words(self, row: int) -> str:
        """What was found for one picture, as a sentence."""
        if self.began[row] in DIRECT:
            error = f"the largest error of a colour value is {self.largest[row]:.2g}, in [-1, 1]"
            return f"{self.began[row]}: {error}"
        blind = self.eyes is not None and not self.eyes[row]
        eyes = "; no eyes were found in it, so they weighed no more than the rest" if blind else ""
        return f"in {self.space}, started from {_article(self.began[row])}: {self.fit.words(row)}{eyes}"


def _article(began: str) -> str:
    return f"the {began}" if began in ("encoder", "average") else began


def default_space(model: Model, wanted: str | None = None) -> str:
    """The space to search: ``wanted``, or without it w+ for a family with styles, else z.

    Raises:
        UserError: another name, or w and w+ for a family without styles.
    """
    if wanted not in (None, *SPACES):
        raise UserError(f"--space {one_line(wanted)}: there are {', '.join(SPACES)}")
    if wanted in ("w", "w+"):
        model.require(HasStyles)
    return wanted or ("w+" if model.can(HasStyles) else "z")


def inverted(
    model: Model,
    pictures: np.ndarray,
    *,
    settings: Settings = PLAIN,
    space: str | None = None,
    effort: Effort | None = None,
    judge: Judge | None = None,
    aim: Aim | None = None,
    watch: Callable[[Sequence[int], np.ndarray], None] | None = None,
    progress: Progress | None = None,
) -> Inversion:
    """Find points whose faces are like ``pictures``, uint8 (N, H, W, 3) at the model's resolution.

    A flow encodes exactly, a denoiser nearly so. With others, the search starts from the encoder's latent if
    there is an encoder, and otherwise from the average face or a sample, whichever is more like the picture.
    Then follow steps of gradient descent (`omokage.explore.optimising`) in z, or in w and after that in w+,
    as in Karras et al. 2020 (arXiv 1912.04958, appendix D) and Zhu et al. 2020 (arXiv 2012.09036), with this
    package's own features. Several pictures are searched together, and none influences another; sums in
    another order may change the last digits.

    Args:
        settings: conditions and noise; psi is not used.
        space: one of `SPACES`; None: w+ if the family has styles, else z.
        judge: what fits are measured with; None: the tag encoder and ``effort.samples`` samples.
        aim: what the search compares; None: feature maps of EfficientNet-Lite0 and pixels.
        watch: called after each step with the rows of ``pictures`` in question and their faces, uint8.

    Raises:
        UserError: a space that the family does not have, or a feature network is missing.
    """
    effort, chosen = effort or Effort(), default_space(model, space)
    settings = replace(settings, psi=1.0)
    model.check(settings)
    began_at = monotonic()
    seeds = range(-(-effort.samples // BATCH) * BATCH)
    if model.can(HasDensity):
        samples = _drawn(model, seeds, settings, progress) if judge is None else None
        judge = Judge.of(samples) if judge is None and samples is not None else judge
        assert judge is not None
        return _exact(model, pictures, settings, judge, progress, began_at)
    encode = encoder_of(model, settings)
    samples = _drawn(model, seeds, settings, progress) if judge is None or encode is None else None
    judge = Judge.of(samples) if judge is None and samples is not None else judge
    assert judge is not None
    aim = aim or Aim(Perceptual(side=effort.side, device=model.device))
    images = as_images(pictures).to(model.device)
    eyes = torch.from_numpy(eyes_of(pictures, open_detector())).to(model.device)
    if encode is not None:
        z = torch.cat([encode(part) for part in images.split(BATCH)])
        began = ["encoder"] * len(pictures)
    else:
        assert samples is not None
        z, began = _nearest(model, images, samples, seeds, settings, aim)
    starts = _faces(model, z, settings)
    parts: list[_Found] = []
    # Each search draws its last point too.
    plus = effort.more + 1 if chosen == "w+" else 0
    total = len(pictures) * (effort.steps + 1 + plus)
    with opened(progress, f"searching {len(pictures):,} faces", total) as task:
        for first in range(0, len(pictures), BATCH):
            rows = range(first, min(first + BATCH, len(pictures)))

            def told(drawn: Tensor, rows: range = rows) -> None:
                task.advance(len(rows))
                if watch is not None:
                    watch(rows, to_pixels(drawn))

            own = slice(rows.start, rows.stop)
            seen = images[own], eyes[own], z[own]
            parts.append(_searched(model, *seen, chosen, settings, effort, aim, told))
    seconds = (monotonic() - began_at) / len(pictures)
    found = _judged(model, pictures, parts, chosen, settings, judge, starts, began, seconds)
    return replace(found, eyes=eyes.flatten(1).any(1).cpu().numpy())


@dataclass(frozen=True)
class _Found:
    z: Tensor | None
    w: Tensor | None
    plus: Tensor | None
    axes: Tensor | None  # of w


def _searched(
    model: Model,
    images: Tensor,
    eyes: Tensor,
    z: Tensor,
    space: str,
    settings: Settings,
    effort: Effort,
    aim: Aim,
    watch: Callable[[Tensor], None],
) -> _Found:
    """The search for one batch of pictures."""
    drawing = Differentiable(model)
    steps, rate = effort.steps, effort.rate
    if space == "z":
        shape = z.shape[1:]

        def from_z(u: Tensor) -> Tensor:
            return drawing.decode(u.unflatten(1, shape), settings)

        u, _ = descended(from_z, images, z.flatten(1), aim, steps=steps, rate=rate, eyes=eyes, watch=watch)
        return _Found(u.unflatten(1, shape).cpu(), None, None, None)
    normal, layers = styles_of(model, settings), model.layers

    def one_style(u: Tensor) -> Tensor:
        return normal.point(u)[:, None].expand(-1, layers, -1)

    start = normal.coordinates(model.mapping(z, settings)[:, 0])
    u, _ = descended(
        lambda u: drawing.synthesis(one_style(u), settings.noise),
        images,
        start,
        aim,
        steps=steps,
        rate=rate,
        eyes=eyes,
        watch=watch,
    )
    plus = None
    if space == "w+":
        plus, _ = descended(
            lambda u: drawing.synthesis(normal.point(u), settings.noise),
            images,
            u[:, None].expand(-1, layers, -1),
            aim,
            steps=effort.more,
            rate=effort.more_rate,
            eyes=eyes,
            watch=watch,
        )
        plus = normal.point(plus).cpu()
    return _Found(None, one_style(u).cpu().contiguous(), plus, normal.axes.cpu())


def _judged(
    model: Model,
    pictures: np.ndarray,
    parts: list[_Found],
    space: str,
    settings: Settings,
    judge: Judge,
    starts: np.ndarray,
    began: list[str],
    seconds: float,
) -> Inversion:
    def joined(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else torch.cat(found)

    z, w, plus = joined("z"), joined("w"), joined("plus")
    editable, in_w, fit_in_w = None, None, None

    def drawn(w: Tensor) -> Tensor:
        return model.synthesis(w, settings.noise)

    if z is not None:
        faces, _ = gathered(pixels(decoded(model, z, settings)))
    else:
        assert w is not None
        faces, _ = gathered(pixels(in_batches(drawn, w)))
        if plus is not None:
            in_w, fit_in_w = faces, judge.fit(pictures, faces)
            faces, _ = gathered(pixels(in_batches(drawn, plus)))
            axes = parts[0].axes
            assert axes is not None
            editable = editability(drawn, {"w": w, "w+": plus}, axes, judge)
            w = plus
    return Inversion(
        pictures,
        faces,
        z,
        w,
        space,
        starts,
        began,
        judge.fit(pictures, faces),
        _largest(pictures, faces),
        seconds,
        editable,
        in_w,
        fit_in_w,
    )


def _exact(
    model: Model,
    pictures: np.ndarray,
    settings: Settings,
    judge: Judge,
    progress: Progress | None,
    began_at: float,
) -> Inversion:
    found = []
    with opened(progress, "encoding", len(pictures)) as task:
        for part in as_images(pictures).split(BATCH):
            found.append(model.encode(part, settings).cpu())
            task.advance(len(part))
    z = torch.cat(found)
    back = torch.cat([model.inverse(part, settings).cpu() for part in z.split(BATCH)])
    error = (back - as_images(pictures)).abs().flatten(1).amax(1).double()
    faces = to_pixels(back)
    seconds = (monotonic() - began_at) / len(pictures)
    fit, began = judge.fit(pictures, faces), ["exact" if model.can(Exact) else "encoded"] * len(pictures)
    return Inversion(pictures, faces, z, None, "z", faces, began, fit, error.numpy(), seconds)


def _largest(pictures: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return np.abs(pictures.astype(np.int16) - faces).reshape(len(faces), -1).max(1) / 127.5


def _drawn(model: Model, seeds: range, settings: Settings, progress: Progress | None) -> np.ndarray:
    """Faces of seeds, uint8 (N, H, W, 3)."""
    found = []
    with opened(progress, "samples to compare with", len(seeds)) as task:
        for images in decoded(model, latents(seeds, model.latent_shape), settings):
            found.append(to_pixels(images))
            task.advance(len(images))
    return np.concatenate(found)


def _faces(model: Model, z: Tensor, settings: Settings) -> np.ndarray:
    return gathered(pixels(decoded(model, z, settings)))[0]


def _nearest(
    model: Model, images: Tensor, samples: np.ndarray, seeds: range, settings: Settings, aim: Aim
) -> tuple[Tensor, list[str]]:
    """For each image the latent of the face most like it, and what that face is.

    It is a sample, or the face of z = 0. With styles that one is no average, so only samples are tried.
    """
    z, faces = latents(seeds, model.latent_shape), samples
    names = [f"seed {seed}" for seed in seeds]
    if not model.can(HasStyles):
        middle = torch.zeros(1, *model.latent_shape)
        z, faces = torch.cat([middle, z]), np.concatenate([_faces(model, middle, settings), faces])
        names.insert(0, "average")
    lowest = torch.full((len(images),), torch.inf)
    best = torch.zeros(len(images), dtype=torch.int64)
    with torch.no_grad():
        targets = [aim.maps(image[None]) for image in images]
        for first in range(0, len(faces), BATCH):
            part = as_images(faces[first : first + BATCH]).to(model.device)
            maps = aim.maps(part)
            for row, (image, wanted) in enumerate(zip(images, targets, strict=True)):
                far = aim.perceptual.between(maps, wanted)
                far = (far + aim.pixels * (part - image).square().flatten(1).mean(1)).cpu()
                if far.min() < lowest[row]:
                    lowest[row], best[row] = far.min(), first + int(far.argmin())
    return z[best], [names[int(i)] for i in best]


def invert_pictures(
    files: Sequence[str | Path],
    model: Model,
    *,
    settings: Settings = PLAIN,
    space: str | None = None,
    crop: str = "model",
    whole: bool = False,
    effort: Effort | None = None,
    progress: Progress | None = None,
) -> tuple[Points, list[str]]:
    """The points of ordinary pictures, and lines that say what was done.

    Each picture is read as untrusted data; the largest face in it is found, turned upright, cropped as the
    model's own faces are, and inverted (`inverted`).

    Args:
        space: "z", "w" or "w+"; "w" here means w+, because its styles can be moved like any others; None: w+
            if the family has styles, else z.
        crop, whole: see `omokage.explore.alignment.faces_of`.

    Raises:
        UserError: a file is not a picture, no face is found in it, or as `inverted`.
    """
    told: list[str] = []
    pictures = aligned_pictures(
        files, model, settings=settings, crop=crop, whole=whole, tell=told.append, progress=progress
    )
    wanted = "w+" if space == "w" else space
    found = inverted(model, pictures, settings=settings, space=wanted, effort=effort, progress=progress)
    told += [f"{name}: {found.words(row)}" for row, name in enumerate(names(files))]
    return found.points, told


def aligned_pictures(
    files: Sequence[str | Path],
    model: Model,
    *,
    settings: Settings = PLAIN,
    crop: str = "model",
    whole: bool = False,
    tell: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """The faces in picture files, uint8 (N, H, W, 3), found and cropped for a model.

    Raises:
        UserError: as `omokage.explore.alignment.faces_of`.
    """

    def samples() -> np.ndarray:
        return _drawn(model, range(FRAMED), replace(settings, psi=1.0), progress)

    found = faces_of(files, model.resolution, crop=crop, whole=whole, samples=samples, tell=tell)
    return np.stack([one.pixels for one in found])
