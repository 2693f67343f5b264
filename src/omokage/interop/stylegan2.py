"""Converts StyleGAN2 networks that others trained into snapshots of Omokage.

It reads NVIDIA's pickles of stylegan2-ada-pytorch and stylegan3 (StyleGAN2 generators only) and the
checkpoints of rosinality's stylegan2-pytorch. It maps the names of their weights to ours and uses none of
their code.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.text import one_line
from ..errors import UserError
from ..families import DISCRIMINATORS, MODELS
from ..files import replacing
from ..recipe import Recipe, read_recipe
from ..snapshot import load_weights, write_snapshot
from .reader import Inert, Module, StoredTensor, read_objects, values

MAX_SIDE = 4096
BATCH = 16  # of a training that goes on with imported networks
AVERAGE_OF = 4096  # latents for the average style if the file has none
FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
Found = tuple[dict[str, Any], dict[str, Tensor]]  # settings of the model, and its weights


class _Weights(dict[str, Tensor]):
    """The tensors of a file. Remembers which of them were used."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.used.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Like ``dict.get``; also marks the tensor as used."""
        self.used.add(name)
        return super().get(name, default)

    def check_all_used(self, others: tuple[str, ...]) -> None:
        """UserError if a weight was not used. Names that end with one of ``others`` are allowed."""
        left = [name for name in self if name not in self.used and not name.endswith(others)]
        if left:
            shown = ", ".join(left[:4])[:200] + (", ..." if len(left) > 4 else "")
            raise UserError(f"its generator has {len(left)} weights that are not StyleGAN2's: {shown}")


