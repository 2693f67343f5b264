"""`omokage study`: asks people whether they can tell generated faces from real ones."""

import json
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .options import need, progress, within

if TYPE_CHECKING:
    from PIL import Image

    from ..study.stimuli import Source

app = typer.Typer(help="Ask people: can they tell generated faces from real ones? Serve, report, export.")


@app.callback()
def start() -> None:
    """Ask people: can they tell generated faces from real ones? Serve, report, export."""
    need("omokage study", "study", "fastapi", "sqlalchemy", "uvicorn", "choix")


STUDY = typer.Argument(metavar="STUDY", help="The study's folder.")
DATABASE = typer.Option(
    metavar="URL|FILE", help="postgresql://..., or a file of SQLite. Default: study.sqlite in the study."
)
KINDS = ("pairs", "single", "timed", "rating", "preference")
PICTURES = 100


@app.command()
def new(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The folder to make.")],
    more: Annotated[
        list[Path] | None,
        typer.Argument(metavar="GENERATED", help="Further sources, as after --generated."),
    ] = None,
    real: Annotated[
        list[Path] | None,
        typer.Option(help="Real faces: a face set, a folder or an archive; may be repeated."),
    ] = None,
    generated: Annotated[
        list[Path] | None,
        typer.Option(help="A run, a snapshot, 'shipped', a folder or an archive; may be repeated."),
    ] = None,
    design: Annotated[
        str | None, typer.Option(help="pairs, single, timed, rating or preference. Default: pairs.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A published protocol to begin with: rai2020.")] = None,
    trials: Annotated[
        int | None, typer.Option(callback=within(1, 1000), help="Main trials of each person. Default: 24.")
    ] = None,
    practice: Annotated[
        int | None, typer.Option(callback=within(0, 50), help="Practice trials before them. Default: 2.")
    ] = None,
    checks: Annotated[
        int | None, typer.Option(callback=within(0, 50), help="Attention checks among them. Default: 0.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help="What is rated, like overall or hair,eyes,contour,mouth.")
    ] = None,
    exposures: Annotated[
        str | None, typer.Option(help="Milliseconds of a timed study, like 50,100,500.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The title that people see.")] = None,
    participants: Annotated[
        int | None, typer.Option(callback=within(1, 1_000_000), help="End after so many complete ones.")
    ] = None,
    number: Annotated[
        int, typer.Option("-n", "--number", callback=within(1, 50_000), help="Pictures of each source.")
    ] = PICTURES,
    pixels: Annotated[
        int | None,
        typer.Option(callback=within(16, 1024), help="Pixels a side of all. Default: the smallest there is."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(callback=within(32, 2048), help="Side on the page, in CSS pixels.")
    ] = None,
    psi: Annotated[float, typer.Option(callback=within(-2, 2), help="Truncation of drawn faces.")] = 1.0,
    seed: Annotated[
        int, typer.Option(callback=within(0, 2**62), help="Of the design; drawn faces use seeds from it on.")
    ] = 0,
    chosen: Annotated[
        list[str] | None,
        typer.Option(
            "--chosen-by-hand",
            metavar="SOURCE=N",
            help="Its pictures were picked by hand out of N (0: unknown); the report prints it.",
        ),
    ] = None,
) -> None:
    """Make a study from real and generated faces. Runs are drawn; all pictures are treated alike."""
    from ..study.design import preset as preset_settings
    from ..study.making import make_study

    settings: dict[str, Any] = preset_settings(preset) if preset else {}
    settings["seed"] = seed
    if design is not None and design not in KINDS:
        raise UserError(f"--design: got {design}, allowed is {', '.join(KINDS)}")
    given = {
        "kind": design,
        "trials": trials,
        "practice": practice,
        "checks": checks,
        "title": title,
        "size": size,
        "parts": _words(parts),
        "exposures_ms": _numbers(exposures, "--exposures"),
    }
    settings |= {name: value for name, value in given.items() if value is not None}
    if participants is not None:
        settings["stopping"] = {"participants": participants}
    settings["chosen_by_hand"] = dict(_counts(chosen or []))
    models = [*(generated or []), *(more or [])]
    if not models and not real:
        raise UserError("study new: --generated is missing, for example --generated runs/fast")
    if study.exists() and (not study.is_dir() or any(study.iterdir())):
        raise UserError(f"{study} is there already and not empty; give the name of a new folder")
    _check_before_drawing(settings, bool(real), list(_named(models)), number)
    with tempfile.TemporaryDirectory(prefix="omokage-study-") as drawn:
        metrics: dict[str, dict[str, float]] = {}
        sources = [_opened("real", path, number, seed, psi, Path(drawn), {}) for path in real or []]
        for name, path in _named(models).items():
            sources.append(_opened(name, path, number, seed, psi, Path(drawn), metrics))
        shown = progress()
        made, told, token = make_study(
            study, settings, sources, pixels=pixels, metrics=metrics, progress=shown
        )
    print("\n".join(told.lines()))
    print(f"{study}: {made.kind}, {made.answers} answers from each person; edit {study / 'design.toml'}")
    print(f"dashboard token, shown only now: {token}")
    print(f"next: omokage study serve {shlex.quote(str(study))} --pilot")


def _check_before_drawing(settings: dict[str, Any], real: bool, models: list[str], number: int) -> None:
    """Refuse what cannot become a study before time is spent on drawing."""
    from ..study.design import check_pictures, design_of

    kind = settings.get("kind", "pairs")
    if kind in ("pairs", "single", "timed") and not (real and models):
        lacks = "--real" if models else "--generated"
        raise UserError(f"study new: {kind} needs real and generated faces; {lacks} is missing")
    names = [*(["real"] if real else []), *models]
    made = design_of({**settings, "sources": names}, "study new")
    check_pictures(made, dict.fromkeys(names, number))


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None, option: str) -> list[int] | None:
    words = _words(text)
    try:
        return None if words is None else [int(word) for word in words]
    except ValueError:
        raise UserError(f"{option}: {text!r} is not a list of whole numbers, like 50,100,500") from None


def _counts(pairs: list[str]) -> Iterator[tuple[str, int]]:
    for pair in pairs:
        name, equals, count = pair.rpartition("=")
        if not (equals and name and count.isascii() and count.isdigit()):
            raise UserError(f"--chosen-by-hand: {pair!r} is not SOURCE=N, for example dcgan=1000")
        yield name, int(count)


def _named(paths: list[Path]) -> dict[str, Path]:
    """The sources by name: the last part of each path, numbered where two are alike."""
    named: dict[str, Path] = {}
    for path in paths:
        stem = path.resolve().stem if path.suffix else path.resolve().name
        name, number = stem, 1
        while name in named or name == "real":
            number += 1
            name = f"{stem}-{number}"
        named[name] = path
    return named


def _opened(
    name: str,
    path: Path,
    number: int,
    seed: int,
    psi: float,
    drawn: Path,
    metrics: dict[str, dict[str, float]],
) -> "Source":
    """A source of pictures: faces drawn from a model, a face set, or files."""
    from ..data.store.faceset import FaceSet
    from ..data.store.manifest import is_face_set
    from ..listing import snapshots
    from ..study.stimuli import Source

    if is_face_set(path):
        from random import Random

        faces = FaceSet.open(path)
        rows = Random(seed).sample(range(len(faces)), min(number, len(faces)))
        about = {"face set": str(path), "content": faces.content_hash, "chosen": f"at random, seed {seed}"}
        return Source(name, ((faces.keys[i], faces.image(i)) for i in rows), about, len(rows))
    if _is_shipped(path) or path.suffix == ".safetensors" or (path.is_dir() and snapshots(path)):
        return _drawn(name, path, number, seed, psi, drawn / name, metrics)
    return Source(name, _files(path, number, seed), {"files": str(path), "chosen": f"at random, seed {seed}"})


def _is_shipped(path: Path) -> bool:
    """Whether the model that ships with the package is meant, and not a file of that name."""
    return str(path) == "shipped" and not path.exists()


def _drawn(
    name: str,
    path: Path,
    number: int,
    seed: int,
    psi: float,
    folder: Path,
    metrics: dict[str, dict[str, float]],
) -> "Source":
    from ..model import load_model
    from ..samples import write_each
    from ..sampling import seed_ranges
    from ..settings import Settings
    from ..study.stimuli import Source

    shipped = _is_shipped(path)
    model, settings, broken = load_model(None if shipped else path), Settings(psi=psi), list[int]()
    model.check(settings)
    seeds = list(range(seed, seed + number))
    files = write_each(model, seeds, folder, settings=settings, progress=progress(), broken=broken)
    if broken:
        typer.echo(f"{name}: {len(broken):,} faces are not finite and left out", err=True)
    kept = [(file, one) for file, one in zip(files, seeds, strict=True) if one not in set(broken)]
    about = {
        "run": str(path),
        "recipe": model.about.recipe,
        "snapshot": model.about.snapshot_hash,
        "images seen": model.about.images_seen,
        "seeds": seed_ranges(seeds),
        **settings.text(),
    }
    if not shipped and (found := _metrics(path if path.is_dir() else path.parent, model.about.snapshot_hash)):
        metrics[name] = found
    pictures = ((f"seed {one}", _picture(file.read_bytes())) for file, one in kept)
    return Source(name, pictures, about, len(kept))


def _files(path: Path, number: int, seed: int) -> Iterator[tuple[str, "Image.Image | str"]]:
    from random import Random

    from ..data.sources.opening import open_source

    with open_source(path) as source:
        total = source.total
        chosen = None if total is None else set(Random(seed).sample(range(total), min(number, total)))
        taken = 0
        for place, found in enumerate(source):
            if taken >= number:
                return
            if chosen is None or place in chosen:
                data = found.read()
                taken += 1
                yield found.name, data if isinstance(data, str) else _picture(data)


def _picture(data: bytes) -> "Image.Image | str":
    from ..data.steps.read import Unreadable, read_picture

    try:
        return read_picture(data).image
    except Unreadable as reason:
        return str(reason)


def _metrics(run: Path, snapshot: str) -> dict[str, float]:
    """The newest figures of a run's evaluations of this snapshot, by metric."""
    found: dict[str, float] = {}
    try:
        lines = (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict) or record.get("snapshot_sha256", snapshot) != snapshot:
            continue
        for key in ("fid", "kid", "precision", "recall", "density", "coverage"):
            if isinstance(record.get(key), int | float):
                found[key] = float(record[key])
    return found


@app.command()
def serve(
    study: Annotated[Path, STUDY],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(callback=within(1, 65535), help="The port.")] = 8000,
    public_url: Annotated[
        str | None,
        typer.Option(help="The address that people open, like https://lab.example.org/faces."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another host name to answer to; may be repeated.")
    ] = None,
    database: Annotated[str | None, DATABASE] = None,
    pilot: Annotated[
        bool, typer.Option("--pilot", help="Mark who starts now as a pilot; nothing is frozen.")
    ] = False,
    workers: Annotated[
        int, typer.Option(callback=within(1, 64), help="Processes; more than one need PostgreSQL.")
    ] = 1,
) -> None:
    """Serve a study: a page to send to people, and a dashboard at /dashboard."""
    from ..study.server import serve as run

    where = (public_url or f"http://{'localhost' if host in ('0.0.0.0', '::') else host}:{port}").rstrip("/")
    print(f"for people:     {where}/\nfor you:        {where}/dashboard (with the token)", flush=True)
    if pilot:
        print("pilot: who starts now is reported apart", flush=True)
    if database and "://" not in database and not Path(database).exists():
        print(f"{database}: a new database, with nobody in it yet", flush=True)
    run(
        study,
        host=host,
        port=port,
        database=database,
        pilot=pilot,
        public_url=public_url,
        hosts=tuple(allow_host or ()),
        workers=workers,
    )


@app.command()
def token(study: Annotated[Path, STUDY]) -> None:
    """Print a new token for the dashboard; the old one no longer opens it."""
    from ..study.design import load_design
    from ..study.making import new_token

    load_design(study)
    print(new_token(study))
    typer.echo("a server that runs already knows the new token once it is started again", err=True)


def _set_state(study: Path, database: str | None, state: str) -> None:
    from ..study.opening import open_store
    from ..study.sessions import set_state

    with open_store(study, database) as store:
        store.write(lambda connection: set_state(connection, state))
    print(f"{study} is {state}")


@app.command("open")
def open_(study: Annotated[Path, STUDY], database: Annotated[str | None, DATABASE] = None) -> None:
    """Let people start again after a pause or a close."""
    _set_state(study, database, "open")


@app.command()
def pause(study: Annotated[Path, STUDY], database: Annotated[str | None, DATABASE] = None) -> None:
    """Let nobody start any more; who has started can go on."""
    _set_state(study, database, "paused")


@app.command()
def close(study: Annotated[Path, STUDY], database: Annotated[str | None, DATABASE] = None) -> None:
    """End the study: nobody can start or answer any more."""
    _set_state(study, database, "closed")


@app.command()
def report(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder, or an export of it.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write. Default: report in the study.")
    ] = None,
    pilot: Annotated[bool, typer.Option("--pilot", help="Report on the pilot.")] = False,
    mixed: Annotated[bool, typer.Option("--mixed", help="Fit a mixed model too.")] = False,
    seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="Of the bootstraps.")] = 0,
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Write the report: statistics, figures, the sentence for the paper."""
    from ..study import report as pages
    from ..study.tables import read

    target = study / "report" if out is None else out
    given = read(study) if (study / "answers.csv").is_file() else _tables(study, database)
    told = progress()
    print(pages.write(given, target, pilot=pilot or None, mixed=mixed, seed=seed, progress=told))


def _tables(study: Path, database: str | None) -> Any:
    from ..study.opening import open_store
    from ..study.tables import of_store

    with open_store(study, database) as store:
        return of_store(store, study)


@app.command()
def backup(
    study: Annotated[Path, STUDY],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ZIP to write.")],
    no_panel: Annotated[
        bool, typer.Option("--no-panel", help="Without identifiers of a recruiting service.")
    ] = False,
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Write everything of a study into one ZIP, also while it is served."""
    from ..study.backup import backup as run
    from ..study.opening import open_store

    with open_store(study, database) as store:
        count = run(study, store, out, panel_too=not no_panel, progress=progress())
    print(f"{out}: {count:,} answers; who withdraws later is still in it, so delete old backups")


