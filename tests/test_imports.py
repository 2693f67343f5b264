"""Imports run downwards only, and without circles; what may stand on what is said here."""

import ast
import tomllib
from functools import cache
from pathlib import Path

import omokage

ROOT = Path(omokage.__file__).parent

# From the ground up: a module may import those of its own line and of lines above it here.
FLOORS = [
    ["errors", "bounds", "settings", "abilities", "progress", "schedule", "files", "interrupts", "streams"],
    ["starting", "web"],
    ["sniff", "listing", ""],
    ["hardware"],
    ["models"],
    ["objectives"],
    ["families"],
    ["recipe", "parameters"],
    ["snapshot", "critic"],
    ["sampling", "tag_encoder", "attributes", "cutout", "hub"],
    ["data", "study", "broken"],
    ["model"],
    ["training", "terms"],
    ["metrics", "interop", "explore"],
    ["catalogue", "pages"],
    ["report", "samples"],
    ["exploring", "publish"],
    ["running"],
    ["api"],
    ["demo", "doctor", "review", "studio"],
    ["verbs"],
    ["__main__"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules():
    return sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def name_of(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in modules()}


def room(name):
    return name.split(".")[0]


@cache
def imported(path):
    """The modules of the package that a file imports, also within functions; not those for types alone."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    here = [*name_of(path).split(".")] if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name.removeprefix("omokage.") for alias in node.names if "omokage" in alias.name]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = [part for part in here[: len(here) - node.level + 1] if part]
            elif node.module and node.module.split(".")[0] == "omokage":
                base = []
            else:
                continue
            module = (node.module or "").removeprefix("omokage").lstrip(".")
            start = ".".join([*base, module] if module else base)
            names = [f"{start}.{alias.name}".lstrip(".") for alias in node.names]
            names = [name if name in NAMES else start for name in names]
        else:
            continue
        found |= {name for name in names if name in NAMES}
    return frozenset(found - {name_of(path)})


def test_the_reader_of_imports_reads_them():
    assert "data.store.faceset" in imported(Path("api.py"))
    assert "metrics.report" in imported(Path("api.py"))  # within a function
    assert "models.layers" in imported(Path("models/skipgan.py"))


def test_every_module_has_its_place():
    assert {room(name) for name in NAMES} <= set(FLOOR)


def test_no_import_runs_upwards():
    upwards = [
        f"{name_of(path)} imports {other}"
        for path in modules()
        for other in imported(path)
        if FLOOR[room(other)] > FLOOR[room(name_of(path))]
    ]
    assert not upwards


def test_models_import_torch_and_layers_alone():
    for path in modules():
        if path.parts[0] == "models":
            assert all(room(other) in ("models", "bounds", "errors", "") for other in imported(path)), path


def test_a_study_knows_pictures_and_tables_but_no_model():
    for path in modules():
        if path.parts[0] == "study":
            allowed = {"study", "errors", "bounds", "files", "progress", "interrupts", "streams", "web", ""}
            assert {room(other) for other in imported(path)} <= allowed, path


ROOMS_OF_DATA = ["", "text", "steps", "sources", "engines", "store", "derive", "build", "drawn"]


def test_rooms_of_data_import_downwards():
    def floor(name):
        return ROOMS_OF_DATA.index([*name.split("."), ""][1])

    upwards = [
        f"{name_of(path)} imports {other}"
        for path in modules()
        if path.parts[0] == "data"
        for other in imported(path)
        if room(other) == "data" and floor(other) > floor(name_of(path))
    ]
    assert not upwards


def test_mypy_skips_nothing_that_is_imported():
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    skipped = [
        name.removesuffix(".*")
        for part in settings["tool"]["mypy"]["overrides"]
        if part.get("follow_imports") == "skip"
        for name in part["module"]
    ]
    assert "torch._dynamo" in skipped
    for path in modules():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [(name, part) for name in names for part in skipped if f"{name}.".startswith(f"{part}.")]
            assert not found, path


def test_there_is_no_circle():
    edges = {name_of(path): imported(path) - {""} for path in modules() if name_of(path)}
    done, circles = set(), []

    def walk(name, trail):
        if name in trail:
            circles.append(" → ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for other in sorted(edges.get(name, ())):
                walk(other, [*trail, name])
            done.add(name)

    for name in sorted(edges):
        walk(name, [])
    assert not circles
