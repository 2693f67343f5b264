import pytest
import torch

from omokage.objectives.adaptive import (
    AdaptiveAugmentation,
    augmented,
    blitted,
    coloured,
    colours,
    geometry,
    warped,
)


def scripted(adaptive, signs, start=0, batch=8):
    """p after each step of a script of mean signs of logits."""
    told = []
    for step, sign in enumerate(signs):
        adaptive.begin(start + step * batch)
        positive = round((sign + 1) / 2 * batch)
        adaptive.observe(torch.tensor([2.5] * positive + [-0.1] * (batch - positive)))
        told.append(adaptive.p.item())
    return told


def test_p_follows_its_rule_on_a_scripted_signal():
    """Every two steps of 8 images, 16 / 1000 up where the mean sign is above 0.5, else down; not below 0."""
    adaptive = AdaptiveAugmentation(target=0.5, kimg=1.0, every=2)
    script = [1, 1, 1, 0.75, 1, 0.5, -1, 1, 0, 0, -1, -1, -1, -1, 1, 1, 1]
    #         0.016   0.032    0.048   0.032 0.016  0       0      0.016
    expected = [0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 1, 1, 0, 0, 0, 0, 1]
    assert scripted(adaptive, script) == pytest.approx([0.016 * count for count in expected], abs=1e-6)


def test_p_stays_where_the_sign_is_as_wanted_and_never_passes_1():
    adaptive = AdaptiveAugmentation(target=0.5, kimg=0.02, every=1)
    assert scripted(adaptive, [0.5, 0.5, 1, 1, 1, 1]) == pytest.approx([0, 0, 0, 0.4, 0.8, 1])


def test_parts_of_a_step_count_as_one():
    whole, parts = (AdaptiveAugmentation(target=0.5, kimg=1.0, every=1) for _ in range(2))
    for images in (0, 8, 16):
        logits = torch.linspace(-0.1, 3, 8)
        whole.begin(images)
        whole.observe(logits)
        for part in logits.split(4):
            parts.begin(images)
            parts.observe(part)
    assert whole.p > 0
    assert parts.p == whole.p


def test_saved_and_resumed_in_the_middle_it_goes_on_as_if_unbroken():
    script = [1, 1, 1, 1, 0.75, 1, 1, 1, -1, -1, 1, 1, 1]
    unbroken = scripted(AdaptiveAugmentation(0.6, 0.1, 4), script)
    first, second = AdaptiveAugmentation(0.6, 0.1, 4), AdaptiveAugmentation(0.6, 0.1, 4)
    before = scripted(first, script[:7])
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    assert before + scripted(second, script[7:], start=7 * 8) == unbroken
    assert unbroken[4] < unbroken[8] > unbroken[12] > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sides", [(16, 16), (12, 20)])
def test_images_keep_their_shape_and_the_share_that_changes_follows_p(channels, sides):
    torch.manual_seed(0)
    images = torch.rand(300, channels, *sides) * 2 - 1
    changed = (augmented(images, 0.03) != images).flatten(1).any(1).float().mean().item()
    assert 0.1 < changed < 0.4  # 1 - 0.97^n, of about a dozen transformations of which some do nothing
    everything = augmented(images[:20], 1.0)
    assert everything.shape == images[:20].shape
    assert everything.isfinite().all()
    assert (everything != images[:20]).flatten(1).any(1).all()
    assert (everything[0] - everything[1]).abs().mean() > 0.01


def test_blitting_only_moves_pixels():
    torch.manual_seed(0)
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    images = (row * 8 + column).expand(900, 1, 8, 8)
    moved = blitted(images, 1.0, lambda p: torch.rand(900) < p)
    assert set(moved.unique().tolist()) <= set(range(64))
    # Among 4 turns, 2 mirrorings and 9 shifts, the 8 unshifted ones are the symmetries of the square.
    square = images[0, 0]
    symmetries = [torch.rot90(way, k) for way in (square, square.flip(1)) for k in range(4)]
    found = {i for image in moved[:, 0] for i, other in enumerate(symmetries) if torch.equal(image, other)}
    assert found == set(range(8))
    kept = blitted(images, 1.0, lambda p: torch.zeros(900, dtype=torch.bool))
    assert torch.equal(kept, images)


def test_a_quarter_turn_and_a_shift_by_geometry():
    torch.manual_seed(0)
    images = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 24, 24), 5, 1, 2)  # smooth
    quarter = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    turned = warped(images, quarter, torch.zeros(1, 2), torch.tensor([True]))
    options = [torch.rot90(images, k, (2, 3)) for k in (1, 3)]
    assert min((turned - option).abs()[..., 2:-2, 2:-2].max() for option in options) < 0.06
    shifted = warped(images, torch.eye(2)[None], torch.tensor([[2 * 3 / 24, 0.0]]), torch.tensor([True]))
    assert (shifted[..., :-5] - images[..., 3:-2]).abs().max() < 0.06


def test_turns_do_not_stretch_images_whose_sides_differ():
    """A disc stays a disc."""
    row, column = torch.meshgrid(torch.arange(24.0) - 11.5, torch.arange(48.0) - 23.5, indexing="ij")
    radius = (row**2 + column**2).sqrt()
    disc = (radius < 6).float().expand(1, 1, 24, 48)
    angle = torch.tensor(0.8)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(1, 2, 2)
    turned = warped(disc, turn, torch.zeros(1, 2), torch.tensor([True]))
    near = radius < 11  # further out it is mirrored
    assert (turned - disc).abs()[0, 0, near].mean() < 0.05
    assert turned[0, 0, near].sum() == pytest.approx(disc.sum().item(), rel=0.03)


def test_geometry_is_idle_where_nothing_is_meant():
    matrix, shift, touched = geometry(5, 0.5, lambda p: torch.zeros(5, dtype=torch.bool))
    assert not touched.any()
    assert torch.equal(matrix, torch.eye(2).expand(5, 2, 2))
    assert not shift.any()


def test_colours_turn_around_the_grey_axis():
    """Grey stays grey whatever is done; only brightness, contrast and luma flip move it."""
    torch.manual_seed(0)
    grey = torch.rand(60, 1, 4, 4).expand(-1, 3, -1, -1)
    matrices, touched = colours(60, 1.0, lambda p: torch.rand(60) < p)
    changed = coloured(grey, matrices, touched)
    assert (changed - changed.mean(1, keepdim=True)).abs().max() < 1e-5
    assert (changed - grey).abs().max() > 0.1
    alone = coloured(grey[:, :1], matrices, touched)  # of one channel
    torch.testing.assert_close(alone, changed[:, :1], atol=1e-5, rtol=1e-5)


def test_gradients_pass_through_everything():
    torch.manual_seed(0)
    images = torch.rand(16, 3, 8, 8, requires_grad=True)
    augmented(images, 0.8).square().sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
