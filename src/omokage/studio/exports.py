"""The studio's exports: faces in, one file out. The server calls these functions; they know no network.

Every file says that its faces were generated, how they were made, and whether they may be sold.
"""

import json
import re
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from omokage import exploring
from omokage.cutout import available, cut_out
from omokage.data.steps.upscale import to_size
from omokage.data.text import one_line
from omokage.errors import UserError
from omokage.explore.faces import Faces
from omokage.explore.inputs import Gathered
from omokage.explore.points import drawn, joined, stacked
from omokage.explore.provenance import PAGE, Provenance, settings_json
from omokage.model import Model
from omokage.pages.character_sheet import MOST_VARIATIONS, Character, write_character_sheet
from omokage.pages.files import checked_folder, recipe_text, replacing, save_png
from omokage.pages.palette import palette
from omokage.pages.sheet import bands, check_bands, chosen_columns
from omokage.pages.upscale import FACTORS, Upscale
from omokage.progress import Progress, Task, opened
from omokage.settings import Settings
from omokage.studio.faces import (
    ID,
    MADE_WITH,
    Face,
    Item,
    Kept,
    Near,
    Resolver,
    Seed,
    document,
    flattened,
    hash_of,
    item_settings,
    recipe,
)
from omokage.terms import generated, terms

