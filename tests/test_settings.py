"""How to sample: what is allowed, what is told, and that commands offer all of it."""

from dataclasses import fields

import pytest
from typer.testing import CliRunner

from omokage.__main__ import app
from omokage.errors import UserError
from omokage.families import MODELS
from omokage.settings import GUIDANCE, JACOBI, LAYERS, NOISE, OFFERED, TRUNCATION, Settings


@pytest.mark.parametrize("setting", OFFERED, ids=lambda setting: setting.option)
def test_every_setting_is_an_option_of_sample(setting, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # one line an option
    told = " ".join(CliRunner().invoke(app, ["sample", "--help"]).output.split())
    assert f"{setting.option} " in told
    assert setting.help in told


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_setting_of_a_family_is_offered_and_is_a_field(name):
    settings = MODELS[name].settings
    assert {setting.option for setting in settings} <= {setting.option for setting in OFFERED}
    assert {setting.name for setting in settings} <= {field.name for field in fields(Settings)}
    assert len({setting.name for setting in settings}) == len(settings)
    assert "psi" in {setting.name for setting in settings}
    for setting in settings:
        setting.check(setting.default)
        assert getattr(Settings(), setting.name) == setting.default
        assert setting.help.endswith(".")
        assert MODELS[name].setting(setting.name) is setting
    assert MODELS[name].setting("conditions") is None


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        (TRUNCATION, 2.5, "--psi 2.5: allowed is -2 to 2"),
        (TRUNCATION, float("nan"), "--psi nan: allowed is -2 to 2"),
        (GUIDANCE, -1, "--guidance -1: allowed is 0 to 20"),
        (JACOBI, 65_537, "--jacobi 65537: allowed is 0 to 65,536"),
        (NOISE, "random", "--noise random: allowed is constant or none"),
        (LAYERS, -1, "--layers -1: allowed is 0 to 64"),
    ],
)
def test_values_out_of_range_are_refused_by_the_name_of_the_option(setting, value, told):
    with pytest.raises(UserError) as refused:
        setting.check(value)
    assert str(refused.value) == told


@pytest.mark.parametrize("psi", [float("nan"), float("inf"), (1.0, float("-inf"))])
def test_a_psi_that_is_no_number_is_refused(psi):
    with pytest.raises(UserError, match="psi must be a finite number, got"):
        Settings(psi=psi)


def test_what_differs_from_the_defaults_is_told():
    assert Settings().text() == {"psi": "1"}
    assert Settings(psi=(1.0, 0.5)).text() == {"psi": "1,0.5"}
    settings = Settings(0.7, {"hair": "red", "eyes": "blue"}, 1.5, 16, "none", 4)
    assert settings.text() == {
        "psi": "0.7",
        "conditions": "hair=red, eyes=blue",
        "guidance": "1.5",
        "Jacobi iterations": "16",
        "noise": "none",
        "layers truncated": "4",
    }
    assert Settings(noise=["none", "constant"]).text()["noise"] == "none,constant"


def test_the_psis_of_some_rows_with_the_last_repeated():
    settings = Settings(psi=(1.0, 0.5, 1.0, 0.2), noise="none")
    assert settings.psis == (1.0, 0.5, 0.2)
    assert settings.rows(1, 4, 6) == Settings(psi=(0.5, 1.0, 0.2, 0.2, 0.2, 0.2), noise="none")
    assert Settings(psi=0.3).rows(16, 20, 16) == Settings(psi=0.3)
