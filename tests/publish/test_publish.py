"""A published folder: its card, its files, and its page in a real browser, from a server of files alone."""

import functools
import hashlib
import http.server
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import PHONE
from PIL import Image
from standins import CONDITIONS, small_model

from omokage.__main__ import main
from omokage.errors import UserError
from omokage.explore.directions import Direction, Directions, Goal, apply, read_directions
from omokage.explore.points import drawn, of_seeds
from omokage.explore.provenance import points_of, read_provenance
from omokage.files import cache_folder
from omokage.model import load_model
from omokage.publish import runtime
from omokage.publish.card import memorisation
from omokage.publish.folder import publish
from omokage.sampling import gathered
from omokage.settings import Settings
from omokage.snapshot import write_snapshot

pytest.importorskip("onnxruntime", reason="ONNX is not installed (pip install 'omokage[onnx]')")
RUNTIME = cache_folder()  # before a test names another one


def run_of(name: str, folder: Path, conditions=None) -> Path:
    """A run folder with one snapshot of a small model, off its start."""
    model = small_model(name, conditions)
    if name == "skipgan":
        inner = model.network.network if conditions else model.network
        inner.location.move(torch.linspace(-0.5, 0.5, 8), torch.eye(8))
    if name == "stylegan2":
        model.network.w_average.copy_(torch.linspace(-0.3, 0.3, 8))
    folder.mkdir()
    recipe = replace(model.recipe, training=replace(model.recipe.training, condition=list(conditions or ())))
    tensors = {f"average.{key}": tensor for key, tensor in model.network.state_dict().items()}
    write_snapshot(folder / "snapshot-000000000096.safetensors", tensors, recipe, model.progress)
    (folder / "recipe.toml").write_text(recipe.to_toml())
    return folder


def ways(run: Path, space: str) -> Directions:
    vectors = torch.randn(2, 8, generator=torch.Generator().manual_seed(5))
    reading, way = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(6)).double() / 3
    goal = Goal(reading, way, way @ way.T, torch.tensor([1.0, -0.5]).double())
    layers = (0, 1, 2) if space == "w" else ()
    rows = (
        Direction("hair=blue", vectors[0], "hair", "blue", layers[1:], limit=3.0, goal=goal),
        Direction("glasses", vectors[1], "glasses", "yes", layers[:2]),
    )
    digest = load_model(run, "cpu").snapshot_hash
    return Directions(space, rows, vectors, ("hair=blue", "glasses"), {}, torch.zeros(8), digest, "0", 100)


def record(run: Path, **more) -> dict:
    space = {
        "space": "pixels-32",
        "reference": "held-out faces",
        "copied": 0.0125,
        "copied_interval": [0.004, 0.03],
        "percentile": 1.0,
        "samples": 1000,
    }
    return {"model": {"snapshot": load_model(run, "cpu").snapshot_hash}, "spaces": [{**space, **more}]}


@pytest.fixture(scope="module")
def files() -> Path:
    """A folder with ONNX Runtime for browsers; tests of the page are skipped where there is none."""
    import os

    before = os.environ.get("OMOKAGE_CACHE")
    os.environ["OMOKAGE_CACHE"] = str(RUNTIME)
    found = runtime.runtime_files(seconds=60)
    if before is None:
        del os.environ["OMOKAGE_CACHE"]
    else:
        os.environ["OMOKAGE_CACHE"] = before
    if isinstance(found, str):
        pytest.skip(found)
    return RUNTIME / f"{runtime.PACKAGE}-{runtime.VERSION}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A folder without a page: a model with conditions, checked for copies."""
    folder = tmp_path_factory.mktemp("publish")
    run = run_of("skipgan", folder / "run", CONDITIONS)
    (run / "neighbours.png.json").write_text(json.dumps(record(run)))
    (run / "evaluations.jsonl").write_text(
        '{"protocol": "fid2k-full-tags", "fid": 12.5, "images_seen": 96}\n'
    )
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "_read", lambda folder: "it has none")
        patch.setattr("shutil.which", lambda name: None)
        publish(
            run,
            folder / "page",
            directions=ways(run, "z"),
            title="Faces [of] mine",
            licence="cc-by-4.0",
            seeds=range(4),
            tell=told.append,
        )
    assert told == [
        f"the page is left out: there is no npm to fetch ONNX Runtime for browsers; {runtime.HOW}"
    ]
    return folder / "page"


def test_the_card_says_what_hubs_and_people_ask(plain) -> None:
    card = (plain / "README.md").read_text()
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert 'title: "Faces [of] mine"' in head
    assert 'license: "cc-by-4.0"' in head
    assert "pipeline_tag: unconditional-image-generation" in head
    assert '- {type: fid, value: 12.5, name: "fid2k-full-tags"}' in head
    assert "# Faces \\[of\\] mine" in body
    assert "pixels-32: 1.2% of 1,000 samples (0.4% to 3.0%) are as near to a training face as only 1%" in body
    assert "Only if you have the rights" in body
    for section in ("## Data", "## Figures", "## Limits"):
        assert section in body


