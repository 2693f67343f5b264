"""`omokage build`: makes a face set from illustrations, or from faces."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .options import WORKERS, progress, within

if TYPE_CHECKING:
    from ..data.build import BuildReport

BEYOND = ("too far beyond the border", "crop not wholly in the picture")
MAIN_LOSS = 0.05  # share of the faces found that counts as a main loss


def build(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Folders, tar or zip files, images: paths or URLs.")
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="The face set to write: a folder, or a URL like s3://b/faces.")
    ],
    as_faces: Annotated[
        bool, typer.Option("--as-faces", help="The images are faces already: keep them as they come.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(callback=within(1, 4096), help="Resize to this many pixels; default: keep the size."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels to join: a CSV whose column file names the image, or JSON lines of a booru."
        ),
    ] = None,
    labels_from: Annotated[
        str | None,
        typer.Option(
            metavar="folder|PATTERN",
            help="Labels from file names: their folder, or a regular expression's named groups.",
        ),
    ] = None,
    drop: Annotated[
        str, typer.Option(help="Copies to drop with --as-faces: none (default), exact, near (re-encoded).")
    ] = "none",
    workers: Annotated[int | None, WORKERS] = None,
    engine: Annotated[
        str, typer.Option(help="What does the work: local (default), or ray. The face set is the same.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster, or auto; default: Ray is started here."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="network (default), cascade, cascade-example, or an ONNX file of YOLO boxes."),
    ] = None,
    no_detect: Annotated[bool, typer.Option("--no-detect", help="Every image is one face.")] = False,
    detections: Annotated[
        Path | None, typer.Option(help="A face set of the same sources: use its boxes instead of a detector.")
    ] = None,
    detector_threshold: Annotated[float | None, typer.Option(help="Lowest score of a face, 0 to 1.")] = None,
    rotations: Annotated[
        bool, typer.Option("--rotations", help="Cascades also search the image rotated by 15 degrees.")
    ] = False,
    crop: Annotated[str | None, typer.Option(help="portrait (default), tight, or rai2020.")] = None,
    no_crop: Annotated[bool, typer.Option("--no-crop", help="Crop to the face's box.")] = False,
    aspect: Annotated[float | None, typer.Option(help="Width over height of a crop; default 1.")] = None,
    enlarge: Annotated[float | None, typer.Option(help="Multiply the crop's sides by this.")] = None,
    upright: Annotated[bool, typer.Option("--upright", help="Rotate tilted heads upright.")] = False,
    border: Annotated[
        str | None, typer.Option(help="Beyond the image: reflect (default), edge, white, or leave-out.")
    ] = None,
    close_ups: Annotated[
        str | None,
        typer.Option(help="Faces whose crop is mostly beyond the image: leave-out (default), or tight."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Of animations, use every N-th frame; default: only the first.")
    ] = None,
    background: Annotated[
        str | None, typer.Option(help="For transparent pixels, like black or '#d0e0f0'; default: white.")
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER or NAME=off, for example sharpness=0.06; see docs/building.md."),
    ] = None,
    no_clean: Annotated[bool, typer.Option("--no-clean", help="Keep poor faces too.")] = False,
    mirrored: Annotated[bool, typer.Option("--mirrored", help="Mirror images are duplicates too.")] = False,
    no_duplicates: Annotated[bool, typer.Option("--no-duplicates", help="Keep duplicates.")] = False,
    upscale: Annotated[str | None, typer.Option(help="auto (default), waifu2x, or lanczos.")] = None,
    noise: Annotated[
        int | None, typer.Option(callback=within(-1, 3), help="Noise removal by waifu2x: -1 (none) to 3.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Of waifu2x: anime (default), or cunet (finer).")] = None,
    no_upscale: Annotated[
        bool, typer.Option("--no-upscale", help="Leave out faces smaller than --size.")
    ] = False,
    no_label: Annotated[
        bool, typer.Option("--no-label", help="No labels from .txt and .json beside images or from colours.")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="With --as-faces: a network names hair and eye colours.")
    ] = False,
    min_confidence: Annotated[
        float | None,
        typer.Option(callback=within(0, 1), help="Lowest confidence of estimated colours, 0 to 1."),
    ] = None,
    ratings: Annotated[str | None, typer.Option(help="Ratings to use; default: general.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the detector's network: auto (default), bf16, or fp32.")
    ] = None,
    opt_out: Annotated[Path | None, typer.Option(help="A list of artists and hashes to leave out.")] = None,
    encoding: Annotated[
        str | None,
        typer.Option("--format", help="Of the faces: jpg (default), png, or webp (both lossless)."),
    ] = None,
) -> None:
    """Make a face set: find faces in illustrations, cut them out, clean, scale and label them."""
    for off, name, given in (
        (no_detect, "detect", detector),
        (no_crop, "crop", crop),
        (no_clean, "clean", threshold),
        (no_upscale, "upscale", upscale or model),
    ):
        if off and given:
            raise UserError(
                f"build: --no-{name} and the options of that step exclude each other; leave one out"
            )
    changes: dict[str, Any] = {
        "frames": frames,
        "detector": detector,
        "threshold": detector_threshold,
        "rotations": rotations or None,
        "crop": crop,
        "aspect": aspect,
        "enlarge": enlarge,
        "upright": upright or None,
        "border": border,
        "close_ups": close_ups,
        "limits": tuple(threshold) if threshold else None,
        "mirrored": mirrored or None,
        "upscale": upscale,
        "model": model,
        "background": None if background is None else _colour(background),
        "ratings": tuple(part.strip() for part in ratings.split(",")) if ratings else None,
        "format": encoding,
        "precision": precision,
    }
    chosen = {name: value for name, value in changes.items() if value is not None}
    if noise is not None:
        chosen["noise"] = None if noise < 0 else noise
    for name, off in (("clean", no_clean), ("duplicates", no_duplicates), ("label", no_label)):
        if off:
            chosen[name] = False
    for name, off in (("detector", no_detect), ("crop", no_crop), ("upscale", no_upscale)):
        if off:
            chosen[name] = None
    if as_faces and (chosen or detections):
        raise UserError(
            "build: --as-faces keeps images as they come and takes only "
            "--size, --labels, --labels-from, --opt-out, --drop, --estimate, --min-confidence, --workers, "
            "--engine and --address"
        )
    further: dict[str, Any] = {"workers": workers, "engine": engine, "address": address, "opt_out": opt_out}
    further |= {"labels_from": labels_from, "drop": drop, "estimate": estimate}
    if as_faces:
        further["min_confidence"] = min_confidence or 0.0
    else:
        from ..data.build.options import Options

        chosen |= {} if min_confidence is None else {"min_confidence": min_confidence}
        further |= {"options": Options(**chosen), "detections": detections}
    _run(sources, out, as_faces, size, labels, further)


def _colour(name: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    from ..data.text import one_line

    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        raise UserError(
            f"--background {one_line(name, 40)!r} is not a colour: give a name like black, or #rrggbb"
        ) from None
    return red, green, blue


def _run(
    sources: list[str],
    out: str,
    as_faces: bool,
    size: int | None,
    labels: Path | None,
    further: dict[str, Any],
) -> None:
    from ..data.build import build as run
    from ..data.derive.optout import told as opt_out_told
    from ..data.sources.matching import told as labels_told
    from ..data.sources.names import told as names_told
    from ..data.sources.places import shown, url_of

    report = run(sources, out, as_faces=as_faces, size=size, labels=labels, progress=progress(), **further)
    out = (out if (url := url_of(out)) is None else shown(url)).rstrip("/") or out
    what = "images" if report.pictures is None else "faces"
    if report.already:
        print(f"{out} is complete already: {report.kept:,} of {report.found:,} {what}")
        _lines([*labels_told(report.labels), *opt_out_told(report.opt_out)])
        return
    if report.pictures is not None:
        told = report.pictures
        print(f"{told['found']:,} images, {told['kept']:,} of them with a face that is kept")
        _list(told["rejected"], told["reasons"], "images")
        if unreadable := told.get("unreadable_labels"):
            first = "".join(f"; the first: {named}" for named in told.get("unreadable_labels_named", ())[:1])
            bad = "labels beside them that cannot be read, or that name no image"
            print(f"{unreadable:,} images have {bad}{first}")
    print(f"{report.kept:,} of {report.found:,} {what} kept in {out} ({report.seconds:.1f} s)")
    if report.rejected:
        print(f"{report.rejected:,} left out, listed in {out}/rejected.csv:")
        for reason, count in sorted(report.reasons.items(), key=lambda item: -item[1]):
            print(f"{count:>9,}  {reason}")
    _lines([*labels_told(report.labels), *opt_out_told(report.opt_out)])
    if report.close_ups:
        print(f"{report.close_ups:,} close-ups are cut out more tightly than the others")
    _tell_copies(report)
    _tell_close_ups(report, out)
    _lines(names_told(report.names))
    _tell_beside(report, sources)
    print(f"see {out}/report.html")


def _lines(lines: list[str]) -> None:
    for line in lines:
        print(line)


def _tell_copies(report: "BuildReport") -> None:
    """Print how many copies were kept, and how many variants of one drawing, which are not copies."""
    if report.duplicates:
        how = "--drop exact leaves them out, --drop near also those in another encoding"
        how = how if report.pictures is None else "without --no-duplicates they are left out"
        print(f"{report.duplicates:,} byte-for-byte copies of others are kept: {how}")
    if report.variants:
        print(f"{report.variants:,} variants of others (eyes closed, other clothes) are kept, no copies")


def _tell_close_ups(report: "BuildReport", out: str) -> None:
    """If many faces are lost because their crops reach beyond the image, say how to keep them."""
    lost = sum(report.reasons.get(reason, 0) for reason in BEYOND)
    if lost and lost >= MAIN_LOSS * report.found:
        print(
            f"{lost:,} of {report.found:,} faces are close-ups, whose crop reaches beyond the image: "
            "--close-ups tight keeps most of them; "
            f"with --detections {shlex.quote(out)} nothing is detected again"
        )


def _tell_beside(report: "BuildReport", sources: list[str]) -> None:
    """Say which label files beside the faces were not used, and how to use them."""
    if report.tables:
        named = _as_typed(report.tables[0], sources)
        several = f" and {len(report.tables) - 1} more" if len(report.tables) > 1 else ""
        print(f"not used: the table of labels {named}{several}; --labels {shlex.quote(named)} joins it")
    if others := report.beside - len(report.tables):
        print(f"not used: {others:,} label files beside images; --as-faces does not read them, use --labels")


def _as_typed(file: str, sources: list[str]) -> str:
    """The path of a source's file, given as NAME/FILE, in the form that the user would type."""
    source, _, name = file.partition("/")
    for given in sources:
        place = Path(given).expanduser() / name
        if Path(given).name == source and place.is_file():
            return str(place)
    return file


def _list(total: int, reasons: dict[str, int], what: str) -> None:
    if total:
        print(f"{total:,} {what} without a usable face:")
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            print(f"{count:>9,}  {reason}")
