"""What a model's latent space does, shown with the user's own model: figures with three sentences each.

Each function measures and draws faces; `omokage.pages.explain` lays the result out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from omokage.abilities import Exact, HasPosterior, HasStyles
from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.explore.inversion import SHOWN_DIFFERENCE, as_images, round_trip
from omokage.explore.points import default_space, of_seeds
from omokage.explore.truncation import truncated
from omokage.explore.walks import slerp
from omokage.metrics.features import features_of
from omokage.metrics.path_length import path_lengths, protocol
from omokage.metrics.perceptual import Perceptual
from omokage.metrics.precision_recall import precision_recall
from omokage.metrics.sharpness import detail
from omokage.metrics.tag_features import tag_extractor
from omokage.model import Model
from omokage.progress import Progress, opened
from omokage.sampling import BATCH, decoded, gathered, in_batches, latents, pixels, sample, to_pixels
from omokage.settings import Settings

PLAIN = Settings()
PSIS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
SHOWN = 8  # faces in a row
STEPS = 24  # of a walk whose steps are measured
DECODINGS = 32
REFERENCE_SEEDS = 10**6  # the first seed of samples that stand in for real faces
LEAST_FACES = 100  # for precision and recall


@dataclass(frozen=True)
class Curve:
    """One line of a chart; ``dashed``: what is expected, not measured."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with labelled axes; ``log``: whether the upright axis is logarithmic."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log: bool = False


@dataclass(frozen=True)
class Explained:
    """A figure that explains something.

    Attributes:
        title: one line.
        sentences: three.
        bands: faces, in rows.
        charts: one or two, beside each other.
        numbers: what was measured, for a JSON file.
    """

    title: str
    sentences: tuple[str, str, str]
    bands: Sequence[Faces]
    charts: Sequence[Chart]
    numbers: dict[str, object] = field(default_factory=dict)

    @property
    def not_finite(self) -> int:
        """How many of the faces shown are not finite."""
        return sum(band.not_finite for band in self.bands)


def truncation(
    model: Model,
    real: np.ndarray | None = None,
    *,
    samples: int = 1_000,
    psis: Sequence[float] = PSIS,
    settings: Settings = PLAIN,
    called: str = "faces",
    progress: Progress | None = None,
) -> Explained:
    """What truncation trades: precision against recall over psi (Kynkäänniemi et al. 2019).

    Args:
        real: uint8 (M, H, W, 3), real faces at the model's resolution; at most ``samples`` of them are used.
            None: as many samples of other seeds at psi 1 take their place, so 1 at psi 1 is not reached
            either.
        samples: for each psi, of the seeds from 0 on.
        called: what the real faces are, in words.

    Raises:
        UserError: fewer than `LEAST_FACES` faces or samples.
    """
    if min(samples, samples if real is None else len(real)) < LEAST_FACES:
        raise UserError(f"precision and recall need at least {LEAST_FACES} faces and samples")
    extractor, found = tag_extractor(), []
    if real is None:
        other = range(REFERENCE_SEEDS, REFERENCE_SEEDS + samples)
        real, called = (
            gathered(sample(model, other, replace(settings, psi=1.0), progress))[0],
            "other samples",
        )
    elif len(real) > samples:
        real = real[np.sort(np.random.default_rng(0).permutation(len(real))[:samples])]
    theirs = features_of(extractor, real)
    for psi in psis:
        faces, finite = gathered(sample(model, range(samples), replace(settings, psi=psi), progress))
        found.append(precision_recall(theirs, features_of(extractor, faces[finite])))
    points = of_seeds(model, range(SHOWN), settings, default_space(model))
    shown = truncated(model, points, psis, settings, progress)
    precision, recall = [one.precision for one in found], [one.recall for one in found]
    full = min(range(len(psis)), key=lambda i: abs(psis[i] - 1))
    low = min(range(len(psis)), key=lambda i: abs(psis[i] - 0.6))
    name = f"pr{samples}-{len(real)}-tags"
    rises = "rises" if precision[low] >= precision[full] else "falls"
    best = max(range(len(psis)), key=lambda i: precision[i] + recall[i])
    sentences = (
        f"Psi moves every latent towards the average face: from psi {psis[full]:g} to {psis[low]:g}, "
        f"precision (samples that look like {called}) {rises} from {precision[full]:.2f} to "
        f"{precision[low]:.2f}.",
        f"Variety pays for it: recall ({called} that have a sample like them) goes from "
        f"{recall[full]:.2f} to "
        f"{recall[low]:.2f}, and at psi {psis[0]:g} it is {recall[0]:.2f}.",
        f"The sum of both is highest at psi {psis[best]:g} ({precision[best]:.2f} + "
        f"{recall[best]:.2f}); measured "
        f"with {samples:,} samples and {len(real):,} {called} in the features of the tag encoder ({name}).",
    )
    curves = [Curve("precision", psis, precision), Curve("recall", psis, recall)]
    return Explained(
        "What truncation trades",
        sentences,
        shown,
        [Chart("Precision and recall", "psi", "", curves)],
        {"protocol": name, "psi": list(psis), "precision": precision, "recall": recall},
    )


