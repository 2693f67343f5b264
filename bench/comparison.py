"""Compares all models: each is trained for the same time and measured in the same way.

    python bench/comparison.py --data faces/ [--minutes 20] [--only NAME ...] [--status]
    python bench/comparison.py --data faces/ --split split/ --hours [--only NAME ...] [--status]

It trains VAEs and GANs for 20 minutes each, one after another in `--runs`. With `--hours` it trains
style-based generators and flows for an hour each. It measures each model by `--protocol`, with a second
feature space and the two-sample test. Then it writes `docs/comparison.md` (only between its markers), the
pictures of that page, `bench/results/comparison.jsonl`, and the results that `omokage recipes NAME` shows.

The same command resumes after any interruption; finished work is not repeated. `--status` prints what is
left. `--only` takes any recipe, even one that is not in the lists below. Flows are trained on the training
part of the split (`omokage faces split faces/ --holdout 0.05 -o split/`). They are measured in bits per
dimension on the other part, and sampled at several temperatures.
"""

import argparse
import fcntl
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from omokage.catalogue import published
from omokage.errors import UserError
from omokage.listing import recipe_names
from omokage.metrics.protocol import DEFAULT_PROTOCOL, parse_protocol
from omokage.metrics.records import append_line, read_lines
from omokage.model import Model, load_model
from omokage.pages.files import replacing, save_png
from omokage.recipe import load_recipe
from omokage.report.read import number, read_run
from omokage.sampling import gathered, sample, seed_ranges
from omokage.settings import Settings
from omokage.snapshot import newest_snapshot, read_snapshot

ROOT = Path(__file__).resolve().parent.parent
SHEET_SEEDS = range(12)
CLOSE = 0.05  # relative difference below which two figures count as equal

# Messages of a training that cannot go on. After other errors, such as a full disk, it is tried again.
GIVEN_UP = ("training stops", "no longer finite")


@dataclass(frozen=True)
class Entry:
    """One training of the comparison.

    Attributes:
        like: the name of another entry; train as many images as it saw, and ignore the minutes.
        about: what is special about this entry, for the page.
        extra: train it only if it is named.
        minutes: minutes of training; 0 for those of the plan.
        flow: train on the training part of the split; also measure bits per dimension, and samples at
            `COOLER`.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    like: str = ""
    about: str = ""
    extra: bool = False
    minutes: float = 0.0
    flow: bool = False


COOLER = (0.7,)
"""Temperatures below 1 at which a flow's samples are measured too."""
SHOWN_TEMPERATURES = (0.5, 0.7, 1.0)

ENTRIES = (
    Entry("fast", "fast"),
    Entry("yao2021-vae", "yao2021-vae"),
    Entry("yao2021-dcgan", "yao2021-dcgan"),
    Entry("yao2021-dcgan-dropout", "yao2021-dcgan-dropout"),
    Entry("yao2021-wgan", "yao2021-wgan"),
    Entry("wu2020-dcgan", "wu2020-dcgan"),
    Entry("wu2020-lsgan", "wu2020-lsgan"),
    Entry("liao2021-dcgan", "liao2021-dcgan"),
    Entry(
        "liao2021-dcgan-half",
        "liao2021-dcgan",
        ("training.share=0.5",),
        like="liao2021-dcgan",
        about="half of the faces, each seen twice as often: as many images as liao2021-dcgan saw",
    ),
    Entry(
        "turubayev2022-dcgan",
        "turubayev2022-dcgan",
        ("training.seed=1",),
        about="settings as liao2021-dcgan, so trained from another seed, to show what a seed alone changes",
    ),
    Entry("wgan", "wgan"),
    Entry("wgan-gp", "wgan-gp"),
    Entry("dragan", "dragan"),
    Entry("sagan", "sagan"),
    Entry("illustration-gan", "illustration-gan"),
    Entry("dcgan", "dcgan", extra=True),
    Entry(
        "yao2021-wgan-gradients",
        "yao2021-wgan",
        ("objective.clip_weights=0", "objective.clip_gradients=0.01"),
        about="gradients clipped, as the report did, in place of weights",
        extra=True,
    ),
    Entry("yao2021-vae-mse", "yao2021-vae", ("objective.reconstruction=mse",), extra=True),
)

IN_AN_HOUR = "the learning rate falls over as many images as this machine trains in an hour"
HOURS = (
    Entry("fast-style", "fast-style", minutes=60),
    Entry(
        "wu2020-stylegan",
        "wu2020-stylegan",
        (
            *("model.stable_kimg=13", "model.fade_kimg=13"),
            "training.batch=16",
        ),
        about="grows eighteen times as fast as published (at that pace 8x8 px would still fade in after the "
        "hour); batch 16 (128 would leave 200 steps for each size)",
        minutes=60,
    ),
    Entry("stylegan2-64-small", "stylegan2-64-small", minutes=60),
    Entry(
        "realnvp-64",
        "realnvp-64",
        ("training.learning_rate.default.cosine=75",),
        about=IN_AN_HOUR,
        minutes=60,
        flow=True,
    ),
    Entry(
        "glow-64",
        "glow-64",
        ("training.learning_rate.default.cosine=200",),
        about=IN_AN_HOUR,
        minutes=60,
        flow=True,
    ),
    Entry(
        "tarflow-64",
        "tarflow-64",
        ("training.learning_rate.default.cosine=68",),
        about=IN_AN_HOUR,
        minutes=60,
        flow=True,
    ),
)
BESIDE = ("fast", "turubayev2022-dcgan")
"""Entries of 20 minutes that are shown in the table of one hour."""