@app.command()
def restore(
    archive: Annotated[Path, typer.Argument(metavar="ZIP", help="A backup.")],
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The folder to make.")],
    database: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="An empty database to copy the answers into.")
    ] = None,
) -> None:
    """Make a study from a backup, also in another kind of database."""
    from ..study.backup import restore as run

    print(f"{study}: {run(archive, study, database):,} answers")


@app.command()
def erase(
    study: Annotated[Path, STUDY],
    panel: Annotated[
        bool, typer.Option("--panel", help="The identifiers of a recruiting service; answers stay.")
    ] = False,
    pilots: Annotated[bool, typer.Option("--pilots", help="Everything of the pilots.")] = False,
    participant: Annotated[
        str | None, typer.Option(help="All data of one person: an identifier or a withdrawal code.")
    ] = None,
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Delete data for good."""
    from ..study import backup as tools
    from ..study.opening import open_store

    if panel + pilots + (participant is not None) != 1:
        raise UserError("study erase: say what: --panel, --pilots or --participant ID")
    with open_store(study, database) as store:
        if panel:
            print(f"{tools.erase_panel(store):,} panel identifiers erased")
        elif pilots:
            print(f"{tools.erase_pilots(store):,} pilots erased")
        else:
            tools.erase_participant(store, str(participant))
            print("erased")
    typer.echo("backups and exports made before still have it: delete them too", err=True)


STUDY_OR_NONE = typer.Argument(
    metavar="STUDY", help="The study's folder. Without it: --design and --trials."
)
OF_A_PERSON = typer.Option(callback=within(1, 1000), help="Main trials of each person. Default: 24.")


def _design_of(study: Path | None, kind: str | None, trials: int | None) -> Any:
    """The design of a study's folder, or one of a kind and a number of trials."""
    from ..study.design import design_of, load_design

    if study is not None:
        if kind is not None or trials is not None:
            raise UserError("a study's folder has --design and --trials of its own; leave them out")
        return load_design(study)
    if kind is not None and kind not in KINDS:
        raise UserError(f"--design: got {kind}, allowed is {', '.join(KINDS)}")
    given = {"kind": kind or "pairs", "trials": trials}
    return design_of({name: value for name, value in given.items() if value is not None}, "the design")


@app.command()
def plan(
    study: Annotated[Path | None, STUDY_OR_NONE] = None,
    effect: Annotated[
        float, typer.Option(help="The true share of right answers; at 0.5, equivalence is to be shown.")
    ] = 0.5,
    power: Annotated[float, typer.Option(help="The share of studies that should show it.")] = 0.8,
    margin: Annotated[
        float | None, typer.Option(help="Of equivalence, like 0.05. Default: the design's.")
    ] = None,
    design: Annotated[str | None, typer.Option(help="pairs, single, timed or preference.")] = None,
    trials: Annotated[int | None, OF_A_PERSON] = None,
    pictures: Annotated[
        int | None,
        typer.Option(callback=within(1, 1_000_000), help="Of each kind. Default: the study's, or 100."),
    ] = None,
    person: Annotated[
        float | None, typer.Option(callback=within(0, 10), help="How much people differ. Default: 0.3.")
    ] = None,
    picture: Annotated[
        float | None, typer.Option(callback=within(0, 10), help="How much pictures differ. Default: 0.3.")
    ] = None,
    lapses: Annotated[
        float | None, typer.Option(callback=within(0, 1), help="Answers given blindly. Default: 0.02.")
    ] = None,
    studies: Annotated[
        int, typer.Option(callback=within(100, 100_000), help="Simulated studies for each number.")
    ] = 1000,
    seed: Annotated[int, typer.Option(callback=within(0, 2**62), help="Of the simulation.")] = 0,
) -> None:
    """Say how many people a study needs, by simulating the design."""
    found = _planned(
        _design_of(study, design, trials),
        effect=effect,
        power=power,
        margin=margin,
        pictures=_pictures(study) if pictures is None else pictures,
        effects=(person, picture, lapses),
        studies=studies,
        seed=seed,
    )
    print("\n".join([found.sentence, *found.notes]))


def _pictures(study: Path | None) -> int | None:
    """Pictures of each kind in a study: the smaller number of real and generated ones.

    Without a study: as many as `new` takes.
    """
    if study is None:
        return PICTURES
    from ..study.stimuli import load_stimuli

    counts = load_stimuli(study).counts
    real = counts.pop("real", None)
    return min([sum(counts.values()), *([] if real is None else [real])]) if counts else real


def _planned(design: Any, *, effects: tuple[float | None, float | None, float | None], **options: Any) -> Any:
    from ..study.power import plan as run
    from ..study.simulate import Effects

    named = dict(zip(("person_sd", "picture_sd", "lapses"), effects, strict=True))
    given = Effects(**{name: value for name, value in named.items() if value is not None})
    return run(design, effects=given, progress=progress(), **options)


@app.command()
def export(
    study: Annotated[Path, STUDY],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    no_psych_ds: Annotated[
        bool, typer.Option("--no-psych-ds", help="Without the package in the form of Psych-DS.")
    ] = False,
    database: Annotated[str | None, DATABASE] = None,
) -> None:
    """Write all data as CSV and JSON with a codebook, and as a Psych-DS package."""
    from ..study import export as tool
    from ..study.opening import open_store
    from ..study.tables import of_store

    with open_store(study, database) as store:
        given = of_store(store, study)
        paths = tool.write(given, out, psych_ds=not no_psych_ds, progress=progress())
        store.note("exported")
    what = f"{len(given.answers):,} answers of {len(given.participants):,} people"
    print(f"{what}: {len(paths)} files in {out}")


OUT_TEXT = typer.Option("--out", "-o", help="A Markdown file. Default: printed.")


def _told(text: str, out: Path | None) -> None:
    if out is None:
        print(text.rstrip("\n"))
        return
    from ..files import replacing

    try:
        with replacing(out) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot write: {error.strerror or error}") from None
    print(out)


@app.command()
def ethics(study: Annotated[Path, STUDY], out: Annotated[Path | None, OUT_TEXT] = None) -> None:
    """Write the ethics sheet: twelve questions, answered with what this study does."""
    from ..study.design import load_design
    from ..study.ethics import sheet

    _told(sheet(load_design(study)), out)


@app.command()
def preregister(
    study: Annotated[Path, STUDY],
    out: Annotated[Path | None, OUT_TEXT] = None,
    effect: Annotated[
        float | None, typer.Option(help="With it, the number of people is planned, as by study plan.")
    ] = None,
    power: Annotated[float, typer.Option(help="For the plan.")] = 0.8,
) -> None:
    """Write the text of a pre-registration from the design."""
    from ..study.preregistration import text

    design, found = _design_of(study, None, None), None
    if effect is not None:
        found = _planned(
            design, effect=effect, power=power, pictures=_pictures(study), effects=(None, None, None)
        )
    _told(text(design, found), out)


@app.command()
def summary(
    people: Annotated[
        int | None, typer.Option(callback=within(1, 10_000_000), help="How many took part.")
    ] = None,
    trials: Annotated[int | None, typer.Option(callback=within(1, 100_000), help="Answers of each.")] = None,
    share: Annotated[
        float | None, typer.Option(callback=within(0, 1), help="The mean share of right answers, like 0.49.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(callback=within(1, 10_000_000), help="Pairs or pictures. Default: --trials.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the study.")] = "The study",
    margin: Annotated[float, typer.Option(callback=within(0.001, 0.5), help="Of equivalence.")] = 0.05,
    chosen_by_hand: Annotated[
        bool, typer.Option("--chosen-by-hand", help="The pictures were picked by hand.")
    ] = False,
    published: Annotated[str | None, typer.Option(help="A known study instead: rai2020.")] = None,
    out: Annotated[Path | None, OUT_TEXT] = None,
) -> None:
    """Say what follows from a study of which only totals were published."""
    from ..study.summary import RAI2020, Totals, report

    if published is not None:
        if published != "rai2020" or people is not None or trials is not None or share is not None:
            raise UserError("--published: rai2020 is the one that is known, and needs no other totals")
        _told(report(RAI2020, margin), out)
        return
    if people is None or trials is None or share is None:
        raise UserError("study summary: --people, --trials and --share are needed, or --published rai2020")
    totals = Totals(name, people, trials, share, pictures=pictures, chosen_by_hand=chosen_by_hand)
    _told(report(totals, margin), out)


# The order in which one needs them, for the help.
_ORDER = (
    *("new", "plan", "ethics", "preregister", "serve", "token", "pause", "open_", "close"),
    *("report", "export", "summary", "backup", "restore", "erase"),
)
app.registered_commands.sort(key=lambda command: _ORDER.index(getattr(command.callback, "__name__", "")))
