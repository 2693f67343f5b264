import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models import skipgan
from omokage.models.dcgan import Discriminator, Generator
from omokage.models.layers import Location
from omokage.models.projected import ProjectedDiscriminator
from omokage.objectives.phase import Step
from omokage.objectives.reconstruction import Reconstruction
from omokage.objectives.vae_gan import vae_gan
from omokage.training.augment import augmenter


def projected():
    torch.manual_seed(0)
    small = ProjectedDiscriminator(resolution=32, seen_at=[[0, 32]], width=8)
    return nn.ModuleDict({"generator": Generator(latent=4, channels=(8, 8, 8)), "discriminator": small})


def step(count=8, augment=(), images=0):
    torch.manual_seed(1)
    return Step(torch.rand(count, 3, 32, 32) * 2 - 1, torch.randn(count, 4), augmenter(augment), images)


def part(share=0.5):
    return Reconstruction(projected()["discriminator"], latent=4, share=share)


def test_the_first_latents_come_from_the_encoder_and_the_others_stay():
    networks, here = projected(), step()
    redrawn = Reconstruction(networks["discriminator"], latent=4, share=0.25)
    features = networks["discriminator"].features(here.real)
    z = redrawn.latents(here, features, None)
    mean, log_variance = redrawn.encoded(here, features)
    expected = mean + log_variance.mul(0.5).exp() * here.latents[:2]
    torch.testing.assert_close(z, torch.cat([expected, here.latents[2:]]))


def test_the_others_lie_where_the_generator_draws_from():
    networks, here = projected(), Step(torch.rand(8, 3, 32, 32), torch.randn(8, 6), lambda images: images)
    redrawn = Reconstruction(networks["discriminator"], latent=4, share=0.5)
    generator = skipgan.Generator(latent=4, channels=(8, 8), joined=2)
    centre, axes = torch.randn(4), torch.randn(4, 4)
    generator.location.move(centre, axes)
    features = networks["discriminator"].features(here.real)
    z, unplaced = (redrawn.latents(here, features, location) for location in (generator.location, None))
    torch.testing.assert_close(z[:4], unplaced[:4])
    torch.testing.assert_close(z[4:, :4], centre + here.latents[4:, :4] @ axes.T)
    torch.testing.assert_close(z[4:, 4:], here.latents[4:, 4:])
    images = generator.eval().decode(here.latents[4:])
    torch.testing.assert_close(generator(z[4:]), images, atol=1e-5, rtol=0)


def test_entries_of_a_latent_that_are_for_conditions_stay():
    networks = projected()
    here = Step(torch.rand(8, 3, 32, 32), torch.randn(8, 6), lambda images: images)
    redrawn = Reconstruction(networks["discriminator"], latent=4, share=0.5)
    z = redrawn.latents(here, networks["discriminator"].features(here.real), None)
    assert (z[:4, :4] != here.latents[:4, :4]).all()
    torch.testing.assert_close(z[:, 4:], here.latents[:, 4:])


def test_the_error_is_0_for_the_same_face_1_for_the_mean_and_2_for_unrelated_ones():
    torch.manual_seed(0)
    redrawn = part()
    here = Step(torch.zeros(4000, 3, 1, 1), torch.zeros(4000, 4), lambda images: images)
    real, other = ([torch.randn(4000, 5, 2, 2) * 3 + 1] for _ in range(2))
    assert redrawn.error(here, real, real).item() == 0
    assert redrawn.error(here, real, [torch.full_like(real[0], 1.0)]).item() == pytest.approx(1, abs=0.05)
    assert redrawn.error(here, real, other).item() == pytest.approx(2, abs=0.05)


def test_the_divergence_is_that_of_two_normal_distributions():
    redrawn, here = part(), step()
    mean, log_variance = torch.randn(4, 4), torch.randn(4, 4)
    here.once("encoded", lambda: (mean, log_variance))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(redrawn.divergence(here, []), expected.sum(1).mean())


def test_a_single_image_is_not_redrawn():
    redrawn, here = part(), step(1)
    assert redrawn.latents(here, [], None) is here.latents
    assert redrawn.error(here, [], []) == redrawn.divergence(here, []) == 0


def test_the_encoder_learns_with_the_generator_alone():
    networks, here = projected(), step(images=50_000)
    phases = vae_gan(networks, loss="hinge", reconstruction_weight=3.0)
    encoder = list(networks["reconstruction"].parameters())
    phases[0].loss(here)[0].backward(inputs=phases[0].parameters)
    assert not {id(p) for p in encoder} & {id(p) for p in phases[0].parameters}
    phases[1].loss(here)[0].backward(inputs=phases[1].parameters)
    assert all(parameter.grad.abs().max() > 0 for parameter in encoder)


def test_the_weight_rises_with_the_images_seen():
    shares = []
    for seen in (0, 1000, 2000, 3000, 9000):
        networks = projected()
        phases = vae_gan(networks, reconstruction_weight=2.0, reconstruction_kimg=(1.0, 3.0), kl_weight=0.0)
        total, told = phases[1].loss(step(images=seen))
        shares.append(((total - told["loss/generator"]) / told["reconstruction/error"]).item())
    assert shares == pytest.approx([0, 0, 1, 2, 2], abs=1e-3)


