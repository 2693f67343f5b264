"""TarFlow with labels and guidance, in float64: still a flow, and guidance is what the formula says."""

import pytest
import torch

from omokage.families import build_model
from omokage.models.conditional import ConditionalFlow
from omokage.models.tarflow import Block, TarFlow
from omokage.objectives.likelihood import likelihood
from omokage.objectives.phase import Step

CONDITIONS = {"hair": ["blue", "red"], "eyes": ["blue", "green", "unknown"]}
SMALL = {"name": "tarflow", "size": 8, "patch": 2, "width": 8, "heads": 2, "blocks": 3, "layers": 2}
PIXELS = 3 * 8 * 8
SAMPLERS = ("cached", "plain", "jacobi")


def images(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 8, 8, dtype=torch.float64, generator=generator) * 1.99 - 0.995


def disturbed(module, amount=0.1):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return module.eval().requires_grad_(False)


@pytest.fixture
def flow():
    torch.manual_seed(0)
    return disturbed(build_model(SMALL, CONDITIONS).double(), 0.2)


def test_there_and_back_given_labels(flow):
    x = images(8)
    for given in (None, (1, None), (0, 2)):
        z = flow.encode(x, given)
        assert z.shape == (8, *flow.latent_shape) == (8, PIXELS + 5)
        assert (flow.decode(z, given=given) - x).abs().max() < 1e-9
    assert (flow.decode(flow.encode(x, (1, 0)), given=(0, 0)) - x).abs().max() > 1e-3


def test_the_log_determinant_given_labels_is_that_of_autograds_jacobian(flow):
    x, conditions = images(2), torch.tensor([[1, 0], [-1, 2]])
    z, told = flow.transform(x, conditions)
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(flow.log_prob(x, conditions), normal.log_prob(z).sum(1) + told)
    for i in range(2):
        encode = lambda x, i=i: flow.transform(x, conditions[i : i + 1])[0]  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(encode, x[i : i + 1]).view(PIXELS, PIXELS)
        assert abs(torch.linalg.slogdet(jacobian)[1] - told[i]) < 1e-9 * PIXELS


def test_every_value_has_a_density_of_its_own_and_none_that_of_a_flow_without_labels(flow):
    x = images(1)
    pairs = [[i, j] for i in (0, 1, -1) for j in (0, 1, 2, -1)]
    densities = [flow.log_prob(x, torch.tensor([pair])).item() for pair in pairs]
    assert len({round(density, 6) for density in densities}) == len(pairs)
    assert densities[-1] == flow.log_prob(x).item()
    plain = TarFlow(**{key: value for key, value in SMALL.items() if key != "name"}).double()
    state = {name: value for name, value in flow.network.state_dict().items() if "label" not in name}
    plain.load_state_dict(state)
    assert torch.equal(plain.log_prob(x), flow.log_prob(x))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_guidance_is_sampling_by_labels_exactly(flow, sampler):
    z = 0.3 * torch.randn(3, *flow.latent_shape, dtype=torch.float64)
    asked = flow.decode(z, given=(1, 2), sampler=sampler)
    assert torch.equal(flow.decode(z, given=(1, 2), guidance=0.0, sampler=sampler), asked)
    labels = flow.labels(torch.tensor([[1, 2]] * 3))
    own = z[:, :PIXELS].contiguous()  # as the flow's; products of other strides may round otherwise
    assert torch.equal(flow.network.decode(own, sampler, labels=labels), asked)
    # Nothing to go beyond: without labels, or where none is known, guidance does nothing.
    free = flow.network.decode(z[:, :PIXELS], sampler)
    assert torch.equal(flow.network.decode(z[:, :PIXELS], sampler, guidance=2.0), free)
    unknown = flow.labels(torch.tensor([[-1, -1]] * 3))
    guided = flow.network.decode(z[:, :PIXELS], sampler, labels=unknown, guidance=2.0)
    torch.testing.assert_close(guided, free, atol=1e-12, rtol=0)


def test_guided_samplers_agree(flow):
    z = 0.3 * torch.randn(3, *flow.latent_shape, dtype=torch.float64)
    guided = {sampler: flow.inverse(z, given=(0, 1), guidance=2.0, sampler=sampler) for sampler in SAMPLERS}
    for sampler in ("plain", "jacobi"):
        torch.testing.assert_close(guided[sampler], guided["cached"], atol=1e-11, rtol=0)
    plain = flow.inverse(z, given=(0, 1))
    assert (guided["cached"] - plain).abs().max() > 1e-3
    early = flow.inverse(z, given=(0, 1), guidance=2.0, sampler="jacobi", iterations=1)
    assert (early - plain).abs().max() > 1e-3


