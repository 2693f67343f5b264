import pytest
import torch
from torch import nn

from omokage.models.dcgan import Discriminator, Generator


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_those_of_the_tutorial():
    assert parameters(Generator()) == 3_576_704
    assert parameters(Discriminator()) == 2_765_568


def test_parameter_counts_of_the_narrow_one_channel_networks_in_the_literature():
    assert parameters(Generator(channels=(256, 128, 64, 32), image_channels=1)) == 1_099_200
    assert parameters(Discriminator(channels=(32, 64, 128, 256), image_channels=1)) == 693_632


@pytest.mark.parametrize(("depth", "size"), [(1, 8), (3, 32), (5, 128)])
def test_every_depth_gives_and_takes_its_size(depth, size):
    generator = Generator(latent=5, channels=(8,) * depth, image_channels=2)
    images = generator.decode(torch.randn(3, 5))
    assert images.shape == (3, 2, size, size)
    assert generator.resolution == (size, size)
    assert generator.latent_shape == (5,)
    assert images.abs().max() <= 1
    assert Discriminator(channels=(8,) * depth, image_channels=2)(images).shape == (3,)


def test_batch_norm_is_everywhere_but_at_the_images_and_the_logits():
    kinds = [type(layer).__name__ for layer in Generator().layers]
    block = ["ConvTranspose2d", "BatchNorm2d", "ReLU"]
    assert kinds == block * 4 + ["ConvTranspose2d", "Tanh"]
    kinds = [type(layer).__name__ for layer in Discriminator(dropout=0.3).layers]
    block = ["Conv2d", "BatchNorm2d", "LeakyReLU", "Dropout"]
    assert kinds == ["Conv2d", "LeakyReLU", "Dropout", *block * 3, "Conv2d"]


def test_initialisation_is_the_papers():
    torch.manual_seed(0)
    for network in (Generator(), Discriminator()):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert module.bias is None
                assert module.weight.mean().item() == pytest.approx(0, abs=2e-3)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1, abs=0.01)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.4)
                assert (module.bias == 0).all()


def test_a_transposed_convolution_undoes_the_shape_and_order_of_its_mirror():
    generator, discriminator = Generator(), Discriminator()
    up = [tuple(m.weight.shape) for m in generator.layers if isinstance(m, nn.ConvTranspose2d)]
    down = [tuple(m.weight.shape) for m in discriminator.layers if isinstance(m, nn.Conv2d)]
    assert up[1:] == down[::-1][1:]  # all but the latent's and the logit's


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    discriminator = Discriminator(channels=(8, 8), dropout=0.5)
    images = torch.randn(4, 3, 16, 16)
    assert not torch.equal(discriminator(images), discriminator(images))
    discriminator.eval()
    assert torch.equal(discriminator(images), discriminator(images))