@dataclass(frozen=True)
class Plan:
    """The paths and the protocols of the comparison."""

    data: Path | None
    runs: Path
    results: Path
    document: Path
    measured: Path
    minutes: float
    protocol: str
    command: tuple[str, ...] = (sys.executable, "-m", "omokage")
    split: Path | None = None

    def run(self, entry: Entry) -> Path:
        """The run folder of an entry."""
        return self.runs / entry.name

    def log(self, entry: Entry) -> Path:
        """The log file for the output of an entry's commands."""
        return self.run(entry) / "commands.log"

    def time(self, entry: Entry) -> float:
        """Minutes that an entry is trained for."""
        return entry.minutes or self.minutes

    def faces(self, entry: Entry) -> Path | None:
        """The face set that an entry is trained on.

        Raises:
            UserError: the entry is a flow and there is no split.
        """
        if not entry.flow:
            return self.data
        if self.split is None:
            raise UserError(f"{entry.name} needs --split, a folder that omokage faces split wrote")
        return self.split / "train"


def chosen(names: Sequence[str], hours: bool = False) -> list[Entry]:
    """The entries with these names; other names are recipes. Without names, all that are not extra."""
    known = {entry.name: entry for entry in (*ENTRIES, *HOURS)}
    if not names:
        return [entry for entry in (HOURS if hours else ENTRIES) if not entry.extra]
    for name in names:
        if name not in known and name not in recipe_names():
            raise UserError(f"--only: no entry and no recipe {name!r}; there are {', '.join(known)}")
    return [known.get(name) or Entry(name, name) for name in names]


# What has been done.


def progress_of(run: Path) -> dict[str, Any]:
    """The progress in the newest complete snapshot; empty if there is none."""
    found = read_run(run) if run.is_dir() else ""
    return {} if isinstance(found, str) else found.progress


def trained(plan: Plan, entry: Entry) -> bool:
    """Whether the training of an entry is finished."""
    done = progress_of(plan.run(entry))
    if not done:
        return False
    if entry.like:
        return done["images"] >= images_wanted(plan, entry)
    enough = load_recipe(entry.recipe, entry.overrides).training.images
    return done["seconds"] >= 60 * plan.time(entry) or done["images"] >= enough


def images_wanted(plan: Plan, entry: Entry) -> int:
    """The number of images that the entry ``like`` saw.

    Raises:
        UserError: that entry is not trained yet.
    """
    other = next(one for one in ENTRIES if one.name == entry.like)
    if not trained(plan, other):
        raise UserError(f"{entry.name} follows {entry.like}, which has to be trained first")
    return int(progress_of(plan.run(other))["images"])


def record_of(plan: Plan, entry: Entry, protocol: str) -> dict[str, Any] | None:
    """The record of the newest snapshot by ``protocol``; None if it is missing.

    A record by the plan's own protocol must include the second feature space and the two-sample test.
    """
    lines = plan.run(entry) / "evaluations.jsonl"
    if not lines.exists():
        return None
    digest = hashlib.sha256(newest_snapshot(plan.run(entry)).read_bytes()).hexdigest()
    for record in reversed(read_lines(lines)):
        whole = "two_sample" in record and ("also" in record or plan.protocol.endswith("-tags"))
        same = record["snapshot_hash"] == digest and record["protocol"] == protocol
        if same and (whole or protocol != plan.protocol):
            return record
    return None


def measurements(plan: Plan, entry: Entry) -> dict[str, list[str]]:
    """The protocols for an entry, with the other arguments of `omokage evaluate`."""
    second = [] if plan.protocol.endswith("-tags") else ["--also", "tags"]
    wanted = {plan.protocol: ["--data", str(plan.data), "--two-sample", *second]}
    if entry.flow:
        wanted["bpd-heldout-8bit"] = ["--data", str(plan.faces(entry).parent / "heldout")]
        for temperature in COOLER:
            wanted[f"{plan.protocol}-psi{temperature:g}"] = ["--data", str(plan.data)]
    return wanted


def rows(plan: Plan, having: str = "name") -> dict[str, dict[str, Any]]:
    """The newest line of each entry in the results, by name; only lines with the key ``having``."""
    lines = read_lines(plan.results) if plan.results.exists() else []
    return {row["name"]: row for row in lines if having in row}


