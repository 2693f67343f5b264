"""Inversion: pictures to points of latent space, in every family."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from standins import CONDITIONS, small_model
from torch import nn

from omokage.abilities import Exact, HasDensity, HasStyles
from omokage.errors import UserError
from omokage.explore.encoders import encoder_of
from omokage.explore.fits import Fit, Judge
from omokage.explore.inversion import SPACES, Effort, as_images, default_space, inverted
from omokage.explore.optimising import Aim, descended, fitted, styles_of
from omokage.families import MODELS, build_discriminator
from omokage.metrics.perceptual import Perceptual
from omokage.model import Differentiable, Model, load_model, write_small
from omokage.models.feature_encoder import FeatureEncoder
from omokage.recipe import load_recipe
from omokage.sampling import in_batches, latents, to_pixels
from omokage.settings import Settings
from omokage.snapshot import write_snapshot

SHORT = Effort(steps=6, more=4, samples=16)
STYLED = sorted(name for name, row in MODELS.items() if row.can(HasStyles))


class Coarse(Perceptual):
    """Features that are quick: pixels at half size, not normalised."""

    def __init__(self) -> None:
        super().__init__(network=lambda images: [F.avg_pool2d(images, 2)], side=None)

    def maps(self, images):
        return list(self.network(images.expand(-1, 3, -1, -1)))


def quick(**weights) -> Aim:
    return Aim(Coarse(), **weights)


def drawn(model, seeds=(100, 101)) -> np.ndarray:
    return to_pixels(model.decode(latents(seeds, model.latent_shape)))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_family_inverts_its_own_faces(name):
    model = small_model(name)
    pictures = drawn(model)
    aim = quick(prior=0.0, apart=0.0)
    found = inverted(model, pictures, effort=SHORT, aim=aim)
    assert found.faces.shape == pictures.shape
    assert found.space == default_space(model)
    assert (found.z is None) != (found.w is None)
    if found.w is not None:
        assert found.w.shape == (2, model.layers, model.mapping(torch.zeros(1, *model.latent_shape)).shape[2])
        again = to_pixels(next(in_batches(model.synthesis, found.w)))
    elif model.can(HasDensity):
        again = to_pixels(model.inverse(found.z))
    else:
        assert found.z.shape == (2, *model.latent_shape)
        again = to_pixels(next(in_batches(model.decode, found.z)))
    assert (again == found.faces).all()

    def far(faces):
        return aim.likeness(as_images(faces), as_images(pictures), aim.maps(as_images(pictures)))

    assert (far(found.faces) <= far(found.starts) + 1e-4).all()
    assert len(found.words(0)) > 20
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert all(parameter.grad is None for parameter in model.network.parameters())


@pytest.mark.parametrize("name", sorted(name for name, row in MODELS.items() if row.can(Exact)))
def test_a_flow_is_exact(name):
    model = small_model(name)
    pictures = np.random.default_rng(0).integers(0, 256, (3, *model.resolution, 3), np.uint8)
    found = inverted(model, pictures, effort=SHORT)
    assert found.began == ["exact"] * 3
    assert found.largest.max() < 1e-3
    assert (found.faces == pictures).all()
    assert torch.equal(found.z, model.encode(as_images(pictures)))
    assert found.fit.distances.max() == 0
    assert (found.fit.nearer == 0).all()
    assert "exact: the largest error" in found.words(0)


class LinearDecoder(nn.Module):
    """Images that are a matrix times the latent: 8 numbers to 8 x 8 pixels."""

    latent_shape, resolution = (8,), (8, 8)

    def __init__(self) -> None:
        super().__init__()
        matrix = torch.randn(3 * 64, 8, generator=torch.Generator().manual_seed(5))
        self.matrix = nn.Parameter(0.08 * torch.linalg.qr(matrix)[0] * 8**0.5, requires_grad=False)

    def decode(self, z):
        return (z @ self.matrix.T).view(-1, 3, 8, 8)

    forward = decode


def linear_model() -> Model:
    return Model(LinearDecoder().eval(), load_recipe("dcgan"), {"images": 1}, None, "0" * 64)


@pytest.mark.parametrize("where", [0.3, 1.0, 2.0])
def test_with_a_linear_decoder_the_latent_is_found(where):
    model = linear_model()
    z = where * latents(range(5), (8,))
    images = model.decode(z)
    assert images.abs().max() < 1  # nothing is cut off
    u, loss = descended(
        Differentiable(model).decode, images, torch.zeros(5, 8), quick(prior=0.0), steps=120, rate=0.3
    )
    torch.testing.assert_close(u, z, atol=0.02, rtol=0.02)
    assert loss.max() < 1e-4
    # From 8-bit pixels, and from a sample, it is found up to rounding.
    effort = Effort(steps=120, samples=16, rate=0.3)
    found = inverted(model, to_pixels(images), effort=effort, aim=quick(prior=0.0))
    assert (found.z - z).abs().mean() < 0.1
    assert np.abs(found.faces.astype(int) - to_pixels(images)).max() <= 2


def test_the_penalty_draws_points_to_the_average():
    model, z = linear_model(), 3 * latents(range(4), (8,))
    images, lengths = model.decode(z), []
    for prior in (0.0, 0.05, 1.0):
        aim = quick(prior=prior)
        u, _ = descended(Differentiable(model).decode, images, torch.zeros(4, 8), aim, steps=150, rate=0.2)
        lengths.append(u.norm(dim=1))
    assert (lengths[0] > lengths[1]).all()
    assert (lengths[1] > lengths[2]).all()


@pytest.mark.parametrize("name", STYLED)
@pytest.mark.parametrize("space", SPACES)
def test_the_space_is_the_one_asked_for(name, space):
    model = small_model(name)
    found = inverted(model, drawn(model), space=space, effort=SHORT, aim=quick())
    assert found.space == space
    assert (found.z is not None) == (space == "z")
    if space == "w":
        assert torch.equal(found.w, found.w[:, :1].expand_as(found.w))
        assert found.editable is None
    if space == "w+":
        assert (found.w != found.w[:, :1]).any()
        assert found.editable.spaces == ["w", "w+"]
        assert (found.editable.faces[1][:, 0] == found.faces).all()
        assert (found.editable.faces[0][:, 0] == found.in_w).all()
        assert all(((one >= 0) & (one <= 1)).all() for one in found.editable.strange)
        assert found.editable.words(0).startswith("stranger than ")
        assert "of samples in w+, and after the same moves than" in found.editable.words(0)


def test_a_space_that_there_is_not_is_refused():
    model = small_model("dcgan")
    with pytest.raises(UserError, match=r"--space v: there are z, w, w\+"):
        inverted(model, drawn(model), space="v")
    with pytest.raises(UserError, match="dcgan has no styles"):
        inverted(model, drawn(model), space="w+")


def test_pictures_do_not_influence_each_other():
    model = small_model("stylegan2")
    pictures = drawn(model, range(3))
    together = inverted(model, pictures, effort=SHORT, aim=quick())
    alone = inverted(model, pictures[1:2], effort=SHORT, aim=quick())
    torch.testing.assert_close(together.w[1:2], alone.w, atol=1e-3, rtol=1e-3)
    again = inverted(model, pictures, effort=SHORT, aim=quick())
    assert torch.equal(together.w, again.w)


def test_conditions_are_those_of_the_settings():
    model = small_model("stylegan2", CONDITIONS)
    blue = inverted(
        model, drawn(model), settings=Settings(conditions={"hair": "blue"}), effort=SHORT, aim=quick()
    )
    assert blue.w.isfinite().all()
    with pytest.raises(UserError, match="no hair 'green'"):
        inverted(model, drawn(model), settings=Settings(conditions={"hair": "green"}), effort=SHORT)


def test_what_is_watched_is_every_step():
    model, seen = small_model("dcgan"), []
    pictures = drawn(model, range(20))
    effort = replace(SHORT, steps=3)
    inverted(
        model, pictures, effort=effort, aim=quick(), watch=lambda rows, faces: seen.append((rows, faces))
    )
    assert [len(rows) for rows, _ in seen] == [16] * 4 + [4] * 4
    assert list(seen[-1][0]) == [16, 17, 18, 19]
    assert all(faces.shape == (len(rows), *pictures.shape[1:]) for rows, faces in seen)


def test_images_with_gradients_are_the_images_without():
    for name in ("dcgan", "stylegan2"):
        model, z = small_model(name), latents(range(2), small_model(name).latent_shape)
        drawing = Differentiable(model)
        z = z.requires_grad_()
        images = drawing.decode(z, Settings(psi=0.7))
        assert torch.equal(images, model.decode(z, Settings(psi=0.7)))
        assert not model.decode(z).requires_grad
        images.sum().backward()
        assert z.grad.abs().sum() > 0
    w = model.mapping(z).requires_grad_()
    assert torch.equal(drawing.synthesis(w), model.synthesis(w))


def test_coordinates_of_a_normal_distribution():
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([3.0, 1.0, 0.1, 0.0])
    points = torch.randn(20_000, 4, generator=generator) * scales + torch.arange(4.0)
    normal = fitted(points)
    assert normal.axes.shape == (4, 3)  # the last entry never changes
    torch.testing.assert_close(normal.axes.norm(dim=0), scales[:3], rtol=0.05, atol=0)
    u = normal.coordinates(points)
    torch.testing.assert_close(u.std(0), torch.ones(3), atol=0.02, rtol=0)
    torch.testing.assert_close(normal.point(u), points, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", STYLED)
def test_styles_are_about_standard_normal_in_their_coordinates(name):
    model = small_model(name)
    normal = styles_of(model, Settings())
    u = normal.coordinates(model.mapping(latents(range(300), model.latent_shape))[:, 0])
    assert 0.8 < float(u.square().mean()) < 1.2


def test_a_fit_is_told_in_plain_words():
    fit = Fit(np.array([1.0, 9.0]), np.tile(np.arange(2.0, 12.0), (2, 1)), "tags", "samples")
    assert fit.nearer.tolist() == [0.0, 0.7]
    assert "nearer to the picture than all 10 samples" in fit.words(0)
    assert "than 3 of 10 samples" in fit.words(1)


class Corner:
    """Features that are easy to follow: the colour of the first pixel."""

    name, dimensions, file_hash, resize_rule, precision = "corner", 3, "0", "none", "fp32"

    def __call__(self, images):
        return images[:, 0, 0].astype(np.float32)


def test_a_judge_measures_distances_and_strangeness():
    faces = np.zeros((11, 4, 4, 3), np.uint8)
    faces[:, 0, 0, 0] = 10 * np.arange(11)
    judge = Judge.of(faces, extractor=Corner())
    picture = faces[:1] + np.uint8(3)
    fit = judge.fit(picture, faces[:1])
    assert fit.distances[0] == pytest.approx(3 * 3**0.5)
    assert fit.others.shape == (1, 11)
    near, far = faces[5:6].copy(), faces[5:6].copy()
    near[0, 0, 0, 0], far[0, 0, 0, 2] = 52, 200
    assert judge.strangeness(np.concatenate([near, far])).tolist() == [0.0, 1.0]


def test_the_encoder_in_a_snapshot_is_found(tmp_path):
    """That of `vae-gan`; its latents are moved back from where the generator saw them."""
    overrides = ["model.latent=8", "model.style=16", "model.depth=1", "model.channels=[16,8,8,8,8]"]
    recipe = load_recipe("fast-style", overrides)
    torch.manual_seed(0)
    network = MODELS["stylegan2"].build(recipe.model)
    network.location.move(torch.arange(8.0), torch.eye(8) * 2)
    discriminator = build_discriminator(recipe.discriminator)
    encoder = FeatureEncoder(discriminator.feature_channels[1:], 8)
    tensors = {f"average.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {
        f"networks.discriminator.{name}": tensor for name, tensor in discriminator.state_dict().items()
    }
    plain = tmp_path / "plain.safetensors"
    write_snapshot(plain, tensors, recipe, {"images": 64})
    assert encoder_of(load_model(plain, "cpu")) is None
    tensors |= {
        f"networks.reconstruction.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()
    }
    path = tmp_path / "run.safetensors"
    write_snapshot(path, tensors, recipe, {"images": 64})
    model = load_model(path, "cpu")
    state = torch.random.get_rng_state()
    encode = encoder_of(model)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = encode(images)
    assert torch.equal(torch.random.get_rng_state(), state)  # building it takes no random numbers
    with torch.no_grad():
        mean, _ = encoder.eval()(discriminator.eval().features(images)[1:])
    torch.testing.assert_close(2 * z + torch.arange(8.0), mean, atol=1e-4, rtol=1e-4)
    assert encoder_of(small_model("stylegan2")) is None
    write_small(model, tmp_path / "small.safetensors")
    small = load_model(tmp_path / "small.safetensors", "cpu")
    torch.testing.assert_close(encoder_of(small)(images), z, atol=0.02, rtol=0.02)
    vae = small_model("vae")
    torch.testing.assert_close(encoder_of(vae)(images), vae.encode(images))


def test_a_point_whose_image_overflows_does_not_stop_the_others():
    model = linear_model()
    images = model.decode(latents(range(2), (8,)))

    def broken(u):
        return Differentiable(model).decode(u) * torch.tensor([torch.inf, 1.0]).view(2, 1, 1, 1)

    u, loss = descended(broken, images, torch.zeros(2, 8), quick(prior=0.0), steps=150, rate=0.3)
    assert loss[1] < 0.01
    assert not loss[0] < 1e9
    assert u.isfinite().all()


def test_colour_is_compared_at_half_size_and_weighs_more():
    grey = torch.zeros(1, 3, 4, 6)
    aim = quick(colour=3.0)
    brighter = torch.full_like(grey, 0.5)
    torch.testing.assert_close(aim.differences(brighter, grey), torch.full((1, 4, 6), 0.25))
    # Another colour of the same brightness.
    bluer = grey + torch.tensor([0.0, -0.114, 0.587])[:, None, None]
    moved = (0.3313 * 0.114 + 0.5 * 0.587) ** 2 + (0.4187 * 0.114 - 0.0813 * 0.587) ** 2
    found = aim.differences(bluer, grey)
    torch.testing.assert_close(found, torch.full_like(found, 3 * moved), atol=1e-4, rtol=1e-3)
    # Colours that cancel out in 2x2 pixels count nothing.
    sign = torch.ones(4, 6)
    sign[:, ::2] = -1
    assert aim.differences(sign * bluer, grey).max() < 1e-6
    assert aim.differences(torch.zeros(1, 3, 5, 7), torch.ones(1, 3, 5, 7)).shape == (1, 5, 7)
    torch.testing.assert_close(aim.differences(brighter[:, :1], grey[:, :1]), torch.full((1, 4, 6), 0.25))


def test_pixels_of_the_eyes_weigh_more():
    aim, black = Aim(Coarse(), pixels=1.0, eyes=9.0), torch.zeros(2, 3, 8, 8)
    one = black.clone()
    one[:, :, 2:4, 2:4] = 1.0
    eyes = torch.zeros(2, 8, 8)
    eyes[1, 2:4, 2:4] = 1.0
    plain = aim.likeness(one, black, aim.maps(black))
    inside, outside = aim.likeness(one, black, aim.maps(black), eyes).tolist()[::-1]
    assert outside == plain[0].item()
    assert inside - outside == pytest.approx(9.0 * 4 / 64)


def test_a_search_that_cannot_draw_all_draws_the_eyes():
    model = linear_model()
    images = 0.3 * torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    eyes = torch.zeros(6, 8, 8)
    eyes[:, 2:5, 1:7] = 1.0
    errors = []
    for shown in (None, eyes):
        u, _ = descended(
            Differentiable(model).decode,
            images,
            torch.zeros(6, 8),
            quick(prior=0.0),
            steps=150,
            rate=0.2,
            eyes=shown,
        )
        errors.append((Aim(Coarse()).differences(model.decode(u), images) * eyes).flatten(1).sum(1))
    assert (errors[1] < errors[0]).all()
    assert errors[1].mean() < 0.9 * errors[0].mean()


def test_a_picture_without_eyes_is_told():
    model = small_model("dcgan")
    pictures = np.full_like(drawn(model), 128)
    found = inverted(model, pictures, effort=SHORT, aim=quick())
    assert found.eyes.tolist() == [False, False]
    assert "no eyes were found in it" in found.words(0)
    assert "no eyes" not in replace(found, eyes=np.array([True, True])).words(0)
