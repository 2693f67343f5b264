"""Help texts of the command line: options in groups, then examples. It also parses several --psi.

`shaped` is called once, when all verbs are registered. Help is plain text, as wide as the terminal.
"""

import re
import shlex
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import UserError

# The command as it was typed, for run files.
TYPED: ContextVar[str] = ContextVar("typed", default="")

# Examples by verb, as a user types them. Each fits 76 columns.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "build": (
        "omokage build pictures/ -o faces/ --size 64",
        "omokage build faces.tar more/ -o faces/ --as-faces",
        "omokage build art/ -o faces/ --labels tags.csv --opt-out names.txt",
    ),
    "draw": (
        "omokage draw -n 2000 -o drawn/",
        "omokage draw -n 100 -o pages/ --illustrations",
    ),
    "train": (
        "omokage train fast --data faces/ --out runs/fast --minutes 60",
        "omokage train fast --dry-run batch=32",
        "omokage train dcgan --data faces/ --out runs/hair condition=hair balance=hair",
        "omokage train fast --data faces/ --out runs/new --where 'year>=2005' --where hair=blue",
    ),
    "sample": (
        "omokage sample -o faces.png",
        "omokage sample runs/fast --seeds 0-63,100 --psi 0.7 -o faces.png",
        "omokage sample runs/fast --psi 1,0.7,0.5 -o truncated/",
        "omokage sample --seeds 17,20 --each --transparent -o cut/",
        "omokage sample runs/fast --seeds 0-7 --video walk.mp4",
    ),
    "sheet": (
        "omokage sheet 17 -o rei.png --name Rei --notes 'talks to cats'",
        "omokage sheet 17 3 5 8 -o rei.pdf --name 綾波 --language ja",
    ),
    "walk": (
        "omokage walk 3,17,5 -o walk.mp4 --seconds 10",
        "omokage walk board.safetensors 8 --no-loop --path linear -o walk.webp",
        "omokage walk 3 17 -o strip.png",
    ),
    "traverse": (
        "omokage traverse 3 -o traverse.png",
        "omokage traverse 3 --entries 1-8 --times=-2,0,1,2 --model runs/dcgan",
        "omokage traverse 3 --along hair=blue,hair=pink",
    ),
    "truncate": (
        "omokage truncate 0-5 --psi 1,0.7,0.5,0",
        "omokage truncate face.png --model runs/style --psi 1,0,-1",
    ),
    "mix": (
        "omokage mix 100-105 --from 200-204 --model runs/style",
        "omokage mix 3 --from 5,8 --styles fine --save-latents mixed.safetensors",
    ),
    "montage": (
        "omokage montage runs/fast -o montage.mp4",
        "omokage montage runs/fast runs/dcgan --clock minutes",
    ),
    "show": ("omokage show face.png", "omokage show face.png --model runs/style -o again.png"),
    "directions": (
        "omokage directions runs/fast -o directions/",
        "omokage directions runs/fast --data faces/ --samples 10000",
    ),
    "steer": (
        "omokage steer 3,17 face.png --hair blue --eyes green",
        "omokage steer 0-7 -m runs/fast -d directions/ --glasses 2 --keep mouth",
        "omokage steer 0-3 --along 'sefa 1=2' --save-latents new.safetensors",
    ),
    "select": (
        "omokage select --hair blue --eyes green -n 16",
        "omokage select -m runs/fast --mouth open --confidence 0.8 -n 8",
    ),
    "evaluate": (
        "omokage evaluate runs/fast --data faces/",
        "omokage evaluate runs/fast --data faces/ --protocol fid2k-full-tags",
        "omokage evaluate runs/glow --data heldout/ --protocol bpd-heldout-8bit",
    ),
    "report": ("omokage report runs/* -o report/",),
    "card": ("omokage card runs/fast -o card.md",),
    "recipes": (
        "omokage recipes",
        "omokage recipes fast",
        "omokage recipes fast --toml > mine.toml",
    ),
    "doctor": ("omokage doctor",),
    "demo": ("omokage demo -o demo/",),
    "import": ("omokage import network.pkl -o network.safetensors",),
    "export": (
        "omokage export runs/fast -o fast.onnx",
        "omokage export runs/style -o style.onnx --half --parts",
    ),
    "publish": (
        "omokage publish runs/fast -o page/",
        "omokage publish runs/fast -o page/ --directions directions/ --push me/faces",
    ),
    "fid": ("omokage fid folder-a/ folder-b/",),
    "faces": ("omokage faces show faces/", "omokage faces stats faces/"),
    "faces show": (
        "omokage faces show faces/ -n 100",
        "omokage faces show faces/ --where hair=blonde --label eyes",
        "omokage faces show faces/ --duplicates -o alike.png",
    ),
    "faces stats": ("omokage faces stats faces/", "omokage faces stats faces/ --json"),
    "faces filter": (
        "omokage faces filter faces/ -o subset/ --where 'width>=96' --where hair=blue",
        "omokage faces filter faces/ -o clean/ --review review.csv",
    ),
    "faces review": (
        "omokage faces review faces/ -o review.csv",
        "omokage faces review faces/ --sort sharpness",
    ),
    "faces split": ("omokage faces split faces/ --holdout 0.05 -o split/",),
    "faces merge": (
        "omokage faces merge one/ two/ -o both/ --drop near",
        "omokage faces merge faces/ -o clean/ --opt-out names.txt",
    ),
    "faces attributes": ("omokage faces attributes faces/ -o attributes.csv",),
    "faces export": (
        "omokage faces export faces/ -o pictures/",
        "omokage faces export faces/ -o set/ --as datasets --where 'width>=96'",
    ),
    "explore": ("omokage explore reconstruct a.png b.png --model runs/glow",),
    "explore reconstruct": ("omokage explore reconstruct a.png b.png --model runs/glow",),
    "explore interpolate": (
        "omokage explore interpolate a.png b.png --model runs/glow",
        "omokage explore interpolate a.png b.png -m runs/glow --video walk.mp4",
    ),
    "explore outliers": ("omokage explore outliers faces/ --model runs/glow",),
    "explore attribute": (
        "omokage explore attribute -m runs/glow --data faces/ \\\n  --from hair=blonde --to hair=black",
    ),
    "studio": ("omokage studio", "omokage studio runs/fast-128 runs/glow --port 8001 --no-browser"),
    "study": (
        "omokage study new study/ --real faces/ --generated runs/fast",
        "omokage study serve study/",
        "omokage study report study/",
    ),
    "study new": (
        "omokage study new study/ --real faces/ --generated runs/a runs/b",
        "omokage study new study/ --real real/ --generated gan/ --preset rai2020",
        "omokage study new study/ --real faces/ --generated runs/a \\\n"
        "  --design timed --exposures 50,100,500",
    ),
    "study serve": (
        "omokage study serve study/ --pilot",
        "omokage study serve study/ --public-url https://lab.example.org/faces",
    ),
    "study token": ("omokage study token study/",),
    "study open": ("omokage study open study/",),
    "study pause": ("omokage study pause study/",),
    "study close": ("omokage study close study/",),
    "study report": ("omokage study report study/", "omokage study report study/ --pilot -o report/"),
    "study plan": (
        "omokage study plan --effect 0.55 --power 0.8",
        "omokage study plan study/ --effect 0.5 --margin 0.1",
    ),
    "study export": ("omokage study export study/ -o data/",),
    "study ethics": ("omokage study ethics study/ -o ethics.md",),
    "study preregister": ("omokage study preregister study/ --effect 0.55 -o plan.md",),
    "study summary": (
        "omokage study summary --published rai2020",
        "omokage study summary --people 40 --trials 20 --share 0.53",
    ),
    "critic": ("omokage critic runs/style --data faces/",),
    "study backup": ("omokage study backup study/ -o study-1.zip",),
    "study restore": (
        "omokage study restore study-1.zip study-2/",
        "omokage study restore study-1.zip study-2/ --database postgresql:///faces",
    ),
    "study erase": (
        "omokage study erase study/ --panel",
        "omokage study erase study/ --participant 7Q3K-9V2M-XXA1",
    ),
    "invert": (
        "omokage invert mine.jpg -m runs/style",
        "omokage invert a.jpg b.png -m runs/style -o both.png --film both.mp4",
    ),
    "neighbours": (
        "omokage neighbours runs/fast --data split/",
        "omokage neighbours 3,17 mine.png -m runs/fast --data faces/",
    ),
    "explain": ("omokage explain truncation runs/fast --data faces/",),
    "explain truncation": ("omokage explain truncation runs/fast --data faces/",),
    "explain entanglement": ("omokage explain entanglement runs/style",),
    "explain blur": ("omokage explain blur runs/vae --data faces/",),
    "explain inverse": ("omokage explain inverse runs/glow --data faces/",),
    "figure": ("omokage figure uncurated runs/fast -o uncurated.png",),
    "figure uncurated": ("omokage figure uncurated runs/fast --psi 0.8",),
    "figure mixing": ("omokage figure mixing runs/style --a 0-5 --b 10-14",),
    "figure truncation": (
        "omokage figure truncation runs/style --psi 1,0.5,0,-0.5",
        "omokage figure truncation runs/fast --seeds 0-3 --psi 1 0.5 0",
    ),
    "figure noise-detail": ("omokage figure noise-detail runs/style --seeds 0-2",),
    "figure noise-components": ("omokage figure noise-components runs/style",),
    "figure progression": ("omokage figure progression runs/fast --video progression.mp4",),
}