@pytest.mark.parametrize("backwards", [False, True])
def test_guidance_is_the_formula_token_by_token(backwards):
    """Shift and log-scale of each token: (1 + w) times those with labels less w times those without."""
    torch.manual_seed(0)
    block = disturbed(Block(6, 2, 8, 2, 2, 4, 3.0, backwards, joined=3).double(), 0.2)
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    z, w = torch.randn(2, 6, 2, dtype=torch.float64), 1.7
    x = block.inverse(z, labels=labels, guidance=w)
    if backwards:
        x, z = x.flip(1), z.flip(1)
    log_scale, shift = block._parameters_of(x, labels)
    free_log_scale, free_shift = block._parameters_of(x)
    wanted_scale = ((1 + w) * log_scale - w * free_log_scale).exp()
    torch.testing.assert_close(z * wanted_scale + (1 + w) * shift - w * free_shift, x, atol=1e-12, rtol=0)
    assert (shift - free_shift).abs().max() > 1e-3


def test_guided_scales_keep_their_bound():
    torch.manual_seed(0)
    block = disturbed(Block(4, 2, 8, 2, 1, 4, 1.0, False, joined=2).double(), 2.0)
    x, labels = torch.randn(3, 4, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[[0, 1, 0]]
    log_scale, _ = block._parameters_of(x, labels, 20.0)
    assert log_scale.abs().max() == 1.0


def phases(network, **settings):
    return likelihood(torch.nn.ModuleDict({"generator": network}), **settings)[0]


class Watched(ConditionalFlow):
    """Notes the conditions that it is asked by."""

    def log_prob(self, images, conditions=None):
        self.asked = conditions
        return super().log_prob(images, conditions)


def test_dropout_takes_all_labels_of_a_face_and_judging_takes_none():
    inner = TarFlow(size=2, patch=1, width=2, heads=1, blocks=1, layers=1, joined=5)
    network = Watched(inner, CONDITIONS)
    given = torch.stack([torch.arange(2000) % 2, torch.arange(2000) % 3], 1)
    step = Step(torch.zeros(2000, 3, 2, 2), torch.zeros(2000, 17), lambda images: images, given=(given,))
    torch.manual_seed(0)
    phase = phases(network, label_dropout=0.3)
    phase.loss(step)
    dropped = (network.asked == -1).all(1)
    assert 0.27 < dropped.float().mean() < 0.33
    assert torch.equal(network.asked[~dropped], given[~dropped])
    phase.judge(step)
    assert torch.equal(network.asked, given)
    phases(network, label_dropout=0.0).loss(step)
    assert torch.equal(network.asked, given)


def test_without_conditions_dropout_draws_no_random_numbers():
    flow = TarFlow(size=2, patch=1, width=2, heads=1, blocks=1, layers=1)
    step = Step(torch.zeros(4, 3, 2, 2), torch.zeros(4, 12), lambda images: images)
    states = []
    for share in (0.0, 0.5):
        torch.manual_seed(0)
        phases(flow, label_dropout=share).loss(step)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_guidance_goes_beyond_what_labels_teach():
    """Dark pictures and bright ones: by label they come out so, by guidance more so; without, as either."""
    torch.manual_seed(0)
    settings = {"size": 4, "patch": 2, "width": 16, "heads": 2, "blocks": 2, "layers": 1}
    network = build_model({"name": "tarflow", **settings}, {"light": ["bright", "dark"]})
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    phase = phases(network, label_dropout=0.2)
    for _ in range(150):
        given = torch.randint(0, 2, (64, 1))
        level = torch.where(given == 0, 0.35, -0.35)[:, :, None, None]
        real = (level + 0.15 * torch.randn(64, 3, 4, 4)).clamp(-1, 1)
        loss, _ = phase.loss(Step(real, torch.zeros(0), lambda images: images, given=(given,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval().requires_grad_(False)
    z = torch.randn(64, *network.latent_shape)
    means = {
        (value, w): network.decode(z, given=(value,), guidance=w).mean().item()
        for value in (0, 1)
        for w in (0.0, 1.0)
    }
    assert means[0, 0.0] > 0.2
    assert means[1, 0.0] < -0.2
    assert means[0, 1.0] > means[0, 0.0] + 0.02
    assert means[1, 1.0] < means[1, 0.0] - 0.02
    bright = (0.35 + 0.15 * torch.randn(64, 3, 4, 4)).clamp(-1, 1)
    right, wrong = (network.log_prob(bright, torch.full((64, 1), value)).mean() for value in (0, 1))
    free = network.log_prob(bright).mean()
    assert right > free > wrong
