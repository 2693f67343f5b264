"""`omokage build` and the procedure of rai2020 on the same pictures: faces per minute.

    python bench/report_procedure.py [DATA] [--drawn 600] [--real 42] [--size 512] [--nth 16]

The procedure is rewritten from its description. It is a dozen shell commands; most of them start a process
for each picture or face.

1. the detector: a Python process a picture, `lbpcascade_animeface` through OpenCV with the settings of its
   author's example; it prints boxes;
2. `convert -crop`: a process a face, with the box enlarged to take in hair and shoulders;
3. `find -empty -delete` (the report also deleted files under 100 kB; drawn faces are smaller than that by
   nature, so here nothing is deleted for its size, in favour of the procedure);
4. `fdupes --delete` over all faces;
5. `identify` for each face; if a side is below the target, waifu2x doubles the size: a process a face;
6. `mogrify` to the size, sRGB, JPEG: one process for all faces, in favour of the procedure.

The pictures are drawn illustrations (`omokage draw`), every tenth of them twice, so that there are duplicates
to find. The real illustrations of DATA (else the environment variable OMOKAGE_DATA, else ../shared/data
beside the repository) are added if present. Faces per minute are measured by the clock, including the start
of the programs. Each side is run as usual: the procedure's commands one after the other, `omokage build`
with its default workers. Faces per CPU minute of all processes are also given; there a second core is no
advantage. No other work may run on the machine.
waifu2x is the same network with the same engine on both sides. Needs ImageMagick 6 and fdupes. Writes
bench/results/report_procedure.md.
"""

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent


