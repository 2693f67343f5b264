"""Networks in the form that PyTorch's ONNX exporter understands; what they compute stays the same.

A network draws with Python's help: a growing one looks up its size in a buffer, Glow inverts its matrices in
every call, TarFlow runs a loop over tokens and differentiates itself, a denoiser runs one over its steps.
`prepared` makes a copy without all that.
"""

import copy
import math
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models import autoencoder, glow, pixel_transformer, tarflow, unet
from ..models.flow import in_range, inverted, normal_log_density


class Part(nn.Module):
    """One method of a network as a module with one input and one output."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, x: Tensor) -> Tensor:
        """What the method returns, in float32; images in [-1, 1]."""
        called: Callable[[Tensor], Tensor] = getattr(self.network, self.method)
        found = called(x).float()
        return in_range(found) if self.method == "synthesis" else found


def prepared(network: nn.Module) -> nn.Module:
    """A copy of ``network`` (in evaluation mode, float32) that can be exported."""
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    # From the inside out: what is outside may be traced through what is inside.
    for module in reversed(list(network.modules())):
        _numbers_for_buffers(module)
        _REPLACE.get(type(module), lambda _: None)(module)
    return network


def _numbers_for_buffers(module: nn.Module) -> None:
    """Counters and flags become plain numbers, because Python decides by them what is drawn."""
    for name, buffer in list(module.named_buffers(recurse=False)):
        if buffer.dim() == 0 and not buffer.is_floating_point():
            delattr(module, name)
            setattr(module, name, buffer.item())


def _convolution(module: Any) -> None:
    """The matrix of a 1×1 convolution, its inverse and its determinant become weights: ONNX has neither."""
    matrix, log_det = module.matrix()
    module.register_buffer("whole", matrix.clone())
    module.register_buffer("log_det", log_det.clone())
    module.register_buffer("inverted", inverted(matrix)[:, :, None, None])
    module.matrix = lambda: (module.whole, module.log_det)
    module.inverse = lambda y: F.conv2d(y, module.inverted)


def _mixing(module: Any) -> None:
    """As `_convolution`."""
    module.register_buffer("log_det", module(torch.zeros(1, 1, len(module.shift)))[1])
    module.register_buffer("inverted", inverted(module.weight))

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(x + module.shift, module.weight), (module.log_det * x.shape[1]).expand(x.shape[0])

    module.forward = forward
    module.inverse = lambda y: F.linear(y, module.inverted) - module.shift


def _attention(module: Any) -> None:
    """Causal attention by its formula: the kernels' derivative has no counterpart in ONNX."""

    def forward(x: Tensor) -> Tensor:
        query, key, value = module._heads(x)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        seen = scores.masked_fill(later, -math.inf).softmax(3) @ value
        return module.out(seen.transpose(1, 2).flatten(2))

    module.forward = forward


def _while_loop() -> Any:
    """PyTorch's loop that stays a loop in a graph. By its name: mypy does not read that part of PyTorch."""
    return import_module("torch._higher_order_ops.while_loop").while_loop


