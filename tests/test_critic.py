"""A critic chooses among the latents of a seed, the same alone and among others, in files and pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import small_recipe

from omokage.critic import QUANTILES, Critic, accepted
from omokage.errors import UserError
from omokage.explore.points import of_seeds
from omokage.explore.provenance import settings_json, settings_of
from omokage.families import build_model
from omokage.metrics.protocol import parse_protocol
from omokage.model import Model, load_model, write_small
from omokage.sampling import chosen_latents, gathered, latents, sample
from omokage.settings import Settings
from omokage.training.critic import _taught, train_critic, write_critic


def styled(name: str = "stylegan2", critic: bool = True) -> Model:
    """An untrained model; its critic likes the first entry of its features."""
    torch.manual_seed(0)
    recipe = small_recipe(name)
    network = build_model(recipe.model).eval().requires_grad_(False)
    model = Model(network, recipe, {"images": 1}, None, "0" * 64)
    if not critic:
        return model
    features = model.first_features(latents(range(512), model.latent_shape))
    judge = Critic(features.shape[1], hidden=4)
    with torch.no_grad():
        judge.mean.copy_(features.mean(0))
        judge.scale.copy_(features.std(0) + 1e-6)
        judge.quantiles.copy_(judge(features).sort().values.quantile(torch.linspace(0, 1, QUANTILES)))
    return replace(model, critic=judge.eval().requires_grad_(False))


@pytest.mark.parametrize("draws", [1.5, 3.0, 8.0])
def test_one_of_so_many_latents_is_accepted_and_good_ones_more_often(draws):
    critic = Critic(1)
    critic.quantiles.copy_(torch.distributions.Normal(0, 1.5).icdf(torch.linspace(0.0005, 0.9995, QUANTILES)))
    z, counts = accepted(range(4000), (1,), draws, lambda z: 1.5 * z[:, 0], critic.threshold(draws))
    assert counts.float().mean() == pytest.approx(draws, rel=0.06)
    plain = latents(range(4000), (1,))
    first = counts == 1
    assert (z[first] == plain[first]).all()
    assert float(z.mean()) > 0.4


def test_after_many_rejections_the_best_latent_is_taken():
    z, counts = accepted([5], (1,), 2.0, lambda z: z[:, 0], 1e9)
    generator, drawn = torch.Generator().manual_seed(5), []
    for _ in range(32):
        drawn.append(float(torch.randn(1, generator=generator)))
        torch.rand((), generator=generator)
    assert counts.tolist() == [32]
    assert float(z) == max(drawn)


@pytest.mark.parametrize("name", ["stylegan2", "skipgan"])
def test_a_seed_gives_the_same_face_alone_and_among_others_at_any_psi(name):
    model, how = styled(name), Settings(critic=3)
    together, _ = gathered(sample(model, range(24), how))
    alone, _ = gathered(sample(model, [17], how))
    assert (together[17] == alone[0]).all()
    z = chosen_latents(model, range(24), how)
    assert (z == chosen_latents(model, range(24), replace(how, psi=0.5))).all()
    assert 0 < int((z != latents(range(24), model.latent_shape)).flatten(1).any(1).sum()) < 24
    points = of_seeds(model, range(24), how, "w" if name == "stylegan2" else "z")
    assert points.z is not None
    assert (points.z == z).all()


def test_settings_name_the_critic_in_recipes_and_protocols():
    how = Settings(critic=3)
    assert settings_of(settings_json(how)) == how
    assert how.text() == {"psi": "1", "critic": "3"}
    asked = parse_protocol("fid2k-full-tags-critic3")
    assert (asked.critic, asked.name, asked.settings) == (3, "fid2k-full-tags-critic3", how)
    with pytest.raises(UserError, match="says critic 3, the option says 2"):
        asked.at(1, 2)


def test_what_has_no_critic_says_so():
    with pytest.raises(UserError, match="has no critic; omokage critic RUN"):
        styled(critic=False).check(Settings(critic=3))
    with pytest.raises(UserError, match="has no features for a critic"):
        styled("dcgan", critic=False).check(Settings(critic=3))
    assert "critic" in [each.name for each in styled().settings]
    assert "critic" not in [each.name for each in styled(critic=False).settings]


def test_the_teacher_prefers_samples_where_faces_are_and_samples_are_rare():
    rng = torch.Generator().manual_seed(0)
    faces = torch.randn(1500, 3, generator=rng)
    samples = torch.randn(1500, 3, generator=rng) * 1.5 + torch.tensor([1.0, 0, 0])
    found = _taught(faces, samples)
    normal = torch.distributions.Normal
    truth = normal(0, 1).log_prob(samples).sum(1)
    truth = truth - normal(torch.tensor([1.0, 0, 0]), 1.5).log_prob(samples).sum(1)
    assert np.corrcoef(found, truth)[0, 1] > 0.7
    slope = np.polyfit(truth, found, 1)[0]
    assert 0.1 < slope < 0.6  # at most `SHARE` of it


def test_a_critic_is_taught_written_found_again_and_shipped(tmp_path, tagged_faces, monkeypatch):
    monkeypatch.setattr("omokage.training.critic.LEAST", 32)
    model = styled(critic=False)
    write_small(model, tmp_path / "snapshot-1.safetensors")
    model = load_model(tmp_path / "snapshot-1.safetensors", "cpu")
    taught, report = train_critic(model, tagged_faces, samples=32)
    assert (report.faces, report.samples) == (32, 32)
    path = write_critic(model, taught, report)
    again = load_model(tmp_path / "snapshot-1.safetensors", "cpu")
    how = Settings(critic=2)
    assert again.check(how) == how
    z = latents(range(16), model.latent_shape)
    assert np.allclose(again.judge(z), taught(model.first_features(z)))
    write_small(again, tmp_path / "shipped.safetensors")
    assert load_model(tmp_path / "shipped.safetensors", "cpu").critic is not None

    other = replace(model, network=build_model(model.recipe.model).eval())
    write_small(other, tmp_path / "snapshot-1.safetensors")  # the run went on
    assert load_model(tmp_path / "snapshot-1.safetensors", "cpu").critic is None
    write_small(model, tmp_path / "snapshot-1.safetensors")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="damaged or cut off"):
        load_model(tmp_path / "snapshot-1.safetensors", "cpu")
