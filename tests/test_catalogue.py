import io

import pytest
from rich.console import Console

from omokage import catalogue
from omokage.__main__ import main
from omokage.recipe import load_recipe, read_recipe, recipe_names


@pytest.fixture(scope="module")
def listed() -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    catalogue.show_list([load_recipe(name) for name in recipe_names()], console)
    return console.export_text()


def shown(name: str) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    catalogue.show_recipe(load_recipe(name), name, console)
    return console.export_text()


def test_the_list_names_every_recipe_within_80_columns(listed):
    assert max(map(len, listed.splitlines())) <= 80
    assert "…" not in listed
    lines = {line.split()[0]: line for line in listed.splitlines() if line.split()}
    assert set(recipe_names()) <= set(lines)
    assert "non-saturating" in lines["yao2021-dcgan"]
    assert "1.10 + 0.69" in lines["yao2021-dcgan-mnist"]
    assert "yao2021" in lines["yao2021-dcgan"].rpartition("2.77")[2]


def test_a_recipe_shows_networks_and_what_was_published():
    told = shown("yao2021-wgan")
    assert "17,475,712" in told
    assert "17,738,624" in told
    assert "1,045,633 (equal)" in " ".join(told.split())
    assert "DIFFERS" not in told
    assert "between the VAE and the DCGAN" in told
    assert "Published: parameter counts" in told  # the remarks of its file


@pytest.mark.parametrize(("name", "figure"), [("wu2020-dcgan", "64.446"), ("wu2020-lsgan", "149.21")])
def test_published_figures_stand_with_their_protocol(name, figure):
    told = " ".join(shown(name).split())
    assert figure in told
    assert "2015 Inception (pytorch-fid)" in told


def test_what_was_measured_here_stands_with_its_protocol(monkeypatch):
    known = {
        "protocol": "fid10k-full-inception2015",
        **{"fid": 61.25, "kid": 0.05, "precision": 0.5, "recall": 0.1, "density": 0.4, "coverage": None},
        **{"second_fid": 9.5, "second_protocol": "fid10k-full-tags"},
        **{"two_sample": 0.99, "two_sample_protocol": "c2st64-lowpass48-jpeg75"},
        **{"sharpness": 0.8, "sharpness_protocol": "detail-above-half"},
        **{"minutes": 20.0, "images": 240_000, "machine": "x86_64, 2 cores", "date": "2026-11-22"},
        **{"faces": 19_000, "face_set": "a4e92838"},
    }
    monkeypatch.setattr(catalogue, "measured", lambda: {"dragan": known})
    told = " ".join(shown("dragan").split())
    for text in (
        "61.25 fid10k-full-inception2015",
        "KID × 10³ 50.00",
        "9.50 fid10k-full-tags",
        "0.80 detail-above",
    ):
        assert text in told
    assert "coverage" not in told


def test_all_published_counts_are_ours():
    for name in set(catalogue.published()) & set(recipe_names()):
        assert "DIFFERS" not in shown(name), name


def test_what_was_published_is_well_formed():
    keys = {"data", "training", "found", "figures", "counts"}
    for name, told in catalogue.published().items():
        assert set(told) <= keys, name
        for figure in told.get("figures", ()):
            assert figure["name"]
            assert figure["protocol"]
            assert figure["value"] > 0


def test_toml_is_the_plain_recipe(capsys):
    assert main(["recipes", "fast", "--toml"]) == 0
    printed = capsys.readouterr().out
    assert read_recipe(printed, "printed") == load_recipe("fast")
    assert main(["train", "fast", "--dry-run"]) == 0
    assert capsys.readouterr().out == printed


def test_toml_of_nothing_is_refused(capsys):
    assert main(["recipes", "--toml"]) == 2
    assert "omokage recipes fast --toml" in capsys.readouterr().err


def test_a_file_of_ones_own_is_shown(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text("# A trial.\n" + load_recipe("dcgan", ["batch=16"]).to_toml())
    assert main(["recipes", f"{path}"]) == 0
    told = capsys.readouterr().out
    assert "batch 16" in told
    assert f"omokage train {path}" in told.replace("\n", "")
