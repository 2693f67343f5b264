"""Training pictures for the face detector: real crops and drawn characters on backgrounds without faces.

No whole illustration of an artist is used. Backgrounds are drawn, computed, or collages of parts of face
crops without a face. The box of a face in a crop is the cascade's box, reduced from the head to the face (see
`TO_FACE`). If the cascade finds none, it is the mean box of the data set.
"""

import io
import itertools
import string
import tarfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from omokage.data.drawn.backgrounds import paint_background, paint_clutter
from omokage.data.drawn.canvas import Canvas
from omokage.data.drawn.factors import draw_factors, stream
from omokage.data.drawn.scene import draw_illustration

SIDE = 128
TO_FACE = 1 / 1.43
"""Side of the face (brow to chin) divided by the side of the cascade's box, which includes some hair."""
RISE = 0.07
"""Distance of the face's centre above the centre of the cascade's box, in sides of the face."""

# tar, side of the crop, usual box of the cascade (centre x, centre y, side) as parts of it
SETS = (
    ("getchu-faces-64.tar", 64, (0.498, 0.606, 0.961)),
    ("tagged-faces-96.tar", 96, (0.496, 0.504, 0.928)),
    ("faces-256.tar", 128, (0.495, 0.495, 0.759)),
)


@dataclass
class Crop:
    """A real face. image: uint8 RGB (S, S, 3); box: centre x, centre y, side in pixels."""

    image: np.ndarray
    box: tuple[float, float, float]


def load_crops(data: Path, cascade: cv2.CascadeClassifier, most: int, skip: int = 0) -> list[Crop]:
    """Up to ``most`` crops of each set, in a fixed random order, without the first ``skip``."""
    crops = []
    for name, side, usual in SETS:
        with tarfile.open(data / name) as archive:
            members = sorted((m for m in archive if m.isfile()), key=lambda m: m.name)
            order = np.random.default_rng(0).permutation(len(members))[skip : skip + most]
            for i in sorted(order):
                file = archive.extractfile(members[i])
                image = None if file is None else cv2.imdecode(np.frombuffer(file.read(), np.uint8), 1)
                if image is None or min(image.shape[:2]) < 32:
                    continue
                image = cv2.resize(image[:, :, ::-1], (side, side), interpolation=cv2.INTER_AREA)
                crops.append(Crop(image, _box(image, cascade, usual)))
    return crops


def _box(image: np.ndarray, cascade: cv2.CascadeClassifier, usual: tuple) -> tuple[float, float, float]:
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (96, 96), interpolation=cv2.INTER_AREA)
    grey = cv2.copyMakeBorder(grey, 24, 24, 24, 24, cv2.BORDER_REPLICATE)
    x, y, side = usual
    found = cascade.detectMultiScale(cv2.equalizeHist(grey), 1.1, 2, minSize=(44, 44))
    for bx, by, bw, _ in found:
        cx, cy, w = (bx + bw / 2 - 24) / 96, (by + bw / 2 - 24) / 96, bw / 96
        if abs(cx - usual[0]) < 0.12 and abs(cy - usual[1]) < 0.12 and abs(w / usual[2] - 1) < 0.35:
            x, y, side = cx, cy, w
            break
    side *= TO_FACE
    return x * image.shape[1], (y - RISE * side) * image.shape[0], side * image.shape[1]


