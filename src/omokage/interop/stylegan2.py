"""Generators of StyleGAN2 that others trained, as snapshots of Omokage.

Read are NVIDIA's pickles of stylegan2-ada-pytorch and stylegan3 (those of StyleGAN2's type) and the
checkpoints of rosinality's stylegan2-pytorch. The names of their weights are matched here; none of their code
is used.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..families import MODELS
from ..recipe import Recipe, read_recipe
from ..snapshot import load_weights, write_snapshot
from .reader import Inert, Module, StoredTensor, read_objects

FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
Found = tuple[dict[str, Any], dict[str, Tensor]]  # settings of the model, and its weights


def import_stylegan2(source: str | Path, out: str | Path) -> Path:
    """Write the generator in the file ``source`` as the snapshot ``out``; same latent, same image.

    A class-conditional one has as many further entries in its latents, the largest of which is the class.
    Nothing in the file is executed.

    Raises:
        UserError: no generator of StyleGAN2's in the file, one of another kind, or a file that wants to do
            more than to hold numbers.
    """
    source, out = Path(source), Path(out)
    if out.suffix != ".safetensors":
        raise UserError(f"-o {out}: give the name of a snapshot, like {out.with_suffix('.safetensors').name}")
    held = read_objects(source)
    try:
        settings, weights = _found(held)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise UserError(f"{source}: its generator is damaged or of an unknown kind ({error})") from None
    recipe = _recipe(settings, source.name)
    network = MODELS["stylegan2"].build(recipe.model).eval()
    without_average = weights.setdefault("w_average", network.w_average) is network.w_average
    load_weights(network, {name: tensor.float() for name, tensor in weights.items()}, source)
    if without_average:
        z = torch.randn(4096, *network.latent_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            network.w_average.copy_(network.mapping_network(z).mean(0))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    progress = {"images": 0, "imported": {"file": source.name, "sha256": digest}}
    tensors = {f"average.{name}": tensor for name, tensor in network.state_dict().items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"-o {out}: {error.strerror}") from None
    write_snapshot(out, tensors, recipe, progress)
    return out


def _found(held: Any) -> Found:
    """The generator in what a file holds."""
    if isinstance(held, Module):
        held = {"G_ema": held}
    if not isinstance(held, Mapping):
        raise UserError("no generator in it; a pickle of NVIDIA's or a checkpoint of rosinality's has one")
    for name in ("G_ema", "G"):
        if isinstance(held.get(name), Module):
            return _of_nvidia(held[name])
    for name in ("g_ema", "g"):
        if isinstance(held.get(name), Mapping):
            return _of_rosinality(held[name], held.get("latent_avg"))
    if any(isinstance(value, Inert) for value in held.values()):
        raise UserError("no generator in it that is made of plain weights")
    raise UserError("no generator in it; a pickle of NVIDIA's or a checkpoint of rosinality's has one")


def _recipe(settings: dict[str, Any], name: str) -> Recipe:
    model = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    text = (
        f'name = "imported"\ntitle = {json.dumps("StyleGAN2 from " + name)}\n'
        'source = "Karras et al. 2020 (arXiv 1912.04958)"\n'
        f'[model]\nname = "stylegan2"\n{model}\n[objective]\nname = "stylegan2"\n'
    )
    return read_recipe(text, name)


# NVIDIA's. Blocks are called after their size: b4, b8, ...


def _of_nvidia(generator: Module) -> Found:
    synthesis, mapping = (generator.children().get(name) for name in ("synthesis", "mapping"))
    if not isinstance(synthesis, Module) or not isinstance(mapping, Module):
        raise UserError("its generator has no mapping and synthesis networks, so it is no StyleGAN2")
    blocks = synthesis.children()
    if "input" in blocks:
        raise UserError(
            "its generator is of StyleGAN3's type; only those of StyleGAN2's type can be imported"
        )
    count = len(blocks)
    sizes = [4 * 2**i for i in range(count)]
    if count < 2 or [f"b{size}" for size in sizes] != list(blocks):
        raise UserError(f"its synthesis network has the parts {', '.join(blocks)[:80]}; expected b4, b8, ...")
    given = generator.tensors()
    weights: dict[str, Tensor] = {}
    _check_filters(given)
    clamps, architectures = set(), set()
    for i, size in enumerate(sizes):
        block = blocks[f"b{size}"]
        architectures.add(str(block.state["architecture"]))
        for j, layer in enumerate(["conv1"] if i == 0 else ["conv0", "conv1"]):
            state = block.children()[layer].state
            if state["activation"] != "lrelu":
                raise UserError(f"its activation is {state['activation']!r}; only lrelu can be imported")
            clamps.add(state.get("conv_clamp"))
            weights |= _nvidia_layer(
                given, f"synthesis.b{size}.{layer}.", f"blocks.{i}.convolutions.{j}.", size
            )
        if i == 0:
            weights["blocks.0.constant"] = given["synthesis.b4.const"]
        if "skip" in block.children():
            weights[f"blocks.{i}.skip.weight"] = given[f"synthesis.b{size}.skip.weight"]
        if "torgb" in block.children():
            torgb = f"synthesis.b{size}.torgb."
            weights |= _to_image(given, torgb, f"blocks.{i}.to_image.", "affine")
    if len(clamps) > 1 or len(architectures) > 1:
        raise UserError("its layers are not all of one kind (conv_clamp, architecture)")
    depth = sum(name.startswith("fc") for name in mapping.children())
    for i in range(depth):
        for kind in ("weight", "bias"):
            weights[f"mapping_network.layers.{i}.{kind}"] = given[f"mapping.fc{i}.{kind}"]
    classes = 0
    if "mapping.embed.weight" in given:
        classes = given["mapping.embed.weight"].shape[1]
        for kind in ("weight", "bias"):
            weights[f"mapping_network.label.{kind}"] = given[f"mapping.embed.{kind}"]
    if "mapping.w_avg" in given:
        weights["w_average"] = given["mapping.w_avg"]
    rate = mapping.children()["fc0"].state["bias_gain"]
    settings = _settings(weights, count, depth, classes, float(rate))
    settings |= {"architecture": architectures.pop(), "clamp": float(clamps.pop() or 0.0)}
    return settings, weights


def _nvidia_layer(given: Mapping[str, Tensor], theirs: str, ours: str, size: int) -> dict[str, Tensor]:
    return {
        f"{ours}weight": given[f"{theirs}weight"],
        f"{ours}bias": given[f"{theirs}bias"],
        f"{ours}style.weight": given[f"{theirs}affine.weight"],
        f"{ours}style.bias": given[f"{theirs}affine.bias"],
        f"{ours}noise": given.get(f"{theirs}noise_const", torch.zeros(size, size)),
        f"{ours}noise_strength": given.get(f"{theirs}noise_strength", torch.zeros(())),
    }


def _to_image(given: Mapping[str, Tensor], theirs: str, ours: str, style: str) -> dict[str, Tensor]:
    weight = given[f"{theirs}weight" if style == "affine" else f"{theirs}conv.weight"]
    return {
        f"{ours}weight": weight.reshape(weight.shape[-4], weight.shape[-3]),
        f"{ours}bias": given[f"{theirs}bias"].flatten(),
        f"{ours}style.weight": given[f"{theirs}{style}.weight"],
        f"{ours}style.bias": given[f"{theirs}{style}.bias"],
    }


# rosinality's: the 4x4 layers apart, then pairs of convolutions.


def _of_rosinality(stored: Mapping[str, Any], average: Any) -> Found:
    given = {str(name): value.value() for name, value in stored.items() if isinstance(value, StoredTensor)}
    if "input.input" not in given or "conv1.conv.weight" not in given:
        raise UserError("its generator has other weights than StyleGAN2's; rosinality's can be imported")
    _check_filters(given)
    count = 1 + sum(name.startswith("to_rgbs.") and name.endswith(".conv.weight") for name in given)
    if count < 2:
        raise UserError("its generator has one size only")
    weights = {"blocks.0.constant": given["input.input"][0]}
    for i in range(count):
        layers = ["conv1."] if i == 0 else [f"convs.{2 * i - 2}.", f"convs.{2 * i - 1}."]
        for j, theirs in enumerate(layers):
            ours = f"blocks.{i}.convolutions.{j}."
            number = 0 if i == 0 else 2 * i - 1 + j
            weights |= {
                f"{ours}weight": given[f"{theirs}conv.weight"][0],
                f"{ours}bias": given[f"{theirs}activate.bias"].flatten(),
                f"{ours}style.weight": given[f"{theirs}conv.modulation.weight"],
                f"{ours}style.bias": given[f"{theirs}conv.modulation.bias"],
                f"{ours}noise": given.get(f"noises.noise_{number}", torch.zeros(1, 1, 4 * 2**i, 4 * 2**i))[
                    0, 0
                ],
                f"{ours}noise_strength": given[f"{theirs}noise.weight"].reshape(()),
            }
        torgb = "to_rgb1." if i == 0 else f"to_rgbs.{i - 1}."
        weights |= _to_image(given, torgb, f"blocks.{i}.to_image.", "conv.modulation")
    depth = sum(name.startswith("style.") and name.endswith(".weight") for name in given)
    for i in range(depth):
        for kind in ("weight", "bias"):
            weights[f"mapping_network.layers.{i}.{kind}"] = given[f"style.{i + 1}.{kind}"]
    if isinstance(average, StoredTensor):
        weights["w_average"] = average.value().flatten()
    return _settings(weights, count, depth, 0, 0.01), weights


def _settings(
    weights: Mapping[str, Tensor], count: int, depth: int, classes: int, rate: float
) -> dict[str, Any]:
    """The model's settings, as the shapes of its weights say."""
    if depth < 1:
        raise UserError("its mapping network has no layers")
    first = weights["mapping_network.layers.0.weight"]
    last = weights[f"mapping_network.layers.{depth - 1}.weight"]
    style = last.shape[0]
    size = 4 * 2 ** (count - 1)
    return {
        "latent": first.shape[1] - (style if classes else 0),
        "style": style,
        "depth": depth,
        "resolution": [size, size],
        "base": list(weights["blocks.0.constant"].shape[1:]),
        "channels": [weights[f"blocks.{i}.convolutions.0.weight"].shape[0] for i in range(count)],
        "mapping_rate": rate,
        "classes": classes,
        "image_channels": weights[f"blocks.{count - 1}.to_image.weight"].shape[0],
    }


def _check_filters(given: Mapping[str, Tensor]) -> None:
    """Their resampling must be with [1, 3, 3, 1]; the file has its filters."""
    expected = FILTER[:, None] * FILTER
    for name, tensor in given.items():
        if name.endswith(("resample_filter", "blur.kernel", "upsample.kernel")):
            taps = tensor.float() / tensor.sum()
            if taps.shape != expected.shape or not torch.allclose(taps, expected, atol=1e-6):
                raise UserError("it resamples with another filter than [1, 3, 3, 1]")
