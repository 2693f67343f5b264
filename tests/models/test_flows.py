"""The mathematics of the flows, on tiny ones in float64."""

import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from omokage.errors import UserError
from omokage.models.flow import (
    CUBE_SCALE,
    from_unit_cube,
    normal_log_density,
    plain,
    squeeze,
    to_unit_cube,
    unsqueeze,
)
from omokage.models.glow import ActNorm, Convolution, ConvolutionLU, Coupling, Glow
from omokage.models.realnvp import RealNVP
from omokage.models.tarflow import Block, TarFlow

FLOWS = {
    "realnvp": lambda: RealNVP(size=8, scales=3, hidden=6, blocks=1),
    "realnvp-two-scales": lambda: RealNVP(size=8, scales=2, hidden=6, blocks=2, alpha=0.01),
    "realnvp-recomputing": lambda: RealNVP(size=8, scales=2, hidden=6, blocks=1, recompute=True),
    "glow": lambda: Glow(size=8, levels=3, steps=2, hidden=6),
    "glow-plain-convolution": lambda: Glow(size=8, levels=2, steps=2, hidden=6, convolution="plain"),
    "glow-additive": lambda: Glow(size=8, levels=2, steps=2, hidden=6, coupling="additive"),
    "glow-keeping": lambda: Glow(size=8, levels=2, steps=2, hidden=6, reversible=False),
    "tarflow": lambda: TarFlow(size=8, patch=2, width=8, heads=2, blocks=3, layers=2),
    "tarflow-mixed": lambda: TarFlow(size=8, patch=2, width=8, heads=2, blocks=3, layers=1, mixed=True),
    "tarflow-large-patches": lambda: TarFlow(size=8, patch=4, width=8, heads=1, blocks=2, layers=1),
}
PIXELS = 3 * 8 * 8


def images(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 8, 8, dtype=torch.float64, generator=generator) * 1.99 - 0.995


