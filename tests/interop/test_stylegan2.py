"""Files with the structure of NVIDIA's and rosinality's, made here of the weights of a generator of ours."""

import argparse
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omokage.__main__ import app, main
from omokage.errors import UserError
from omokage.interop.stylegan2 import import_stylegan2
from omokage.model import load_model
from omokage.models.stylegan2 import Generator
from omokage.sampling import latents
from omokage.settings import Settings

FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


def trained(**settings) -> Generator:
    """A generator whose every weight counts."""
    torch.manual_seed(0)
    generator = Generator(latent=12, style=16, resolution=(16, 16), channels=(10, 8, 6), **settings).eval()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(0.3 * torch.randn_like(parameter))
        generator.w_average.copy_(torch.randn(16) / 3)
    return generator.requires_grad_(False)


class Persistent:
    """Pickles as NVIDIA's networks do: with source code that is executed where they are loaded."""

    def __init__(self, class_name, parameters=(), buffers=(), modules=(), **attributes):
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit('the source was executed')",
            "class_name": class_name,
            "state": {
                "training": False,
                "_parameters": {name: torch.nn.Parameter(p) for name, p in dict(parameters).items()},
                "_buffers": dict(buffers),
                "_modules": dict(modules),
                **attributes,
            },
        }

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


@pytest.fixture
def theirs(monkeypatch):
    """The modules that their pickles name, there while a test writes and gone when it reads."""

    def _reconstruct_persistent_obj(meta):
        raise SystemExit("called")

    class EasyDict(dict):
        pass

    names = {"torch_utils.persistence": _reconstruct_persistent_obj, "dnnlib.util": EasyDict}
    for place, thing in names.items():
        thing.__module__, thing.__qualname__ = place, thing.__name__
        for name in (place.split(".")[0], place):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        setattr(sys.modules[place], thing.__name__, thing)

    def write(path, content):
        path.write_bytes(pickle.dumps({"training_set_kwargs": EasyDict(path="faces.zip"), **content}))
        for place in names:
            monkeypatch.delitem(sys.modules, place)

    return write


def linear(layer, rate=1.0):
    return Persistent(
        "FullyConnectedLayer",
        {"weight": layer.weight, "bias": layer.bias},
        bias_gain=rate,
        weight_gain=np.float64(rate) / np.sqrt(layer.weight.shape[1]),
    )


def as_nvidia(generator, architecture, clamp=None, activation="lrelu", taps=FILTER):
    blocks = {}
    for i, block in enumerate(generator.blocks):
        layers = {}
        for name, layer in zip(["conv1"] if i == 0 else ["conv0", "conv1"], block.convolutions, strict=True):
            layers[name] = Persistent(
                "SynthesisLayer",
                {"weight": layer.weight, "noise_strength": layer.noise_strength, "bias": layer.bias},
                {"resample_filter": taps, "noise_const": layer.noise},
                {"affine": linear(layer.style)},
                activation=activation,
                conv_clamp=clamp,
                act_gain=np.sqrt(2),
            )
        if block.to_image is not None:
            image = block.to_image
            layers["torgb"] = Persistent(
                "ToRGBLayer",
                {"weight": image.weight[:, :, None, None], "bias": image.bias},
                modules={"affine": linear(image.style)},
                conv_clamp=clamp,
            )
        if block.skip is not None:
            layers["skip"] = Persistent("Conv2dLayer", {"weight": block.skip.weight})
        constant = {"const": block.constant} if i == 0 else {}
        blocks[f"b{4 * 2**i}"] = Persistent(
            "SynthesisBlock", constant, {"resample_filter": taps}, layers, architecture=architecture
        )
    network = generator.mapping_network
    maps = {f"fc{i}": linear(layer, 0.01) for i, layer in enumerate(network.layers)}
    if network.label is not None:
        maps["embed"] = linear(network.label)
    mapping = Persistent("MappingNetwork", {}, {"w_avg": generator.w_average}, maps)
    synthesis = Persistent("SynthesisNetwork", modules=blocks)
    return Persistent("Generator", modules={"synthesis": synthesis, "mapping": mapping}, z_dim=12)


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize(("classes", "depth", "clamp"), [(0, 8, None), (3, 2, 256)])
def test_a_generator_of_nvidias_draws_the_same_images(theirs, tmp_path, architecture, classes, depth, clamp):
    about = {"architecture": architecture, "classes": classes, "depth": depth, "clamp": float(clamp or 0)}
    generator = trained(**about)
    held = as_nvidia(generator, architecture, clamp)
    theirs(tmp_path / "network.pkl", {"G": held, "D": Persistent("Discriminator"), "G_ema": held})
    model = load_model(import_stylegan2(tmp_path / "network.pkl", tmp_path / "out.safetensors"), "cpu")
    z = latents(range(3), model.latent_shape)
    assert model.latent_shape == (12 + classes,)
    for psi in (1.0, 0.5):
        found = model.decode(z, Settings(psi=psi))
        torch.testing.assert_close(found, generator.decode(z, psi), atol=1e-6, rtol=0)
    assert model.recipe.model["clamp"] == about["clamp"]
    assert model.resolution == (16, 16)
    assert model.progress["imported"]["file"] == "network.pkl"


