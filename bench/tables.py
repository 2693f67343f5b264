"""Makes the tables of recipes and results in the docs and the package from the records.

    python bench/tables.py            # write the files that are stale, and name them
    python bench/tables.py --check    # only name them; exit code 1 if a file is stale

The records are the recipes, `published.toml` and the directions in `src/omokage/assets`, and in
`bench/results` `comparison.jsonl`, `fid_over_minutes.jsonl`, `inversion.json`, `neighbours.json`,
`steering.json` and `attributes_by_eye.json`. From them come `recipes.json` and `measured.json` in
`src/omokage/assets`, the tables between markers in README.md, the docs and
bench/results/fid_over_minutes.md, and docs/images/report.png (with `chromium`, which must be installed).
The pictures of samples in docs/comparison.md need the runs: `bench/comparison.py` makes them. This command
only says whether they are stale.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comparison
from PIL import Image, PngImagePlugin

from omokage import catalogue
from omokage.explore.directions import Direction, beside, read_directions
from omokage.listing import recipe_names
from omokage.model import SHIPPED as MODEL
from omokage.recipe import load_recipe

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "src" / "omokage" / "assets"
RESULTS = ROOT / "bench" / "results"
IMAGES = ROOT / "docs" / "images"
SHIPPED = ROOT / "bench" / "results" / "shipped.jsonl"
STEERING = ROOT / "bench" / "results" / "steering.json"


def curve() -> list[dict[str, Any]]:
    """Snapshots of trainings of the current recipe `fast`, by seed and minutes."""
    return comparison.curve(RESULTS / comparison.CURVE)


def compared() -> dict[str, dict[str, Any]]:
    """The rows of the comparison, by name."""
    return {row["name"]: row for row in comparison.read_lines(RESULTS / "comparison.jsonl") if "fid" in row}


# The contents that each file should have.


def recipes_json() -> str:
    """A description of each recipe, with the parameter counts of its networks."""
    known = {name: catalogue.outline(load_recipe(name)) for name in recipe_names()}
    return json.dumps(known, indent=1, ensure_ascii=False) + "\n"


def measured_json() -> str:
    """The measured results of each recipe."""
    return comparison.packaged(compared(), curve())


TITLES = {
    "wu2020-lsgan": "LSGAN, a student report of 2020",
    "wu2020-dcgan": "DCGAN, the same report",
    "wu2020-stylegan": "StyleGAN, the same report",
    "liao2021-stylegan": "StyleGAN, a student report of 2021",
}
THERE = {"150 epochs": "GPU, 150 epochs", "3,500 iterations, 9 hours on one notebook GPU": "one GPU, 9 hours"}


def results_table() -> str:
    """The README's table: published results, and those of `fast` and `fast-style` here."""
    lines = ["| system | data | trained on | FID |", "|---|---|---|---|"]
    for name, title in TITLES.items():
        told = catalogue.published()[name]
        figure = next(one for one in told["figures"] if one["name"] == "FID")
        data, there = f"{told['data'].partition(' faces')[0]} faces", THERE[told["training"]]
        lines.append(f"| {title} | {data} | {there} | {figure['value']:.1f} (published) |")
    rows = curve()
    hour = [row for row in rows if 59 < row["trained_minutes"] < comparison.HOUR]
    style = compared()["fast-style"]
    long = max(rows, key=lambda row: row["trained_minutes"])
    two = " and ".join(f"**{row['fid']:.1f}**" for row in hour)
    seeds = " and ".join(str(row["training_seed"]) for row in hour)
    for title, shown, row, time in (
        (f"**`fast`**, seeds {seeds}", two, hour[0], "60 minutes"),
        (f"**`fast-style`**, seed {style['training_seed']}", f"**{style['fid']:.1f}**", style, "60 minutes"),
        (f"**`fast`**, seed {long['training_seed']}", f"**{long['fid']:.1f}**", long, "3 hours"),
    ):
        there = f"two CPU cores, {time}"
        lines.append(f"| {title} | {row['faces']:,} faces | {there} | {shown} (`{row['protocol']}`) |")
    return "\n".join(lines)


