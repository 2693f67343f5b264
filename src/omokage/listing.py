"""What stands in folders: the recipes that ship, the snapshots of a run; found by names, without PyTorch."""

from importlib import resources
from pathlib import Path


def recipe_names() -> list[str]:
    """The names of the recipes that ship."""
    folder = resources.files("omokage") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def snapshots(run: str | Path) -> list[Path]:
    """The snapshots of a run, oldest first."""
    return sorted(Path(run).glob("snapshot-*.safetensors"))


def runs_within(folder: str | Path) -> str:
    """An error message for a folder that is not a run but contains runs; "" if it contains none."""
    inner = sorted(path.parent for path in Path(folder).glob("*/snapshot-*.safetensors"))
    runs = [f"{one}" for one in dict.fromkeys(inner)]
    if not runs:
        return ""
    more = f" and {len(runs) - 8:,} more" if len(runs) > 8 else ""
    return f"{folder} is a folder of runs: name one of {', '.join(runs[:8])}{more}"


def not_a_run(folder: Path) -> str:
    """Why a folder is not a run, in one line; "" if it is one: it has a snapshot, a log or a recipe.

    >>> not_a_run(Path("nowhere"))
    'nowhere: no such run folder'
    """
    if not folder.is_dir():
        return f"{folder}: no such run folder" if not folder.exists() else f"{folder}: a file, not a run"
    known = [*snapshots(folder), *(folder / file for file in ("log.jsonl", "recipe.toml"))]
    if any(path.is_file() for path in known):
        return ""
    if (folder / "index.parquet").is_file():
        return f"{folder}: a face set, not a run; omokage faces stats tells what is in it"
    return runs_within(folder) or f"{folder}: not a run folder (no recipe, log or snapshot in it)"