def as_rosinality(generator):
    named = {"input.input": generator.blocks[0].constant[None]}
    for i, layer in enumerate(generator.mapping_network.layers):
        named |= {f"style.{i + 1}.weight": layer.weight, f"style.{i + 1}.bias": layer.bias}
    number = 0
    for i, block in enumerate(generator.blocks):
        for j, layer in enumerate(block.convolutions):
            place = "conv1" if i == 0 else f"convs.{2 * i - 2 + j}"
            named |= {
                f"{place}.conv.weight": layer.weight[None],
                f"{place}.conv.modulation.weight": layer.style.weight,
                f"{place}.conv.modulation.bias": layer.style.bias,
                f"{place}.noise.weight": layer.noise_strength[None],
                f"{place}.activate.bias": layer.bias,
                f"noises.noise_{number}": layer.noise[None, None],
            }
            if layer.up:
                named[f"{place}.conv.blur.kernel"] = FILTER * 4
            number += 1
        place = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
        named |= {
            f"{place}.bias": block.to_image.bias.view(1, 3, 1, 1),
            f"{place}.conv.weight": block.to_image.weight[None, :, :, None, None],
            f"{place}.conv.modulation.weight": block.to_image.style.weight,
            f"{place}.conv.modulation.bias": block.to_image.style.bias,
        }
    return named


@pytest.mark.parametrize("newer", [True, False])
def test_a_checkpoint_of_rosinalitys_draws_the_same_images(tmp_path, newer):
    generator = trained(depth=4)
    held = {
        "g": {},
        "g_ema": as_rosinality(generator),
        "g_optim": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-3, "betas": (0.0, 0.99)}]},
        "args": argparse.Namespace(size=16),
        "ada_aug_p": 0.1,
    }
    torch.save(held, tmp_path / "000100.pt", _use_new_zipfile_serialization=newer)
    model = load_model(import_stylegan2(tmp_path / "000100.pt", tmp_path / "out.safetensors"), "cpu")
    z = latents(range(3), model.latent_shape)
    torch.testing.assert_close(model.decode(z), generator.decode(z), atol=1e-6, rtol=0)
    # The file has no average style, so it is that of many latents.
    mean = generator.mapping_network(torch.randn(20_000, 12)).mean(0)
    assert (model.network.w_average - mean).abs().max() < 0.1 * mean.std()
    torch.save({**held, "latent_avg": generator.w_average}, tmp_path / "average.pt")
    model = load_model(import_stylegan2(tmp_path / "average.pt", tmp_path / "out.safetensors"), "cpu")
    found = model.decode(z, Settings(psi=0.5))
    torch.testing.assert_close(found, generator.decode(z, 0.5), atol=1e-6, rtol=0)


def test_networks_of_stylegan3s_type_are_refused_by_name(theirs, tmp_path):
    waves = Persistent("SynthesisInput", buffers={"freqs": torch.zeros(3, 2)})
    synthesis = Persistent(
        "SynthesisNetwork", modules={"input": waves, "L0_36_512": Persistent("SynthesisLayer")}
    )
    held = Persistent("Generator", modules={"synthesis": synthesis, "mapping": Persistent("MappingNetwork")})
    theirs(tmp_path / "network.pkl", {"G_ema": held})
    with pytest.raises(UserError, match="StyleGAN3's type") as caught:
        import_stylegan2(tmp_path / "network.pkl", tmp_path / "out.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"activation": "relu"}, "'relu'"), ({"taps": torch.ones(2, 2) / 4}, "another filter")],
)
def test_what_would_draw_other_images_is_refused(theirs, tmp_path, change, words):
    theirs(tmp_path / "network.pkl", {"G_ema": as_nvidia(trained(depth=1), "skip", **change)})
    with pytest.raises(UserError, match=words):
        import_stylegan2(tmp_path / "network.pkl", tmp_path / "out.safetensors")


@pytest.mark.parametrize("content", [{}, [1], {"g_ema": {"weight": 1}}, {"state_dict": {}}, 7])
def test_files_without_a_generator_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(UserError, match="generator"):
        import_stylegan2(tmp_path / "other.pt", tmp_path / "out.safetensors")
    with pytest.raises(UserError, match=r"out\.safetensors"):
        import_stylegan2(tmp_path / "other.pt", tmp_path / "out.pkl")


def test_missing_weights_and_wrong_shapes_are_refused_in_one_line(tmp_path):
    whole = as_rosinality(trained(depth=2))
    for change in ("convs.1.conv.weight", "to_rgbs.0.bias", "style.1.weight"):
        for broken in (
            {k: v for k, v in whole.items() if k != change},
            {**whole, change: torch.ones(1, 2, 3)},
        ):
            torch.save({"g_ema": broken}, tmp_path / "broken.pt")
            with pytest.raises(UserError, match=r"broken\.pt") as caught:
                import_stylegan2(tmp_path / "broken.pt", tmp_path / "out.safetensors")
            assert "\n" not in str(caught.value)


def test_the_command(tmp_path, capsys):
    torch.save({"g_ema": as_rosinality(trained(depth=2))}, tmp_path / "model.pt")
    out = tmp_path / "out.safetensors"
    result = CliRunner().invoke(app, ["import", str(tmp_path / "model.pt"), "-o", str(out)])
    assert result.output.strip() == str(out)
    assert load_model(out).resolution == (16, 16)

    class Hostile:
        def __reduce__(self):
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile()))
    assert main(["import", str(tmp_path / "hostile.pkl"), "-o", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "ran").exists()