def _tokens(block: Any) -> None:
    """The loop over tokens as a loop of the graph, with memory for all tokens from the start."""
    while_loop = _while_loop()
    heads = block.layers[0].attention.heads
    count, width = block.position.shape
    places = torch.arange(count)

    def token_by_token(z: Tensor, labels: Tensor | None, guidance: float) -> Tensor:
        label = None if block.label is None or labels is None else block.label(labels)[:, None]

        def more(i: Tensor, x: Tensor, *seen: Tensor) -> Tensor:
            return i < count

        def step(i: Tensor, x: Tensor, *seen: Tensor) -> tuple[Tensor, ...]:
            before = (i - 1).view(1)
            hidden = block.into(x.index_select(1, before)) + block.position.index_select(0, before)
            hidden = hidden if label is None else hidden + label
            kept = []
            for layer, cache in zip(block.layers, seen, strict=True):
                attention = layer.attention
                query, *new = attention._heads(hidden)
                cache = torch.where((places[:-1] == before)[:, None], torch.stack(new), cache)
                scores = query @ cache[0].transpose(2, 3) / math.sqrt(query.shape[3])
                scores = torch.where(places[:-1] <= before, scores, -math.inf)
                seen_now = scores.softmax(3) @ cache[1]
                hidden = hidden + attention.out(seen_now.transpose(1, 2).flatten(2))
                hidden = hidden + layer.connected(hidden)
                kept.append(cache)
            log_scale, shift = block._scale_and_shift(hidden)
            now = z.index_select(1, i.view(1)) * log_scale.exp() + shift
            return (i + 1, torch.where((places == i)[:, None], now, x), *kept)

        memory = [z.new_zeros(2, z.shape[0], heads, count - 1, width // heads) for _ in block.layers]
        return while_loop(more, step, (torch.tensor(1), z.clone(), *memory))[1]

    block._token_by_token = token_by_token


def _score(flow: Any) -> None:
    """The derivative of the log-density of a TarFlow with noise, written out as a graph."""
    if not flow.noise:
        return
    make_fx = import_module("torch.fx.experimental.proxy_tensor").make_fx
    decompositions = import_module("torch._decomp").core_aten_decompositions

    def gradient(images: Tensor, *labels: Tensor) -> Tensor:
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            z, log_det = flow.transform(images, *labels)
            return torch.autograd.grad((normal_log_density(z) + log_det).sum(), images)[0]

    label = flow.blocks[0].label
    given = [torch.zeros(3, flow.image_channels, *flow.resolution)]
    given += [] if label is None else [torch.zeros(3, label.in_features)]
    # Three images, because a size of 1 or of other dimensions would count as fixed.
    graph = make_fx(
        gradient,
        decomposition_table=decompositions(),
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
    )(*given)

    def score(images: Tensor, labels: Tensor | None = None) -> Tensor:
        return graph(images) if labels is None else graph(images, labels)

    flow.score = score


def _solver(denoiser: Any) -> None:
    """Heun's steps as a loop of the graph that calls the network once a turn, with the recipe's own steps.

    A turn goes to the next level, or corrects the turn before it: the last one goes to level 0.
    """
    while_loop = _while_loop()
    levels = denoiser.levels(denoiser.steps)
    turns = []  # level, how far to go, whether it corrects
    for now, then in pairwise(levels):
        turns.append((now, then - now, False))
        if then:
            turns.append((then, then - now, True))
    at, far, corrects = (torch.tensor(column) for column in zip(*turns, strict=True))

    def drawn(
        z: Tensor,
        sampler: str = "heun",
        steps: int = 0,
        labels: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        def more(i: Tensor, *state: Tensor) -> Tensor:
            return i < len(turns)

        def turn(i: Tensor, x: Tensor, before: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
            here = i.view(1)
            level, step = at.index_select(0, here), far.index_select(0, here)
            now = (x - denoiser.denoised(x, level.expand(x.shape[0]), labels)) / level
            corrected = corrects.index_select(0, here)
            after = torch.where(corrected, before + step * (slope + now) / 2, x + step * now)
            return i + 1, after, x.clone(), now

        x = denoiser._start(z)
        return while_loop(more, turn, (torch.tensor(0), x, x.clone(), torch.zeros_like(x)))[1]

    denoiser.drawn = drawn


def _whitening(network: Any) -> None:
    """The inverse of the axes becomes a weight: ONNX solves no equations."""
    location = network.location
    network.register_buffer("whitening", inverted(location.axes))

    def encode(images: Tensor) -> Tensor:
        return F.linear(network.posterior(images)[0].flatten(1) - location.centre, network.whitening)

    network.encode = encode


_REPLACE: dict[type[nn.Module], Callable[[Any], None]] = {
    autoencoder.Autoencoder: _whitening,
    glow.Convolution: _convolution,
    glow.ConvolutionLU: _convolution,
    tarflow.Attention: _attention,
    tarflow.Block: _tokens,
    tarflow.Mixing: _mixing,
    tarflow.TarFlow: _score,
    pixel_transformer.PixelTransformer: _solver,
    unet.UNet: _solver,
}