# What each family is, and its use. A test compares the names with the table of families.
FAMILIES = {
    "skipgan": ("projected GAN with a small generator", "new faces from a CPU in an hour; begin here"),
    "stylegan2": ("StyleGAN2", "style mixing, truncation; reads weights that others trained"),
    "stylegan": ("StyleGAN, which grows", "what the student reports trained on GPUs"),
    "progan": ("ProGAN, which grows", "growing without styles"),
    "dcgan": ("DCGAN; LSGAN, WGAN, WGAN-GP and DRAGAN on its networks", "simple networks, to compare losses"),
    "dense-dcgan": ("DCGAN with dense ends and dropout", "the networks of a student report of 2021"),
    "sagan": ("self-attention GAN", "attention and spectral norm in a small GAN"),
    "illustration": ("IllustrationGAN", "minibatch discrimination, latents predicted from images"),
    "vae": ("variational autoencoder", "encodes pictures; its faces are blurry"),
    "glow": ("Glow, a flow", "exact likelihood, outliers, changing an attribute"),
    "tarflow": ("TarFlow, a flow of transformers", "exact likelihood with labels and guidance"),
    "realnvp": ("RealNVP, a flow", "exact likelihood; the simplest flow"),
    "pixel-transformer": ("flow matching with a transformer in pixels", "small steps from noise to a face"),
    "unet": ("EDM, a diffusion model with a U-Net", "the same with convolutions"),
    "autoencoder": ("spatial autoencoder", "the first half of latent diffusion; no generator by itself"),
    "latent-transformer": ("flow matching on its latents", "latent diffusion, small enough to read"),
    "r3gan": ("R3GAN", "a GAN with a plain loss and penalties, no tricks"),
}


def families_table() -> str:
    """The README's table: each family with its use and its best recipe here, by FID."""
    lines = ["| family | what it is | for | recipe | runs on | FID here |", "|---|---|---|---|---|---|"]
    known, measured = catalogue.recorded(), json.loads(measured_json())
    for family, (what, purpose) in FAMILIES.items():
        names = catalogue.in_order(name for name in known if known[name]["family"] == family)
        tried = [name for name in names if name in measured and measured[name]["protocol"] == PROTOCOL]
        if tried:
            best = min(tried, key=lambda name: measured[name]["fid"])
            shown = f"{measured[best]['fid']:.1f}, {measured[best]['minutes']:.0f} min"
        else:
            best, shown = names[0], "–"
        runs_on = catalogue.needs()[best]["runs_on"]
        lines.append(f"| `{family}` | {what} | {purpose} | `{best}` | {runs_on} | {shown} |")
    return "\n".join(lines)