def entanglement(
    model: Model,
    *,
    pairs: int = 200,
    seeds: tuple[int, int] = (0, 1),
    settings: Settings = PLAIN,
    perceptual: Perceptual | None = None,
    progress: Progress | None = None,
) -> Explained:
    """How entangled z and w are: perceptual path lengths (Karras et al. 2019, section 4.1).

    Args:
        pairs: for the path lengths, see `omokage.metrics.path_length`.
        seeds: the ends of the walk that is shown.

    Raises:
        UserError: the family has no styles, or the feature network is missing.
    """
    model.require(HasStyles)
    perceptual = perceptual or Perceptual(device=model.device)
    lengths = path_lengths(model, perceptual, pairs=pairs, settings=settings, progress=progress)
    z, w = lengths["z"], lengths["w"]
    a, b = latents(seeds, model.latent_shape).split(1)
    ends = model.mapping(torch.cat([a, b]), settings)
    places = [step / STEPS for step in range(STEPS + 1)]
    walks = {
        "z": torch.cat(list(decoded(model, torch.cat([slerp(a, b, t) for t in places]), settings))),
        "w": torch.cat(
            list(
                in_batches(
                    lambda w: model.synthesis(w, settings.noise),
                    torch.stack([ends[0].lerp(ends[1], t) for t in places]),
                )
            )
        ),
    }
    bands, steps = [], {}
    for space, images in walks.items():
        with torch.no_grad():
            maps = perceptual.maps(images)
        far = perceptual.between([m[:-1] for m in maps], [m[1:] for m in maps])
        steps[space] = (far.double().sqrt() * STEPS).tolist()
        chosen = np.linspace(0, STEPS, SHOWN).round().astype(int)
        heading = {"z": "on the sphere in z", "w": "on a straight line in w"}[space]
        faces = to_pixels(images[torch.from_numpy(chosen)])
        finite = images.isfinite().flatten(1).all(1).numpy()[chosen]
        bands.append(Faces(faces, (), f"Seed {seeds[0]} to seed {seeds[1]}, {heading}", finite))
    ratio = w.mean / z.mean
    verdict = "less" if ratio < 1 else "more"
    margin = 1.96 * ratio * float(np.hypot(w.standard_error / w.mean, z.standard_error / z.mean))
    sure = abs(ratio - 1) > margin
    uneven = {space: max(each) / (sum(each) / len(each)) for space, each in steps.items()}
    spread = {
        space: float(np.percentile(one.kept, 90) / np.median(one.kept)) for space, one in lengths.items()
    }
    sentences = (
        "A small step changes the face most unevenly in the space that is most entangled: the "
        "perceptual path "
        f"length is {z.mean:.1f} ± {z.standard_error:.1f} in z and {w.mean:.1f} ± "
        f"{w.standard_error:.1f} in w.",
        f"So w is {ratio:.2f} times z: this model's styles are {verdict} entangled than its latents"
        + (
            "."
            if sure
            else f", but the difference is within the error of {len(z.each):,} pairs (± {margin:.2f})."
        ),
        f"The longest tenth of the steps is at least {spread['z']:.1f} times the median in z and "
        f"{spread['w']:.1f} "
        f"times in w; on the walk shown, the largest step is {uneven['z']:.1f} and {uneven['w']:.1f} "
        "times the mean.",
    )
    along = [(place + 0.5) / STEPS for place in range(STEPS)]
    shares = np.linspace(0.02, 0.98, 49)
    return Explained(
        "How entangled z and w are",
        sentences,
        bands,
        [
            Chart(
                "Speed of change on the walk",
                "place on the way",
                "",
                [Curve(f"in {space}", along, each) for space, each in steps.items()],
            ),
            Chart(
                f"Path lengths of {len(z.each):,} ways, sorted",
                "share of the ways",
                "",
                [
                    Curve(f"in {space}", shares.tolist(), np.quantile(one.kept, shares).tolist())
                    for space, one in lengths.items()
                ],
                log=True,
            ),
        ],
        {
            "protocol": protocol(pairs),
            "z": z.mean,
            "w": w.mean,
            "z_standard_error": z.standard_error,
            "w_standard_error": w.standard_error,
            "w_over_z": ratio,
        },
    )