class Scenes:
    """Makes training windows: `window(rng)` -> uint8 (128, 128, 3), faces [(cx, cy, w, h, radians)]."""

    def __init__(self, crops: list[Crop], drawn: int, seed: int) -> None:
        self.crops = crops
        self.grounds = [_ground(seed + i) for i in range(max(8, drawn // 3))]
        self.drawn = []
        rng = np.random.default_rng(seed)
        for i in range(drawn):
            shape = (int(rng.integers(200, 420)), int(rng.integers(200, 520)))
            scene = draw_illustration(seed + i, shape)
            rolls = [np.deg2rad(f["roll"]) for f in scene.factors]
            self.drawn.append((scene.image, scene.boxes, rolls))

    def window(self, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple]]:
        kind = rng.random()
        if kind < 0.22 and self.drawn:
            image, faces = self._drawn_window(rng)
            if rng.random() < 0.4:
                self._paste_some(image, faces, rng, 2)
        else:
            image, faces = self._ground(rng), []
            if kind < 0.84:
                self._paste_some(image, faces, rng, 4)
        return _spoil(image, rng), [f for f in faces if 3 < f[0] < SIDE - 3 and 3 < f[1] < SIDE - 3]

    def _drawn_window(self, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple]]:
        image, boxes, rolls = self.drawn[rng.integers(len(self.drawn))]
        x, y, w, h = boxes[rng.integers(len(boxes))]
        scale = np.exp(rng.uniform(np.log(12), np.log(70))) / h
        centre = np.array([x + w / 2, y + h / 2]) + rng.uniform(-1, 1, 2) * 45 / scale
        matrix = np.array(
            [[scale, 0, SIDE / 2 - scale * centre[0]], [0, scale, SIDE / 2 - scale * centre[1]]]
        )
        if flip := rng.random() < 0.5:
            matrix = np.array([[-1, 0, SIDE], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
        mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        if scale < 0.7:  # warpAffine cannot average areas
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=mode)
            scaled = np.diag([1 / scale, 1 / scale, 1])
            matrix_image = matrix @ scaled
        else:
            matrix_image = matrix
        out = cv2.warpAffine(
            image, matrix_image, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=_border(rng)
        )
        faces = []
        for (x, y, w, h), roll in zip(boxes, rolls, strict=True):
            cx, cy = matrix @ [x + w / 2, y + h / 2, 1]
            faces.append((cx, cy, w * scale, h * scale, -roll if flip else roll))
        return out, faces

    def _ground(self, rng: np.random.Generator) -> np.ndarray:
        kind = rng.random()
        if kind < 0.25:
            image = _plain(rng)
        elif kind < 0.5:
            source = self.grounds[rng.integers(len(self.grounds))]
            image = _piece(source, rng, int(rng.integers(40, 200)))
        elif kind < 0.62:
            image = _texture(rng)
        else:
            image = self._collage(rng)
        for _ in range(int(rng.integers(0, 4))):
            _shape(image, rng)
        for _ in range(int(rng.integers(0, 5)) if rng.random() < 0.5 else 0):
            fragment, size = self._fragment(rng), int(rng.integers(12, 90))
            x, y = (int(v) for v in rng.integers(-size // 2, SIDE - size // 2, 2))
            _paste(
                image,
                cv2.resize(fragment, (size, size), interpolation=cv2.INTER_AREA),
                x,
                y,
                _mask(size, rng),
            )
        if rng.random() < 0.25:
            _write(image, rng)
        return image

    def _collage(self, rng: np.random.Generator) -> np.ndarray:
        n = int(rng.integers(1, 4))
        edges = np.linspace(0, SIDE, n + 1).astype(int)
        image = np.empty((SIDE, SIDE, 3), np.uint8)
        for y0, y1 in itertools.pairwise(edges):
            for x0, x1 in itertools.pairwise(edges):
                piece = self._fragment(rng)
                image[y0:y1, x0:x1] = cv2.resize(piece, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        return image

    def _fragment(self, rng: np.random.Generator) -> np.ndarray:
        """A part of a crop without a face: a piece beside the face, a detail, or shuffled patches."""
        crop = self.crops[rng.integers(len(self.crops))]
        image, (cx, cy, side) = crop.image, crop.box
        total = image.shape[0]
        kind = rng.random()
        if kind < 0.4:  # shuffled patches: all strokes of a face, but no face
            n = int(rng.integers(3, 8))
            step = total // n
            tiles = [
                image[i * step : (i + 1) * step, j * step : (j + 1) * step]
                for i in range(n)
                for j in range(n)
            ]
            order = rng.permutation(len(tiles))
            rows = [np.hstack([tiles[k] for k in order[i * n : (i + 1) * n]]) for i in range(n)]
            return np.vstack(rows)
        if kind < 0.65:  # a detail: an eye, a mouth, a strand
            size = int(side * rng.uniform(0.22, 0.42))
            x, y = (int(v) for v in rng.integers(0, total - size, 2))
            return image[y : y + size, x : x + size]
        top, bottom = int(max(cy - side * 0.55, 0)), int(min(cy + side * 0.55, total))
        left, right = int(max(cx - side * 0.5, 0)), int(min(cx + side * 0.5, total))
        choices = [image[:top], image[bottom:], image[:, :left], image[:, right:]]
        choices = [c for c in choices if min(c.shape[:2]) >= 8]
        if not choices:
            return image[:8, :8]
        piece = choices[rng.integers(len(choices))]
        size = min(piece.shape[:2])
        x, y = (int(rng.integers(0, piece.shape[a] - size + 1)) for a in (1, 0))
        return np.rot90(piece[y : y + size, x : x + size], rng.integers(4))

    def _paste_some(self, image: np.ndarray, faces: list[tuple], rng: np.random.Generator, most: int) -> None:
        for _ in range(int(rng.integers(1, most + 1))):
            crop = self.crops[rng.integers(len(self.crops))]
            side = float(np.exp(rng.uniform(np.log(12), np.log(76))))
            place = rng.uniform(0, SIDE, 2)
            if any(np.hypot(place[0] - f[0], place[1] - f[1]) < 0.75 * (side + f[2]) for f in faces):
                continue
            face = self._paste_face(image, crop, place, side, rng)
            faces.append(face)

    def _paste_face(
        self, image: np.ndarray, crop: Crop, place: np.ndarray, side: float, rng: np.random.Generator
    ) -> tuple:
        total = crop.image.shape[0]
        cx, cy, own = crop.box
        source = _recolour(crop.image, rng)
        alpha = _cut_out(source, rng, (cx, cy, own))
        angle = rng.normal(0, 10) if rng.random() < 0.75 else rng.uniform(-40, 40)
        flip = -1.0 if rng.random() < 0.5 else 1.0
        stretch = np.exp(rng.normal(0, 0.06))
        scale = side / own
        if scale < 0.7:  # area average first: warpAffine only interpolates
            small = max(8, round(total * scale))
            source = cv2.resize(source, (small, small), interpolation=cv2.INTER_AREA)
            alpha = cv2.resize(alpha, (small, small), interpolation=cv2.INTER_AREA)
            cx, cy, scale, total = cx * small / total, cy * small / total, scale * total / small, small
        radians = np.deg2rad(angle)
        turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
        matrix = turn @ np.diag([flip * stretch, 1 / stretch]) * scale
        matrix = np.hstack([matrix, (place - matrix @ [cx, cy])[:, None]])
        size = (SIDE, SIDE)
        border = cv2.BORDER_REFLECT_101 if alpha.min() == 255 and rng.random() < 0.5 else cv2.BORDER_CONSTANT
        face = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR)[..., None] / np.float32(255)
        if border == cv2.BORDER_REFLECT_101 and rng.random() < 0.3:
            mask = np.ones_like(mask)  # one face fills the window
        image[:] = (image * (1 - mask) + face * mask + 0.5).astype(np.uint8)
        if rng.random() < 0.15:  # a hand, hair or an object in front of the face
            reach = side * rng.uniform(0.15, 0.4)
            where = place + rng.uniform(-0.5, 0.5, 2) * side
            colour = tuple(int(v) for v in rng.integers(0, 256, 3))
            axes = (max(1, int(reach)), max(1, int(reach * rng.uniform(0.2, 0.8))))
            cv2.ellipse(image, tuple(int(v) for v in where), axes, rng.uniform(0, 180), 0, 360, colour, -1)
        return float(place[0]), float(place[1]), side * stretch, side / stretch, radians


def _ground(seed: int) -> np.ndarray:
    canvas = Canvas(300, 400)
    paint_background(canvas, stream(seed, 13), draw_factors(seed)["background"])
    paint_clutter(canvas, stream(seed, 14))
    return canvas.finished()


def _border(rng: np.random.Generator) -> int:
    modes = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE)
    return modes[int(rng.integers(2))]


def _plain(rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    first = np.array([255, 255, 255]) if kind < 0.4 else rng.integers(0, 256, 3)
    second = first if kind < 0.6 else rng.integers(0, 256, 3)
    slope = np.linspace(0, 1, SIDE)[:, None, None]
    image = np.broadcast_to(first + (second - first) * slope, (SIDE, SIDE, 3)).astype(np.uint8)
    return np.ascontiguousarray(image if rng.random() < 0.5 else image.transpose(1, 0, 2))


def _piece(source: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    size = min(size, *source.shape[:2])
    y, x = (int(rng.integers(0, source.shape[a] - size + 1)) for a in (0, 1))
    return cv2.resize(source[y : y + size, x : x + size], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _texture(rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < 0.5:  # clouds of several sizes
        image = np.zeros((SIDE, SIDE, 3), np.float32)
        for cells in (2, 4, 8, 16, 32, 64):
            noise = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32)
            image += cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) * cells ** -rng.uniform(
                0.2, 1.2
            )
        image = 128 + image * rng.uniform(20, 90)
    elif kind < 0.75:  # stripes or dots
        y, x = np.mgrid[:SIDE, :SIDE]
        turn, step = rng.uniform(0, np.pi), rng.uniform(3, 30)
        wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / step)
        if rng.random() < 0.5:
            wave *= np.sin((-x * np.sin(turn) + y * np.cos(turn)) * 2 * np.pi / step)
        on = (wave > rng.uniform(-0.5, 0.5))[..., None]
        image = np.where(on, rng.integers(0, 256, 3), rng.integers(0, 256, 3))
    else:  # rays, as behind speech bubbles
        y, x = np.mgrid[:SIDE, :SIDE]
        centre = rng.uniform(0, SIDE, 2)
        rays = np.sin(np.arctan2(y - centre[1], x - centre[0]) * int(rng.integers(6, 40)))[..., None] > 0
        image = np.where(rays, rng.integers(0, 256, 3), rng.integers(0, 256, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def _shape(image: np.ndarray, rng: np.random.Generator) -> None:
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    line = tuple(int(v * rng.uniform(0, 0.6)) for v in colour)
    kind = rng.random()
    centre = rng.integers(0, SIDE, 2)
    if kind < 0.35:
        points = (centre + rng.normal(0, rng.uniform(5, 40), (int(rng.integers(3, 8)), 2))).astype(np.int32)
        points = cv2.convexHull(points) if rng.random() < 0.5 else points
        cv2.fillPoly(image, [points], colour)
        if rng.random() < 0.6:
            cv2.polylines(image, [points], True, line, int(rng.integers(1, 3)), cv2.LINE_AA)
    elif kind < 0.7:  # round shapes; sometimes two side by side or one inside another, like eyes
        radius = int(rng.integers(2, 28))
        axes, turn = (radius, max(1, int(radius * rng.uniform(0.4, 1)))), rng.uniform(0, 180)
        places = (
            [centre, centre + np.array([int(radius * rng.uniform(2, 3)), 0])]
            if rng.random() < 0.3
            else [centre]
        )
        for place in places:
            cv2.ellipse(image, tuple(int(v) for v in place), axes, turn, 0, 360, colour, -1, cv2.LINE_AA)
            if rng.random() < 0.5:
                inner = (max(1, axes[0] // 2), max(1, axes[1] // 2))
                cv2.ellipse(image, tuple(int(v) for v in place), inner, turn, 0, 360, line, -1, cv2.LINE_AA)
    else:  # a bundle of strokes, like hair and folds
        start, to = rng.normal(0, 30, 2), rng.normal(0, 50, 2)
        for _ in range(int(rng.integers(2, 14))):
            a = (centre + start + rng.normal(0, 6, 2)).astype(int)
            b = (a + to + rng.normal(0, 8, 2)).astype(int)
            width = int(rng.integers(1, 3))
            cv2.line(image, tuple(map(int, a)), tuple(map(int, b)), line, width, cv2.LINE_AA)


def _write(image: np.ndarray, rng: np.random.Generator) -> None:
    text = "".join(rng.choice(list(string.ascii_letters + string.digits + "!?.:"), int(rng.integers(2, 14))))
    place = (int(rng.integers(-10, SIDE)), int(rng.integers(8, SIDE)))
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    font = int(rng.integers(0, 8))
    cv2.putText(image, text, place, font, rng.uniform(0.3, 1.6), colour, int(rng.integers(1, 4)), cv2.LINE_AA)


def _mask(size: int, rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    if rng.random() < 0.35:
        mask[:] = 255
    else:
        half = size // 2
        cv2.ellipse(mask, (half, half), (half, max(1, int(half * rng.uniform(0.6, 1)))), 0, 0, 360, 255, -1)
        if rng.random() < 0.5:
            mask = cv2.GaussianBlur(mask, (0, 0), max(0.5, size * 0.05))
    return mask


def _paste(image: np.ndarray, piece: np.ndarray, x: int, y: int, mask: np.ndarray) -> None:
    h, w = piece.shape[:2]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, SIDE), min(y + h, SIDE)
    if x1 <= x0 or y1 <= y0:
        return
    part = mask[y0 - y : y1 - y, x0 - x : x1 - x, None] / np.float32(255)
    there = image[y0:y1, x0:x1]
    there[:] = (there * (1 - part) + piece[y0 - y : y1 - y, x0 - x : x1 - x] * part + 0.5).astype(np.uint8)


def _cut_out(source: np.ndarray, rng: np.random.Generator, box: tuple[float, float, float]) -> np.ndarray:
    """The opacity of a crop, uint8: the whole square, a soft ellipse, or all but a plain background."""
    total = source.shape[0]
    cx, cy, side = box
    kind = rng.random()
    if kind < 0.45:
        corners = source[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
        if np.abs(corners[:2] - corners[:2].mean(0)).max() < 12:  # plain background above: cut along the hair
            mask = np.zeros((total + 2, total + 2), np.uint8)
            for x in (0, total - 1):
                flags = 4 | (255 << 8) | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE
                cv2.floodFill(source.copy(), mask, (x, 0), 0, (14,) * 3, (14,) * 3, flags)
            alpha = 255 - mask[1:-1, 1:-1]
            if alpha.mean() > 90:
                return cv2.GaussianBlur(alpha, (3, 3), 0)
        kind = rng.uniform(0.45, 1)
    alpha = np.zeros((total, total), np.uint8)
    if kind < 0.75:
        reach = (int(side * rng.uniform(0.62, 0.95)), int(side * rng.uniform(0.7, 1.0)))
        cv2.ellipse(alpha, (int(cx), int(cy - 0.08 * side)), reach, 0, 0, 360, 255, -1)
        return cv2.GaussianBlur(alpha, (0, 0), total * rng.uniform(0.01, 0.04))
    alpha[:] = 255
    return alpha


def _recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int16)
    if rng.random() < 0.3:
        hsv[..., 0] = (hsv[..., 0] + rng.integers(-25, 26)) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.3, 1.5), 0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def _spoil(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Degrade a picture: brightness, colour casts, grey, blur, noise, JPEG."""
    out = image.astype(np.float32) / 255
    if rng.random() < 0.5:
        out = out ** np.float32(np.exp(rng.normal(0, 0.35)))
        out = out * rng.uniform(0.45, 1.15) + rng.uniform(-0.05, 0.12)
    if rng.random() < 0.3:
        out *= (1 + rng.normal(0, 0.12, 3)).astype(np.float32)
    if rng.random() < 0.1:
        out[:] = out.mean(-1, keepdims=True)
    if rng.random() < 0.12:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.3))
    if rng.random() < 0.15:
        out = out + rng.normal(0, rng.uniform(0.01, 0.05), out.shape).astype(np.float32)
    result = (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.25:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))]
        result = cv2.imdecode(cv2.imencode(".jpg", result, quality)[1], 1)
    return result


def contact_sheet(scenes: Scenes, seed: int, n: int = 48, columns: int = 8) -> bytes:
    """A PNG of ``n`` windows with their boxes, for inspection."""
    rng, tiles = np.random.default_rng(seed), []
    for _ in range(n):
        image, faces = scenes.window(rng)
        shown = cv2.resize(image, None, fx=1.5, fy=1.5)
        for cx, cy, w, h, turn in faces:
            corners = cv2.boxPoints(((cx * 1.5, cy * 1.5), (w * 1.5, h * 1.5), np.rad2deg(turn)))
            cv2.polylines(shown, [corners.astype(np.int32)], True, (255, 0, 0))
        tiles.append(cv2.copyMakeBorder(shown, 1, 1, 1, 1, cv2.BORDER_CONSTANT))
    sheet = np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, n, columns)])
    return io.BytesIO(cv2.imencode(".png", sheet[:, :, ::-1])[1].tobytes()).getvalue()
