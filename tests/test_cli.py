import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from omokage.__main__ import main
from omokage.data.derive.stats import _bars
from omokage.errors import UserError
from omokage.verbs.helptexts import EXAMPLES, GROUPS, repeated
from omokage.verbs.options import default_out, parse_seeds

VERBS = (
    "build",
    "draw",
    "faces",
    "train",
    "sample",
    "evaluate",
    "explore",
    "report",
    "recipes",
    "doctor",
    "demo",
    "card",
    "import",
    "figure",
    "fid",
    "invert",
    "neighbours",
    "explain",
    "study",
)
INNER = tuple(path for path in EXAMPLES if " " in path)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, output piped."""
    kept = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "COLUMNS")}
    return subprocess.run(
        [sys.executable, "-m", "omokage", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=kept | environment,
    )


class TestSeeds:
    def test_single_numbers_and_ranges_keep_their_order(self):
        assert parse_seeds("0-3,100, 200-202") == [0, 1, 2, 3, 100, 200, 201, 202]
        assert parse_seeds("9,3-4,9") == [9, 3, 4, 9]

    @given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 20)), min_size=1, max_size=8))
    def test_what_is_written_is_read(self, runs):
        text = ",".join(f"{low}-{low + more}" if more else str(low) for low, more in runs)
        assert parse_seeds(text) == [seed for low, more in runs for seed in range(low, low + more + 1)]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "neither a number nor a range"),
            ("1,,2", "neither a number nor a range"),
            ("-5", "neither a number nor a range"),
            ("1-2-3", "'1-2-3'"),
            ("abc", "'abc'"),
            ("1.5", "'1.5'"),
            ("٣", "neither a number nor a range"),
            ("10-1", "write 1-10"),
            ("0-99999999999", "1,000,000"),
            (str(2**63), "below 2**63"),
        ],
    )
    def test_anything_else_is_refused_with_the_reason(self, text, told):
        with pytest.raises(UserError, match="--seeds") as refusal:
            parse_seeds(text)
        assert told in str(refusal.value)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["trian"], "Did you mean 'train'? See omokage --help"),
            (
                ["sample", "--seds", "3"],
                "no such option --seds. Did you mean --seeds? See omokage sample --help",
            ),
            (["train", "fast", "--minuts", "3"], "Did you mean --minutes?"),
            (["build", "somewhere"], "missing option '--out' / '-o'. See omokage build --help"),
            (["build", "-o", "x"], "missing argument 'SOURCE'"),
            (["train"], "missing argument 'RECIPE'"),
            (["sample", "--psi", "nan"], "got nan, allowed is -2 to 2"),
            (["sample", "--psi", "-3"], "got -3, allowed is -2 to 2"),
            (["sample", "-m", "fast-64", "--psi", "-1"], "0 to 2 is allowed; psi below 0 works with"),
            (["train", "fast", "--images", "0"], "got 0, allowed is 1 to"),
            (["train", "fast", "--minutes", "inf"], "got inf"),
            (["build", "a", "-o", "b", "--size", "three"], "'--size'"),
            (["draw", "-o", "x", "-n", "0"], "got 0, allowed is 1"),
            (["doctor", "extra"], "unexpected extra argument"),
        ],
    )
    def test_one_line_says_what_is_wrong(self, arguments, told, capsys):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert told in err

    def test_without_a_verb_the_help_is_shown(self, capsys):
        assert main([]) == 0
        shown = capsys.readouterr().out
        assert all(verb in shown for verb in VERBS)

    @pytest.mark.parametrize("columns", [80, 50])
    @pytest.mark.parametrize("verb", [*VERBS, *INNER])
    def test_every_verb_explains_itself(self, verb, columns, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", f"{columns}")
        assert main([*verb.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"omokage {verb}" in shown
        assert max(map(len, shown.splitlines())) <= columns
        assert "<bool>" not in shown
        assert "…" not in shown
        assert f"Examples:\n  omokage {verb.split()[0]}" in shown
        examples = shown.partition("Examples:\n")[2].replace("\\\n", " ")
        wanted = " ".join(" ".join(EXAMPLES[verb]).replace("\\\n", " ").split())
        assert " ".join(examples.split()) == wanted

    @pytest.mark.parametrize("verb", [*GROUPS])
    def test_options_stand_in_groups(self, verb, capsys):
        assert main([*verb.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        for title in GROUPS[verb]:
            assert f"\n{title}:\n  -" in shown
        assert ("--out" in shown) == any("--out" in names for names in GROUPS[verb].values())

    @pytest.mark.parametrize("verb", [[], ["faces"], ["explore"], ["figure"], ["study"]])
    def test_a_verb_that_needs_another_prints_its_help(self, verb, capsys):
        assert main(verb) == 0
        out, err = capsys.readouterr()
        assert " ".join(["Usage: omokage", *verb]) in out
        assert "Commands:" in out
        assert "..." not in out.partition("Commands:")[2].partition("Examples:")[0]
        assert err == ""

    def test_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.startswith("omokage 0.")


class TestEnds:
    """How a command ends: what the functions below it raise, and what the user sees of it."""

    @pytest.fixture
    def recipes_raises(self, monkeypatch):
        def install(error: BaseException):
            def raise_it():
                raise error

            monkeypatch.setattr("omokage.listing.recipe_names", raise_it)

        return install

    def test_user_error(self, recipes_raises, capsys):
        recipes_raises(UserError("faces/: no such folder;\nbuild it first"))
        assert main(["recipes"]) == 2
        assert capsys.readouterr().err == "error: faces/: no such folder; build it first\n"

    def test_interrupt(self, recipes_raises, capsys):
        recipes_raises(KeyboardInterrupt())
        assert main(["recipes"]) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_interrupt_with_what_was_saved(self, recipes_raises, capsys):
        recipes_raises(KeyboardInterrupt("saved at 64 images; the same command goes on"))
        assert main(["recipes"]) == 130
        assert capsys.readouterr().err == "interrupted: saved at 64 images; the same command goes on\n"

    def test_full_disk(self, recipes_raises, capsys):
        recipes_raises(OSError(28, "No space left on device", "runs/x/log.jsonl"))
        assert main(["recipes"]) == 2
        assert capsys.readouterr().err == "error: the disk is full: runs/x/log.jsonl\n"

    def test_a_bug_keeps_its_traceback(self, recipes_raises):
        recipes_raises(ZeroDivisionError("bug"))
        with pytest.raises(ZeroDivisionError):
            main(["recipes"])

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    @pytest.mark.parametrize("verb", ["draw", "sample"])  # a short page and a long one
    def test_output_on_a_full_disk_is_one_line(self, verb):
        with open("/dev/full", "w") as full:
            ended = subprocess.run(
                [sys.executable, "-m", "omokage", verb, "--help"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert ended.returncode == 2
        assert ended.stderr.splitlines() == ["error: the disk is full"]

    @pytest.mark.skipif(os.name == "nt", reason="needs a POSIX pipe")
    def test_a_reader_that_leaves_early_is_no_error(self):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as gone:
            ended = subprocess.run(
                [sys.executable, "-m", "omokage", "--help"], stdout=gone, stderr=subprocess.PIPE, text=True
            )
        assert ended.stderr == ""


def test_neither_help_nor_the_refusal_of_a_missing_run_loads_the_heavy_parts():
    heavy = ("torch", "numpy", "av", "pyarrow", "PIL", "scipy", "tensorboard", "rich")
    asked = [[], ["--help"], *([*verb.split(), "--help"] for verb in (*VERBS, *INNER))]
    program = (
        f"import sys; from omokage.__main__ import main\nfor one in {asked}: assert main(one) == 0\n"
        "for verb in ('report', 'card'): assert main([verb, 'nothing']) == 2\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    *refused, loaded = ended.stderr.splitlines()
    assert refused == [
        "error: nothing: no such run folder; omokage train makes a run",
        "error: nothing: no such run folder",
    ]
    assert loaded == "[]"


def test_help_and_completion_are_there_at_once():
    """Seconds of the processor, the best of some tries: the machine may have other work."""

    def seconds(arguments: list[str], **environment: str) -> tuple[float, str]:
        before = os.times()
        ended = run(*arguments, **environment)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return used, ended.stdout

    def best(arguments: list[str], limit: float = 0.3, **environment: str) -> float:
        tries = []
        for _ in range(4):
            tries.append(seconds(arguments, **environment)[0])
            if tries[-1] < limit:
                break
        return min(tries)

    assert best(["--help"]) < 0.3
    asking = {"_OMOKAGE_COMPLETE": "complete_bash", "COMP_WORDS": "omokage sa", "COMP_CWORD": "1"}
    assert "sample" in seconds([], **asking)[1]
    assert best([], limit=0.5, **asking) < 0.5
    asking = {"_OMOKAGE_COMPLETE": "complete_bash", "COMP_WORDS": "omokage faces sp", "COMP_CWORD": "2"}
    assert seconds([], **asking)[1].split() == ["split"]


@pytest.mark.parametrize(
    "typed",
    [
        ["--psi", "1,0.7,-0.5"],
        ["--psi", "1", "0.7", "-0.5"],
        ["--psi", "1", "--psi", "0.7", "--psi=-0.5"],
        ["--psi=1,0.7", "-0.5"],
        ["--psi", "1,", "0.7,", "-0.5"],
        ["--psi", "1, 0.7, -0.5"],
    ],
)
def test_several_psi_are_written_in_one_way(typed):
    wanted = ["run", "--psi", "1", "--psi", "0.7", "--psi", "-0.5"]
    assert repeated(["run", *typed], "--psi") == wanted
    assert repeated([*typed, "run"], "--psi") == [*wanted[1:], "run"]


@pytest.mark.parametrize("verb", [["figure", "uncurated"], ["figure", "mixing", "x"], ["evaluate"]])
def test_where_one_psi_is_taken_several_are_refused(verb, capsys):
    for typed in (["1,0.7"], ["1", "0.7"]):
        assert main([*verb, "--psi", *typed]) == 2
        assert "--psi takes one number here, got 1, 0.7" in capsys.readouterr().err
    assert main([*verb, "--psi", "x,1"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_no_default_name_overwrites(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert default_out(None, "faces.png") == Path("faces.png")
    assert capsys.readouterr().err == ""
    for name in ("faces.png", "faces-2.png", "list.csv"):
        Path(name).touch()
    assert default_out(None, "faces.png") == Path("faces-3.png")
    assert "faces.png is there already and stays" in capsys.readouterr().err
    assert default_out(None, "list.png", ".csv") == Path("list-2.png")
    assert default_out(Path("faces.png"), "other.png") == Path("faces.png")
    Path("report").mkdir()
    assert default_out(None, "report") == Path("report-2")


def test_piped_output_has_no_control_codes():
    for arguments in (["--help"], ["trian"]):
        ended = run(*arguments, TERM="xterm-256color")
        assert "\x1b" not in ended.stdout + ended.stderr


def test_a_terminal_without_the_letters_is_no_failure():
    ended = run("doctor", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr
    assert "Fr?chet" in ended.stdout


class TestMainJob:
    """From drawn faces to new ones, by the commands that a user types, with tiny networks."""

    SMALL = ("batch=16", "model.channels=[16,8,8,8]", "discriminator.channels=[8,8,8,8]", "log_kimg=0.016")

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory) -> Path:
        folder = tmp_path_factory.mktemp("main-job")
        assert main(["draw", "-n", "24", "-o", f"{folder / 'drawn'}", "--workers", "1"]) == 0
        assert main(["build", f"{folder / 'drawn'}", "-o", f"{folder / 'faces'}", "--as-faces"]) == 0
        assert main([*cls.train(folder), "--images", "64"]) == 0
        return folder

    @classmethod
    def train(cls, folder: Path, run: str = "run") -> list[str]:
        return ["train", "dcgan", "--data", f"{folder / 'faces'}", "--out", f"{folder / run}", *cls.SMALL]

    def test_build_counts_what_it_kept_and_left_out(self, folder, capsys):
        (folder / "more").mkdir()
        (folder / "more" / "broken.png").write_text("no picture")
        sources = [f"{folder / 'drawn'}", f"{folder / 'more'}"]
        assert main(["build", *sources, "-o", f"{folder / 'again'}", "--as-faces"]) == 0
        told = capsys.readouterr().out
        assert "24 of 25 images kept" in told  # the table of factors is no image
        assert "1 left out" in told
        assert f"--labels {folder / 'drawn' / 'factors.csv'}" in told
        assert "broken.png" in (folder / "again" / "rejected.csv").read_text()
        assert main(["build", *sources, "-o", f"{folder / 'again'}", "--as-faces"]) == 0
        assert "complete already" in capsys.readouterr().out

    def test_train_says_in_a_line_what_it_trains_and_what_to_do_next(self, folder, capsys):
        assert main([*self.train(folder), "--images", "64"]) == 0
        told = capsys.readouterr().out
        assert len(told.splitlines()) == 3
        assert told.startswith("dcgan: ")
        assert f"{folder / 'run' / 'recipe.toml'} or --verbose" in told
        assert "batch = 16" in (folder / "run" / "recipe.toml").read_text()
        assert "snapshot-000000000064.safetensors" in told
        assert f"omokage sample {folder / 'run'}" in told

    def test_train_prints_every_setting_if_asked(self, folder, capsys):
        assert main([*self.train(folder), "--images", "64", "--verbose"]) == 0
        assert "batch = 16" in capsys.readouterr().out.splitlines()

    def test_dry_run_prints_a_recipe_that_can_be_trained(self, folder, capsys):
        assert main(["train", "dcgan", "--dry-run", *self.SMALL]) == 0
        recipe = folder / "small.toml"
        recipe.write_text(capsys.readouterr().out)
        assert main(["train", f"{recipe}", "--dry-run"]) == 0
        assert capsys.readouterr().out == recipe.read_text()

    def test_a_grid_and_single_files_show_the_same_faces(self, folder, capsys):
        run = f"{folder / 'run'}"
        assert main(["sample", run, "--seeds", "3,17", "-o", f"{folder / 'grid.png'}", "--columns", "2"]) == 0
        assert main(["sample", run, "--seeds", "17", "-o", f"{folder / 'each'}", "--each"]) == 0
        with Image.open(folder / "grid.png") as grid, Image.open(folder / "each" / "seed-000017.png") as face:
            right = grid.crop((grid.width - 64, 0, grid.width, 64))
            assert face.size == (64, 64)
            assert right.tobytes() == face.convert("RGB").tobytes()

    def test_a_second_sample_stands_beside_the_first(self, folder, monkeypatch, capsys):
        monkeypatch.chdir(folder)
        (folder / "here").mkdir()
        monkeypatch.chdir(folder / "here")
        for psi in ("1", "0.5"):
            assert main(["sample", "../run", "--seeds", "0", "--psi", psi]) == 0
        assert "faces-2.png" in capsys.readouterr().out
        assert Path("faces.png").read_bytes() != Path("faces-2.png").read_bytes()
        for _ in range(2):
            assert main(["faces", "show", "../faces", "-n", "2"]) == 0
        assert {path.name for path in Path().iterdir()} == {f"faces{n}.png" for n in ("", "-2", "-3", "-4")}

    @pytest.mark.parametrize("psis", [["--psi", "1,0.5"], ["--psi", "1", "0.5"]])
    def test_figures_take_several_psi_alike(self, folder, psis, tmp_path):
        out = tmp_path / "truncation.png"
        figure = ["figure", "truncation", f"{folder / 'run'}", "--seeds", "0", "-o", f"{out}", *psis]
        assert main(figure) == 0
        with Image.open(out) as picture:
            assert picture.info["psi"] == "1,0.5"

    @pytest.mark.parametrize(
        "verb",
        [["sample"], ["evaluate", "--data", "FACES"], ["figure", "uncurated"], ["report"], ["card"],
         ["explore", "reconstruct", "x.png", "-m"]],
    )  # fmt: skip
    def test_a_folder_of_runs_is_told_from_a_run(self, folder, verb, capsys):
        verb = [word.replace("FACES", f"{folder / 'faces'}") for word in verb]
        assert main([*verb, f"{folder}"]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert f"{folder} is a folder of runs: name one of {folder / 'run'}" in last

    def test_a_condition_that_nothing_meets_names_the_nearest(self, folder, tmp_path, capsys):
        table = f"{folder / 'drawn' / 'factors.csv'}"
        labelled = f"{tmp_path / 'labelled'}"
        assert main(["build", f"{folder / 'drawn'}", "-o", labelled, "--as-faces", "--labels", table]) == 0
        show = ["faces", "show", labelled, "-o", f"{tmp_path / 'x.png'}", "--where"]
        assert main([*show, "formt=png"]) == 2
        assert "did you mean 'format'?" in capsys.readouterr().err
        assert main([*show, "format=PNGG"]) == 2
        assert "format has no 'PNGG', did you mean 'png'?" in capsys.readouterr().err

    def test_a_video_of_two_seeds(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        assert main(["sample", "run", "--seeds", "0-1", "--video", "walk.mp4"]) == 0
        with av.open("walk.mp4") as film:
            assert film.streams.video[0].codec_context.name == "h264"
        assert not Path("faces.png").exists()

    def test_ctrl_c_saves_and_says_how_to_go_on(self, folder):
        command = [sys.executable, "-m", "omokage", *self.train(folder, "stopped")]
        training = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        log = folder / "stopped" / "log.jsonl"
        end = time.monotonic() + 240
        while (
            not (log.exists() and log.stat().st_size) and training.poll() is None and time.monotonic() < end
        ):
            time.sleep(0.05)
        training.send_signal(signal.SIGINT)
        _, told = training.communicate(timeout=240)
        assert training.returncode == 130, told
        assert "the same command goes on" in told
        assert list((folder / "stopped").glob("snapshot-*.safetensors"))
        assert main(["sample", f"{folder / 'stopped'}", "--seeds", "0", "-o", f"{folder / 'one.png'}"]) == 0

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["sample", "RUN", "--each"], "--each needs a folder"),
            (["sample", "RUN", "--each", "--sheet", "-o", "x"], "exclude each other"),
            (["sample", "RUN", "--seeds", "3-1"], "write 1-3"),
            (["sample", "RUN/none"], "no such run"),
            (["train", "dcgan", "--data", "RUN", "--out", "RUN/x"], "RUN"),
            (["train", "dcgan", "--out", "RUN/x"], "--data is missing"),
            (["train", "dcgan", "--data", "FACES"], "--out is missing, for example --out runs/dcgan"),
            (["train", "dcgna", "--dry-run"], "did you mean dcgan?"),
            (["train", "dcgan", "--dry-run", "batsh=3"], "did you mean batch?"),
            (["build", "RUN/none", "-o", "RUN/new", "--as-faces"], "none"),
        ],
    )
    def test_what_cannot_be_done_is_said_in_one_line(self, folder, arguments, told, capsys):
        run = f"{folder / 'run'}"
        arguments = [word.replace("RUN", run).replace("FACES", f"{folder / 'faces'}") for word in arguments]
        assert main(arguments) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("error: ")
        assert told.replace("RUN", run) in last

    def test_evaluate_prints_a_table_and_appends_what_made_the_numbers(self, folder, capsys, monkeypatch):
        monkeypatch.setenv("OMOKAGE_CACHE", f"{folder / 'cache'}")
        run = folder / "run"
        arguments = ["evaluate", f"{run}", "--data", f"{folder / 'faces'}", "--protocol", "fid24-full-tags"]
        (run / "neighbours.png").write_text("of another evaluation")
        assert main([*arguments, "--neighbours"]) == 0
        told, warned = capsys.readouterr()
        assert f"{run / 'neighbours.png'} is there already and stays" in warned
        assert f"{run / 'neighbours-2.png'}" in told
        assert (run / "neighbours.png").read_text() == "of another evaluation"
        assert "fid24-full-tags" in told
        assert "FID" in told
        assert "recall" in told
        (line,) = (run / "evaluations.jsonl").read_text().splitlines()
        record = json.loads(line)
        assert record["samples"] == 24
        assert record["faces"] == 24
        assert record["fid"] > 0
        with Image.open(run / "neighbours-2.png") as picture:
            assert picture.height > 16 * 64

    def test_an_unknown_protocol_is_refused_with_the_nearest(self, folder, capsys):
        command = ["evaluate", f"{folder / 'run'}", "--data", f"{folder / 'faces'}"]
        assert main([*command, "--protocol", "fid10k-full-inception2014"]) == 2
        assert "did you mean 'fid10k-full-inception2015'" in capsys.readouterr().err


@pytest.mark.parametrize("width", [50, 60, 80])
def test_counts_of_a_face_set_are_whole_at_every_width(width):
    console = Console(width=width, file=io.StringIO())
    counts = {"a name that is longer than the column for it": 1_104_000, "b": 20}
    console.print(_bars("artist", counts, 2_000_000))
    told = console.file.getvalue()
    assert "1,104,000" in told
    assert "55.2%" in told
    assert "…" not in told
    assert max(map(len, told.splitlines())) <= width