def status(plan: Plan, entry: Entry) -> str:
    """The state of an entry in a few words."""
    row = rows(plan).get(entry.name, {})
    done = progress_of(plan.run(entry))
    so_far = f"{done['seconds'] / 60:.1f} minutes, {done['images']:,} images" if done else "not begun"
    if row.get("failed"):
        return f"failed ({row['failed']}); --again tries once more"
    measured = done and row.get("images_seen") == done["images"] and row.get("protocol") == plan.protocol
    try:
        if measured and (trained(plan, entry) or row.get("stopped")):
            return f"done: {so_far}, FID {row['fid']:.2f}"
        if trained(plan, entry):
            return f"trained: {so_far}; to be measured"
    except UserError as error:
        return str(error)
    return f"to be trained: {so_far}"


# What remains to be done.


def train_and_measure(plan: Plan, entry: Entry, say: Callable[[str], None]) -> None:
    """Finish one entry; finished steps are not repeated.

    Raises:
        UserError: it cannot be trained or measured; the results then have the reason.
        KeyboardInterrupt: after Ctrl-C, when the training has saved.
    """
    run, trouble = plan.run(entry), ""
    load_recipe(entry.recipe, entry.overrides)
    if not trained(plan, entry):
        limit = (
            ["--images", f"{images_wanted(plan, entry)}"]
            if entry.like
            else ["--minutes", f"{plan.time(entry):g}"]
        )
        say("training")
        command = [
            "train",
            entry.recipe,
            *entry.overrides,
            "--data",
            str(plan.faces(entry)),
            "--out",
            str(run),
            *limit,
        ]
        trouble = call(plan, entry, command, say)
        # If the watchdog gave up, the last snapshot is measured. After any other error, it is tried again.
        if trouble and not (progress_of(run) and any(word in trouble for word in GIVEN_UP)):
            raise UserError(fail(plan, entry, trouble))
    records = {}
    for protocol, arguments in measurements(plan, entry).items():
        if record_of(plan, entry, protocol) is None:
            say(f"measuring {protocol}")
            command = ["evaluate", str(run), "--protocol", protocol, *arguments]
            if failed := call(plan, entry, command, say):
                raise UserError(fail(plan, entry, failed))
        found = record_of(plan, entry, protocol)
        if found is None:
            unseen = f"evaluate ended well, and its record by {protocol} is not in evaluations.jsonl"
            raise UserError(fail(plan, entry, unseen))
        records[protocol] = found
    record = records.pop(plan.protocol)
    known = rows(plan).get(entry.name, {})
    if known.get("snapshot_hash") != record["snapshot_hash"] or known.get("time") != record["time"]:
        append_line(
            plan.results,
            {
                **about(plan, entry),
                **record,
                **({"further": list(records.values())} if records else {}),
                **({"stopped": trouble} if trouble else {}),
            },
        )


def about(plan: Plan, entry: Entry) -> dict[str, Any]:
    """The fields of an entry in the results, without its measurement."""
    run = read_run(plan.run(entry))
    counts = speed = memory = minutes = seed = machine = None
    if not isinstance(run, str):
        counts, speed, memory, minutes = run.parameters, run.speed, run.memory, run.minutes
        seed = run.recipe.training.seed if run.recipe else None
        if told := run.progress.get("machine"):
            machine = f"{told['device']}, {told['threads']} threads, torch {told['torch']}"
    return {
        "name": entry.name,
        "recipe": entry.recipe,
        "overrides": list(entry.overrides),
        "training_seed": seed,
        "parameters": counts,
        "trained_minutes": minutes and round(minutes, 2),
        "images_per_second": speed and round(speed, 1),
        "training_peak_memory_mb": memory,
        "machine": machine,
        "date": date.today().isoformat(),
    }


def fail(plan: Plan, entry: Entry, reason: str) -> str:
    """Record that an entry failed; returns the reason."""
    append_line(plan.results, {**about(plan, entry), "protocol": plan.protocol, "failed": reason})
    return reason


