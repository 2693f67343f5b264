"""Every row of the table of families keeps what it promises, and has nothing of what it does not."""

import inspect

import pytest
import torch
from standins import CONDITIONS, SMALLEST, small_model

from omokage import abilities
from omokage.abilities import (
    Decodes,
    DrawsBySteps,
    DrawsByTokens,
    Encodes,
    Exact,
    Guided,
    HasDensity,
    HasStyles,
    TakesConditions,
    Truncates,
)
from omokage.families import INSTEAD, MODELS
from omokage.sampling import BATCH, decoded, gathered, latents, sample, styles
from omokage.settings import Settings

TAKING = sorted(name for name, row in MODELS.items() if row.can(TakesConditions))
CASES = [*((name, None) for name in sorted(MODELS)), *((name, CONDITIONS) for name in TAKING)]


def named(case):
    return f"{case[0]} with conditions" if case[1] else case[0]


@pytest.fixture(scope="module", params=CASES, ids=named)
def model(request):
    return small_model(*request.param)


@pytest.fixture(scope="module", params=sorted(MODELS))
def plain(request):
    return small_model(request.param)


def methods(ability):
    return [name for name, value in vars(ability).items() if inspect.isfunction(value) and name[0] != "_"]


def takes(function, ability_function):
    """Whether ``function`` takes every parameter that the protocol's has, by position or by name."""
    parameters = inspect.signature(function).parameters
    wanted = [name for name in inspect.signature(ability_function).parameters if name != "self"]
    free = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    first, *others = wanted
    positional = [one for one in parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    return bool(positional) and (free or set(others) <= set(parameters)) and first is not None


def test_it_keeps_every_protocol_that_it_promises(plain):
    promised = plain.family.abilities
    assert Decodes in promised
    for ability in promised:
        if not getattr(ability, "_is_runtime_protocol", False):
            continue  # what constructors take, see below
        assert isinstance(plain.network, ability), ability.__name__
        for method in methods(ability):
            assert takes(getattr(plain.network, method), getattr(ability, method)), (ability.__name__, method)


def test_what_it_does_not_promise_it_does_not_have(plain):
    for ability in (HasStyles, HasDensity, Encodes):
        if not plain.can(ability):
            assert not isinstance(plain.network, ability), ability.__name__
    parameters = set(inspect.signature(plain.network.decode).parameters)
    assert plain.can(Truncates) == ("psi" in parameters)
    assert plain.can(DrawsByTokens) == ({"sampler", "iterations"} <= parameters)
    assert plain.can(DrawsBySteps) == ({"sampler", "steps"} <= parameters)
    assert plain.can(Guided) == ("guidance" in parameters)
    own = inspect.signature(plain.family.load()).parameters
    assert plain.can(TakesConditions) == ("joined" in own)


def test_what_it_promises_has_a_name_and_what_to_use_instead():
    known = {value for value in vars(abilities).values() if inspect.isclass(value)}
    for row in MODELS.values():
        assert set(row.abilities) <= known
        assert len(set(row.abilities)) == len(row.abilities)
    assert set(INSTEAD) <= known


def test_its_calls_give_what_the_protocols_say(plain):
    network, z = plain.network, latents(range(3), plain.latent_shape)
    images = network.decode(z)
    assert images.shape[2:] == tuple(network.resolution)
    assert images.abs().max() <= 1
    if plain.can(Truncates):
        assert not torch.equal(network.decode(z, psi=0.5), images)
    if plain.can(HasStyles):
        w = network.mapping(z, psi=0.5)
        assert w.shape[:2] == (3, network.layers)
        assert len(network.layer_sizes) == network.layers
        assert network.synthesis(w, noise="none").shape == images.shape
        assert network.synthesis(w, noise=["constant"] * network.layers).shape == images.shape
    if plain.can(Encodes):
        assert network.encode(images).shape == z.shape
    if plain.can(HasDensity):
        assert network.log_prob(images).shape == (3,)
        back = network.inverse(network.encode(images))
        torch.testing.assert_close(back, images, atol=1e-3 if plain.can(Exact) else 0.3, rtol=0)
    if plain.can(DrawsBySteps):
        assert not torch.equal(network.decode(z, sampler="euler", steps=2), images)
    if plain.can(DrawsByTokens):
        exact = network.decode(z, sampler="jacobi", iterations=16)
        torch.testing.assert_close(exact, images, atol=1e-3, rtol=0)


PSIS = tuple((1.0, 0.7, 0.3)[i % 3] for i in range(20))


@pytest.mark.parametrize("rows", [5, 20])
def test_a_row_with_its_own_psi_is_the_same_as_in_a_batch_with_one(model, rows):
    """To the bit, in whatever batch."""
    seeds, psis = range(100, 100 + rows), PSIS[:rows]
    given = {"hair": "red"} if model.conditions else {}
    mixed = torch.cat(
        list(decoded(model, latents(seeds, model.latent_shape), Settings(psi=psis, conditions=given)))
    )
    for psi in set(psis):
        single = torch.cat(
            list(decoded(model, latents(seeds, model.latent_shape), Settings(psi=psi, conditions=given)))
        )
        rows_of = [i for i, own in enumerate(psis) if own == psi]
        assert torch.equal(mixed[rows_of], single[rows_of])
    drawn, _ = gathered(sample(model, seeds, Settings(psi=psis, conditions=given)))
    for i in (1, rows - 1):
        alone, _ = gathered(sample(model, [seeds[i]], Settings(psi=psis[i], conditions=given)))
        assert (drawn[i] == alone[0]).all()


def test_a_list_of_equal_psis_is_one_psi(model):
    z = latents(range(BATCH), model.latent_shape)
    assert torch.equal(
        model.decode(z, Settings(psi=(0.7,) * BATCH)), model.decode(z, Settings(psi=0.7))
    )


@pytest.mark.parametrize("case", [case for case in CASES if MODELS[case[0]].can(HasStyles)], ids=named)
class TestStyles:
    @pytest.fixture
    def styled(self, case):
        return small_model(*case)

    def test_psi_is_for_the_coarsest_layers_alone(self, styled):
        seeds, cut = range(3), Settings(psi=0.3, layers=2)
        w = styles(styled, seeds, cut)
        torch.testing.assert_close(w[:, :2], styles(styled, seeds, Settings(psi=0.3))[:, :2])
        torch.testing.assert_close(w[:, 2:], styles(styled, seeds)[:, 2:])
        assert not torch.equal(w[:, :2], styles(styled, seeds)[:, :2])
        z = latents(seeds, styled.latent_shape)
        torch.testing.assert_close(styled.decode(z, cut), styled.synthesis(w), atol=1e-5, rtol=1e-5)
        whole = Settings(psi=0.3, layers=styled.layers)
        torch.testing.assert_close(
            styled.decode(z, whole), styled.decode(z, Settings(psi=0.3)), atol=1e-6, rtol=1e-5
        )

    def test_noise_is_constant_or_left_out(self, styled):
        z = latents(range(3), styled.latent_shape)
        with torch.no_grad():
            for name, parameter in styled.network.named_parameters():
                if "noise" in name:
                    parameter.fill_(0.5)
        constant, none = (styled.decode(z, Settings(noise=noise)) for noise in ("constant", "none"))
        assert torch.equal(constant, styled.decode(z))
        assert torch.equal(none, styled.decode(z, Settings(noise="none")))
        assert not torch.equal(constant, none)
        assert torch.equal(none, styled.synthesis(styled.mapping(z), "none"))

    def test_rows_with_their_own_psi_and_other_settings_are_the_same_to_the_bit(self, styled):
        z = latents(range(BATCH), styled.latent_shape)
        for more in ({"noise": "none"}, {"layers": 2}, {"noise": "none", "layers": 1}):
            mixed = styled.decode(z, Settings(psi=PSIS[:BATCH], **more))
            for i, psi in enumerate(PSIS[:3]):
                assert torch.equal(mixed[i], styled.decode(z, Settings(psi=psi, **more))[i])


def overflowing(z, *_, **__):
    return torch.full((len(z), 3, 4, 4), -torch.inf)


def test_infinities_are_not_taken_for_white_or_black(model, monkeypatch):
    """What overflows is NaN, so that it is counted."""
    z = latents(range(2), model.latent_shape)
    last = "synthesis" if model.can(HasStyles) else "decode"
    monkeypatch.setattr(model.network, last, overflowing)
    assert model.decode(z).isnan().all()
    if model.can(HasStyles):
        assert model.network.decode(z).isnan().all()
        assert model.synthesis(model.mapping(z)).isnan().all()


@pytest.mark.parametrize(("name", "last"), [("progan", "full_size"), ("skipgan", "_drawn")])
def test_networks_that_cut_images_do_not_either(monkeypatch, name, last):
    network = small_model(name).network
    monkeypatch.setattr(network, last, overflowing)
    assert network.decode(latents(range(2), network.latent_shape)).isnan().all()


@pytest.mark.parametrize("name", ["dcgan", "stylegan2", "glow"])
def test_a_family_without_sizes_of_its_own_is_made_small_all_the_same(name, monkeypatch):
    monkeypatch.delitem(SMALLEST, name)
    model = small_model(name)
    assert sum(one.numel() for one in model.network.parameters()) < 500_000
    assert model.decode(latents(range(2), model.latent_shape)).isfinite().all()