def detect(cascade: str, picture: str) -> None:
    """Step 1, in its own process: print boxes of faces, one on each line."""
    import cv2

    cv2.setNumThreads(1)
    found = cv2.CascadeClassifier(cascade).detectMultiScale(
        cv2.equalizeHist(cv2.cvtColor(cv2.imread(picture, cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)),
        scaleFactor=1.1,
        minNeighbors=5,
        minSize=(24, 24),
    )
    for box in found:
        print(*box)


def waifu2x(models: str, picture: str, out: str) -> None:
    """Step 5, in its own process: write ``picture`` at twice the size."""
    import ncnn
    import numpy as np
    from PIL import Image

    net = ncnn.Net()
    net.opt.use_vulkan_compute, net.opt.num_threads = False, 1
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    name = f"{models}/WAIFU2X_ANIME_UP2X_DENOISE0X"
    if net.load_param(f"{name}.param") or net.load_model(f"{name}.bin"):
        raise SystemExit(f"{name} cannot be read")
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    padded = np.pad(pixels, ((7, 7), (7, 7), (0, 0)), mode="edge").transpose(2, 0, 1)
    planes = np.ascontiguousarray(padded, np.float32) / np.float32(255)
    with net.create_extractor() as run:
        run.input(net.input_names()[0], ncnn.Mat(planes).clone())
        _, result = run.extract(net.output_names()[0])
    doubled = np.array(result)[:, : 2 * pixels.shape[0], : 2 * pixels.shape[1]].transpose(1, 2, 0)
    Image.fromarray(np.clip(doubled * 255 + 0.5, 0, 255).astype(np.uint8)).save(out)


def command(*parts: object) -> str:
    return subprocess.run([str(part) for part in parts], check=True, stdout=subprocess.PIPE, text=True).stdout


class Clock:
    """Wall and CPU seconds of the processes of every step."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), self._cpu()
        try:
            yield
        finally:
            spent = self.steps.setdefault(name, [0.0, 0.0])
            spent[0] += time.perf_counter() - wall
            spent[1] += self._cpu() - cpu

    @staticmethod
    def _cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    @property
    def total(self) -> tuple[float, float]:
        wall, cpu = (sum(column) for column in zip(*self.steps.values(), strict=True))
        return wall, cpu


def procedure(pictures: list[Path], out: Path, size: int, models: Path | None) -> tuple[Clock, int]:
    """Run all steps; returns their times and the number of faces at the end."""
    clock = Clock()
    cascade = HERE.parent / "src" / "omokage" / "assets" / "lbpcascade_animeface.xml"
    faces = out / "faces"
    faces.mkdir(parents=True)
    for picture in pictures:
        with clock.step("detect: a Python process a picture"):
            boxes = command(sys.executable, __file__, "--detect", cascade, picture).split("\n")
        for number, box in enumerate(filter(None, boxes)):
            x, y, w, h = map(int, box.split())
            # The factors of the crop `rai2020`.
            left, top, right, bottom = int(x * 0.9), int(y * 0.25), x + int(w * 1.25), y + h
            area = f"{right - left}x{bottom - top}+{left}+{top}"
            with clock.step("crop: `convert`, a process a face"):
                command("convert", picture, "-crop", area, "+repage", faces / f"{picture.stem}-{number}.png")
    with clock.step("empty files: `find`"):
        command("find", faces, "-empty", "-delete")
    with clock.step("duplicates: `fdupes`"):
        command("fdupes", "--quiet", "--delete", "--noprompt", "--recurse", faces)
    if models is not None:
        for face in sorted(faces.iterdir()):
            with clock.step("sizes: `identify`, a process a face"):
                width, height = map(int, command("identify", "-format", "%w %h", face).split())
            if min(width, height) < size:
                with clock.step("waifu2x: a Python process a face"):
                    command(sys.executable, __file__, "--waifu2x", models, face, face)
    with clock.step("resize, sRGB, JPEG: `mogrify`"):
        command(
            "mogrify", "-resize", f"{size}x{size}!", "-colorspace", "sRGB", "-quality", "95",
            "-format", "jpg", "-path", out, *sorted(faces.iterdir()),
        )  # fmt: skip
    return clock, len(list(out.glob("*.jpg")))


def build(folder: Path, out: Path, size: int, options: list[str]) -> tuple[Clock, int]:
    from omokage.data.store.faceset import FaceSet

    clock = Clock()
    with clock.step("build"):
        command(
            sys.executable, "-m", "omokage", "build", folder, "-o", out, "--size", size, *options
        )  # fmt: skip
    return clock, len(FaceSet.open(out))


def gather(folder: Path, data: Path, drawn: int, real: int) -> str:
    """Fill ``folder`` with pictures; returns a description of them."""
    from omokage.data.drawn import draw

    illustrations = draw(drawn, folder / "drawn", seed=3, illustrations=True, workers=1)
    for other in ("factors.csv", "boxes.json"):
        (illustrations / other).unlink()
    twice = sorted(illustrations.glob("*.png"))[::10]
    for picture in twice:
        shutil.copyfile(picture, picture.with_name(f"again-{picture.name}"))
    archive = data / "illustrations-with-boxes.tar"
    chosen: list[tarfile.TarInfo] = []
    if real and archive.exists():
        with tarfile.open(archive) as tar:
            members = sorted((m for m in tar if m.isfile()), key=lambda m: m.name)
            step = max(1, len(members) // real)
            chosen = members[::step][:real]
            tar.extractall(folder / "real", chosen, filter="data")
    return f"{drawn} drawn illustrations of 720×960 and {len(twice)} copies, {len(chosen)} real ones"


def main() -> None:
    if sys.argv[1:2] == ["--detect"]:
        detect(*sys.argv[2:])
        return
    if sys.argv[1:2] == ["--waifu2x"]:
        waifu2x(*sys.argv[2:])
        return
    from setting import data_argument

    from omokage.data.engines.processes import cores
    from omokage.data.steps.upscale import _models
    from omokage.hardware import processor

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data_argument(parser)
    parser.add_argument("--drawn", type=int, default=600)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--real", type=int, default=42)
    parser.add_argument("--nth", type=int, default=16, help="waifu2x on every nth picture")
    parser.add_argument("--detectors", default="network", help="of the builds")
    args = parser.parse_args()
    for program in ("convert", "identify", "mogrify", "fdupes"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing: apt-get install imagemagick fdupes")
    load = os.getloadavg()[0]
    lines = [
        "| | pictures | faces | wall | CPU | faces a minute | times the procedure | by CPU time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    parts: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = gather(folder / "pictures", args.data, args.drawn, args.real)
        pictures = sorted(path for path in (folder / "pictures").rglob("*") if path.is_file())
        for with_waifu2x in (False, True):
            title = "with waifu2x" if with_waifu2x else "without waifu2x"
            suffix = "w" if with_waifu2x else ""
            upscale = ["--upscale", "waifu2x" if with_waifu2x else "lanczos"]
            some = pictures[:: args.nth] if with_waifu2x else pictures
            given = folder / f"given{suffix}"
            given.mkdir()
            for picture in some:
                shutil.copyfile(picture, given / picture.name)
            clock, faces = procedure(
                some, folder / f"procedure{suffix}", args.size, _models() if with_waifu2x else None
            )
            base = _line(lines, f"{title}: the procedure", len(some), clock, faces)
            parts.append(f"The procedure {title}, CPU seconds: ")
            parts[-1] += "; ".join(f"{step} {spent[1]:.1f}" for step, spent in clock.steps.items()) + "."
            for detector in args.detectors.split(","):
                options = [*upscale, "--detector", detector]
                out = folder / f"build-{detector}{suffix}"
                clock, faces = build(given, out, args.size, options)
                called = f"{title}: `omokage build --detector {detector}`"
                _line(lines, called, len(some), clock, faces, base)
    about = (
        f"{date.today()}, {processor()}, {cores()} cores (load {load:.1f} at first), Python "
        f"{platform.python_version()}. The procedure runs its commands one after the other; `omokage build` "
        f"uses its default workers. Faces a minute are by the clock, starting the programs included. {what}; "
        f"waifu2x on every {args.nth}th picture; faces of {args.size}×{args.size} as JPEG."
    )
    text = "\n".join(["# Against the procedure of rai2020", "", about, "", *lines, "", *parts, ""])
    print(text)
    (HERE / "results" / "report_procedure.md").write_text(text)


def _line(
    lines: list[str],
    title: str,
    pictures: int,
    clock: Clock,
    faces: int,
    base: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Add a line to the table; returns the faces per minute and per CPU minute."""
    speeds = tuple(60 * faces / seconds for seconds in clock.total)
    times = ("", "") if base is None else tuple(f"{a / b:.1f}" for a, b in zip(speeds, base, strict=True))
    wall, cpu = clock.total
    lines.append(
        f"| {title} | {pictures} | {faces} | {wall:.1f} s | {cpu:.1f} s | {speeds[0]:,.0f} | "
        + " | ".join(times)
        + " |"
    )
    print(lines[-1], flush=True)
    return speeds


if __name__ == "__main__":
    main()