def disturbed(module, amount=0.1):
    """The module far from its start, where half of it would be the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return module


@pytest.fixture(scope="module", params=sorted(FLOWS))
def trained(request):
    """A flow after some steps of training, from a disturbed start, in evaluation mode; no test changes it."""
    torch.manual_seed(0)
    flow = disturbed(FLOWS[request.param]().double())
    optimiser = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for step in range(5):
        optimiser.zero_grad()
        (-flow.log_prob(images(8, seed=step)).mean() / PIXELS).backward()
        optimiser.step()
    return flow.eval().requires_grad_(False)


def test_there_and_back(trained):
    x = images(16)
    z = trained.encode(x)
    assert z.shape == (16, *trained.latent_shape)
    assert (trained.decode(z) - x).abs().max() < 1e-9


def test_there_and_back_in_float32(trained):
    x = images(16).float()
    flow = copy.deepcopy(trained).float()
    assert (flow.decode(flow.encode(x)) - x).abs().max() < 1e-3


def test_the_log_determinant_is_that_of_autograds_jacobian(trained):
    x = images(2)
    _, told = trained.transform(x)
    for i in range(2):
        # Image n of a batch of copies gives row n: one backward pass for all of them.
        copies = x[i : i + 1].repeat(PIXELS, 1, 1, 1).requires_grad_()
        (rows,) = torch.autograd.grad(trained.encode(copies).diagonal().sum(), copies)
        jacobian = rows.reshape(PIXELS, PIXELS)
        assert abs(torch.linalg.slogdet(jacobian)[1] - told[i]) < 1e-9 * PIXELS


def test_log_prob_is_the_change_of_variables(trained):
    x = images(3)
    z, log_det = trained.transform(x)
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(trained.log_prob(x), normal.log_prob(z).sum(1) + log_det)


@pytest.mark.parametrize(
    ("build", "amount", "tolerance"),
    [
        (lambda: RealNVP(size=1, scales=1, hidden=6, blocks=1, image_channels=2), 0.3, 1e-3),
        # Four dimensions allow only a coarse grid, so the density must be smoother.
        (lambda: RealNVP(size=2, scales=2, hidden=3, blocks=1, image_channels=1), 0.1, 2e-3),
    ],
    ids=["realnvp-2d", "realnvp-4d"],
)
def test_the_density_of_realnvp_integrates_to_one(build, amount, tolerance):
    torch.manual_seed(0)
    flow = disturbed(build().double(), amount).eval()
    dimensions = flow.latent_shape[0]
    # All mass is on the unit cube widened by alpha; logit space has no edges.
    steps, reach = (300, 14.0) if dimensions == 2 else (17, 7.5)
    line = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps * 2 * reach - reach
    grid = torch.cartesian_prod(*[line] * dimensions)
    share = grid.sigmoid()
    scale = (1 - 2 * flow.alpha) * CUBE_SCALE
    points = from_unit_cube((share - flow.alpha) / (1 - 2 * flow.alpha))
    weight = (share * (1 - share) / scale).prod(1) * (2 * reach / steps) ** dimensions
    side = flow.resolution[0]
    total = 0.0
    with torch.no_grad():
        for part, share in zip(points.split(50_000), weight.split(50_000), strict=True):
            density = flow.log_prob(part.view(len(part), -1, side, side)).exp()
            total += float((density * share).sum())
    assert abs(total - 1) < tolerance


def test_the_density_of_two_channels_under_glow_steps_integrates_to_one():
    torch.manual_seed(0)
    steps = (ActNorm(2), ConvolutionLU(2), Coupling(2, 8, True, 2.0))
    more = (ActNorm(2), Convolution(2), Coupling(2, 8, True, 2.0))
    layers = disturbed(nn.ModuleList([*steps, *more]).double(), 0.2)
    line = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 * 40 - 20
    points = torch.cartesian_prod(line, line)
    with torch.no_grad():
        z, log_det = plain(layers, points.view(-1, 2, 1, 1))
        total = (normal_log_density(z) + log_det).exp().sum() * (40 / 400) ** 2
    assert abs(total - 1) < 1e-4


@pytest.mark.parametrize("label", [None, [1.0, 0.0, 1.0]])
def test_the_density_of_two_tokens_under_tarflow_blocks_integrates_to_one(label):
    torch.manual_seed(0)
    blocks = [Block(2, 1, 8, 2, 1, 4, 3.0, backwards, joined=3) for backwards in (False, True)]
    blocks = disturbed(nn.ModuleList(blocks).double(), 0.3)
    line = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 * 40 - 20
    points = torch.cartesian_prod(line, line).view(-1, 2, 1)
    labels = None if label is None else torch.tensor([label], dtype=torch.float64)
    with torch.no_grad():
        x, first = blocks[0](points, labels)
        z, second = blocks[1](x, labels)
        assert (first + second).std() > 0.01
        total = (normal_log_density(z) + first + second).exp().sum() * (40 / 400) ** 2
    assert abs(total - 1) < 1e-4


def test_the_reversible_backward_gives_autograds_gradients():
    for options in ({}, {"convolution": "plain"}, {"coupling": "additive"}):
        for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 1e-4)):
            torch.manual_seed(0)
            flow = Glow(size=8, levels=2, steps=8, hidden=8, **options)
            flow.log_prob(images(8).float())  # the actnorms' start
            flow = disturbed(flow, 0.05).to(dtype)
            found = {}
            for flow.reversible in (True, False):
                x = images(4).to(dtype).requires_grad_()
                flow.zero_grad()
                flow.log_prob(x).sum().backward()
                gradients = [x.grad, *(p.grad for p in flow.parameters())]
                # In float32, rounding may turn a rectifier over: there, the gradient is compared as a whole.
                whole = torch.cat([gradient.flatten() for gradient in gradients])
                found[flow.reversible] = gradients if dtype == torch.float64 else [whole]
            for ours, autograds in zip(found[True], found[False], strict=True):
                assert (ours - autograds).norm() <= tolerance * autograds.norm()


def test_the_reversible_backward_under_autocast_and_with_frozen_parameters():
    torch.manual_seed(0)
    flow = Glow(size=8, levels=2, steps=3, hidden=8)
    flow.log_prob(images(8).float())
    disturbed(flow, 0.05)
    frozen = next(flow.levels[0][2].network.parameters()).requires_grad_(False)
    found = {}
    for flow.reversible in (True, False):
        flow.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = flow.log_prob(images(4).float()).mean()
        assert loss.dtype == torch.float32
        loss.backward()
        found[flow.reversible] = torch.cat([p.grad.flatten() for p in flow.parameters() if p.requires_grad])
    assert frozen.grad is None
    assert (found[True] - found[False]).norm() < 0.02 * found[False].norm()


def kept_bytes(flow, x):
    """Bytes that the graph of the loss keeps for the backward pass, parameters left out."""
    known = {p.untyped_storage().data_ptr() for p in flow.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = flow.log_prob(x).sum()
    del loss
    return sum(kept.values())


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_steps():
    x = images(4).float()
    kept = {}
    for saving in (True, False):
        for steps in (2, 8):
            flow = Glow(size=8, levels=2, steps=steps, hidden=16, reversible=saving)
            flow.log_prob(x)
            kept[saving, steps] = kept_bytes(flow, x)
    assert kept[True, 8] < 1.05 * kept[True, 2]
    assert kept[False, 8] > 3 * kept[False, 2]
    assert kept[True, 8] < kept[False, 8] / 8


def test_recomputing_changes_neither_gradients_nor_statistics():
    found = {}
    for recompute in (True, False):
        torch.manual_seed(0)
        flow = disturbed(RealNVP(size=8, scales=2, hidden=6, blocks=1, recompute=recompute))
        flow.log_prob(images(4).float()).sum().backward()
        found[recompute] = [p.grad for p in flow.parameters()], flow.state_dict()
    for ours, autograds in zip(found[True][0], found[False][0], strict=True):
        assert torch.equal(ours, autograds)
    for name, value in found[False][1].items():
        assert torch.equal(found[True][1][name], value), name


def test_actnorms_start_from_the_first_batch_and_only_from_it():
    torch.manual_seed(0)
    flow = Glow(size=8, levels=1, steps=1, hidden=4)
    norm = flow.levels[0][0]
    first, second = images(64).float() * 0.3 + 0.2, images(64, seed=2).float()
    flow.eval()
    flow.log_prob(first)
    assert not flow.started
    assert (norm.shift == 0).all()
    flow.train()
    flow.log_prob(first)
    assert flow.started
    out, _ = norm(squeeze(to_unit_cube(first) - 0.5))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(12), atol=1e-2, rtol=0)
    before = norm.shift.clone()
    flow.log_prob(second)
    again = Glow(size=8, levels=1, steps=1, hidden=4)
    again.load_state_dict(flow.state_dict())
    again.log_prob(second)
    assert torch.equal(norm.shift, before)
    assert torch.equal(again.levels[0][0].shift, before)


STARTED = """
import os, sys, torch
from omokage.models.glow import Glow
from omokage.models.tarflow import TarFlow