def curve_table() -> str:
    """The table of the current recipe `fast`."""
    lines = comparison.heading(
        "seed, minutes, images, FID, KID × 1000, precision, recall, density, coverage, FID of tags, "
        "two-sample, sharpness"
    )
    for row in curve():
        other = comparison.summary(row)
        ships = " (ships)" if row["snapshot_hash"] == fast_64_hash() else ""
        cells = [f"{row['training_seed']}{ships}", f"{row['trained_minutes']:.0f}", f"{row['images_seen']:,}"]
        cells += [f"{row['fid']:.2f}", f"{1000 * row['kid']:.2f} ± {1000 * row['kid_standard_error']:.2f}"]
        cells += [f"{row[key]:.3f}" for key in ("precision", "recall", "density", "coverage")]
        for key, form in (("second_fid", "{:.2f}"), ("two_sample", "{:.3f}"), ("sharpness", "{:.2f}")):
            cells.append("–" if other[key] is None else form.format(other[key]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def directions_table() -> str:
    """The directions that ship with the default model, as their file says: hair on the left, eyes right."""
    shipped_ = read_directions(beside(MODEL)[0])
    offered = [row for row in shipped_.rows if row.attribute and row.offered]
    sides = [
        sorted((row for row in offered if row.attribute == name), key=lambda row: -(row.reach or 0))
        for name in ("hair", "eyes")
    ]
    others = [row for row in offered if row.attribute not in ("hair", "eyes")]
    sides[1] += others

    def cells(row: Direction | None) -> str:
        if row is None:
            return "| |"
        which, worst = row.worst
        leak = f"{100 * worst:+.0f} points ({which})" if worst >= 0.005 else "0"
        return f"{row.name.replace('=', ' ')} | {row.reach or 0:.0%} | {leak}"

    lines = [
        f"From {shipped_.samples:,} samples, each measured on {shipped_.told['checked on']} other faces. "
        "Leakage is the largest excess by which\nanother attribute's estimate changes.\n",
        "| direction | reached in | leakage | | direction | reached in | leakage |",
        "|---|---|---|---|---|---|---|",
    ]
    for place in range(max(map(len, sides))):
        left, right = (side[place] if place < len(side) else None for side in sides)
        lines.append(f"| {cells(left)} | | {cells(right)} |")
    lines += ["", "No slider:", ""]
    lines += [f"- {name.replace('=', ' ')}: {reason}" for name, reason in shipped_.refused.items()]
    return "\n".join(lines)


def neighbours_table() -> str:
    """What was measured of memorising in the model that ships: shares, never the faces themselves."""
    record = json.loads((RESULTS / "neighbours.json").read_text(encoding="utf-8"))
    lines = [
        "| features | samples | compared with | samples that near | a sample is nearer |",
        "|---|---|---|---|---|",
    ]
    for space in record["spaces"]:
        low, high = space["copied_interval"]
        less, more = space["nearer_interval"]
        lines.append(
            f"| {space['space']} | {space['samples']:,} | {space['reference_faces']:,} {space['reference']} "
            f"| {space['copied']:.1%} ({low:.1%} to {high:.1%}) "
            f"| {space['nearer']:.0%} of pairs ({less:.0%} to {more:.0%}) |"
        )
    return "\n".join(lines)


def inversion_words() -> str:
    """How well inversion finds faces, in two sentences."""
    record = json.loads((RESULTS / "inversion.json").read_text(encoding="utf-8"))
    effort, told = record["effort"], record["sets"]
    lines = [
        f"Of `{record['recipe']}` after {record['images']:,} images, with {effort['steps']} steps in w and "
        f"{effort['more']} in w+ ({record['machine']}):",
        "",
        f"| pictures | number | in w | in w+ | best of {record['samples']:,} samples | ratio | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in told.items():
        lines.append(
            f"| {name} | {one['number']} | {one['distance_in_w']:.2f} | {one['distance']:.2f} "
            f"| {one['best_sample']:.2f} | {one['ratio']:.2f} | {one['seconds']:.1f} |"
        )
    drawn = told["drawn faces"]
    lines += [
        "",
        f"Of the {drawn['number']} drawn faces, {drawn['hair_kept']:.0%} keep the colour of their hair, as "
        f"the attribute network names it, and {drawn['eyes_kept_by_pixels']:.0%} that of their eyes, by the "
        f"mean colour of the irises. The network names {drawn['eyes_kept']:.0%} of these eyes as in the "
        "picture.",
        *(["", record["note"]] if record["note"] else []),
    ]
    return "\n".join(lines)


def recall_words() -> str:
    """How well the attribute network and the eye name tagged colours, in one sentence."""
    record = json.loads((RESULTS / "attributes_by_eye.json").read_text(encoding="utf-8"))
    parts = []
    for name in ("hair", "eyes"):
        one = record[name]
        low, high = (100 * each for each in one["network less eye"])
        parts.append(
            f"{name} {one['eye']:.0%} by eye and {one['network']:.0%} by the network "
            f"(difference {low:+.0f} to {high:+.0f} points)"
        )
    return (
        f"Mean recall against these tags: {'; '.join(parts)}. The intervals are of 95% "
        "(`python bench/judge_attributes.py`)."
    )


def steering_words() -> str:
    """What steering reaches on the model of the record, and how much leaks."""
    record = json.loads(STEERING.read_text(encoding="utf-8"))
    lines = [
        f"`python bench/steering.py`, of {record['model']}, with directions from {record['regressed']:,} "
        f"samples, on {record['samples']:,} other samples ({record['machine']}, {record['date']}). Leakage "
        "is in points; moved is the distance of the middle of the face, of which 1 is that of two different "
        "faces. [The whole table](../bench/results/steering.md) also has the steps.",
        "",
        "| value | reached | mean leakage | largest leakage | moved |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        which, worst = row["largest"]
        share = row["reached"] / max(row["without"], 1)
        words = f"{100 * row['leakage']:+.1f} | {100 * worst:+.1f} ({which}) | {row['moved']:.2f}"
        lines.append(
            f"| {row['value'].replace('=', ' ')} | {row['reached']:,} of {row['without']:,} ({share:.0%}) "
            f"| {words if row['reached'] else '– | – | –'} |"
        )
    return "\n".join(lines)


def fast_64_hash() -> str:
    """SHA-256 of the model fast-64."""
    return hashlib.sha256((ASSETS / "fast-getchu-64.safetensors").read_bytes()).hexdigest()


def with_blocks(path: Path, blocks: dict[str, str]) -> str:
    """The page with its tables replaced; missing markers are not added."""
    page = path.read_text(encoding="utf-8")
    for name, content in blocks.items():
        if f"<!-- {name} -->" in page:
            page = comparison.with_block(page, name, content)
    return page


def comparison_page() -> str:
    """docs/comparison.md with its tables replaced; the text under its pictures stays."""
    plan = comparison.Plan(None, Path("runs"), RESULTS / "comparison.jsonl", Path(), Path(), 20.0, PROTOCOL)
    return with_blocks(ROOT / "docs" / "comparison.md", comparison.tables(plan, compared()))


PROTOCOL = comparison.DEFAULT_PROTOCOL
TEXTS: dict[Path, Callable[[], str]] = {
    ASSETS / "recipes.json": recipes_json,
    ASSETS / "measured.json": measured_json,
    ROOT / "README.md": lambda: with_blocks(
        ROOT / "README.md", {"results": results_table(), "families": families_table()}
    ),
    ROOT / "docs" / "comparison.md": comparison_page,
    ROOT / "docs" / "model-card.md": lambda: with_blocks(
        ROOT / "docs" / "model-card.md", {"directions": directions_table(), "neighbours": neighbours_table()}
    ),
    ROOT / "docs" / "inversion.md": lambda: with_blocks(
        ROOT / "docs" / "inversion.md", {"inversion": inversion_words()}
    ),
    RESULTS / "fid_over_minutes.md": lambda: with_blocks(
        RESULTS / "fid_over_minutes.md", {"curve": curve_table()}
    ),
    ROOT / "docs" / "steering.md": lambda: with_blocks(
        ROOT / "docs" / "steering.md", {"recall": recall_words(), "steering": steering_words()}
    ),
}


# Pictures.


def record_of(path: Path) -> str:
    """The ``record`` in the text of a PNG, from which it was made; "" if it has none."""
    with Image.open(path) as image:
        return str(image.info.get("record", ""))


def report_rows() -> list[dict[str, Any]]:
    """The evaluations that docs/images/report.png shows: those of the training whose model ships."""
    return [row for row in curve() if row["training_seed"] == 0]


def report_record() -> str:
    """The id of the figures in docs/images/report.png."""
    told = [(row["trained_minutes"], row["images_seen"], f"{row['fid']:.2f}") for row in report_rows()]
    return hashlib.sha256(json.dumps([told, fast_64_hash()]).encode()).hexdigest()


def make_report_picture(out: Path) -> None:
    """A picture of the report on the model that ships: the first 1,272 pixel rows of the page."""
    from omokage.report.page import write_report

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("error: docs/images/report.png is made with chromium, which is not installed")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "fast"
        run.mkdir()
        rows = report_rows()
        snapshot = f"snapshot-{rows[-1]['images_seen']:012d}.safetensors"
        shutil.copy(ASSETS / "fast-getchu-64.safetensors", run / snapshot)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (run / "evaluations.jsonl").write_text(lines, encoding="utf-8")
        log = [{"images": row["images_seen"], "minutes": row["trained_minutes"]} for row in rows]
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
        title = "fast, three hours on two cores"
        page, problems = write_report([run], Path(folder) / "report", title=title, seeds=range(32))
        for problem in problems:
            print(f"left out: {problem}", file=sys.stderr)
        shot = Path(folder) / "shot.png"
        command = [browser, "--headless", "--disable-gpu", "--no-sandbox", "--hide-scrollbars"]
        command += ["--window-size=1260,1908", f"--user-data-dir={folder}/profile", f"--screenshot={shot}"]
        subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=300)
        with Image.open(shot) as image:
            small = image.convert("RGB").resize((840, 1272), Image.Resampling.LANCZOS)
            stamp(small.quantize(256), out, {"record": report_record()})


def stamp(image: Image.Image, out: Path, text: dict[str, str]) -> None:
    """Write a PNG whose text chunks are ``text``."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    image.save(out, optimize=True, pnginfo=chunks)


def sheets() -> dict[Path, str]:
    """The pictures of the comparison, with the current record of each."""
    short, hours = comparison.parts(compared())
    return {
        IMAGES / "comparison.png": comparison.sheet_record(short),
        IMAGES / "comparison-hours.png": comparison.sheet_record(hours),
    }


def shipped() -> list[dict[str, Any]]:
    """The records of the model that ships as the default."""
    return [json.loads(line) for line in SHIPPED.read_text(encoding="utf-8").splitlines()]


def known_snapshots() -> set[str]:
    """SHA-256 of every snapshot that was measured, those of the models that ship among them."""
    rows = [*compared().values(), *curve(), *shipped()]
    return {fast_64_hash(), *(row["snapshot_hash"] for row in rows)}


def stale_pictures() -> list[str]:
    """Pictures in docs/images that were not made from the current records, with the reason."""
    found = []
    for path, record in {IMAGES / "report.png": report_record(), **sheets()}.items():
        if record_of(path) != record:
            found.append(f"{path.relative_to(ROOT)}: made from other records")
    for path in sorted(IMAGES.glob("*.png")):
        with Image.open(path) as image:
            snapshot = image.info.get("snapshot")
        if snapshot and snapshot not in known_snapshots():
            found.append(f"{path.relative_to(ROOT)}: of a snapshot that no record knows ({snapshot[:12]})")
    return found


def stale(texts: Sequence[Path] | None = None) -> list[str]:
    """The files that do not match the records; ``texts`` are some of `TEXTS`, None means all."""
    found = [
        f"{path.relative_to(ROOT)}: not what the records say"
        for path, make in TEXTS.items()
        if (texts is None or path in texts)
        and (not path.exists() or path.read_text(encoding="utf-8") != make())
    ]
    return found + stale_pictures()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the stale files; returns 1 if something stays stale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only name what is stale")
    if not parser.parse_args(arguments).check:
        for path, make in TEXTS.items():
            text = make()
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                comparison.write_text(path, text)
                print(f"written: {path.relative_to(ROOT)}")
        catalogue.measured.cache_clear()
        catalogue.recorded.cache_clear()
        picture = IMAGES / "report.png"
        if not picture.exists() or record_of(picture) != report_record():
            make_report_picture(picture)
            print(f"written: {picture.relative_to(ROOT)}")
    left = stale()
    for line in left:
        print(f"stale: {line}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
