"""Losses against values worked out by hand, and against their known minima over all discriminators.

Two densities on three points stand for the data (p) and the generator (q): the logits below hold a point
as many times as its probability says, so that means over them are expectations.
"""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from omokage.objectives.adversarial import (
    ADVERSARIAL_LOSSES,
    hinge,
    least_squares,
    minimax,
    non_saturating,
    wasserstein,
)

P, Q = torch.tensor([5, 2, 1]), torch.tensor([1, 2, 5])
REAL, FAKE = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([-3.0, 0.0, 1.5])


def expectation_logits(logit):
    """(real_logits, fake_logits) of a discriminator with value ``logit`` at each of the three points."""
    return logit.repeat_interleave(P), logit.repeat_interleave(Q)


def value_at_minimum(loss, logit):
    """The discriminator's loss at ``logit``: its minimum, for it is convex there and the gradient is zero."""
    logit = logit.clone().requires_grad_()
    value = loss.discriminator(*expectation_logits(logit))
    value.backward()
    torch.testing.assert_close(logit.grad, torch.zeros_like(logit), atol=1e-12, rtol=0)
    return value.item()


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator"),
    [
        # softplus(-2), softplus(1), softplus(-0.5) and softplus(-3), softplus(0), softplus(1.5)
        (
            non_saturating(),
            (0.126928 + 1.313262 + 0.474077) / 3 + (0.048587 + 0.693147 + 1.701413) / 3,
            (3.048587 + 0.693147 + 0.201413) / 3,
        ),
        (
            minimax(),
            (0.126928 + 1.313262 + 0.474077) / 3 + (0.048587 + 0.693147 + 1.701413) / 3,
            -(0.048587 + 0.693147 + 1.701413) / 3,
        ),
        (least_squares(), (1 + 4 + 0.25) / 6 + (9 + 0 + 2.25) / 6, (16 + 1 + 0.25) / 6),
        (wasserstein(), -0.5 - 0.5, 0.5),
        (hinge(), (0 + 2 + 0.5) / 3 + (0 + 1 + 2.5) / 3, 0.5),
    ],
    ids=["non-saturating", "minimax", "least-squares", "wasserstein", "hinge"],
)
def test_values_worked_out_by_hand(loss, discriminator, generator):
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, abs=1e-5)
    assert loss.generator(FAKE).item() == pytest.approx(generator, abs=1e-5)


def test_smoothed_labels_are_those_of_binary_cross_entropy_and_of_the_square():
    real_label, fake_label = 0.9, 0.1
    nine, one = torch.full((3,), real_label), torch.full((3,), fake_label)
    bce = binary_cross_entropy_with_logits
    loss = non_saturating(real_label, fake_label)
    torch.testing.assert_close(loss.discriminator(REAL, FAKE), bce(REAL, nine) + bce(FAKE, one))
    torch.testing.assert_close(loss.generator(FAKE), bce(FAKE, nine))
    torch.testing.assert_close(minimax(real_label, fake_label).generator(FAKE), -bce(FAKE, one))
    loss = least_squares(real_label, fake_label)
    torch.testing.assert_close(
        loss.discriminator(REAL, FAKE), (mse_loss(REAL, nine) + mse_loss(FAKE, one)) / 2
    )
    torch.testing.assert_close(loss.generator(FAKE), mse_loss(FAKE, nine) / 2)


@pytest.mark.parametrize("loss", [non_saturating(), minimax()], ids=["non-saturating", "minimax"])
def test_the_best_discriminator_of_the_cross_entropy_is_the_density_ratio(loss):
    """Goodfellow et al. 2014, proposition 1 and theorem 1: D* = p / (p + q), value log 4 - 2 JSD(p, q)."""
    value = value_at_minimum(loss, (P.double() / Q).log())
    p, q = P / 8, Q / 8
    middle = (p + q) / 2
    divergence = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()).item() / 2
    assert value == pytest.approx(math.log(4) - 2 * divergence, abs=1e-6)


def test_smoothing_shrinks_the_best_discriminator():
    """Salimans et al. 2016, section 3.4: D* = (α p + β q) / (p + q)."""
    value_at_minimum(non_saturating(0.9, 0.1), ((0.9 * P.double() + 0.1 * Q.double()) / (P + Q)).logit())


def test_the_best_discriminator_of_the_squares():
    """Mao et al. 2017, equation 11: D* = (b p + a q) / (p + q), here with a = -1, b = 1."""
    value = value_at_minimum(least_squares(real_label=1, fake_label=-1), (P - Q).double() / (P + Q))
    # Each term with its half: 1/2 Σ (p (D-1)² + q (D+1)²) at D* is 2 Σ p q / (p + q).
    p, q = P.double() / 8, Q.double() / 8
    assert value == pytest.approx(2 * (p * q / (p + q)).sum().item(), abs=1e-9)


def test_the_best_discriminator_of_the_hinge():
    """It is the sign of p - q, and the loss there is 2 (1 - total variation) = 2 Σ min(p, q)."""
    loss = hinge()
    best = torch.sign((P - Q).double())
    value = loss.discriminator(*expectation_logits(best)).item()
    assert value == pytest.approx(2 * torch.minimum(P, Q).sum().item() / 8)
    for seed in range(50):
        other = best + torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert loss.discriminator(*expectation_logits(other)).item() >= value - 1e-12


def test_the_critic_measures_the_difference_of_means():
    position = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)  # 1-Lipschitz, best for q to the right of p
    assert wasserstein().discriminator(*expectation_logits(-position)).item() == pytest.approx(-1.0)


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_gradients_push_the_right_way_at_any_size_of_logits(name):
    loss = ADVERSARIAL_LOSSES[name]()
    for shape in ((4,), (4, 1, 5, 5)):
        real, fake = torch.full((2, *shape), 0.5).unbind()
        real.requires_grad_(), fake.requires_grad_()
        loss.discriminator(real, fake).backward()
        assert (real.grad < 0).all()  # descent lifts the logits of real images
        assert (fake.grad > 0).all()
        fake.grad = None
        loss.generator(fake).backward()
        assert (fake.grad < 0).all()
    far = torch.tensor([-1e4, 1e4], requires_grad=True)
    total = loss.discriminator(far, far) + loss.generator(far)
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(far.grad).all()


def test_only_the_minimax_generator_stops_learning_where_the_discriminator_is_sure():
    for name, loss in ADVERSARIAL_LOSSES.items():
        fake = torch.tensor([-20.0], requires_grad=True)
        loss().generator(fake).backward()
        assert (fake.grad.abs().item() < 1e-6) == (name == "minimax")
