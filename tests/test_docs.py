"""What the pages say exists: files, headings, commands with their options, settings, names in Python."""

import ast
import importlib
import re
import shlex
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from omokage.__main__ import app
from omokage.listing import recipe_names
from omokage.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
RESULTS = sorted((ROOT / "bench" / "results").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS, *RESULTS]
TEXTS = [*PAGES, ROOT / "CITATION.cff", ROOT / "Makefile", ROOT / "pyproject.toml"]

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MACHINE = re.compile(r"(?<![\w.:/])/(?:work|tmp|home|root|mnt|opt|Users|var)\b")
REGISTRY = re.compile(
    r"pypi\.|pythonhosted|pytorch\.org|anaconda|conda\.io|npmjs|docker\.io|ghcr\.io|quay\.io"
    r"|index-url[ =]https?:"
)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code(text: str) -> list[tuple[str, str]]:
    """The blocks of code with their language: "" for those that are set in, or say none."""
    blocks: list[tuple[str, str]] = []
    language: str | None = None
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("```"):
            if language is not None:
                blocks.append((language, "\n".join(lines)))
            language, lines = (line[3:].strip() or "text", []) if language is None else (None, [])
        elif language is not None:
            lines.append(line)
        elif line.startswith("    "):
            lines.append(line[4:])
        elif lines:
            blocks.append(("", "\n".join(lines)))
            lines = []
    return blocks


def spans(text: str) -> list[str]:
    """What stands between backticks outside blocks of code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
    return [span.replace("\n", " ").replace("\\|", "|") for span in re.findall(r"`([^`]+)`", text)]


def commands(text: str) -> list[list[str]]:
    """Every command line of a page, as words; what follows a ``#`` is left out."""
    found = []
    shell = [block for language, block in code(text) if language in ("", "text", "bash", "sh")]
    for block in [*shell, *spans(text)]:
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            for part in re.split(r"\s*(?:;|&&|\|\s)\s*", line):
                part = re.sub(r"^(?:do|then)\s+", "", part.strip())
                if re.match(r"(?:omokage|make|python3? (?:-m omokage|bench/))", part):
                    try:
                        words = shlex.split(part, comments=True)
                    except ValueError:  # quotes that the split tore apart
                        words = part.split()
                    found.append([word for word in words if word not in ("...", "…", "\\")])
    return found


@cache
def tree() -> Any:
    return typer.main.get_command(app)


def verb_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and what is left of them."""
    command = tree()
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options(command: Any) -> set[str]:
    known = {"--help", "-h"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    return known


@cache
def every_option() -> set[str]:
    """The long and short options of all verbs."""
    found, left = set(), [tree()]
    while left:
        command = left.pop()
        found |= options(command)
        left += getattr(command, "commands", {}).values()
    return found


def slug(heading: str) -> str:
    """The anchor of a heading, as Git hosts make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def wrong_command(words: list[str]) -> str | None:
    """What is wrong with a command of a page; None: nothing."""
    if words[0] == "make":
        targets = set(
            re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        )
        goals = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)]
        return next((f"no such target: {goal}" for goal in goals if goal not in targets), None)
    if words[0].startswith("python") and words[1].startswith("bench/"):
        script = ROOT / words[1]
        if not script.is_file():
            return "no such script"
        source = script.read_text(encoding="utf-8")
        gone = [
            word for word in words if word.startswith("--") and f'"{word.partition("=")[0]}"' not in source
        ]
        return f"no such option: {gone[0]}" if gone else None
    rest = words[3:] if words[0].startswith("python") else words[1:]
    command, rest = verb_of(rest)
    if hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in ("VERB", "|") and re.fullmatch(r"[a-z-]+", rest[0]):
            return f"no such verb: {rest[0]}"
        return None
    known = options(command)
    for word in rest:
        if re.match(r"--?[A-Za-z]", word) and word.partition("=")[0] not in known:
            return f"no such option: {word}"
    if command.name == "train" and rest and rest[0] in recipe_names():
        changes = [
            word
            for before, word in pairwise(rest)
            if re.match(r"[a-z_.]+=", word) and before != "--where"
        ]
        load_recipe(rest[0], changes)
    if command.name == "recipes" and rest and re.fullmatch(r"[a-z0-9-]+", rest[0]):
        return None if rest[0] in recipe_names() else f"no such recipe: {rest[0]}"
    return None


def wrong_links(page: Path) -> list[str]:
    """Links of a page to files or headings that do not exist."""
    found = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists():
            found.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in map(slug, headings):
                found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert wrong_links(page) == []


def test_a_wrong_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One head\n[a](#one-head) [b](#two) ![c](none.png) [d](page.md#one-head) [e](https://x.org)\n"
    )
    assert wrong_links(page) == ["#two", "none.png"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist_with_their_options(page: Path) -> None:
    told = [(words, wrong_command(words)) for words in commands(page.read_text(encoding="utf-8"))]
    assert [(" ".join(words), wrong) for words, wrong in told if wrong] == []


def test_a_wrong_command_is_found() -> None:
    page = "    omokage sample x --nonsense 1  # --a\n\nSee `omokage fly`, `make tea`, `python bench/no.py`."
    found = [wrong_command(words) for words in commands(page)]
    assert found == [
        "no such option: --nonsense",
        "no such verb: fly",
        "no such target: tea",
        "no such script",
    ]


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=name)
def test_options_in_the_text_exist(page: Path) -> None:
    named = {
        word.partition("=")[0]
        for span in spans(page.read_text(encoding="utf-8"))
        if span.startswith("--")
        for word in span.split()
        if re.match(r"--[a-z]", word)
    }
    others = {
        "--index-url",
        "--no-deps",
        "--published",
        "--with-optimiser",
        "--hours",
        "--split",
    }  # pip, bench/
    assert named - every_option() - others == set()


def has(module: ModuleType, name: str) -> bool:
    """Whether a name can be imported from a module."""
    return hasattr(module, name) or find_spec(f"{module.__name__}.{name}") is not None


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=name)
def test_python_in_pages_names_what_exists(page: Path) -> None:
    for language, block in code(page.read_text(encoding="utf-8")):
        if language != "python" and not re.match(r"(?:from|import) omokage", block):
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("omokage"):
                module = importlib.import_module(str(node.module))
                assert [one.name for one in node.names if not has(module, one.name)] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "om":
                assert hasattr(importlib.import_module("omokage"), node.attr), node.attr


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_no_page_names_this_machine_or_a_registry(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert MACHINE.findall(text) == []
    assert REGISTRY.findall(text) == []


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_a_page_begins_with_what_to_type(page: Path) -> None:
    head = "\n".join(page.read_text(encoding="utf-8").splitlines()[:16])
    blocks = [block for _, block in code(head + "\n\nend")]
    assert any(
        re.search(r"^(?:omokage|python|import omokage|make) ", block + " ", re.MULTILINE) for block in blocks
    )


def test_the_readme_shows_the_two_commands_and_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert LINK.search(text).group(1) == "docs/images/shipped-sheet.png"  # type: ignore[union-attr]
    lines = [words for words in commands(text) if words[0] == "make"]
    assert ["make", "demo"] in lines
    assert ["make", "test"] in lines
    linked = {target.partition("#")[0] for target in LINK.findall(text)}
    assert {name(page) for page in DOCS} - linked == set()
    assert {"LICENSE", "LICENSE-WEIGHTS.md", "CHANGELOG.md", "CONTRIBUTING.md"} - linked == set()