def flows():
    torch.manual_seed(0)
    yield Glow(size=8, levels=2, steps=1, hidden=4)
    yield TarFlow(size=8, patch=2, width=8, heads=2, blocks=2, layers=1, mixed=True)

def found(rank, world):
    whole = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole[:, 1] += 0.5 * whole[:, 0]
    for flow in flows():
        flow.log_prob(whole.chunk(world)[rank])
        yield flow.state_dict()
"""

ONE_OF_TWO = """
file, rank = sys.argv[1], int(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=2)
torch.save(list(found(rank, 2)), f"{file}-{rank}")
torch.distributed.barrier()
# Without the end of the interpreter, at which gloo's threads sometimes end the process with SIGABRT.
os._exit(0)
"""


def test_two_processes_start_a_flow_as_one_with_both_batches_does(tmp_path):
    file = str(tmp_path / "meet")
    command = [sys.executable, "-c", STARTED + ONE_OF_TWO, file]
    running = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    program: dict = {}
    exec(STARTED, program)  # one process with both batches: this one
    alone = list(program["found"](0, 1))
    assert [process.wait(120) for process in running] == [0, 0]
    first, second = (torch.load(f"{file}-{rank}", weights_only=True) for rank in range(2))
    for here, there, one in zip(first, second, alone, strict=True):
        for name, value in one.items():
            assert torch.equal(here[name], there[name]), name
            torch.testing.assert_close(here[name], value, atol=2e-3, rtol=2e-3, msg=name)


def test_batch_norms_use_moving_averages_of_recent_batches():
    from omokage.models.realnvp import BatchNorm

    norm = BatchNorm(2, momentum=0.25)
    batches = [torch.randn(16, 2, 3, 3) * scale + scale for scale in (1.0, 2.0, 3.0, 4.0, 5.0)]
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches])
    for batch in batches:
        norm(batch)
    expected = means[:4].mean(0) * 0.75 + means[4] * 0.25  # the plain mean until 1/n is below the momentum
    torch.testing.assert_close(norm.mean.flatten(), expected)
    y, log_det = norm.eval()(batches[0])
    torch.testing.assert_close(norm.inverse(y), batches[0])
    expected = -0.5 * 9 * (norm.variance + 1e-5).log().sum()
    torch.testing.assert_close(log_det, expected.expand(16))


def test_lu_is_the_rotation_that_it_starts_from():
    torch.manual_seed(0)
    plain_start = Convolution(6).weight
    torch.manual_seed(0)
    matrix, log_det = ConvolutionLU(6).matrix()
    torch.testing.assert_close(matrix, plain_start, atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(6), atol=1e-5, rtol=0)
    assert abs(log_det) < 1e-5


def test_squeezing_leads_back_and_halves_are_checkerboard_squares():
    x = torch.randn(2, 3, 8, 6)
    assert torch.equal(unsqueeze(squeeze(x)), x)
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(2, 2)[None, None]
    zeros, ones = squeeze(board).chunk(2, 1)
    assert (zeros == 0).all()
    assert (ones == 1).all()


@pytest.mark.parametrize("backwards", [False, True])
def test_tarflows_samplers_agree(backwards):
    torch.manual_seed(0)
    block = Block(9, 5, 8, 2, 2, 4, 3.0, backwards).double()
    disturbed(block, 0.2)
    x = torch.randn(3, 9, 5, dtype=torch.float64)
    with torch.no_grad():
        z, _ = block(x)
        cached, one_by_one = block.inverse(z, "cached"), block.inverse(z, "plain")
        assert (cached - one_by_one).abs().max() < 1e-12
        assert (cached - x).abs().max() < 1e-12
        # After n iterations the first n + 1 tokens are exact, so eight are enough for nine.
        order = list(range(8, -1, -1)) if backwards else list(range(9))
        for n in (1, 4, 8):
            error = (block.inverse(z, "jacobi", n) - x).abs()[:, order[: n + 1]]
            assert error.max() < 1e-12
        errors = [(block.inverse(z, "jacobi", n) - x).abs().max().item() for n in (1, 2, 4, 6, 8)]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] > 1e-3


def test_tarflow_decodes_the_same_by_every_sampler():
    torch.manual_seed(0)
    flow = disturbed(TarFlow(size=8, patch=2, width=8, heads=2, blocks=3, layers=2, noise=0.05).double())
    z = torch.randn(2, PIXELS, dtype=torch.float64) * 0.3
    cached = flow.decode(z)
    for sampler in ("plain", "jacobi"):
        torch.testing.assert_close(flow.decode(z, sampler), cached, atol=1e-11, rtol=0)


def test_each_token_goes_by_those_before_it_alone():
    torch.manual_seed(0)
    block = disturbed(Block(5, 2, 8, 2, 1, 4, 3.0, False).double(), 0.3)
    x = torch.randn(1, 5, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: block(x)[0], x).view(10, 10)
    assert (jacobian.triu(1) == 0).all()
    assert jacobian[8, :8].abs().min() > 0


def test_the_score_step_is_tweedies_formula():
    torch.manual_seed(0)
    flow = disturbed(TarFlow(size=8, patch=2, width=8, heads=2, blocks=2, layers=1, noise=0.1).double(), 0.05)
    z = torch.randn(2, PIXELS, dtype=torch.float64) * 0.3
    noisy = flow.inverse(z)
    step, h = torch.randn_like(noisy), 1e-5
    slope = (flow.log_prob(noisy + h * step) - flow.log_prob(noisy - h * step)) / (2 * h)
    torch.testing.assert_close((flow.score(noisy) * step).flatten(1).sum(1), slope, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(flow.decode(z), (noisy + 0.01 * flow.score(noisy)).clamp(-1, 1))


def test_parameter_counts_of_the_published_glow():
    flow = Glow(size=32, levels=3, steps=32, hidden=512)
    # About the 44 million of the published one for 32 px.
    assert 44.0e6 < sum(p.numel() for p in flow.parameters()) < 44.5e6


def test_refusals():
    with pytest.raises(UserError, match="multiple of 16"):
        Glow(size=24, levels=4)
    with pytest.raises(UserError, match="multiple of 4"):
        RealNVP(size=6, scales=3)
    with pytest.raises(UserError, match="alpha"):
        RealNVP(size=8, scales=2, alpha=0.0)
    with pytest.raises(UserError, match="patch"):
        TarFlow(size=10, patch=4)


def test_the_unit_cube():
    pixels = torch.arange(256.0)
    torch.testing.assert_close(to_unit_cube(pixels / 127.5 - 1) * 256, pixels + 0.5)
    torch.testing.assert_close(from_unit_cube(to_unit_cube(pixels)), pixels, rtol=1e-5, atol=1e-4)
    assert math.isclose(CUBE_SCALE * 2 / 255, 1 / 256)


@pytest.mark.parametrize("name", ["realnvp", "glow", "tarflow"])
def test_what_overflows_is_nan_and_not_white(name):
    """Clamping would make an infinite value a white one, and nobody would count it."""
    torch.manual_seed(0)
    flow = disturbed(FLOWS[name]().double()).eval().requires_grad_(False)
    z = torch.randn(2, PIXELS, dtype=torch.float64)
    z[1] = math.inf
    with torch.no_grad():
        found = flow.decode(z)
    assert found[0].isfinite().all()
    assert not found[1].isfinite().any()
    assert not torch.isinf(found).any()


def test_mixing_starts_where_entries_of_the_first_batch_are_uncorrelated():
    torch.manual_seed(0)
    flow = TarFlow(size=8, patch=2, width=8, heads=2, blocks=2, layers=1, mixed=True).double()
    assert not flow.started
    x = images(64)
    flow.log_prob(x)
    assert flow.started
    tokens = flow.mixings[0](flow._patches(2 * to_unit_cube(x) - 1))[0].flatten(0, 1)
    torch.testing.assert_close(tokens.mean(0), torch.zeros_like(tokens[0]), atol=1e-9, rtol=0)
    torch.testing.assert_close(tokens.T.cov(correction=0), torch.eye(12, dtype=torch.float64))
    weight = flow.mixings[0].weight.clone()
    flow.log_prob(images(8, seed=2))
    assert torch.equal(flow.mixings[0].weight, weight)
    again = TarFlow(size=8, patch=2, width=8, heads=2, blocks=2, layers=1, mixed=True).double()
    again.load_state_dict(flow.state_dict())
    assert again.started


def test_mixing_starts_from_entries_that_never_change_without_running_away():
    flow = TarFlow(size=8, patch=2, width=8, heads=2, blocks=2, layers=1, mixed=True)
    flow.log_prob(torch.zeros(4, 3, 8, 8))
    assert flow.mixings[0].weight.isfinite().all()
    assert flow.mixings[0].weight.abs().max() <= 1001
    x = images(4).float()
    torch.testing.assert_close(flow.inverse(flow.encode(x)), x, atol=1e-4, rtol=0)
