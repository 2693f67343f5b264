import torch
from torch import nn

from omokage.models.sagan import Discriminator, Generator, SelfAttention


def test_attention_is_the_papers_sum_over_places():
    torch.manual_seed(0)
    attention = SelfAttention(16).eval()
    x = torch.randn(2, 16, 5, 4)
    assert torch.equal(attention(x), x)  # the gate starts closed
    nn.init.constant_(attention.gate, 0.7)
    f, g, h = (part(x).flatten(2) for part in (attention.query, attention.key, attention.value))
    # Equation 1: weight of place i for place j, normalised over i.
    weights = torch.einsum("bcj,bci->bji", f, g).softmax(2)
    o = attention.out(torch.einsum("bji,bci->bcj", weights, h).view(2, -1, 5, 4))
    torch.testing.assert_close(attention(x), x + 0.7 * o, rtol=1e-4, atol=1e-5)


def test_every_place_sees_every_place():
    torch.manual_seed(0)
    attention = SelfAttention(8).eval()
    nn.init.constant_(attention.gate, 1.0)
    x = torch.randn(1, 8, 6, 6, requires_grad=True)
    attention(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


def test_every_weight_has_spectral_norm_one():
    torch.manual_seed(0)
    generator = Generator(latent=8, channels=(16, 8, 8), attention_at=8)
    discriminator = Discriminator(resolution=16, channels=(8, 16), attention_at=8)
    for _ in range(30):
        discriminator(generator(torch.randn(4, 8)))
    for network in (generator, discriminator):
        layers = [m for m in network.eval().modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert layers
        for layer in layers:
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
            assert abs(largest - 1) < 0.03


def test_attention_is_where_it_is_asked_for():
    def count(network):
        return sum(isinstance(m, SelfAttention) for m in network.modules())

    for at, expected in ((8, 1), (0, 0)):
        assert count(Generator(latent=8, channels=(8, 8, 8), attention_at=at)) == expected
        assert count(Discriminator(resolution=16, channels=(8, 8), attention_at=at)) == expected
