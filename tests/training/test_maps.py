"""Training on the maps of an autoencoder: whose they are, where they lie, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from omokage.abilities import HasDensity
from omokage.data.build.building import build
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.explore.inversion import round_trip
from omokage.model import load_model
from omokage.models.conditional import unconditioned
from omokage.recipe import load_recipe
from omokage.running import check, train
from omokage.sampling import latents
from omokage.snapshot import newest_snapshot, read_snapshot
from omokage.training.batches import shared
from omokage.training.maps import FILE, MapBatches

QUIET = ["training.batch=4", "training.log_kimg=0.008", "training.film=0", "training.precision=fp32"]
AUTOENCODER = [
    "model.size=16", "model.latent=4", "model.channels=[8, 8]", "discriminator.resolution=16",
    "discriminator.seen_at=32", *QUIET,
]  # fmt: skip
FLOW = ["model.width=16", "model.depth=1", "model.heads=2", "model.steps=2", *QUIET]


@pytest.fixture(scope="module")
def autoencoder(faces, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "autoencoder"
    train("autoencoder-64", faces, run, images=8, overrides=AUTOENCODER)
    return run


@pytest.fixture(scope="module")
def flow(faces, autoencoder, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "flow"
    train("latent-flow-64", faces, run, images=24, overrides=FLOW, autoencoder=autoencoder)
    return run


def weights(run):
    return read_snapshot(newest_snapshot(run))[0]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_an_autoencoder_resumes_bit_for_bit(faces, autoencoder, tmp_path):
    for images in (4, 8):
        train("autoencoder-64", faces, tmp_path / "run", images=images, overrides=AUTOENCODER)
    assert same(weights(tmp_path / "run"), weights(autoencoder))


def test_its_settings_and_weights_are_those_of_the_snapshot(autoencoder, flow):
    model, own = load_model(flow, "cpu"), load_model(autoencoder, "cpu")
    assert model.recipe.model["channels"] == [8, 8]
    assert (model.recipe.model["size"], model.recipe.model["latent"]) == (16, 4)
    assert same(model.network.autoencoder.state_dict(), own.network.state_dict())
    assert model.latent_shape == (256,)
    assert model.decode(latents(range(2), (256,))).shape == (2, 3, 16, 16)


def test_the_maps_are_those_of_every_face_and_its_mirror_image(faces, autoencoder, flow):
    maps = load_file(flow / FILE)["maps"]
    opened, network = FaceSet.open(faces), load_model(autoencoder, "cpu").network
    assert maps.shape == (len(opened), 2, 4, 8, 8)
    image = torch.from_numpy(opened.pixels([3], 16)).permute(0, 3, 1, 2) / 127.5 - 1
    for i, seen in enumerate((image, image.flip(3))):
        mean = network.posterior(seen)[0][0]
        torch.testing.assert_close(maps[3, i].float(), mean, atol=2e-3, rtol=2e-3)
    trained = load_model(flow, "cpu").network
    standard = trained.of_maps(maps.float().flatten(0, 1))
    torch.testing.assert_close(standard.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(trained.standardised(image)[0], standard[6], atol=1e-2, rtol=1e-2)


def test_it_resumes_bit_for_bit_with_the_maps_and_without(faces, autoencoder, flow, tmp_path):
    run = tmp_path / "run"
    train("latent-flow-64", faces, run, images=8, overrides=FLOW, autoencoder=autoencoder)
    written = (run / FILE).stat().st_mtime_ns
    train("latent-flow-64", faces, run, images=16, overrides=FLOW, autoencoder=autoencoder)
    assert (run / FILE).stat().st_mtime_ns == written
    (run / FILE).unlink()
    train("latent-flow-64", faces, run, images=24, overrides=FLOW)  # it has the autoencoder in itself
    assert (run / FILE).exists()
    assert same(weights(run), weights(flow))


def test_held_out_faces_are_encoded_too(faces, autoencoder, tmp_path):
    rng = np.random.default_rng(5)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{i}.png")
    build([tmp_path], tmp_path / "others", as_faces=True, workers=1)
    run = tmp_path / "run"
    train("latent-flow-64", faces, run, images=8, overrides=FLOW, autoencoder=autoencoder,
          heldout=tmp_path / "others")  # fmt: skip
    assert "held-out/denoiser" in (run / "log.jsonl").read_text()


class Harm:
    def __reduce__(self):
        return (pytest.fail, ("a file was unpickled",))


def spoilt(path, how):
    maps = load_file(path)["maps"].clone()
    with safe_open(path, "pt") as file:
        about = file.metadata()
    if how == "pickle":
        path.write_bytes(pickle.dumps(Harm()))
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "other faces":
        save_file({"maps": maps}, path, about | {"faces": "0" * 64})
    elif how == "other autoencoder":
        save_file({"maps": maps}, path, about | {"autoencoder": "0" * 64})
    elif how == "other shape":
        save_file({"maps": maps[:, :1].contiguous()}, path, about)
    else:
        save_file({"maps": torch.full_like(maps, torch.nan)}, path, about)


WAYS = ("pickle", "cut off", "other faces", "other autoencoder", "other shape", "not finite")


@pytest.mark.parametrize("how", WAYS)
def test_maps_that_are_not_its_own_are_made_anew(faces, flow, tmp_path, how):
    run = tmp_path / "run"
    run.mkdir()
    for file in (newest_snapshot(flow), flow / FILE, flow / "recipe.toml"):
        (run / file.name).write_bytes(file.read_bytes())
    before = load_file(run / FILE)["maps"].clone()
    spoilt(run / FILE, how)
    train("latent-flow-64", faces, run, images=28, overrides=FLOW)
    assert torch.equal(load_file(run / FILE)["maps"], before)


def test_encoding_goes_to_noise_and_back_to_what_the_autoencoder_keeps(flow):
    model = load_model(flow, "cpu")
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = unconditioned(model.network)
    kept = network.autoencoder.drawn(network.autoencoder.posterior(images)[0]).clamp(-1, 1)
    torch.testing.assert_close(model.inverse(model.encode(images)), kept, atol=0.05, rtol=0)


def test_reconstructions_of_both_kinds(autoencoder, flow):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    for run in (autoencoder, flow):
        trip = round_trip(load_model(run, "cpu"), pictures)
        assert trip.back.shape == pictures.shape
        assert trip.finite.all()


def test_it_has_no_likelihood(flow):
    model = load_model(flow, "cpu")
    assert not model.can(HasDensity)
    with pytest.raises(UserError, match=r"^latent-transformer has no likelihood; "):
        model.log_prob(torch.zeros(1, 3, 16, 16))


def test_what_is_wrong_is_refused_in_one_line_and_leaves_nothing(faces, autoencoder, flow, tmp_path):
    out = tmp_path / "run"

    def refused(told, recipe="latent-flow-64", overrides=FLOW, out=out, **how):
        with pytest.raises(UserError, match=told):
            train(recipe, faces, out, images=8, overrides=overrides, **how)

    refused("^train: --autoencoder is missing, .*autoencoder-64 makes one$")
    refused("is no spatial autoencoder; omokage train autoencoder-64", autoencoder="fast-64")
    refused("latent-transformer is no spatial", autoencoder=flow)
    refused("no use for one", "autoencoder-64", AUTOENCODER, autoencoder=autoencoder)
    refused("the model of --from has its own", autoencoder=autoencoder, start=flow)
    assert not out.exists()
    other = tmp_path / "other"
    train("autoencoder-64", faces, other, images=4, overrides=[*AUTOENCODER, "training.seed=1"])
    refused("was trained with another one", out=flow, autoencoder=other)


def test_another_run_goes_on_from_its_weights(faces, flow, tmp_path):
    train("latent-flow-64", faces, tmp_path / "run", images=4, overrides=FLOW, start=flow)
    one, other = (load_model(run, "cpu").network for run in (flow, tmp_path / "run"))
    assert torch.equal(one.deviations, other.deviations)
    assert same(one.autoencoder.state_dict(), other.autoencoder.state_dict())


def test_a_dry_run_needs_no_autoencoder_and_tries_one_that_is_given(autoencoder):
    recipe = load_recipe("latent-flow-64", FLOW)
    check(recipe)
    check(recipe, autoencoder=autoencoder)
    with pytest.raises(UserError, match="no such"):
        check(recipe, autoencoder=autoencoder / "nowhere")


def test_only_the_faces_that_are_trained_on_are_encoded(faces, autoencoder, flow, tmp_path):
    run = tmp_path / "run"
    overrides = [*FLOW, "training.share=0.5", "training.mirror=false"]
    train("latent-flow-64", faces, run, images=4, overrides=overrides, autoencoder=autoencoder)
    maps, everything = load_file(run / FILE)["maps"], load_file(flow / FILE)["maps"]
    used = shared(len(FaceSet.open(faces)), 0.5, 0)
    assert maps.shape[:2] == (5, 1)
    own = everything[torch.from_numpy(used), 0]
    torch.testing.assert_close(maps[:, 0].float(), own.float(), atol=2e-3, rtol=0)
    batches = MapBatches(maps, used, 4, 0)
    assert torch.equal(batches.at(4), maps[np.searchsorted(used, batches.indices(4))])
    assert set(batches.indices(0)) <= set(used)
