import torch
from torch import nn

from omokage.models.vae import VariationalAutoencoder


def test_the_sizes_are_the_published_ones():
    vae = VariationalAutoencoder()
    seen = []
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[1:])))
    vae.decode(vae.encode(torch.zeros(2, 3, 64, 64)))
    assert seen == [
        *[(32, 31, 31), (64, 14, 14), (128, 6, 6), (256, 2, 2)],
        *[(32,), (32,), (1024,)],
        *[(128, 5, 5), (64, 13, 13), (32, 30, 30), (3, 64, 64)],
    ]


def test_images_are_the_sigmoids_of_the_logits():
    torch.manual_seed(0)
    vae = VariationalAutoencoder(latent=4, channels=(4, 4, 4, 4))
    z = torch.randn(3, 4)
    torch.testing.assert_close((vae.decode(z) + 1) / 2, vae.logits(z).sigmoid())
    images = vae.decode(z)
    mean, log_variance = vae.posterior(images)
    assert mean.shape == log_variance.shape == (3, 4)
    assert torch.equal(vae.encode(images), mean)