_DRAWN = (
    "--psi",
    "--temperature",
    "--guidance",
    "--sampler",
    "--sampler-steps",
    "--jacobi",
    "--noise",
    "--layers",
    "--critic",
)
_WRITTEN = ("--upscale", "--save-latents", "--no-metadata")

# The options in each group, by verb. Options that are not listed here are shown under "Options".
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "build": {
        "Output": ("--out", "--size", "--format"),
        "Faces as they come": ("--as-faces", "--drop"),
        "Find and cut out": (
            *("--detector", "--no-detect", "--detections", "--detector-threshold", "--rotations", "--crop"),
            *("--no-crop", "--aspect", "--enlarge", "--upright", "--border", "--close-ups", "--frames"),
            *("--background", "--precision"),
        ),
        "Leave out": ("--threshold", "--no-clean", "--mirrored", "--no-duplicates", "--ratings", "--opt-out"),
        "Scale": ("--upscale", "--noise", "--model", "--no-upscale"),
        "Labels": ("--labels", "--labels-from", "--no-label"),
        "Work": ("--workers", "--engine", "--address"),
    },
    "train": {
        "Where": ("--data", "--where", "--out", "--from", "--autoencoder", "--heldout"),
        "When to stop": ("--minutes", "--images"),
    },
    "sample": {
        "Which faces": ("--seeds", "--number", "--model", "--in", "--hair", "--eyes", "--condition"),
        "How they are drawn": _DRAWN,
        "Output": ("--out", "--each", "--sheet", "--columns", "--video", *_WRITTEN),
    },
    **{
        verb: {
            "Which faces": ("--seeds", "--model", "--in", "--hair", "--eyes", "--condition", *own),
            "How they are drawn": _DRAWN,
            "Output": ("--out", "--title", *_WRITTEN),
        }
        for verb, own in {
            "walk": (),
            "traverse": (),
            "truncate": (),
            "mix": ("--from", "--styles"),
        }.items()
    },
    "steer": {
        "Which faces": ("--seeds", "--model", "--in"),
        "What is changed": (
            *("--hair", "--eyes", "--glasses", "--mouth", "--lids", "--length", "--fringe"),
            *("--presentation", "--skin", "--along", "--keep", "--directions"),
        ),
        "How they are drawn": _DRAWN,
        "Output": ("--out", *_WRITTEN),
    },
    "select": {
        "What is wanted": (
            *("--hair", "--eyes", "--glasses", "--mouth", "--lids", "--length", "--fringe"),
            *("--presentation", "--skin", "--confidence"),
        ),
        "Which faces": ("--number", "--most", "--first", "--model", "--in"),
        "How they are drawn": _DRAWN,
        "Output": ("--out", *_WRITTEN),
    },
    "evaluate": {
        "What is compared": ("--model", "--data", "--seed", "--psi", "--critic"),
        "How it is measured": ("--protocol", "--also", "--two-sample", "--path-length"),
        "Output": ("--out", "--neighbours"),
    },
    "study new": {
        "Pictures": ("--real", "--generated", "--number", "--pixels", "--psi", "--chosen-by-hand"),
        "Design": (
            *("--design", "--preset", "--trials", "--practice", "--checks", "--parts", "--exposures"),
            *("--participants", "--title", "--size", "--seed"),
        ),
    },
    "study serve": {
        "Address": ("--host", "--port", "--public-url", "--allow-host"),
        "How": ("--pilot", "--database", "--workers"),
    },
    "invert": {
        "Pictures": ("--whole", "--crop"),
        "The search": ("--model", "--space", "--steps", "--more"),
        "How good it is": ("--data", "--samples"),
        "Output": ("--out", "--film", "--no-metadata"),
    },
    "neighbours": {
        "Which faces": (
            *("--seeds", "--number", "--model", "--in", "--hair", "--eyes", "--condition", "--crop"),
        ),
        "What they are compared with": ("--data", "--heldout", "--nearest"),
        "How they are drawn": _DRAWN,
        "Output": ("--out", *_WRITTEN),
    },
    "faces show": {
        "Which faces": ("--where", "--number", "--seed", "--duplicates"),
        "Output": ("--out", "--label", "--columns"),
    },
}