def import_stylegan2(source: str | Path, out: str | Path, tell: Callable[[str], None] | None = None) -> Path:
    """Write the generator in the file ``source`` as the snapshot ``out``. A latent gives the same image.

    If the file has its discriminator too, the snapshot gets it, and a recipe to go on with is written beside
    the snapshot: ``omokage train out.toml --data faces/ --from out.safetensors``.

    The latents of a class-conditional generator have one further entry for each class; the largest of these
    entries chooses the class. No code in the file is executed. If the file lacks something that could be
    replaced, ``tell`` is called with one sentence for each such thing, and the snapshot's progress lists
    them.

    Raises:
        UserError: the file has no StyleGAN2 generator, one of an unsupported kind, or names more than weights
            need.
    """
    source, out = Path(source), Path(out)
    if out.suffix != ".safetensors":
        raise UserError(f"-o {out}: give the name of a snapshot, like {out.with_suffix('.safetensors').name}")
    held = read_objects(source)
    notes: list[str] = []
    try:
        settings, weights = _found(held, notes)
    except UserError as error:
        raise UserError(f"{source}: {one_line(error)}") from None
    except KeyError as error:
        raise UserError(f"{source}: its generator has no {one_line(error.args[0], 100)}") from None
    except (ValueError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        why = one_line(error)
        raise UserError(f"{source}: its generator is damaged or of an unknown kind ({why})") from None
    judge = _judge(held, settings, notes)
    recipe = _recipe(settings, source.name, None if judge is None else judge[0])
    _check_shapes(recipe, weights, source)
    network = MODELS["stylegan2"].build(recipe.model).eval()
    without_average = weights.setdefault("w_average", network.w_average) is network.w_average
    load_weights(network, {name: tensor.float() for name, tensor in weights.items()}, source)
    if without_average:
        z = torch.randn(AVERAGE_OF, *network.latent_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            network.w_average.copy_(network.mapping_network(z).mean(0))
        notes.append(
            f"the file has no average style, which --psi needs; the mean of {AVERAGE_OF:,} styles was taken"
        )
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    imported = {"file": source.name, "sha256": digest, **({"notes": notes} if notes else {})}
    progress = {"images": 0, "imported": imported}
    tensors = {f"average.{name}": tensor for name, tensor in network.state_dict().items()}
    if judge is not None:
        tensors |= {f"networks.discriminator.{name}": tensor.float() for name, tensor in judge[1].items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"-o {out}: {error.strerror}") from None
    write_snapshot(out, tensors, recipe, progress)
    if judge is not None:
        beside = out.with_suffix(".toml")
        with replacing(beside) as unfinished:
            unfinished.write_text(recipe.to_toml(), encoding="utf-8")
        notes.append(
            "its discriminator was taken too; to go on with other faces: "
            f"omokage train {beside} --data faces/ --out runs/{out.stem} --from {out}"
        )
    for note in notes if tell is not None else ():
        tell(f"{source}: {note}")  # type: ignore[misc]
    return out


def _check_shapes(recipe: Recipe, weights: Mapping[str, Tensor], source: Path) -> None:
    """UserError unless the network of ``recipe`` has these weights. No memory is allocated for it."""
    with torch.device("meta"):
        expected = MODELS["stylegan2"].build(recipe.model).state_dict()
    for name, tensor in weights.items():
        if name not in expected or expected[name].shape != tensor.shape:
            there = "nothing" if name not in expected else str(tuple(expected[name].shape))
            raise UserError(
                f"{source}: its layers do not fit together: {name} has the shape {tuple(tensor.shape)}, "
                f"expected {there}"
            )


def _found(held: Any, notes: list[str]) -> Found:
    """The generator in the contents of a file. Remarks for the user are added to ``notes``."""
    if isinstance(held, Module):
        held = {"G_ema": held}
    if not isinstance(held, Mapping):
        raise UserError("no generator in it; a pickle of NVIDIA's or a checkpoint of rosinality's has one")
    for name, average, read in (
        ("G_ema", "G_ema", _of_nvidia),
        ("G", "G_ema", _of_nvidia),
        ("g_ema", "g_ema", lambda found: _of_rosinality(found, held.get("latent_avg"))),
        ("g", "g_ema", lambda found: _of_rosinality(found, held.get("latent_avg"))),
    ):
        if isinstance(held.get(name), Module if average == "G_ema" else Mapping):
            if name != average:
                notes.append(
                    f"the file has no averaged weights ({average}); the training weights ({name}) were taken"
                )
            return read(held[name])
    if any(isinstance(value, Inert) for value in held.values()):
        raise UserError("the generator in it is not stored as plain weights")
    raise UserError("no generator in it; a pickle of NVIDIA's or a checkpoint of rosinality's has one")


def _recipe(settings: dict[str, Any], name: str, judge: dict[str, Any] | None = None) -> Recipe:
    """The recipe of a generator. With the settings of its discriminator, it can be trained further.

    Then R1 follows the rule of Karras et al. 2020b (arXiv 2006.06676), appendix C: 0.0002 · pixels / batch.
    """
    model = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    if judge is not None:
        height, width = settings["resolution"]
        of_judge = "\n".join(f"{key} = {json.dumps(value)}" for key, value in judge.items())
        further = (
            f"r1 = {0.0002 * height * width / BATCH:.6g}\n"
            f'[discriminator]\nname = "stylegan2"\n{of_judge}\n'
            f"[training]\nbatch = {BATCH}\nlearning_rate = {{ default = 2e-3 }}\nbetas = [0.0, 0.99]\n"
        )
    text = (
        f'name = "imported"\ntitle = {json.dumps("StyleGAN2 from " + name)}\n'
        'source = "Karras et al. 2020 (arXiv 1912.04958)"\n'
        f'[model]\nname = "stylegan2"\n{model}\n[objective]\nname = "stylegan2"\n'
    )
    return read_recipe(text + (further if judge is not None else ""), name)


# Discriminators. They are of use for further training only, so one of another kind is left out with a note.


def _judge(held: Any, settings: Mapping[str, Any], notes: list[str]) -> Found | None:
    """The discriminator in the contents of a file; None: there is none that fits, and a note says so."""
    if not isinstance(held, Mapping):
        return None
    theirs, rosinality = held.get("D"), held.get("d")
    if not isinstance(theirs, Module) and not isinstance(rosinality, Mapping):
        return None
    try:
        if settings.get("classes"):
            raise UserError("it judges classes")
        nvidia = isinstance(theirs, Module)
        found = _judge_of_nvidia(theirs) if nvidia else _judge_of_rosinality(rosinality)  # type: ignore[arg-type]
        if found[0]["resolution"] != settings["resolution"]:
            raise UserError(f"it judges images of {found[0]['resolution'][0]} px")
        with torch.device("meta"):
            network = DISCRIMINATORS["stylegan2"].build(found[0])
        expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
        if expected != {name: tensor.shape for name, tensor in found[1].items()}:
            raise UserError("its layers do not fit together")
        return found
    except UserError as error:
        why = one_line(error, 120)
    except KeyError as error:
        why = f"it has no {one_line(error.args[0], 80)}"
    except (ValueError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        why = f"it is damaged or of an unknown kind: {one_line(error, 80)}"
    notes.append(f"its discriminator is left out ({why}); a training from it begins with a new one")
    return None


def _judge_of_nvidia(network: Module) -> Found:
    blocks = network.children()
    names = [name for name in blocks if name != "mapping"]
    if "mapping" in blocks:
        raise UserError("it judges classes")
    sizes = [4 * 2**i for i in range(min(len(names), 64))]
    if len(sizes) < 2 or [f"b{size}" for size in reversed(sizes)] != names:
        raise UserError(f"it has the parts {', '.join(names)[:80]}")
    _check_side(sizes[-1])
    given = _Weights(network.tensors())
    _check_filters(given)
    weights: dict[str, Tensor] = {}
    for i, size in enumerate(reversed(sizes[1:])):
        place, parts = f"b{size}", blocks[f"b{size}"].children()
        layers = {"conv0": ("first", 3, 1), "conv1": ("second", 3, 2), "skip": ("skip", 1, 2)}
        expected = {*layers, *(("fromrgb",) if i == 0 else ())}
        if set(parts) != expected:
            raise UserError(f"its {place} has the parts {', '.join(parts)[:80]}; only resnet is known")
        for name, (ours, kernel, down) in layers.items():
            weights[f"blocks.{i}.{ours}.weight"] = given[f"{place}.{name}.weight"]
            _check_seen(parts[name], given[f"{place}.{name}.weight"], f"{place}.{name}", kernel, down)
            if name != "skip":
                weights[f"blocks.{i}.{ours}.bias"] = given[f"{place}.{name}.bias"]
        if i == 0:
            weights["from_images.0.weight"] = given[f"{place}.fromrgb.weight"]
            weights["from_images.0.bias"] = given[f"{place}.fromrgb.bias"]
    last = blocks["b4"].children()
    mixed = last["mbstd"].state if "mbstd" in last else {}
    if mixed and _plain(mixed.get("num_channels", 1), "mbstd.num_channels") != 1:
        raise UserError("its minibatch deviation has several channels")
    group = _plain(mixed.get("group_size", 4), "mbstd.group_size") if mixed else 0
    if not isinstance(group, int) or not 0 <= group <= 64:
        raise UserError(f"its minibatch deviation has groups of {group}")
    for theirs, ours in (("conv", "last"), ("fc", "dense"), ("out", "logit")):
        for kind in ("weight", "bias"):
            weights[f"{ours}.{kind}"] = given[f"b4.{theirs}.{kind}"]
    given.check_all_used(("resample_filter",))
    return _settings_of_judge(weights, len(sizes), group), weights


def _check_seen(layer: Any, weight: Tensor, place: str, kernel: int, down: int) -> None:
    """UserError unless a convolution of a discriminator computes the same as ours."""
    if weight.ndim != 4 or 0 in weight.shape or weight.shape[2:] != (kernel, kernel):
        raise UserError(f"its {place} has a weight of the shape {tuple(weight.shape)}")
    _check_is(layer, "up", 1, place)
    _check_is(layer, "down", down, place)
    _check_is(layer, "activation", "linear" if place.endswith("skip") else "lrelu", place)
    _check_is(layer, "weight_gain", 1 / math.sqrt(weight[0].numel()), place)


def _judge_of_rosinality(stored: Mapping[str, Any]) -> Found:
    tensors = {str(name): value for name, value in stored.items() if isinstance(value, StoredTensor)}
    given = _Weights(values(tensors))
    _check_filters({f"{name}.blur.kernel": t for name, t in given.items() if name.endswith("kernel")})
    count = 0
    while f"convs.{count + 1}.conv1.0.weight" in given and count < 64:
        count += 1
    if count == 0:
        raise UserError("its weights are not StyleGAN2's as rosinality's code names them")
    _check_side(4 * 2**count)
    weights = {"from_images.0.weight": given["convs.0.0.weight"]}
    weights["from_images.0.bias"] = given["convs.0.1.bias"].flatten()
    for i in range(count):
        theirs, ours = f"convs.{i + 1}.", f"blocks.{i}."
        weights |= {
            f"{ours}first.weight": given[f"{theirs}conv1.0.weight"],
            f"{ours}first.bias": given[f"{theirs}conv1.1.bias"].flatten(),
            f"{ours}second.weight": given[f"{theirs}conv2.1.weight"],
            f"{ours}second.bias": given[f"{theirs}conv2.2.bias"].flatten(),
            f"{ours}skip.weight": given[f"{theirs}skip.1.weight"],
        }
    weights |= {
        "last.weight": given["final_conv.0.weight"],
        "last.bias": given["final_conv.1.bias"].flatten(),
        "dense.weight": given["final_linear.0.weight"],
        "dense.bias": given["final_linear.0.bias"],
        "logit.weight": given["final_linear.1.weight"],
        "logit.bias": given["final_linear.1.bias"],
    }
    given.check_all_used(("kernel",))
    return _settings_of_judge(weights, count + 1, 4), weights


def _settings_of_judge(weights: Mapping[str, Tensor], count: int, group: int) -> dict[str, Any]:
    """The discriminator's settings, from the shapes of its weights; sizes run from the largest down."""
    side = 4 * 2 ** (count - 1)
    channels = [weights["last.weight"].shape[0]]
    channels += [weights[f"blocks.{i}.first.weight"].shape[0] for i in reversed(range(count - 1))]
    return {
        "resolution": [side, side],
        "channels": channels,
        "group": group,
        "image_channels": weights["from_images.0.weight"].shape[1],
    }


# NVIDIA's format. Blocks are named after their size: b4, b8, ...


def _plain(value: Any, what: str) -> Any:
    """``value`` if it is a number, a text or None; UserError for anything else."""
    if value is not None and not isinstance(value, str | int | float):
        raise UserError(f"its {what} is neither a number nor a text")
    return value[:60] if isinstance(value, str) else value


def _check_is(layer: Module, attribute: str, expected: Any, place: str) -> None:
    """UserError if a layer has ``attribute`` with another value than ours, which would change the images."""
    value = layer.state.get(attribute, expected)
    if isinstance(value, Inert):  # a number of a type that is not read
        return
    value = _plain(value, f"{place}.{attribute}")
    if isinstance(expected, float):
        same = isinstance(value, int | float) and math.isclose(value, expected, rel_tol=1e-5)
    else:
        same = value == expected
    if not same:
        raise UserError(f"its {place} has {attribute}={value!r}; only {expected!r} can be imported")


def _check_linear(layer: Any, weight: Tensor, place: str, rate: float, activation: str) -> None:
    """UserError unless a fully connected layer computes the same as ours. ``weight``: (out, in)."""
    if not isinstance(layer, Module):
        raise UserError(f"its {place} is not a layer")
    _check_is(layer, "activation", activation, place)
    _check_is(layer, "bias_gain", rate, place)
    if weight.ndim != 2 or 0 in weight.shape:
        raise UserError(f"its {place} has a weight of the shape {tuple(weight.shape)}, not (out, in)")
    _check_is(layer, "weight_gain", rate / math.sqrt(weight.shape[1]), place)


def _check_convolution(layer: Module, weight: Tensor, place: str, up: int, kernel: int) -> None:
    """UserError unless a convolution computes the same as ours. ``weight``: (out, in, kernel, kernel)."""
    if weight.ndim != 4 or 0 in weight.shape or weight.shape[2:] != (kernel, kernel):
        raise UserError(
            f"its {place} has a weight of the shape {tuple(weight.shape)}; only kernels of {kernel}×{kernel} "
            "can be imported"
        )
    for attribute, expected in (("up", up), ("down", 1)):
        _check_is(layer, attribute, expected, place)
    _check_is(layer, "weight_gain", 1 / math.sqrt(weight[0].numel()), place)


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
    sizes = [4 * 2**i for i in range(min(count, 64))]
    if count < 2 or [f"b{size}" for size in sizes] != list(blocks):
        raise UserError(f"its synthesis network has the parts {', '.join(blocks)[:80]}; expected b4, b8, ...")
    _check_side(sizes[-1])
    given = _Weights(generator.tensors())
    weights: dict[str, Tensor] = {}
    _check_filters(given)
    clamps: dict[str, float] = {}
    architectures: dict[str, None] = {}
    for i, size in enumerate(sizes):
        block = blocks[f"b{size}"]
        if not isinstance(block, Module):
            raise UserError(f"its synthesis.b{size} is not a block of layers")
        parts = block.children()
        layers = ["conv1"] if i == 0 else ["conv0", "conv1"]
        if others := [name for name in parts if name not in (*layers, "torgb", "skip")]:
            raise UserError(f"its synthesis.b{size} has a part {others[0][:60]!r}, unknown in StyleGAN2")
        for name in (*layers, *(name for name in ("torgb", "skip") if name in parts)):
            if not isinstance(parts.get(name), Module):
                raise UserError(f"its synthesis.b{size}.{name} is not a layer")
        architectures[str(_plain(block.state["architecture"], f"synthesis.b{size}.architecture"))] = None
        for j, layer in enumerate(layers):
            place = f"synthesis.b{size}.{layer}"
            found = parts[layer]
            activation = _plain(found.state["activation"], f"{place}.activation")
            if activation != "lrelu":
                raise UserError(f"its {place} has the activation {activation!r}; only lrelu can be imported")
            clamps[place] = _clamp(found, place)
            weights |= _nvidia_layer(given, f"{place}.", f"blocks.{i}.convolutions.{j}.", size)
            _check_convolution(found, given[f"{place}.weight"], place, 1 if layer == "conv1" else 2, 3)
            _check_is(found, "act_gain", math.sqrt(2), place)
            _check_linear(
                found.children().get("affine"),
                given[f"{place}.affine.weight"],
                f"{place}.affine",
                1.0,
                "linear",
            )
        if i == 0:
            weights["blocks.0.constant"] = given["synthesis.b4.const"]
        if "skip" in parts:
            place = f"synthesis.b{size}.skip"
            if f"{place}.bias" in given:
                raise UserError(f"its {place} has a bias, which StyleGAN2 does not have there")
            weights[f"blocks.{i}.skip.weight"] = given[f"{place}.weight"]
            _check_convolution(parts["skip"], given[f"{place}.weight"], place, 2, 1)
            _check_is(parts["skip"], "activation", "linear", place)
            _check_is(parts["skip"], "act_gain", 1.0, place)
            _check_is(parts["skip"], "conv_clamp", None, place)
        if "torgb" in parts:
            place, found = f"synthesis.b{size}.torgb", parts["torgb"]
            weights |= _to_image(given, f"{place}.", f"blocks.{i}.to_image.", "affine")
            clamps[place] = _clamp(found, place)
            _check_convolution(found, given[f"{place}.weight"], place, 1, 1)
            _check_is(found, "activation", "linear", place)
            _check_linear(
                found.children().get("affine"),
                given[f"{place}.affine.weight"],
                f"{place}.affine",
                1.0,
                "linear",
            )
    if len(set(clamps.values())) > 1:
        first = next(iter(clamps.values()))
        place = next(place for place, clamp in clamps.items() if clamp != first)
        raise UserError(
            f"its layers are not all of one kind: {place} has conv_clamp={clamps[place]:g}, not {first:g}"
        )
    if len(architectures) > 1 or next(iter(architectures)) not in ("orig", "skip", "resnet"):
        raise UserError(
            f"its blocks are of the kinds {', '.join(architectures)}; only one of orig, skip and resnet can "
            "be imported"
        )
    depth, classes, rate = _nvidia_mapping(mapping, given, weights)
    given.check_all_used(("resample_filter",))
    settings = _settings(weights, count, depth, classes, rate)
    settings |= {"architecture": next(iter(architectures)), "clamp": next(iter(clamps.values()))}
    return settings, weights


def _clamp(layer: Module, place: str) -> float:
    value = _plain(layer.state.get("conv_clamp"), f"{place}.conv_clamp") or 0.0
    if isinstance(value, str) or not 0 <= value < math.inf:
        raise UserError(f"its {place} has conv_clamp={value!r}, which is not a limit")
    return float(value)


def _nvidia_mapping(mapping: Module, given: "_Weights", weights: dict[str, Tensor]) -> tuple[int, int, float]:
    """Depth, classes and rate of the mapping network. Its weights are added to ``weights``."""
    parts = mapping.children()
    layers = [name for name in parts if name != "embed"]
    depth = len(layers)
    if sorted(layers) != sorted(f"fc{i}" for i in range(depth)):
        raise UserError(f"its mapping network has the parts {', '.join(layers)[:80]}; expected fc0, fc1, ...")
    if depth == 0:
        raise UserError("its mapping network has no layers")
    if not isinstance(parts["fc0"], Module):
        raise UserError("its mapping.fc0 is not a layer")
    if _plain(mapping.state.get("z_dim"), "mapping.z_dim") == 0:
        raise UserError("its mapping network takes no latents (z_dim=0)")
    rate = _plain(parts["fc0"].state["bias_gain"], "mapping.fc0.bias_gain")
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise UserError(f"its mapping.fc0 has bias_gain={rate!r}, which is not a rate")
    style = given[f"mapping.fc{depth - 1}.weight"].shape[0]
    for i in range(depth):
        place = f"mapping.fc{i}"
        for kind in ("weight", "bias"):
            weights[f"mapping_network.layers.{i}.{kind}"] = given[f"{place}.{kind}"]
        _check_linear(parts[f"fc{i}"], given[f"{place}.weight"], place, float(rate), "lrelu")
        if given[f"{place}.weight"].shape[0] != style:
            raise UserError(
                f"its {place} has {given[f'{place}.weight'].shape[0]} entries (layer_features); only as many "
                f"as the style has, {style}, can be imported"
            )
    classes = 0
    if "embed" in parts:
        weight = given["mapping.embed.weight"]
        _check_linear(parts["embed"], weight, "mapping.embed", 1.0, "linear")
        if weight.shape[0] != style:
            raise UserError(
                f"its mapping.embed has {weight.shape[0]} entries (embed_features); only as many "
                f"as the style has, {style}, can be imported"
            )
        classes = weight.shape[1]
        for kind in ("weight", "bias"):
            weights[f"mapping_network.label.{kind}"] = given[f"mapping.embed.{kind}"]
    if "mapping.w_avg" in given:
        weights["w_average"] = given["mapping.w_avg"]
    return depth, classes, float(rate)


def _check_side(side: int) -> None:
    if side > MAX_SIDE:
        raise UserError(f"its images are {side:,} pixels wide; at most {MAX_SIDE:,} can be imported")


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
    name = f"{theirs}weight" if style == "affine" else f"{theirs}conv.weight"
    weight = given[name]
    if weight.ndim < 4 or weight.shape[-2:] != (1, 1) or 0 in weight.shape:
        raise UserError(
            f"its {name} has the shape {tuple(weight.shape)}; only kernels of 1×1 can be imported"
        )
    return {
        f"{ours}weight": weight.reshape(weight.shape[-4], weight.shape[-3]),
        f"{ours}bias": given[f"{theirs}bias"].flatten(),
        f"{ours}style.weight": given[f"{theirs}{style}.weight"],
        f"{ours}style.bias": given[f"{theirs}{style}.bias"],
    }


# rosinality's format: the 4x4 layers have names of their own, then come pairs of convolutions.


def _of_rosinality(stored: Mapping[str, Any], average: Any) -> Found:
    tensors = {str(name): value for name, value in stored.items() if isinstance(value, StoredTensor)}
    given = _Weights(values(tensors))
    if "input.input" not in given or "conv1.conv.weight" not in given:
        raise UserError("its generator's weights are not StyleGAN2's as rosinality's code names them")
    _check_filters(given)
    count = 1 + sum(name.startswith("to_rgbs.") and name.endswith(".conv.weight") for name in given)
    if count < 2:
        raise UserError("its generator has one size only")
    _check_side(4 * 2 ** min(count - 1, 64))
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
    given.check_all_used(("blur.kernel", "upsample.kernel"))
    return _settings(weights, count, depth, 0, 0.01), weights


def _settings(
    weights: Mapping[str, Tensor], count: int, depth: int, classes: int, rate: float
) -> dict[str, Any]:
    """The model's settings, from the shapes of its weights."""
    if depth < 1:
        raise UserError("its mapping network has no layers")
    for name, tensor in weights.items():
        if 0 in tensor.shape or not tensor.is_floating_point():
            raise ValueError(f"{name} is empty or not a floating-point tensor")
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
    """UserError unless the filters in the file are [1, 3, 3, 1], the only one that is supported."""
    expected = FILTER[:, None] * FILTER
    for name, tensor in given.items():
        if name.endswith(("resample_filter", "blur.kernel", "upsample.kernel")):
            taps = tensor.float() / tensor.sum()
            if taps.shape != expected.shape or not torch.allclose(taps, expected, atol=1e-6):
                raise UserError("it resamples with another filter than the supported [1, 3, 3, 1]")
