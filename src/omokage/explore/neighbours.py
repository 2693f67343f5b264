"""The training faces nearest to a model's faces, and whether the model has memorised any."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omokage.data.store.faceset import FaceSet
from omokage.data.store.format import MANIFEST
from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.metrics.features import MAX_VECTORS, Extractor, face_features, features_of
from omokage.metrics.heldout import check_unseen
from omokage.metrics.neighbours import NEIGHBOURS, NeighbourReport, check_neighbours, neighbours
from omokage.metrics.perceptual import perceptual_extractor
from omokage.metrics.tag_features import tag_extractor
from omokage.progress import Progress

SPACES = ("perceptual", "tags", "pixels")
FEW = 500  # with fewer held-out faces, the nearest hundredth of them is too few


@dataclass(frozen=True)
class Trained:
    """The faces that a model was trained on, and faces that it has not seen.

    Attributes:
        faces: the training faces.
        heldout: the faces of the other part of the split; None: there are none.
        told: lines to say to the user.
    """

    faces: FaceSet
    heldout: FaceSet | None
    told: list[str]

    @classmethod
    def open(cls, data: str | Path, trained_on: str | None, heldout: str | Path | None = None) -> "Trained":
        """The training set at ``data``, a face set, or a folder with the parts ``train`` and ``heldout``.

        Held-out faces are those of ``heldout``, or of the part ``heldout`` beside ``data``. ``trained_on``:
        the hash of the face set that the model was trained on, if known.

        Raises:
            UserError: no face set there, too few faces, or the model was trained on the held-out faces.
        """
        data = Path(data)
        if not (data / MANIFEST).is_file() and (data / "train" / MANIFEST).is_file():
            data = data / "train"
        faces, told = FaceSet.open(data), []
        check_neighbours(len(faces))
        shown = one_line(data)
        if trained_on is not None and trained_on != faces.content_hash:
            told.append(
                f"{shown} is not the face set that the model was trained on ({trained_on[:12]}): "
                "nothing is said about memorising that one"
            )
        unseen = FaceSet.open(heldout) if heldout is not None else _beside(faces)
        if unseen is None:
            told.append(
                "no held-out faces: training faces are compared with each other, which copies in the set "
                "blur; omokage faces split makes held-out faces, --heldout names them"
            )
        else:
            known = check_unseen(unseen, trained_on, purpose="memorising is measured")
            if heldout is None:
                told.append(f"held-out faces: {one_line(unseen.path)}")
            if len(unseen) < FEW:
                told.append(
                    f"only {len(unseen):,} held-out faces: the nearest 1% of them is a rough measure; "
                    f"{FEW:,} or more are better"
                )
            if not known:
                told.append(
                    f"{one_line(unseen.path)}: it is not known whether the model has seen these faces"
                )
        return cls(faces, unseen, told)


def _beside(faces: FaceSet) -> FaceSet | None:
    """The held-out part of the split that ``faces`` is the training part of, if it lies beside."""
    split, other = faces.manifest.get("split"), faces.path.parent / "heldout"
    if not isinstance(split, dict) or split.get("part") != "train":
        return None
    try:
        theirs = json.loads((other / MANIFEST).read_bytes())["split"]
        same = theirs["part"] == "heldout" and theirs["of"] == split.get("of")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return FaceSet.open(other) if same else None


@dataclass(frozen=True)
class Nearest:
    """The result of `searched`.

    Attributes:
        report: distances and figures of each feature space.
        faces: uint8 (M, H, W, 3), the training faces that ``report`` has indices of; copies of a file are
            there once.
    """

    report: NeighbourReport
    faces: np.ndarray


def searched(
    samples: np.ndarray,
    trained: Trained,
    *,
    k: int = NEIGHBOURS,
    spaces: tuple[str, ...] = SPACES,
    seed: int = 0,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Nearest:
    """The ``k`` training faces nearest to each of ``samples``, uint8 (N, H, W, 3), in several feature spaces.

    Spaces are those of `SPACES`: "perceptual" (feature maps of EfficientNet-Lite0), "tags" (the tag encoder)
    and "pixels". Features of the training faces are kept in the cache.

    Raises:
        UserError: an unknown space, no samples, too few faces, or a feature network is missing.
    """
    unknown = set(spaces) - set(SPACES)
    if unknown:
        raise UserError(f"there is no feature space {sorted(unknown)[0]!r}: there are {', '.join(SPACES)}")
    size = samples.shape[1:3]
    digests = trained.faces.index["sha256"].to_pylist()
    rows = np.sort(np.array(list({digest: row for row, digest in enumerate(digests)}.values())))
    if tell is not None and len(rows) < len(digests):
        tell(
            f"{len(digests) - len(rows):,} of {len(digests):,} training faces are copies of a file; once each"
        )
    check_neighbours(len(rows), k)
    faces = trained.faces.everything(size, progress)[rows]
    unseen = None if trained.heldout is None else trained.heldout.everything(size, progress)
    made: dict[str, Callable[[], Extractor]] = {"perceptual": perceptual_extractor, "tags": tag_extractor}
    known = []
    for name in spaces:
        if name in made:
            extractor = made[name]()
            known.append((extractor, _of_faces(trained.faces, faces, rows, size, extractor, progress)))
    report = neighbours(samples, faces, heldout=unseen, more=known, k=k, seed=seed, progress=progress)
    return Nearest(report, faces)


def _of_faces(
    trained: FaceSet,
    faces: np.ndarray,
    rows: np.ndarray,
    size: tuple[int, ...],
    extractor: Extractor,
    progress: Progress | None,
) -> np.ndarray:
    """Features of the training faces ``rows`` with the pixels ``faces``; cached unless they are too many."""
    if len(trained) > MAX_VECTORS:  # the cache has some of them only
        return features_of(extractor, faces, progress=progress, label=f"{extractor.name} features")
    return face_features(trained, (size[0], size[1]), extractor, progress=progress).features[rows]