def test_the_folder_is_a_model_that_everything_takes(plain) -> None:
    told = json.loads((plain / "config.json").read_text())
    names = {path.name for path in plain.iterdir()}
    assert names == {
        *("README.md", "config.json", "model.safetensors", "model.onnx", "directions.safetensors", "grid.png")
    }
    for name, digest in told["files"].items():
        assert hashlib.sha256((plain / name).read_bytes()).hexdigest() == digest
    model = load_model(plain, "cpu")
    assert model.snapshot_hash == told["snapshot"] != told["trained_snapshot"]
    assert read_directions(plain).check(model).names == ["hair=blue", "glasses"]
    assert read_provenance(plain / "grid.png").seeds == [0, 1, 2, 3]
    assert told["conditions"]["eyes"] == {"values": CONDITIONS["eyes"], "at": 10}


class TestRefusals:
    def test_an_unknown_share_of_copies(self, tmp_path, capsys) -> None:
        run = run_of("dcgan", tmp_path / "run")
        assert main(["publish", str(run), "-o", str(tmp_path / "page")]) == 2
        assert "omokage neighbours RUN --data FACES measures it; --unchecked" in capsys.readouterr().err
        (run / "other.png.json").write_text(json.dumps(record(run) | {"model": {"snapshot": "0" * 64}}))
        (run / "broken.png.json").write_text('{"model": {"snapshot": 3}, "spaces": [[]]}')
        (run / "text.png.json").write_text(json.dumps(record(run, copied="0.1")))
        model = load_model(run, "cpu")
        assert memorisation(model) is None
        with pytest.raises(UserError, match="about another snapshot"):
            memorisation(model, run / "other.png.json")
        with pytest.raises(UserError, match="is not a file that omokage neighbours writes"):
            memorisation(model, run / "broken.png.json")
        assert not (tmp_path / "page").exists()

    def test_a_folder_that_is_there_and_a_foreign_runtime(self, tmp_path) -> None:
        run = run_of("dcgan", tmp_path / "run")
        with pytest.raises(UserError, match="is there already and stays"):
            publish(run, run, unchecked=True)
        (tmp_path / "dist").mkdir()
        (tmp_path / "dist" / "ort.wasm.min.mjs").write_text("alert()")
        with pytest.raises(UserError, match=r"its ort\.wasm\.min\.mjs is not that of onnxruntime-web"):
            publish(run, tmp_path / "page", unchecked=True, runtime=tmp_path)
        assert not (tmp_path / "page").exists()


def test_another_archive_from_npm_is_refused(tmp_path, monkeypatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho others > onnxruntime-web.tgz\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "cache"))
    assert str(runtime.runtime_files()).startswith(
        "npm gave another onnxruntime-web than the one that is known"
    )
    assert not (tmp_path / "cache").exists()


class Static(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("name", "conditions"), [("skipgan", CONDITIONS), ("stylegan2", None)])
def test_a_stranger_draws_changes_and_keeps_a_face(name, conditions, browser, files, tmp_path) -> None:
    run = run_of(name, tmp_path / "run", conditions)
    space = "w" if name == "stylegan2" else "z"
    folder = publish(run, tmp_path / "page", directions=ways(run, space), unchecked=True, runtime=files)
    assert "**Not checked.**" in (folder / "README.md").read_text()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Static, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    context = browser.new_context(**PHONE, accept_downloads=True)
    page, problems = context.new_page(), []
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda asked: asked.url.startswith((address, "blob:", "data:")) or problems.append(asked.url),
    )
    try:
        page.goto(address)
        page.wait_for_selector("body[data-wall='1']", timeout=60_000)
        assert page.locator("#wall canvas").count() == 24
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        page.locator("#wall button").nth(3).click()
        page.wait_for_selector("body[data-face='seed 3']")
        seed = kept(page, tmp_path / "seed.png")
        assert not page.locator("#sliders").is_visible()
        page.click("summary")
        page.get_by_role("slider", name="psi").fill("1")
        page.get_by_role("slider", name="hair: blue").fill("1.5")
        page.wait_for_selector("body[data-face^='seed 3'][data-face$='changed']")
        steered = kept(page, tmp_path / "steered.png")
        page.click("#roll")
        page.wait_for_selector("body[data-wall='2']", timeout=60_000)
        for slider, value in (("psi", "0.7"), ("hair: blue", "1.5"), ("glasses", "-2")):
            page.get_by_role("slider", name=slider).fill(value)
        if conditions:
            page.get_by_role("combobox", name="eyes").select_option("green")
        page.wait_for_selector("body[data-face^='roll'][data-face$='changed']")
        roll = kept(page, tmp_path / "roll.png")
    finally:
        context.close()
        server.shutdown()
        server.server_close()
    assert problems == []
    model = load_model(folder, "cpu")
    for path in (seed, roll):
        told = read_provenance(path)
        assert told.about == model.about
        points = points_of(model, told, space)
        (again,), _ = gathered(drawn(model, points, told.settings))
        difference = np.abs(np.asarray(Image.open(path).convert("RGB")).astype(int) - again)
        assert difference.max() <= 4  # half precision
    assert read_provenance(seed).seeds == [3]
    if space == "w":  # the page goes the same way to a goal as the package does
        start = of_seeds(load_model(run, "cpu"), [3], Settings(), space)
        expected = apply(start, {"hair=blue": 1.5}, ways(run, space)).values
        found = points_of(model, read_provenance(steered), space).values
        assert (expected - start.values).abs().max() > 0.1
        assert (found - expected).abs().max() < 0.02  # half precision


def kept(page, path: Path) -> Path:
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(path)
    return path