MAX_FACES = 500  # in one file
MAX_FILM_FACES = 60
MAX_SECONDS = 300.0
MAX_SIDE = 4096  # of one face
MAX_PIXELS = 400_000_000  # of all faces in one file, about 800 MB
CONTACT = 256  # largest side of a face on a contact sheet
SHEET_FACE, SHEET_VARIATION = 768, 256  # least pixels of a character sheet's faces, where 8 times reaches it
MAX_BOARD = 20 * 2**20  # bytes of a board file
MAX_PINS, MAX_NOTE, MAX_NAME = 5000, 4000, 200
BOARD = ".omokage-board"
KINDS = ("png", "sheet", "contact", "folder", "film", "board")
MEDIA_TYPES = {
    ".png": "image/png", ".pdf": "application/pdf", ".zip": "application/zip", ".mp4": "video/mp4",
    ".omokage-board": "application/json",
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: the file.
        media_type: such as "image/png".
        told: sentences to show beside the download; the last one says whether the faces may be sold.
    """

    path: Path
    media_type: str
    told: list[str]


def _recipe(
    items: Sequence[Item], kind: str, arguments: Mapping[str, Any], enlarge: Mapping[str, Any]
) -> Provenance:
    """The recipe of a file with these faces, see `omokage.studio.faces.recipe`.

    If the faces have several models or settings, it is that of a page: it has the points of those that are
    like the first one, and the documents of all.
    """
    alike = [item for item in items if _alike(item, items[0])]
    told = replace(recipe(alike, kind, arguments), upscale=enlarge)
    if len(alike) == len(items):
        return told
    documents = [document(item.face) for item in items]
    return replace(told, kind=PAGE, arguments={**told.arguments, "studio": documents})


def _alike(item: Item, first: Item) -> bool:
    """Whether one recipe can hold both faces: the same model, space and settings but for psi."""
    same = item.model.snapshot_hash == first.model.snapshot_hash and item.points.space == first.points.space
    return same and replace(item.settings, psi=1.0) == replace(first.settings, psi=1.0)


def write(
    kind: str,
    items: Sequence[Item],
    folder: str | Path,
    *,
    scale: int = 1,
    transparent: bool = False,
    format: str = "png",
    name: str = "",
    notes: str = "",
    recipe: bool = True,
    seconds: float | None = None,
    loop: bool = True,
    size: int | None = None,
    language: str = "en",
    board: bytes | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write one file into ``folder``.

    Args:
        kind: "png": one face, or a zip of several; "contact": all faces with their names on one picture;
            "sheet": a character sheet, the first face large and the others as its variations, or some that
            are made here if it is alone; "film": from face to face; "folder": a zip with everything; "board":
            the board file.
        items: the faces, at most `MAX_FACES`.
        scale: 1, 2, 4 or 8: enlarged with waifu2x, or with Lanczos where that is not installed.
        transparent: faces without background ("png", "sheet" and "folder").
        format: "png", or "pdf" for a character sheet.
        name, notes: for the file name and the pages.
        recipe: False: files say no more about their making than that the faces are generated.
        seconds, loop, size: of a film; ``size`` is the least side of its faces in pixels.
        language: "en" or "ja", of the sentences in files.
        board: the board file's bytes from `board_text`; needed for "board", added to "folder".
        progress: receives reports; if its ``advance`` raises, nothing is left in ``folder``.

    Raises:
        UserError: no or too many faces, impossible values, or a file that cannot be written.
    """
    if kind not in KINDS:
        raise UserError(f"no export {one_line(kind, 40)!r}: there are {', '.join(KINDS)}")
    if not items and kind != "board":
        raise UserError("no faces to export: pin some")
    if len(items) > MAX_FACES:
        raise UserError(f"{len(items):,} faces are too many for one file: at most {MAX_FACES}")
    if scale not in FACTORS:
        raise UserError(f"scale {scale}: allowed is 1, 2, 4 or 8")
    if format not in ("png", "pdf") or (format == "pdf" and kind != "sheet"):
        raise UserError(f"{kind} as {one_line(format, 20)}: only character sheets are written as pdf")
    largest = max((max(item.model.resolution) for item in items), default=0)
    if largest * scale > MAX_SIDE:
        raise UserError(f"{scale} times {largest} px is over {MAX_SIDE} px a side: choose a smaller scale")
    pixels = sum(int(np.prod(item.model.resolution)) * scale**2 for item in items)
    if kind in ("png", "folder") and pixels > MAX_PIXELS:
        many = f"{len(items):,} faces at {scale} times their size"
        raise UserError(f"{many} are too much for one file: choose fewer, or a smaller scale")
    enlarge = Upscale(scale, transparent=transparent and kind in ("png", "folder"))
    made = _Making(list(items), checked_folder(folder), enlarge, name, notes, recipe, language, progress, [])
    if kind == "png":
        path = made.png() if len(items) == 1 else made.pack("faces", made.faces())
    elif kind == "contact":
        path = made.contact(made.target("contact-sheet.png"))
    elif kind == "film":
        path = made.film(seconds, loop, size)
    elif kind == "folder":
        path = made.everything(board)
    elif kind == "board":
        path = made.board(board)
    else:
        path = made.sheet(made.target(f"character.{format}"), transparent)
    return Exported(path, MEDIA_TYPES[path.suffix], made.sentences())


def write_sheet(
    items: Sequence[Item],
    out: str | Path,
    *,
    name: str = "",
    notes: str = "",
    transparent: bool = False,
    recipe: bool = True,
    language: str = "en",
    progress: Progress | None = None,
) -> Exported:
    """Write a character sheet to the file ``out``, a .png or .pdf. Everything else is as in `write`."""
    if not items:
        raise UserError("no faces for a character sheet")
    made = _Making(list(items), Path(out).parent, Upscale(), name, notes, recipe, language, progress, [])
    path = made.sheet(Path(out), transparent)
    return Exported(path, MEDIA_TYPES[path.suffix.lower()], made.sentences())


def items_of(
    model: Model, faces: Gathered, settings: Settings, progress: Progress | None = None
) -> list[Item]:
    """The faces that a command was given, drawn, as the studio's functions take them."""
    pixels, finite = stacked(drawn(model, faces.points, settings, progress), model.resolution)
    own = {key: value for key, value in settings_json(settings).items() if key not in ("psi", "conditions")}
    found = []
    for row, (name, origin) in enumerate(zip(faces.names, faces.origins, strict=True)):
        points = faces.points[[row]]
        seed = isinstance(settings.noise, str) and "seed" in origin
        base = Seed(int(origin["seed"])) if seed else Kept(hash_of(points))
        kept = {key: value for key, value in own.items() if key in MADE_WITH}
        free = seed or points.w is None  # else psi and conditions are in the style
        psi = points.psi[0] if points.psi and free else 1.0
        conditions = dict(settings.conditions) if free else {}
        face = Face(model.snapshot_hash[:ID], base, psi, kept, conditions)
        shown = "" if seed else name
        found.append(
            Item(face, model, points, item_settings(model, face), pixels[row], bool(finite[row]), shown)
        )
    return found


@dataclass(frozen=True)
class _Making:
    """One export in the making; the attributes are those of `write`. ``told``: what there is to say."""

    items: list[Item]
    folder: Path
    enlarge: Upscale
    name: str
    notes: str
    recipe: bool
    language: str
    progress: Progress | None
    told: list[str]

    def target(self, plain: str) -> Path:
        """A file in the folder: its name is the given name, if there is one, with the suffix of ``plain``."""
        return self.folder / f"{safe_name(self.name) or Path(plain).stem}{Path(plain).suffix}"

    def terms(self, items: Sequence[Item]) -> list[str]:
        """The terms of these faces, each sentence once."""
        return list(dict.fromkeys(terms(item.model, self.language).sentence for item in items))

    def sentences(self) -> list[str]:
        """What to show beside the download."""
        return [*_lanczos(self.enlarge), *dict.fromkeys(self.told), *self.terms(self.items)]

    def text(
        self, items: Sequence[Item], kind: str, enlarge: Mapping[str, Any] | None = None, **arguments: Any
    ) -> dict[str, str]:
        """Text chunks of a file: that its faces are generated, their terms, and its recipe."""
        words = [generated(), *([generated(self.language)] if self.language != "en" else [])]
        text = {"Source": " / ".join(words), "Disclaimer": " ".join(self.terms(items))}
        if not self.recipe:
            return text
        if items[0].note and len(items) == 1:
            text["Comment"] = one_line(items[0].note, MAX_NOTE)
        told = _recipe(items, kind, arguments, enlarge or {})
        return recipe_text(told, [item.finite for item in items]) | text

    def png(self) -> Path:
        """One face as a picture."""
        with opened(self.progress, "writing the face", self.enlarge.steps + 1) as task:
            return self.face(self.items[0], self.target("face.png"), task)

    def face(self, item: Item, path: Path, task: Task) -> Path:
        """Write one face. Advances ``task`` by the steps of enlarging and one for the file."""
        cut = len(self.enlarge.clean)
        shown = self.enlarge.one(item.pixels, task.advance)
        if not all(self.enlarge.clean[cut:]):
            self.told.append(f"{one_line(item.caption, 40)}: not cut out cleanly; look at the edges")
        task.advance()
        return save_png(shown, path, self.text([item], "face", self.enlarge.text))

    def faces(self, below: str = "") -> Iterator[tuple[str, Path]]:
        """All faces as files: their names in a zip, and where they are until they are packed."""
        steps = (self.enlarge.steps + 1) * len(self.items)
        with opened(self.progress, "writing faces", steps) as task:
            for number, item in enumerate(self.items, 1):
                path = self.folder / f".face-{number:03d}.png"
                try:
                    self.face(item, path, task)
                    yield f"{below}{number:03d}-{safe_name(item.caption) or 'face'}.png", path
                finally:
                    path.unlink(missing_ok=True)

    def everything(self, board: bytes | None) -> Path:
        """A zip with the faces, the contact sheet and the board file."""

        def files() -> Iterator[tuple[str, Path]]:
            yield from self.faces("faces/")
            for name, write_it in (
                ("contact-sheet.png", self.contact),
                *([(f"board{BOARD}", lambda path: self.board(board, path))] if board is not None else []),
            ):
                path = self.folder / f".{name}"
                try:
                    yield name, write_it(path)
                finally:
                    path.unlink(missing_ok=True)

        return self.pack("board", files())

    def pack(self, plain: str, files: Iterator[tuple[str, Path]]) -> Path:
        """Pack files into one zip, with a README that says what they are."""
        path = self.target(f"{plain}.zip")
        inside, names = safe_name(self.name) or plain, list[str]()
        with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w") as packed:
            for name, file in files:
                kept = zipfile.ZIP_STORED if file.suffix == ".png" else zipfile.ZIP_DEFLATED
                packed.write(file, f"{inside}/{name}", compress_type=kept)
                names.append(name)
            packed.writestr(f"{inside}/README.txt", self.readme(names), zipfile.ZIP_DEFLATED)
        return path

    def readme(self, names: Sequence[str]) -> str:
        """The README of a zip that has these files."""
        lines = [one_line(self.name, MAX_NAME) or "Omokage", ""]
        lines += [self.notes, ""] if self.notes else []
        lines += [f"{len(self.items)} × {generated(self.language)}", *self.sentences(), ""]
        lines += [*dict.fromkeys(item.model.about.line() for item in self.items), ""]
        if self.recipe:
            lines += [f"omokage show {next(name for name in names if name.endswith('.png'))}", ""]
        lines += names
        return "\n".join(lines) + "\n"

    def contact(self, path: Path) -> Path:
        """All faces on one page."""
        with opened(self.progress, "contact sheet", 1) as task:
            height, width = self.items[0].model.resolution
            share = min(1.0, CONTACT / max(height, width))
            size = (max(1, round(height * share)), max(1, round(width * share)))
            columns = chosen_columns(len(self.items), None)
            check_bands([len(self.items)], size, columns, path, headed=False)
            pixels = np.stack([to_size(np.ascontiguousarray(item.pixels), size)[0] for item in self.items])
            captions = [one_line(item.caption, 24) for item in self.items]
            many = f"{len(self.items):,} generated face{'s'[: len(self.items) > 1]}"
            title = one_line(self.name, 60) or many
            models = dict.fromkeys(item.model.about.recipe for item in self.items)
            line = "  ·  ".join([many if self.name else "generated with Omokage", *models])
            text = self.text(self.items, "contact", columns=columns, title=title)
            task.advance()
            return bands([Faces(pixels, captions)], path, title=title, line=line, columns=columns, text=text)

    def sheet(self, path: Path, transparent: bool) -> Path:
        """A character sheet."""
        first = self.items[0]
        others = self.items[1 : MOST_VARIATIONS + 1] or variations(first)
        if len(self.items) > MOST_VARIATIONS + 1:
            self.told.append(f"a character sheet shows {MOST_VARIATIONS} variations; the others are left out")
        parts = [
            (item, Upscale(_reaching(item, SHEET_VARIATION if row else SHEET_FACE), transparent=transparent))
            for row, item in enumerate([first, *others])
        ]
        with opened(self.progress, "character sheet", sum(part.steps for _, part in parts) + 1) as task:
            shown = [part.one(item.pixels, task.advance) for item, part in parts]
            task.advance()
        self.told.extend(_lanczos(parts[0][1]))
        unclean = [one_line(item.caption, 40) for item, part in parts if not all(part.clean)]
        if unclean:
            self.told.append(f"not cut out cleanly, look at the edges: {', '.join(unclean)}")
        character = Character(
            shown[0],
            one_line(self.name, 80),
            self.notes[:MAX_NOTE],
            palette(first.pixels, _figure(first.pixels)),
            [(face, one_line(item.caption, 60)) for face, item in zip(shown[1:], others, strict=True)],
            self.foot(first),
            self.language,
        )
        text = self.text([first, *others], "character", parts[0][1].text)
        written, told = write_character_sheet(character, path, text)
        self.told.extend(told)
        return written

    def foot(self, item: Item) -> list[str]:
        """The small print of a character sheet: that it is generated, by what, how, and its terms."""
        made = [f"psi {item.face.psi:g}", item.caption] if self.recipe else []
        return [generated(self.language), item.model.about.line(*made), *self.terms([item])]

    def film(self, seconds: float | None, loop: bool, size: int | None) -> Path:
        """A walk from face to face."""
        first = self.items[0]
        if not all(_alike(item, first) for item in self.items):
            raise UserError("a film goes between faces of one model with the same settings; choose such ones")
        if len(self.items) > MAX_FILM_FACES or (seconds is not None and not 0 < seconds <= MAX_SECONDS):
            raise UserError(f"a film has up to {MAX_FILM_FACES} faces and {MAX_SECONDS:g} seconds")
        side = min(first.model.resolution)
        fitting = [factor for factor in FACTORS if size is None or side * factor >= size]
        enlarge = Upscale(max(self.enlarge.factor, fitting[0] if fitting else FACTORS[-1]))
        if max(first.model.resolution) * enlarge.factor > MAX_SIDE // 4:
            raise UserError(f"a film has faces of up to {MAX_SIDE // 4} px: choose a smaller size")
        said: dict[str, Any] = {"loop": loop} | ({} if seconds is None else {"seconds": seconds})
        faces = Gathered(
            joined([item.points for item in self.items]),
            [one_line(item.caption, 40) for item in self.items],
            [{"seed": item.face.seed} if item.plain else {"name": item.caption} for item in self.items],
        )
        made = exploring.walk(
            first.model, faces, self.target("film.mp4"), settings=first.settings, seconds=seconds, loop=loop,
            enlarge=enlarge, text=self.text(self.items, "walk", enlarge.text, **said), progress=self.progress,
        )  # fmt: skip
        self.told.extend([*made.told, *_lanczos(enlarge)])
        return made.path

    def board(self, board: bytes | None, path: Path | None = None) -> Path:
        """The board file."""
        if board is None:
            raise UserError("board: there is no board to write")
        path = path or self.target(f"board{BOARD}")
        with replacing(path) as unfinished:
            unfinished.write_bytes(board)
        return path


def _reaching(item: Item, side: int) -> int:
    """The factor that makes a face at least ``side`` pixels large, or the largest there is."""
    return next((factor for factor in FACTORS if min(item.model.resolution) * factor >= side), FACTORS[-1])


def _figure(pixels: np.ndarray) -> np.ndarray | None:
    """Where the face is, bool (H, W), if its background can be cut out cleanly; else None."""
    if not available():
        return None
    cut = cut_out(pixels)
    return cut.alpha > 0.9 if cut.clean else None


def variations(item: Item, number: int = 6, distance: float = 0.3) -> list[Item]:
    """Faces near ``item``, as the page makes them: variations of seeds 0 and up."""
    flat = flattened(item.model, item.face, item.points)
    kept = replace(item.points, psi=(1.0,)) if item.points.w is None else item.points
    near = [Face(flat.model, Near(flat, seed, distance)) for seed in range(number)]
    points = joined(Resolver(item.model, lambda _: kept).points(near))
    own = item_settings(item.model, near[0])
    pixels, finite = stacked(drawn(item.model, points, own), item.model.resolution)
    return [
        Item(face, item.model, points[[row]], own, pixels[row], bool(finite[row]), str(row + 1))
        for row, face in enumerate(near)
    ]


def _lanczos(enlarge: Upscale) -> list[str]:
    """What to say where waifu2x is not installed."""
    return [line.replace("--upscale uses", "Enlarged by") for line in enlarge.told]


def safe_name(name: str) -> str:
    """A file name, without its suffix, that every system takes; "": nothing is left.

    >>> safe_name("../Rei / 綾波 no. 1"), safe_name("..")
    ('Rei-綾波-no.-1', '')
    """
    letters = re.sub(r"[^\w.]+", "-", unicodedata.normalize("NFC", name), flags=re.UNICODE)
    found = letters.strip("-._")
    while len(found.encode()) > 80:
        found = found[:-1]
    return f"{found}-" if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", found.split(".")[0]) else found


def board_text(name: str, pins: Sequence[Mapping[str, Any]], points: Mapping[str, Any]) -> bytes:
    """A board file: JSON with the pins and the points that their faces name.

    Args:
        pins: {"face", "note", "favourite", "parents": [places in this list], "made_by"} each.
        points: by hash, {"space": "z" or "w", "packed": as `omokage.explore.provenance.packed` writes it}.

    >>> read_board(board_text("Rei", [{"face": {"model": "0" * 12, "from": {"seed": 3}}}], {}))["name"]
    'Rei'
    """
    told = {
        "format": "omokage board 1",
        "generated": generated(),
        "name": name,
        "pins": [dict(pin) for pin in pins],
        "points": dict(points),
    }
    return json.dumps(told, ensure_ascii=False, indent=1, allow_nan=False).encode()


def read_board(data: bytes) -> dict[str, Any]:
    """What a board file has: {"name", "pins", "points"}, see `board_text`. Missing entries are filled in.

    Raises:
        UserError: too large, or no board file; the message says what is wrong.
    """
    if len(data) > MAX_BOARD:
        raise UserError(f"the board file is larger than {MAX_BOARD // 2**20} MB")
    try:
        told = json.loads(data.decode("utf-8"), parse_constant=_refused)
    except (ValueError, RecursionError):
        raise UserError("this is no board file: it is not readable JSON") from None
    if not isinstance(told, dict) or told.get("format") != "omokage board 1":
        raise UserError("this is no board file of this version of Omokage")
    pins, points = told.get("pins"), told.get("points", {})
    if not isinstance(pins, list) or not isinstance(points, dict) or len(pins) > MAX_PINS:
        raise UserError(f"the board file is damaged: its pins are not a list of up to {MAX_PINS:,}")
    return {
        "name": _words(told.get("name", ""), MAX_NAME, "its name"),
        "pins": [_pin(pin, number, len(pins)) for number, pin in enumerate(pins)],
        "points": {_hash(key): _point(value) for key, value in points.items()},
    }


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not allowed")


def _words(value: Any, longest: int, what: str) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise UserError(f"the board file is damaged: {what} is no text of up to {longest:,} letters")
    return value


def _pin(pin: Any, number: int, total: int) -> dict[str, Any]:
    what = f"pin {number + 1}"
    if not isinstance(pin, dict) or not isinstance(pin.get("face"), dict):
        raise UserError(f"the board file is damaged: {what} has no face")
    parents, favourite = pin.get("parents", []), pin.get("favourite", False)
    right = isinstance(parents, list) and all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one < total and one != number
        for one in parents
    )
    if not right or not isinstance(favourite, bool):
        raise UserError(f"the board file is damaged: {what} has impossible parents")
    return {
        "face": pin["face"],
        "note": _words(pin.get("note", ""), MAX_NOTE, f"the note of {what}"),
        "favourite": favourite,
        "parents": parents,
        "made_by": _words(pin.get("made_by", "import"), 20, f"the making of {what}"),
    }


def _hash(key: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise UserError("the board file is damaged: a point has no right name")
    return key


def _point(value: Any) -> dict[str, Any]:
    packed = value.get("packed") if isinstance(value, dict) else None
    if not isinstance(packed, dict) or value.get("space") not in ("z", "w"):
        raise UserError("the board file is damaged: a point has no coordinates")
    shape, numbers = packed.get("shape"), packed.get("float32")
    right = isinstance(shape, list) and all(isinstance(side, int) and 0 < side < 10**6 for side in shape)
    if not right or not isinstance(numbers, str) or packed.get("rows", 1) != 1:
        raise UserError("the board file is damaged: a point has no coordinates")
    return {"space": value["space"], "packed": packed}