def call(plan: Plan, entry: Entry, command: Sequence[str], say: Callable[[str], None]) -> str:
    """Run one command of omokage, with its output in the entry's log; returns its error, or "".

    It runs in a session of its own. So Ctrl-C does not reach it directly; it gets one SIGTERM, and saves.
    """
    plan.run(entry).mkdir(parents=True, exist_ok=True)
    wait_until_free(plan.run(entry), say)
    with open(plan.log(entry), "a", encoding="utf-8") as log:
        start = log.tell()
        child = subprocess.Popen(
            [*plan.command, *command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        say(f"process {child.pid}, printing to {plan.log(entry)}")
        try:
            code = child.wait()
        except BaseException:
            child.terminate()  # SIGTERM, because a child may have inherited that SIGINT is ignored
            child.wait()
            raise
    if code == 0:
        return ""
    with open(plan.log(entry), encoding="utf-8", errors="replace") as log:
        log.seek(start)
        printed = [line.strip() for line in log if line.strip()]
    errors = [line.removeprefix("error: ") for line in printed if line.startswith("error: ")]
    if code in (130, -signal.SIGINT, -signal.SIGTERM):
        raise KeyboardInterrupt
    return (errors or printed or ["no word of it"])[-1] + ("" if errors else f" (exit code {code})")


def wait_until_free(run: Path, say: Callable[[str], None]) -> None:
    """Wait for a training of ``run`` that an earlier call of this program has left running."""
    told = False
    while (run / ".lock").exists():
        with open(run / ".lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not told:
                    say("waiting for another process that trains this run")
                told = True
        time.sleep(2)


# What is shown.


def write_all(plan: Plan) -> None:
    """Write the page, its sheets of samples, and the package's results, from results and snapshots."""
    known = rows(plan, having="fid")
    write_text(plan.measured, packaged(known, curve(plan.results.with_name(CURVE))))
    page = plan.document.read_text(encoding="utf-8") if plan.document.exists() else PAGE
    blocks = tables(plan, known)
    short, hours = parts(known)
    images, seeds = plan.document.parent / "images", seed_ranges(SHEET_SEEDS)
    for block, name, some in (("samples", "comparison", short), ("hours-samples", "comparison-hours", hours)):
        sheet = images / f"{name}.png"
        if write_sheet(plan, some, sheet) or sheet.exists():
            temperatures = ", ".join(f"{one:g}" for one in SHOWN_TEMPERATURES)
            told = f"Seeds {seeds}, psi 1 (of flows: temperatures {temperatures}), none picked."
            told = told if block == "hours-samples" else f"Seeds {seeds}, psi 1, none picked."
            blocks[block] = f"![Samples of every model]({images.name}/{sheet.name})\n\n{told}"
    for name, content in blocks.items():
        page = with_block(page, name, content)
    write_text(plan.document, page)


CURVE = "fid_over_minutes.jsonl"
HOUR = 61.0  # minutes; trainings end slightly later than their limit


def curve(path: Path) -> list[dict[str, Any]]:
    """Snapshots of trainings of the current recipe `fast`, by seed and minutes; none without the file."""
    lines = read_lines(path) if path.exists() else []
    now = [{"overrides": [], "name": "fast", **row} for row in lines if "recipe_then" not in row]
    return sorted(now, key=lambda row: (row["training_seed"], row["trained_minutes"]))


def packaged(known: dict[str, dict[str, Any]], curve: Sequence[dict[str, Any]]) -> str:
    """The results that `omokage recipes` shows, as JSON.

    For each recipe: the longest training of at most an hour with the first seed; the rest in ``others``.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, row in known.items():
        if name in recipe_names():
            found.setdefault(name, []).append(summary(row))
    for row in curve:
        found.setdefault(row["recipe"], []).append(summary(row))
    told = {}
    for name, trainings in sorted(found.items()):
        trainings.sort(key=lambda row: (row["minutes"], row["seed"]))
        within = [row for row in trainings if row["minutes"] <= HOUR] or trainings[:1]
        main = next(row for row in within if row["minutes"] > within[-1]["minutes"] - 1)
        keys = ("fid", "protocol", "minutes", "images", "seed")
        others = [{key: row[key] for key in keys} for row in trainings if row is not main]
        told[name] = main | ({"others": others} if others else {})
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def parts(known: dict[str, dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The rows of the 20-minute table, and those of the one-hour table with some 20-minute rows."""
    longer = {entry.name for entry in HOURS}
    short = {name: row for name, row in known.items() if name not in longer}
    beside = BESIDE if longer & known.keys() else ()
    return short, {name: row for name, row in known.items() if name in longer or name in beside}


def tables(plan: Plan, known: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The tables of the page, by the names of their markers."""
    short, hours = parts(known)
    return {
        "quality": quality_table(plan, short, ENTRIES),
        "hours": quality_table(plan, hours, HOURS),
        "temperatures": temperature_table(known),
        "cost": cost_table(known),
        "published": published_table(known),
        "findings": findings_table(known),
    }


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def with_block(page: str, name: str, content: str) -> str:
    """The page with the text between the markers of ``name`` replaced; appended if it has no markers.

    >>> with_block("a\\n<!-- x -->\\nold\\n<!-- /x -->\\nb\\n", "x", "new")
    'a\\n<!-- x -->\\nnew\\n<!-- /x -->\\nb\\n'
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = f"{first}\n{content}\n{last}"
    start, end = page.find(first), page.find(last)
    if start < 0 or end < start:
        return f"{page.rstrip()}\n\n{block}\n"
    return page[:start] + block + page[end + len(last) :]


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """The part of a row that `omokage recipes NAME` shows."""
    also, test, sharp = (row.get("also") or [{}])[0], row.get("two_sample") or {}, row.get("sharpness") or {}
    names = ("protocol", "fid", "kid", "precision", "recall", "density", "coverage")
    return {name: row.get(name) for name in names} | {
        "second_fid": also.get("fid"),
        "second_protocol": also.get("protocol"),
        "two_sample": test.get("accuracy"),
        "two_sample_protocol": test.get("protocol"),
        "sharpness": sharp.get("value"),
        "sharpness_protocol": sharp.get("protocol"),
        "minutes": row["trained_minutes"],
        "images": row["images_seen"],
        "seed": row["training_seed"],
        "overrides": row["overrides"],
        "machine": row["machine"],
        "date": row["date"],
        "faces": row["faces"],
        "face_set": row["face_set_hash"],
    }


def cell(value: Any, form: str = "{:.2f}") -> str:
    """A number as text, or a dash."""
    known = number(value)
    return "–" if known is None else form.format(known)


def changes(row: dict[str, Any]) -> str:
    """The changes to the recipe, each formatted as code."""
    return " ".join(f"`{change}`" for change in row["overrides"])


def in_order(known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, best FID first."""
    return sorted(known.values(), key=lambda row: row["fid"])


MINUTES, BITS = "minutes", "bits per dimension"
QUALITY = "model, FID, KID × 1000, precision, recall, density, coverage, second FID, two-sample, sharpness"
COST = (
    "model, recipe and changes, M parameters (draws + judges), minutes, images, images/s, peak MB, seed, date"
)
PUBLISHED = "recipe, published, how, trained there on, trained here, FID here, in words"


def heading(columns: str) -> list[str]:
    """The first two lines of a table."""
    names = columns.split(", ")
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def way(row: dict[str, Any]) -> tuple[str, ...]:
    """The fields that must be equal for two rows to be comparable."""
    names = ("protocol", "face_set_hash", "resolution", "extractor_precision")
    return tuple(str(row.get(name)) for name in names)


def further(row: dict[str, Any], protocol: str) -> dict[str, Any]:
    """The record of a row by another protocol; empty if there is none."""
    return next((one for one in row.get("further", ()) if one["protocol"] == protocol), {})


def bits_of(row: dict[str, Any]) -> str:
    """Bits per dimension with the confidence interval, or a dash."""
    record = further(row, "bpd-heldout-8bit")
    if not record:
        return "–"
    interval = record.get("interval")
    reach = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.3f}"
    lost = record.get("faces_not_finite")
    return cell(record["bits_per_dimension"], "{:.3f}") + reach + (f" ({lost} not finite)" if lost else "")


def temperature_table(known: dict[str, dict[str, Any]]) -> str:
    """The table of flows sampled at lower temperatures."""
    lines = heading("model, temperature, FID, KID × 1000, precision, recall, not finite")
    begun = len(lines)
    for row in in_order(known):
        cooler = [further(row, f"{row['protocol']}-psi{temperature:g}") for temperature in COOLER]
        for told in (*filter(None, cooler), *([row] if any(cooler) else [])):
            numbers = [cell(told["fid"]), f"{1000 * told['kid']:.2f}"]
            numbers += [cell(told[key], "{:.3f}") for key in ("precision", "recall")]
            lost = f"{told['samples_not_finite']:,} of {told['samples']:,}"
            lines.append(f"| `{row['name']}` | {told['psi']:g} | {' | '.join(numbers)} | {lost} |")
    return "\n".join(lines) if len(lines) > begun else "Not run yet."


def quality_table(plan: Plan, known: dict[str, dict[str, Any]], entries: Sequence[Entry] = ENTRIES) -> str:
    """One table for each way of measuring; then the entries that were not measured, and why.

    The tables of ``HOURS`` also have the minutes, and the bits per dimension where there are any.
    """
    lines = []
    hours = entries is HOURS
    ways: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in in_order(known):
        ways.setdefault(way(row), []).append(row)
    if len(ways) > 1:
        lines += [f"{len(ways)} ways of measuring: numbers of different tables cannot be compared.", ""]
    for (protocol, face_set, _, precision), members in ways.items():
        first = members[0]
        second = (first.get("also") or [{}])[0].get("protocol", "second space")
        test = (first.get("two_sample") or {}).get("protocol", "two-sample")
        sharp = (first.get("sharpness") or {}).get("protocol", "sharpness")
        size = "×".join(map(str, first["resolution"]))
        lines += [
            f"`{protocol}`: {first['samples']:,} samples against {first['faces']:,} faces "
            f"(`{face_set[:8]}`) at {size}, {precision}. Beside it `{second}` (second FID), "
            f"the two-sample test `{test}`, sharpness `{sharp}`.",
            "",
            *heading(f"{QUALITY}, {MINUTES}, {BITS}" if hours else QUALITY),
        ]
        for row in members:
            other = summary(row)
            numbers = [cell(row["fid"]), f"{1000 * row['kid']:.2f} ± {1000 * row['kid_standard_error']:.2f}"]
            numbers += [cell(row[key], "{:.3f}") for key in ("precision", "recall", "density", "coverage")]
            numbers += [
                cell(other["second_fid"]),
                cell(other["two_sample"], "{:.3f}"),
                cell(other["sharpness"]),
            ]
            if hours:
                numbers += [cell(row["trained_minutes"], "{:.0f}"), bits_of(row)]
            lines.append(f"| `{row['name']}` | {' | '.join(numbers)} |")
        lines.append("")
    wanted = [entry.name for entry in entries if not entry.extra]
    others = {entry.name for entry in (ENTRIES if hours else HOURS)}
    failed = {
        name: row["failed"] for name, row in rows(plan).items() if row.get("failed") and name not in others
    }
    left = [name for name in wanted if name not in known and name not in failed]
    lines += [f"`{name}` failed: {reason}" + "\n" for name, reason in failed.items()]
    if left:
        lines.append(f"Not run yet: {', '.join(f'`{name}`' for name in left)}.")
    return "\n".join(lines).strip()


def cost_table(known: dict[str, dict[str, Any]]) -> str:
    """The table of the cost of each training."""
    lines = heading(COST)
    for row in in_order(known):
        counts = " + ".join(f"{count / 1e6:.2f}" for count in (row.get("parameters") or {}).values()) or "–"
        recipe = " ".join(filter(None, [f"`{row['recipe']}`", changes(row)]))
        lines.append(
            f"| `{row['name']}` | {recipe} | {counts} | {cell(row['trained_minutes'], '{:.1f}')} "
            f"| {row['images_seen']:,} | {cell(row['images_per_second'], '{:.1f}')} "
            f"| {cell(row['training_peak_memory_mb'], '{:,.0f}')} | {row['training_seed']} | {row['date']} |"
        )
    notes = [
        f"- `{entry.name}`: {entry.about}."
        for entry in (*ENTRIES, *HOURS)
        if entry.about and entry.name in known
    ]
    notes += [
        f"- `{name}` stopped early: {row['stopped']}" for name, row in known.items() if row.get("stopped")
    ]
    machines: dict[str, list[str]] = {}
    for row in in_order(known):
        machines.setdefault(row["machine"], []).append(f"`{row['name']}`")
    for machine, names in machines.items():
        notes.append(f"- Trained on {machine}: {', '.join(names)}.")
    notes.append("- One training each.")
    return "\n".join([*lines, "", *notes]).strip()


def published_table(known: dict[str, dict[str, Any]]) -> str:
    """The table of published and measured results, with the limits of their comparison."""
    lines = heading(PUBLISHED)
    for name, told in published().items():
        row = known.get(name)
        if not told.get("figures") and (row is None or not told.get("found")):
            continue
        figures = told.get("figures") or [{"name": "in words", "value": None, "protocol": told["found"]}]
        for one in figures:
            value = "–" if one["value"] is None else f"{one['name']} {one['value']:g}"
            there = "; ".join(told[key] for key in ("data", "training") if key in told)
            here = fid = "–"
            if row is not None:
                here = f"{row['images_seen']:,} images in {row['trained_minutes']:.0f} minutes"
                if row["overrides"]:
                    here += f", changed: {changes(row)}"
                fid = f"{row['fid']:.2f} (`{row['protocol']}`)"
            cells = (f"`{name}`", value, one["protocol"], there, here, fid, in_words(one, row))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def in_words(told: dict[str, Any], row: dict[str, Any] | None) -> str:
    """Whether our figure is better or worse than a published one, and why they are hard to compare."""
    if row is None:
        return "not measured here"
    if told["name"] != "FID":
        return "no figure to compare with"
    ratio = row["fid"] / told["value"]
    word = "about the same" if abs(ratio - 1) < CLOSE else f"ours is {'worse' if ratio > 1 else 'better'}"
    return (
        f"{word} ({ratio:.2f} times), but not strictly comparable: other faces, another length of training, "
        "and the number of samples there is not known"
    )


# Findings of the reports: the figure, the entry expected lower, the entry expected higher, words, source.
FINDINGS = (
    ("sharpness", "yao2021-vae", "yao2021-dcgan", "The VAE is blurry beside the DCGAN", "yao2021"),
    ("fid", "yao2021-dcgan", "yao2021-wgan", "The DCGAN is better than the WGAN", "yao2021"),
    ("fid", "yao2021-wgan", "yao2021-vae", "The WGAN lies between VAE and DCGAN", "yao2021"),
    ("fid", "yao2021-dcgan", "yao2021-dcgan-dropout", "The DCGAN with dropout is worse", "yao2021"),
    ("fid", "wu2020-dcgan", "wu2020-lsgan", "The LSGAN is worse than the DCGAN at these settings", "wu2020"),
    (
        *("fid", "liao2021-dcgan", "liao2021-dcgan-half"),
        *("All faces once are better than half of them twice, as many images seen", "liao2021"),
    ),
)


TWO_SEEDS = ("liao2021-dcgan", "turubayev2022-dcgan")
"""Entries with the same settings and time, but two seeds."""


def apart(known: dict[str, dict[str, Any]], key: str) -> float:
    """The relative difference above which figures differ: the effect of the seed, but at least `CLOSE`."""
    pair = [known[name] for name in TWO_SEEDS if name in known]
    if len(pair) < 2 or way(pair[0]) != way(pair[1]):
        return CLOSE
    values = [value for value in (figure(row, key) for row in pair) if value]
    return max(CLOSE, 1 - min(values) / max(values)) if len(values) == 2 else CLOSE


def findings_table(known: dict[str, dict[str, Any]]) -> str:
    """The reports' findings, confirmed or contradicted by our figures: by both FIDs, or by sharpness."""
    lines = ["| finding | source | figure | numbers here | verdict |", "|---|---|---|---|---|"]
    for key, low, high, text, source in FINDINGS:
        found = [known.get(low), known.get(high)]
        pair = [row for row in found if row is not None]
        keys = ("fid", "second FID") if key == "fid" else (key,)
        told = ", ".join(
            f"`{row['name']}` {' / '.join(cell(figure(row, one)) for one in keys)}" for row in pair
        )
        judged = together(
            {one: verdict(*(row and figure(row, one) for row in found), apart(known, one)) for one in keys}
        )
        if len(pair) == 2 and way(pair[0]) != way(pair[1]):
            judged = "measured in different ways"
        named = " / ".join(keys).replace("fid", "FID")
        lines.append(f"| {text} | {source} | {named} | {told or '–'} | {judged} |")
    shares = {key: apart(known, key) for key in ("fid", "second FID", "sharpness")}
    told = [f"{key.replace('fid', 'FID')} {share:.0%}" for key, share in shares.items() if share > CLOSE]
    if told:
        pair = " and ".join(f"`{name}`" for name in TWO_SEEDS)
        lines += ["", f"A seed alone changed {', '.join(told)} ({pair}); what differs by less is undecided."]
    return "\n".join(lines)


def figure(row: dict[str, Any], key: str) -> float | None:
    """The FID, the second FID or the sharpness of a row."""
    if key == "second FID":
        return number((row.get("also") or [{}])[0].get("fid"))
    return number((row.get("sharpness") or {}).get("value") if key == "sharpness" else row[key])


NOT_MEASURED = "not measured"


def verdict(low: float | None, high: float | None, close: float = CLOSE) -> str:
    """The verdict on two figures if the first is expected to be lower; ``close``: see `apart`.

    >>> verdict(30.0, 60.0), verdict(60.0, 30.0), verdict(30.0, 30.5), verdict(None, 1.0)
    ('shown again', 'contradicted', 'undecided: less than 5% apart', 'not measured')
    """
    if low is None or high is None:
        return NOT_MEASURED
    if abs(low - high) <= close * max(low, high):
        return f"undecided: less than {close:.0%} apart"
    return "shown again" if low < high else "contradicted"


def together(verdicts: dict[str, str]) -> str:
    """The combined verdict of several figures; figures that were not measured do not count.

    >>> together({"fid": "shown again", "second FID": "contradicted"})
    'undecided: shown again by FID, contradicted by second FID'
    >>> together({"fid": "shown again", "second FID": "not measured"})
    'shown again'
    """
    told = {name.replace("fid", "FID"): one for name, one in verdicts.items() if one != NOT_MEASURED}
    if len(set(told.values())) <= 1:
        return next(iter(told.values()), NOT_MEASURED)
    each = (f"{one.removeprefix('undecided: ')} by {name}" for name, one in told.items())
    return f"undecided: {', '.join(each)}"


PAPER, INK, FAINT = (250, 248, 245), (43, 40, 51), (122, 116, 131)
SIDE, GAP, MARGIN, NAMES, HEAD = 64, 4, 24, 236, 46
"""Sizes in a sheet, in pixels: a face, the gap, the margin, the space for names and for seeds."""


def write_sheet(plan: Plan, known: dict[str, dict[str, Any]], path: Path) -> bool:
    """Write a sheet with a row for each model and a column for each seed. Returns whether it was written.

    If the snapshot of a model is missing, its row is taken from the old sheet at ``path``. If a row is
    missing there too, the old sheet is kept.
    """
    flows = {entry.name for entry in HOURS if entry.flow}
    last = strips(path) if path.exists() else {}
    found: dict[str, Image.Image] = {}
    missing = False
    for row in in_order(known):
        flow = row["name"] in flows
        keys = {
            f"{row['name']}:{row['snapshot_hash'][:12]}:{psi:g}": psi
            for psi in (SHOWN_TEMPERATURES if flow else (1.0,))
        }
        try:
            snapshot = newest_snapshot(plan.runs / row["name"])
            if read_snapshot(snapshot, "nothing.")[2]["images"] != row["images_seen"]:
                raise UserError("trained further")
            model = load_model(snapshot)
            found |= {key: strip(row, model, psi, flow) for key, psi in keys.items()}
        except UserError:
            missing = missing or not keys.keys() <= last.keys()
            found |= {key: last[key] for key in keys if key in last}
    if not found or (missing and path.exists()):
        return False  # do not replace the old sheet by one with fewer rows
    width, height = next(iter(found.values())).size
    sheet = Image.new("RGB", (width + 2 * MARGIN, HEAD + len(found) * (height + GAP) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    small = ImageFont.load_default(12)
    for column, seed in enumerate(SHEET_SEEDS):
        x = MARGIN + NAMES + column * (SIDE + GAP) + SIDE // 2
        draw.text((x, HEAD - 12), str(seed), FAINT, small, anchor="mm")
    protocol = in_order(known)[0]["protocol"]
    draw.text((MARGIN, HEAD - 12), f"seed, psi 1; FID: {protocol}", FAINT, small, anchor="lm")
    for place, one in enumerate(found.values()):
        sheet.paste(one, (MARGIN, HEAD + place * (height + GAP)))
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {"seeds": seed_ranges(SHEET_SEEDS), "rows": ",".join(found), "record": sheet_record(known)}
    save_png(sheet, path, text)
    return True


def sheet_record(known: dict[str, dict[str, Any]]) -> str:
    """The id of the figures in a sheet: SHA-256 of its rows in order."""
    told = [(row["name"], row["snapshot_hash"], row["protocol"], caption(row)) for row in in_order(known)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def caption(row: dict[str, Any]) -> str:
    """The caption of a row in a sheet."""
    return f"FID {row['fid']:.1f}, {row['images_seen'] / 1000:,.0f} k images"


def strip(row: dict[str, Any], model: Model, psi: float, flow: bool) -> Image.Image:
    """One row of a sheet: the name, and the faces of `SHEET_SEEDS`."""
    drawn = Image.new("RGB", (NAMES + len(SHEET_SEEDS) * (SIDE + GAP) - GAP, SIDE), PAPER)
    draw = ImageDraw.Draw(drawn)
    bold, small = ImageFont.load_default(15), ImageFont.load_default(12)
    draw.text((0, SIDE // 2 - 2), row["name"], INK, bold, anchor="ls")
    told = caption(row)
    if flow:
        told = f"temperature {psi:g}" + (f", {told}" if psi == 1 else "")
    draw.text((0, SIDE // 2 + 6), told, FAINT, small, anchor="lt")
    faces, _ = gathered(sample(model, SHEET_SEEDS, Settings(psi=psi)))
    for column, face in enumerate(faces):
        shown = Image.fromarray(face)
        if shown.size != (SIDE, SIDE):
            shown = shown.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        drawn.paste(shown, (NAMES + column * (SIDE + GAP), 0))
    return drawn


def strips(path: Path) -> dict[str, Image.Image]:
    """The rows of a sheet that `write_sheet` wrote, by their names."""
    with Image.open(path) as sheet:
        names = [name for name in str(sheet.info.get("rows", "")).split(",") if name]
        whole = sheet.convert("RGB")
    boxes = [HEAD + place * (SIDE + GAP) for place in range(len(names))]
    return {
        name: whole.crop((MARGIN, top, whole.width - MARGIN, top + SIDE))
        for name, top in zip(names, boxes, strict=True)
    }


PAGE = """# The reports' models, side by side

Five student reports trained VAEs and GANs on anime faces, each on its own data and by its own yardstick. Here
each of their recipes, and those of the papers they review, trains on the same faces for the same time on two
CPU cores, and is measured in the same way: `python bench/comparison.py --data faces/`.
[metrics.md](metrics.md) says what each figure means and hides. `yao2021-dcgan-mnist` draws grey digits and is
left out; its parameters are counted in the tests.

## Quality

<!-- quality -->
<!-- /quality -->

## The same seeds

<!-- samples -->
<!-- /samples -->

## An hour each

<!-- hours -->
<!-- /hours -->

<!-- hours-samples -->
<!-- /hours-samples -->

<!-- temperatures -->
<!-- /temperatures -->

## The reports' findings

<!-- findings -->
<!-- /findings -->

Two figures less than 5% apart, one seed each, are called undecided, and so is what the two feature spaces do
not agree on.

## Published figures

<!-- published -->
<!-- /published -->

## Cost

<!-- cost -->
<!-- /cost -->
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the remaining work. Returns 1 if something failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the face set")
    parser.add_argument("--runs", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, for each")
    parser.add_argument("--hours", action="store_true", help="style-based generators and flows, an hour each")
    parser.add_argument("--split", type=Path, help="the split face set that flows learn from")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="entries or recipes")
    parser.add_argument("--again", action="store_true", help="try once more what failed")
    parser.add_argument("--status", action="store_true", help="say what is left, and stop")
    parser.add_argument("--protocol", default=DEFAULT_PROTOCOL)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "comparison.jsonl")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "comparison.md")
    parser.add_argument(
        "--measured", type=Path, default=ROOT / "src" / "omokage" / "assets" / "measured.json"
    )
    given = parser.parse_args(arguments)

    def stop(number: int, frame: object) -> None:  # not through SIGINT, which background processes ignore
        raise KeyboardInterrupt

    given_plan = (given.data, given.runs, given.results, given.document, given.measured, given.minutes)
    plan = Plan(*given_plan, given.protocol, split=given.split)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        parse_protocol(plan.protocol)
        return compare(plan, chosen(given.only, given.hours), status_only=given.status, again=given.again)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def compare(plan: Plan, entries: Sequence[Entry], *, status_only: bool, again: bool) -> int:
    """Train and measure ``entries`` one after another; update the page after each."""
    width = max(len(entry.name) for entry in entries)
    if not status_only and plan.data is None:
        raise UserError("--data is missing, for example --data faces/")
    failed = 0
    for entry in entries:
        told = status(plan, entry)
        print(f"{entry.name:{width}}  {told}", flush=True)
        if status_only or told.startswith("done") or (told.startswith("failed") and not again):
            failed += told.startswith("failed")
            continue
        try:
            train_and_measure(plan, entry, lambda text: print(f"{'':{width}}  {text}", flush=True))
        except UserError as error:
            failed += 1
            print(f"{'':{width}}  failed: {error}", flush=True)
            continue
        write_all(plan)
        print(f"{'':{width}}  {status(plan, entry)}", flush=True)
    if not status_only:
        write_all(plan)
        print(f"{plan.document}, {plan.results}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
