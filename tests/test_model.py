"""What a model draws, what it refuses by name, and where it comes from."""

from dataclasses import replace

import pytest
import torch
from standins import CONDITIONS, small_model

from omokage.abilities import DrawsByTokens, Encodes, HasDensity, HasStyles
from omokage.errors import UserError
from omokage.families import MODELS
from omokage.model import SHIPPED, About, Model, load_model, write_small
from omokage.recipe import load_recipe
from omokage.sampling import gathered, latents, sample, sampled
from omokage.settings import Settings
from omokage.snapshot import newest_snapshot, write_snapshot

SMALL = ["model.channels=[16, 8]", "model.latent=8", "discriminator.channels=[8, 16]"]
PROGRESS = {"images": 12, "steps": 3, "seconds": 1.0, "face_set": "0"}


@pytest.fixture
def snapshot(tmp_path):
    recipe = load_recipe("dcgan", SMALL)
    torch.manual_seed(0)
    network = MODELS["dcgan"].build(recipe.model)
    path = tmp_path / "run" / "snapshot-000000000012.safetensors"
    path.parent.mkdir()
    write_snapshot(path, {f"average.{k}": v for k, v in network.state_dict().items()}, recipe, PROGRESS)
    return path


@pytest.fixture
def dcgan():
    recipe = load_recipe("dcgan", SMALL)
    return Model(MODELS["dcgan"].build(recipe.model).eval(), recipe, PROGRESS, None, "")


def test_it_rebuilds_the_model_from_run_or_file(snapshot):
    a, b = load_model(snapshot.parent, "cpu"), load_model(snapshot, "cpu")
    z = latents(range(3), a.latent_shape)
    assert torch.equal(a.decode(z), b.decode(z))
    assert a.images_seen == 12
    assert newest_snapshot(snapshot.parent) == snapshot


def test_half_precision_draws_the_same_faces(snapshot, tmp_path):
    model = load_model(snapshot, "cpu")
    write_small(model, tmp_path / "small.safetensors")
    small = load_model(tmp_path / "small.safetensors", "cpu")
    a, b = (gathered(sample(one, range(4)))[0] for one in (model, small))
    assert abs(a.astype(int) - b).max() <= 2
    assert (tmp_path / "small.safetensors").stat().st_size < 0.8 * snapshot.stat().st_size


def test_weights_of_another_shape_or_family(snapshot, tmp_path):
    model = load_model(snapshot, "cpu")
    wrong = tmp_path / "wrong.safetensors"
    for recipe in (load_recipe("dcgan", [*SMALL, "model.latent=9"]), load_recipe("fast")):
        write_snapshot(
            wrong, {f"average.{k}": v for k, v in model.network.state_dict().items()}, recipe, PROGRESS
        )
        with pytest.raises(UserError, match="do not fit its recipe") as caught:
            load_model(wrong)
        assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        load_model(tmp_path / "none")
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="no snapshot yet"):
        load_model(tmp_path)


def test_a_full_disk_leaves_nothing_behind(snapshot, tmp_path, monkeypatch):
    model = load_model(snapshot, "cpu")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("omokage.files.os.replace", full)
    with pytest.raises(UserError, match="No space left"):
        write_small(model, tmp_path / "small.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_psi_shrinks_latents(dcgan):
    z = latents(range(2), (8,))
    none, half = Settings(psi=0.0), Settings(psi=0.5)
    assert torch.equal(dcgan.decode(z, none)[0], dcgan.decode(z, none)[1])
    assert torch.equal(dcgan.decode(z, half), dcgan.decode(z * 0.5))


def test_it_says_what_a_picture_came_from(snapshot):
    model = load_model(snapshot, "cpu")
    assert model.about == About("dcgan", 12, model.snapshot_hash)
    assert len(model.snapshot_hash) == 64
    assert model.about.line() == f"dcgan  ·  12 images seen  ·  snapshot {model.snapshot_hash[:12]}"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(psi=-0.5), r"--psi -0.5: dcgan has no styles, so 0 to 2 .* stylegan, stylegan2"),
        (Settings(psi=(1.0, 0.5, 2.5)), r"--psi 2.5: allowed is 0 to 2"),
        (Settings(conditions={"hair": "red"}), r"hair: .* trained without conditions; .* condition=hair"),
        (Settings(guidance=1.0), "dcgan has no guidance; these families can: latent-transformer, pixel-"),
        (Settings(sampler="euler"), "dcgan draws in one pass; these families can: latent-transformer, pixel"),
        (Settings(sampler_steps=4), "dcgan draws in one pass; these families can: latent-transformer, pixel"),
        (Settings(jacobi=4), "dcgan draws whole images at once; these families can: tarflow"),
        (Settings(noise="none"), "dcgan has no styles; these families can: stylegan, stylegan2"),
        (Settings(layers=2), "dcgan has no styles; these families can: stylegan, stylegan2"),
    ],
)
def test_settings_that_a_family_lacks_are_refused_by_name(dcgan, settings, told):
    with pytest.raises(UserError, match=told) as refused:
        dcgan.check(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(noise="grain"), "--noise grain: allowed is constant or none"),
        (Settings(layers=-1), "--layers -1: allowed is 0 to 64"),
        (Settings(layers=7), "--layers 7: stylegan2 has 6"),
        (Settings(noise=["none"] * 3), "noise: 3 values for 6 layers"),
        (Settings(noise=["none", "loud"] * 3), "--noise loud: allowed is constant or none"),
        (Settings(psi=-2.5), "--psi -2.5: allowed is -2 to 2"),
    ],
)
def test_values_out_of_range_are_refused(settings, told):
    model = small_model("stylegan2")
    assert model.layers == 6
    assert model.check(Settings(noise=["none", "constant"] * 3, layers=6))
    with pytest.raises(UserError, match=told):
        model.check(settings)