def spectrum(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy of faces uint8 (N, H, W, 3) by frequency: cycles a pixel (K,), and mean energy there (K,).

    Of the mean of the colours, under a Hann window; each value is a mean over a ring of frequencies. The
    innermost ring, the mean brightness, is left out.

    >>> frequencies, energy = spectrum(np.zeros((1, 16, 16, 3), np.uint8) + np.uint8(7))
    >>> bool(frequencies.max() <= 0.5), bool((energy < 1e-9).all())
    (True, True)
    """
    grey = faces.astype(np.float64).mean(3) / 255
    height, width = grey.shape[1:]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    mean = (grey * window).sum((1, 2), keepdims=True) / window.sum()
    energy = (np.abs(np.fft.fft2((grey - mean) * window)) ** 2).mean(0) / window.sum()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    edges = np.linspace(0, 0.5, min(height, width) // 2 + 1)
    rings = np.digitize(radius, edges)
    numbers = np.array([number for number in range(2, len(edges)) if (rings == number).any()])
    middles = (edges[numbers - 1] + edges[numbers]) / 2
    return middles, np.array([energy[rings == number].mean() for number in numbers])


def blur(model: Model, pictures: np.ndarray, *, seed: int = 0, progress: Progress | None = None) -> Explained:
    """Why a VAE blurs: it draws the mean of all pictures that a latent could stand for.

    ``pictures``: uint8 (N, H, W, 3) at the model's resolution, N at least 2. Each is reconstructed from the
    mean of its latents, and decoded `DECODINGS` times from latents that its encoder allows. The mean of these
    decodings, and the average of all pictures, are shown beside them.

    Raises:
        UserError: the family is no variational autoencoder, or fewer than two pictures.
    """
    model.require(HasPosterior)
    if len(pictures) < 2:
        raise UserError("explain blur: give at least two pictures, or a face set with --data")
    images = as_images(pictures)
    mean = torch.cat([model.encode(part) for part in images.split(BATCH)]).cpu()
    spread = torch.cat([model.spread(part) for part in images.split(BATCH)]).cpu()
    back = torch.cat(list(in_batches(model.inverse, mean))).cpu()
    generator = torch.Generator().manual_seed(seed)
    total, squares, first = torch.zeros_like(back), torch.zeros_like(back), back
    with opened(progress, "decoding", DECODINGS) as task:
        for number in range(DECODINGS):
            z = mean.clone()
            z[:, : spread.shape[1]] += spread * torch.randn(spread.shape, generator=generator)
            drawn = torch.cat(list(in_batches(model.inverse, z))).cpu()
            first = drawn if number == 0 else first
            total, squares = total + drawn, squares + drawn.square()
            task.advance()
    middle = total / DECODINGS
    apart = float((squares / DECODINGS - middle.square()).clamp_min(0).mean().sqrt() * 2**0.5)
    average = images.mean(0, keepdim=True).expand(len(images), -1, -1, -1)
    kinds = {
        "pictures": pictures,
        "reconstructions": to_pixels(back),
        "one decoding each": to_pixels(first),
        f"mean of {DECODINGS} decodings": to_pixels(middle),
        "average picture": to_pixels(average[:1]),
    }
    fine = {name: detail([faces]).share() for name, faces in kinds.items()}
    unit = fine["pictures"] or 1.0
    error = float((back - images).square().mean().sqrt())
    lit = float((to_pixels(average[:1]).astype(float) - pictures).std() / 127.5)
    names = list(kinds)
    sentences = (
        "A VAE is rewarded for the least expected error, and the best answer to several pictures that "
        "could be "
        f"meant is their mean: reconstructions keep {fine[names[1]] / unit:.0%} of the pictures' fine "
        "detail.",
        f"Averaging does the same: the mean of {DECODINGS} decodings of each picture has "
        f"{fine[names[3]] / unit:.0%} of it, one decoding {fine[names[2]] / unit:.0%}, and the average "
        "of all "
        f"{len(pictures):,} pictures {fine[names[4]] / unit:.0%}.",
        f"A reconstruction misses its picture by {error * 127.5:.0f} of 255 levels and the average "
        "picture by "
        f"{lit * 127.5:.0f}, while two decodings of one picture differ by {apart * 127.5:.0f}: what the "
        "latent does "
        "not say is averaged away, not drawn at random.",
    )
    frequencies = {name: spectrum(faces) for name, faces in kinds.items()}
    curves = [Curve(name, *(each.tolist() for each in both)) for name, both in frequencies.items()]
    rows = slice(0, SHOWN)
    bands = [Faces(faces[rows], (), name.capitalize()) for name, faces in list(kinds.items())[:4]]
    bands.append(Faces(kinds[names[4]], (), f"Average of {len(pictures):,} pictures"))
    return Explained(
        "Why a VAE blurs",
        sentences,
        bands,
        [Chart("Energy by frequency", "cycles a pixel", "", curves, log=True)],
        {"fine_detail": {name: share / unit for name, share in fine.items()}, "error": error, "apart": apart},
    )


def inverse(
    model: Model, pictures: np.ndarray | None = None, *, progress: Progress | None = None
) -> Explained:
    """A flow's exact inverse: pictures to latents and back, and the lengths of the latents.

    ``pictures``: uint8 (N, H, W, 3) at the model's resolution; None: the model's own samples.

    Raises:
        UserError: the family is no flow.
    """
    model.require(Exact)
    called = "pictures"
    if pictures is None:
        pictures, called = (
            gathered(pixels(decoded(model, latents(range(32), model.latent_shape))))[0],
            "samples",
        )
    single = round_trip(model, pictures, progress)
    few = pictures[:SHOWN]
    double = round_trip(model.double(), few, progress)
    size = int(np.prod(model.latent_shape))
    lengths = np.sort(_lengths(single.latents))
    lengths = lengths[np.isfinite(lengths)]
    drawn = np.sort(_lengths(torch.randn(1000, size, generator=torch.Generator().manual_seed(0))))
    low, high = float(np.quantile(drawn, 0.005)), float(np.quantile(drawn, 0.995))
    within = float(((lengths >= low) & (lengths <= high)).mean()) if len(lengths) else 0.0
    worst, best = float(np.nanmax(single.largest)), float(np.nanmax(double.largest))
    kept = float((single.back == single.pictures).all((1, 2, 3)).mean())
    lost = f" {int((~single.finite).sum()):,} are not finite." if not single.finite.all() else ""
    sentences = (
        f"A flow loses nothing: encoded and decoded again, the largest error of {len(pictures):,} "
        f"{called} is "
        f"{worst:.1g} in single precision and {best:.1g} in double; one of 256 levels is 0.0078.{lost}",
        f"{kept:.0%} of them come back with every colour value the same.",
        f"Latents drawn at random have lengths between {low:.3f} and {high:.3f} times the root of "
        f"{size:,}; those "
        f"of the {called} have {np.median(lengths):.3f} at the median, and {within:.0%} lie in that range"
        + ("." if within == 1 else "; the model finds the others unlikely, or more likely than a sample."),
    )
    change = single.back.astype(np.int16) - single.pictures
    difference = (127.5 + SHOWN_DIFFERENCE * change).clip(0, 255).astype(np.uint8)
    rows = slice(0, SHOWN)
    finite = single.finite[rows]
    bands = [
        Faces(single.pictures[rows], (), called.capitalize()),
        Faces(single.back[rows], [f"{e:.1g}" for e in single.largest[rows]], "Out of their latents", finite),
        Faces(difference[rows], (), f"Difference, {SHOWN_DIFFERENCE} times as large, around grey"),
    ]
    shares = np.linspace(0, 1, 41)
    numbers = list(range(1, len(few) + 1))
    return Explained(
        "A flow's exact inverse",
        sentences,
        bands,
        [
            Chart(
                "Lengths of latents, sorted; 1 is usual",
                "share of the latents",
                "",
                [
                    Curve(f"of {called}", shares.tolist(), np.quantile(lengths, shares).tolist()),
                    Curve(
                        "drawn at random", shares.tolist(), np.quantile(drawn, shares).tolist(), dashed=True
                    ),
                ],
            ),
            Chart(
                "Largest error of each",
                called,
                "",
                [
                    Curve("single precision", numbers, _positive(single.largest[: len(few)])),
                    Curve("double precision", numbers, _positive(double.largest)),
                ],
                log=True,
            ),
        ],
        {
            "largest_single": worst,
            "largest_double": best,
            "equal": kept,
            "median_length": float(np.median(lengths)),
        },
    )


def _lengths(z: Tensor) -> np.ndarray:
    """(N,) lengths of latents (N, ...), divided by that of a typical one."""
    flat = z.flatten(1).double()
    return (flat.norm(dim=1) / flat.shape[1] ** 0.5).numpy()


def _positive(values: np.ndarray) -> list[float]:
    """Values for a logarithmic axis: what is 0 becomes the smallest number that a float64 can tell from 1."""
    return np.maximum(values, np.finfo(float).eps).tolist()