class _Explains:
    """Formats help: options in groups, switches without a type, examples unwrapped."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments, groups = [], dict[str, list[tuple[str, str]]]()
        wanted = {name: title for title, names in GROUPS.get(_path(ctx), {}).items() for name in names}
        order = [*GROUPS.get(_path(ctx), {}), "Options"]
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            record = (_LIST.sub(r"<\1>", record[0]).replace("<bool>", "").strip(), record[1])
            if parameter.param_type_name == "argument":
                arguments.append(record)
                continue
            title = next((wanted[name] for name in parameter.opts if name in wanted), "Options")
            groups.setdefault(title, []).append(record)
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments, col_max=24)
        for title in order:
            if title in groups:
                with formatter.section(title):
                    formatter.write_dl(groups[title], col_max=24)
        if isinstance(self, TyperGroup):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        examples = EXAMPLES.get(_path(ctx))
        if examples:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for example in examples:
                formatter.write("".join(f"  {line}\n" for line in _broken(example, formatter.width - 2)))


class Verb(_Explains, TyperCommand):
    """A verb with this help. It accepts the numbers of ``--psi`` in every form."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Treat ``--psi 1 0.5``, ``--psi 1,0.5`` and ``--psi 1 --psi 0.5`` as the same."""
        TYPED.set(shlex.join(["omokage", *_path(ctx).split(), *args]))
        option = next((one for one in self.params if "--psi" in one.opts), None)
        if option is not None:
            takes_faces = any(one.name == "faces" and one.nargs == -1 for one in self.params)
            # `sample` took numbers after spaces before it took faces.
            args = repeated(args, "--psi", spaced=not takes_faces or ctx.info_name == "sample")
            given = [args[place + 1] for place, word in enumerate(args[:-1]) if word == "--psi"]
            if len(given) > 1 and not getattr(option, "multiple", False):
                raise UserError(f"{_path(ctx)}: --psi takes one number here, got {', '.join(given)}")
        return super().parse_args(ctx, args)