def test_numbers_of_a_tarflow_out_of_range_are_refused():
    model = small_model("tarflow", CONDITIONS)
    for settings, told in (
        (Settings(guidance=21.0), "--guidance 21.0: allowed is 0 to 20"),
        (Settings(guidance=-1.0), "--guidance -1.0: allowed is 0 to 20"),
        (Settings(jacobi=-4), "--jacobi -4: allowed is 0 to 65,536"),
    ):
        with pytest.raises(UserError, match=told):
            model.check(settings)
    assert model.check(Settings(guidance=20.0, jacobi=4))


def test_settings_that_it_has_are_given_back(dcgan):
    for settings in (Settings(), Settings(psi=0.0), Settings(psi=(0.5, 2.0))):
        assert dcgan.check(settings) is settings


def test_another_number_of_psis_than_of_latents_is_refused(dcgan):
    styled = small_model("stylegan2")
    for call, model in ((dcgan.decode, dcgan), (styled.decode, styled), (styled.mapping, styled)):
        for psis in ((0.5,), (1.0, 0.5, 0.2)):
            with pytest.raises(UserError, match=r"psi: .* for 2 points; give one, or one for each point"):
                call(latents(range(2), model.latent_shape), Settings(psi=psis))


@pytest.mark.parametrize("ability", [Encodes, HasDensity, HasStyles, DrawsByTokens])
def test_what_a_family_cannot_do_is_refused_with_what_can(dcgan, ability):
    with pytest.raises(UserError, match=r"^dcgan .*; these families can: \w.*; with dcgan, \w"):
        dcgan.require(ability)


def test_each_call_that_needs_an_ability_refuses_without_it(dcgan):
    z, images = latents([0], (8,)), torch.zeros(1, 3, *dcgan.resolution)
    calls = {
        "has no styles": (
            lambda: dcgan.mapping(z),
            lambda: dcgan.synthesis(torch.zeros(1, 2, 8)),
            lambda: dcgan.layers,
            lambda: dcgan.layer_sizes,
        ),
        "cannot encode images": (lambda: dcgan.encode(images), lambda: dcgan.inverse(z)),
        "has no likelihood": (lambda: dcgan.log_prob(images),),
    }
    for told, refused in calls.items():
        for call in refused:
            with pytest.raises(UserError, match=told):
                call()


def test_in_double_precision_it_is_a_model_of_its_own(dcgan):
    double = dcgan.double()
    assert double.decode(latents([0], (8,))).dtype == torch.float64
    assert dcgan.decode(latents([0], (8,))).dtype == torch.float32  # left as it was
    torch.testing.assert_close(
        double.decode(latents([0], (8,))).float(), dcgan.decode(latents([0], (8,))), atol=1e-5, rtol=0
    )


def test_guidance_is_a_setting_only_where_there_are_conditions():
    recipe = load_recipe("tarflow-64", ["model.size=8", "model.width=8", "model.heads=1", "model.layers=1"])
    plain = Model(torch.nn.Identity(), recipe, PROGRESS, None, "")
    conditional = replace(plain, recipe=replace(recipe, conditions={"hair": ["blue", "red"]}))
    assert [each.name for each in plain.settings] == ["psi", "jacobi"]
    assert [each.name for each in conditional.settings] == ["psi", "guidance", "jacobi"]


def test_the_model_that_ships_stays_in_range():
    if not SHIPPED.is_file():
        pytest.skip(f"the model that ships is not in this tree ({SHIPPED.name})")
    model = load_model(device="cpu")
    lows, highs = zip(*((images.min(), images.max()) for images in sampled(model, range(64))), strict=True)
    assert min(lows) >= -1
    assert max(highs) <= 1
    network = model.network.decode(latents(range(16), model.latent_shape))
    assert network.abs().max() <= 1