def test_training_teaches_it_to_tell_faces_apart():
    """Of flat pictures the error falls under that of the mean picture: it must know which is which."""
    torch.manual_seed(0)
    real = torch.randn(8, 3, 1, 1).expand(-1, -1, 4, 4).contiguous()
    features = [real, real]
    redrawn = Reconstruction(SimpleNamespace(feature_channels=[3, 3]), latent=4, share=0.9)
    generator = nn.Linear(4, 3)
    optimiser = torch.optim.Adam([*redrawn.parameters(), *generator.parameters()], 1e-2)
    errors = []
    for _ in range(200):
        here = Step(real, torch.randn(8, 4), lambda images: images)
        drawn = generator(redrawn.latents(here, features, None))[:, :, None, None].expand(-1, -1, 4, 4)
        error = redrawn.error(here, features, [drawn, drawn])
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[0] > 1
    assert errors[-1] < 0.2


def test_augmentation_is_the_same_for_a_face_and_what_redraws_it():
    here = step(augment=("translation", "cutout", "colour"))
    once, again = here.augmented(here.real), here.augmented(here.real.clone())
    assert not torch.equal(once, here.real)
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    before = torch.get_rng_state()
    here.augmented(here.real)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(step(augment=("translation",)).augmented(here.real), once)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reconstructed": 1.0}, "between 0 and 1"),
        ({"reconstructed": 0.0}, "between 0 and 1"),
        ({"reconstruction_kimg": (5, 2)}, "two rising numbers"),
        ({"reconstruction_weight": 0.0}, "above 0; objective.name=gan"),
        ({"reconstruction_weight": -1.0}, "above 0; objective.name=gan"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        vae_gan(projected(), **settings)


def test_images_alone_have_no_frozen_features():
    networks = nn.ModuleDict(
        {"generator": Generator(latent=4, channels=(8, 8)), "discriminator": Discriminator(channels=(8, 8))}
    )
    with pytest.raises(UserError, match=r"reconstruction_weight.*projected has"):
        vae_gan(networks, reconstruction_weight=1.0)


def test_a_generator_learns_where_the_latents_of_faces_lie():
    torch.manual_seed(0)
    redrawn = Reconstruction(SimpleNamespace(feature_channels=[3, 3]), latent=2, share=0.5)
    location, wanted = Location(2), torch.tensor([[4.0, 1.2], [1.2, 1.0]])
    factor = torch.linalg.cholesky(wanted)
    for _ in range(700):
        here = Step(torch.zeros(64, 3, 1, 1), torch.zeros(64, 2), lambda images: images)
        means = torch.randn(32, 2) @ factor.T + torch.tensor([1.0, -2.0])
        here.once("encoded", lambda means=means: (means, torch.zeros(32, 2)))
        redrawn.observe(here, [], location)
    torch.testing.assert_close(location.centre.float(), torch.tensor([1.0, -2.0]), atol=0.1, rtol=0)
    covariance = (location.axes @ location.axes.T).float()
    torch.testing.assert_close(covariance, wanted, atol=0.3, rtol=0)


def test_a_few_latents_say_nothing_yet():
    redrawn = Reconstruction(SimpleNamespace(feature_channels=[3, 3]), latent=2, share=0.5)
    location = Location(2)
    here = Step(torch.zeros(4, 3, 1, 1), torch.zeros(4, 2), lambda images: images)
    here.once("encoded", lambda: (torch.ones(2, 2), torch.zeros(2, 2)))
    redrawn.observe(here, [], location)
    assert location.centre.abs().max() == 0
    torch.testing.assert_close(location.axes.float(), torch.eye(2))


OF_TWO = """
import os, sys, torch
from types import SimpleNamespace
from omokage.models.layers import Location
from omokage.objectives.phase import Step
from omokage.objectives.reconstruction import Reconstruction
from omokage.objectives.vae_gan import vae_gan

file, rank = sys.argv[1], int(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=2)
redrawn = Reconstruction(SimpleNamespace(feature_channels=[3, 3]), latent=2, share=0.5)
location = Location(2)
for number in range(400):
    whole = torch.randn(64, 2, generator=torch.Generator().manual_seed(number)) + 3
    here = Step(torch.zeros(64, 3, 1, 1), torch.zeros(64, 2), lambda images: images)
    here.once("encoded", lambda: (whole.chunk(2)[rank], torch.zeros(32, 2)))
    redrawn.observe(here, [], location)
torch.save(dict(location.state_dict()), f"{file}-{rank}")
torch.distributed.barrier()
# Without the end of the interpreter, at which gloo's threads sometimes end the process with SIGABRT.
os._exit(0)
"""


def test_two_processes_agree_on_where_latents_lie_as_one_with_both_halves_does(tmp_path):
    file = tmp_path / "meet"
    both = [subprocess.Popen([sys.executable, "-c", OF_TWO, file, str(rank)]) for rank in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    first, second = (torch.load(f"{file}-{rank}", weights_only=True) for rank in range(2))
    redrawn = Reconstruction(SimpleNamespace(feature_channels=[3, 3]), latent=2, share=0.5)
    location = Location(2)
    for number in range(400):
        whole = torch.randn(64, 2, generator=torch.Generator().manual_seed(number)) + 3
        here = Step(torch.zeros(128, 3, 1, 1), torch.zeros(128, 2), lambda images: images)
        here.once("encoded", lambda whole=whole: (whole, torch.zeros(64, 2)))
        redrawn.observe(here, [], location)
    assert (location.centre - 3).abs().max() < 0.2
    for name, value in location.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, atol=1e-4, rtol=0)