class Group(_Explains, TyperGroup):
    """A verb with subcommands; without a subcommand it prints its help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List each verb with the whole first paragraph of its help."""
        told = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first(one.help or "")) for name, one in told if one is not None])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without arguments, print the help and exit with code 0."""
        if not args and ctx.resilient_parsing:
            return []  # a shell asks for the names of verbs: reading the options would import pydantic
        if not args and not self.invoke_without_command:
            print(ctx.get_help())
            ctx.exit(0)
        return super().parse_args(ctx, args)


_LIST = re.compile(r"<list\[(\w+)\]>")


def _first(text: str) -> str:
    return " ".join(text.strip().partition("\n\n")[0].split())


def _path(ctx: Any) -> str:
    """The command as typed, without the program's name."""
    return str(ctx.command_path).partition(" ")[2]


def _broken(example: str, width: int) -> list[str]:
    """A command broken into lines of at most ``width`` columns; a shell joins them again.

    >>> _broken("omokage sample runs/fast -o faces.png", 24)
    ['omokage sample \\\\', '  runs/fast \\\\', '  -o faces.png']
    """
    lines: list[str] = []
    for given in example.split("\n"):
        line = ""
        for word in _phrases(given):
            if line and len(line) + len(word) + 3 > width and line.strip():
                lines.append(f"{line} \\")
                line = f"  {word}"
            else:
                line = f"{line} {word}" if line else word
        lines.append(f"  {line}" if given.startswith("  ") else line)
    return lines


def _phrases(line: str) -> list[str]:
    """The words of a command, with each option and its value together."""
    found: list[str] = []
    for word in line.split():
        if found and found[-1].startswith("-") and " " not in found[-1] and not word.startswith("-"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def repeated(arguments: Sequence[str], option: str, *, spaced: bool = True) -> list[str]:
    """The arguments with ``option`` repeated before each of its numbers.

    The numbers may be separated by commas and, if ``spaced``, by spaces. After a space, a verb that takes
    faces could not tell a number from a seed.

    >>> repeated(["run", "--psi", "1", "-0.5", "-n", "8"], "--psi")
    ['run', '--psi', '1', '--psi', '-0.5', '-n', '8']
    >>> repeated(["--psi=1,0.7", "--psi", "-1,", "0", "run"], "--psi")
    ['--psi', '1', '--psi', '0.7', '--psi', '-1', '--psi', '0', 'run']
    """
    found: list[str] = []
    follows = asked = False  # whether a number may follow; whether a number must follow
    for place, argument in enumerate(arguments):
        if argument == "--":
            return found + list(arguments[place:])
        if argument == option:
            follows = asked = True
            continue
        text = argument
        if argument.startswith(f"{option}="):
            text, follows, asked = argument.partition("=")[2], True, True
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if follows and parts and (asked or all(map(_is_number, parts))):
            found += [word for part in parts for word in (option, part)]
            asked, follows = False, spaced or text.endswith(",")
        else:
            if asked:
                found.append(option)
            found.append(argument)
            follows = asked = False
    return found + [option] * asked


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def shaped(app: typer.Typer) -> None:
    """Give this help to every verb of ``app`` and of its groups."""
    for command in app.registered_commands:
        command.cls = Verb
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is None:
            continue
        inner.rich_markup_mode = None
        inner.info.cls = Group
        inner.info.no_args_is_help = False
        inner.info.context_settings = {"help_option_names": ["-h", "--help"]}
        shaped(inner)


