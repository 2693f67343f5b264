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
from omokage.families import build_discriminator
from omokage.interop.stylegan2 import import_stylegan2
from omokage.model import load_model
from omokage.models.stylegan2 import Discriminator, Generator
from omokage.running import train
from omokage.sampling import latents
from omokage.settings import Settings
from omokage.snapshot import newest_snapshot, read_snapshot

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
        torch.testing.assert_close(
            model.decode(z, Settings(psi=psi)), generator.decode(z, psi).clamp(-1, 1), atol=1e-6, rtol=0
        )
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
    torch.testing.assert_close(model.decode(z), generator.decode(z).clamp(-1, 1), atol=1e-6, rtol=0)
    # The file has no average style, so it is that of many latents.
    mean = generator.mapping_network(torch.randn(20_000, 12)).mean(0)
    assert (model.network.w_average - mean).abs().max() < 0.1 * mean.std()
    torch.save({**held, "latent_avg": generator.w_average}, tmp_path / "average.pt")
    model = load_model(import_stylegan2(tmp_path / "average.pt", tmp_path / "out.safetensors"), "cpu")
    torch.testing.assert_close(
        model.decode(z, Settings(psi=0.5)), generator.decode(z, 0.5).clamp(-1, 1), atol=1e-6, rtol=0
    )


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


def changed(part, change):
    """Makes of a persistent thing one whose state differs; ``part`` is a path like "mapping.fc0"."""

    def apply(held):
        place = held
        for name in filter(None, part.split(".")):
            place = place.meta["state"]["_modules"][name]
        change(place.meta["state"])

    return apply


def parameter(name, tensor):
    return lambda state: state["_parameters"].__setitem__(name, torch.nn.Parameter(tensor))


REFUSED = {
    "activation of the mapping network": (
        "mapping.fc1",
        {"activation": "linear"},
        "mapping.fc1",
        "activation",
    ),
    "of its first layer": ("mapping.fc0", {"activation": "relu"}, "mapping.fc0", "'relu'"),
    "rate of a layer": ("mapping.fc1", {"bias_gain": 1.0}, "mapping.fc1", "bias_gain"),
    "scale of a layer": ("mapping.fc1", {"weight_gain": 1.0}, "mapping.fc1", "weight_gain"),
    "scale in numpy's type": ("mapping.fc1", {"weight_gain": np.float64(3.0)}, "mapping.fc1", "weight_gain"),
    "embedding's activation": ("mapping.embed", {"activation": "lrelu"}, "mapping.embed", "activation"),
    "embedding's scale": ("mapping.embed", {"bias_gain": 0.01}, "mapping.embed", "bias_gain"),
    "activation of a style": (
        "synthesis.b8.conv0.affine",
        {"activation": "lrelu"},
        "b8.conv0.affine",
        "'lrelu'",
    ),
    "activation of a layer": ("synthesis.b8.conv0", {"activation": "swish"}, "synthesis.b8.conv0", "'swish'"),
    "gain of a layer": (
        "synthesis.b8.conv1",
        {"act_gain": np.float64(1.0)},
        "synthesis.b8.conv1",
        "act_gain",
    ),
    "size of a layer": ("synthesis.b8.conv1", {"up": 2}, "synthesis.b8.conv1", "up=2"),
    "limit of a layer": ("synthesis.b16.conv1", {"conv_clamp": 256}, "synthesis.b16.conv1", "conv_clamp"),
    "limit of an image": ("synthesis.b16.torgb", {"conv_clamp": 1}, "synthesis.b16.torgb", "conv_clamp"),
    "activation of an image": (
        "synthesis.b16.torgb",
        {"activation": "tanh"},
        "synthesis.b16.torgb",
        "'tanh'",
    ),
    "activation of a skip": ("synthesis.b16.skip", {"activation": "lrelu"}, "synthesis.b16.skip", "'lrelu'"),
    "limit of a skip": ("synthesis.b16.skip", {"conv_clamp": 9}, "synthesis.b16.skip", "conv_clamp"),
    "gain of a skip": ("synthesis.b16.skip", {"act_gain": 2.0}, "synthesis.b16.skip", "act_gain"),
    "kernel of a skip": (
        "synthesis.b16.skip",
        parameter("weight", torch.ones(6, 8, 3, 3)),
        "synthesis.b16.skip",
        "1×1",
    ),
    "bias of a skip": ("synthesis.b16.skip", parameter("bias", torch.ones(6)), "synthesis.b16.skip", "bias"),
    "kernel of an image": (
        "synthesis.b16.torgb",
        parameter("weight", torch.ones(3, 6, 3, 3)),
        "synthesis.b16.torgb",
        "1×1",
    ),
    "kernel of a layer": (
        "synthesis.b8.conv1",
        parameter("weight", torch.ones(8, 8, 5, 5)),
        "synthesis.b8.conv1",
        "3×3",
    ),
    "embedded features": (
        "mapping.embed",
        parameter("weight", torch.ones(7, 3)),
        "mapping.embed",
        "embed_features",
    ),
    "layer features": (
        "mapping.fc0",
        parameter("weight", torch.ones(9, 28)),
        "mapping.fc0",
        "layer_features",
    ),
    "kind of a block": ("synthesis.b8", {"architecture": "other"}, "other", "orig, skip and resnet"),
    "no latents": ("mapping", {"z_dim": 0}, "mapping", "no latents"),
    "further weights": (
        "mapping",
        parameter("attention", torch.ones(3)),
        "mapping.attention",
        "not StyleGAN2's",
    ),
    "weights of a layer": (
        "synthesis.b8.conv1",
        parameter("gate", torch.ones(3)),
        "synthesis.b8.conv1.gate",
        "not StyleGAN2's",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_would_draw_other_images_are_refused_by_name(theirs, tmp_path, name):
    part, change, *words = REFUSED[name]
    held = as_nvidia(trained(depth=2, classes=3, architecture="resnet"), "resnet")
    changed(part, change if callable(change) else lambda state: state.update(change))(held)
    theirs(tmp_path / "network.pkl", {"G_ema": held})
    with pytest.raises(UserError) as caught:
        import_stylegan2(tmp_path / "network.pkl", tmp_path / "out.safetensors")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("attribute", ["activation", "conv_clamp"])
def test_attributes_that_are_tuples_of_tuples_without_end_are_not_looked_at(theirs, tmp_path, attribute):
    endless = ()
    for _ in range(100):
        endless = (endless, endless)
    held = as_nvidia(trained(depth=2), "skip")
    changed("synthesis.b8.conv0", lambda state: state.update({attribute: endless}))(held)
    theirs(tmp_path / "network.pkl", {"G_ema": held})
    with pytest.raises(UserError, match="neither a number nor a text"):
        import_stylegan2(tmp_path / "network.pkl", tmp_path / "out.safetensors")


@pytest.mark.parametrize(("place", "name"), [("mapping", "norm"), ("synthesis.b8", "conv2")])
def test_a_further_layer_is_refused_by_name(theirs, tmp_path, place, name):
    held = as_nvidia(trained(depth=2), "skip")
    changed(place, lambda state: state["_modules"].update({name: Persistent("Layer")}))(held)
    theirs(tmp_path / "network.pkl", {"G_ema": held})
    with pytest.raises(UserError, match=name):
        import_stylegan2(tmp_path / "network.pkl", tmp_path / "out.safetensors")


def test_weights_of_rosinalitys_that_are_not_stylegan2s_are_refused_by_name(tmp_path):
    held = as_rosinality(trained(depth=2)) | {"convs.0.attention.weight": torch.ones(3)}
    torch.save({"g_ema": held}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"convs\.0\.attention\.weight"):
        import_stylegan2(tmp_path / "model.pt", tmp_path / "out.safetensors")


def test_what_a_file_lacks_is_told_in_a_sentence(tmp_path):
    told = []
    held = as_rosinality(trained(depth=2))
    torch.save({"g": held}, tmp_path / "model.pt")
    out = import_stylegan2(tmp_path / "model.pt", tmp_path / "out.safetensors", tell=told.append)
    assert len(told) == 2
    assert "no averaged weights (g_ema)" in told[0]
    assert "no average style" in told[1]
    assert [
        f"{tmp_path / 'model.pt'}: {note}" for note in load_model(out).progress["imported"]["notes"]
    ] == told
    told.clear()
    torch.save({"g_ema": held, "latent_avg": torch.zeros(16)}, tmp_path / "whole.pt")
    import_stylegan2(tmp_path / "whole.pt", tmp_path / "out.safetensors", tell=told.append)
    assert told == []


def test_a_file_cannot_ask_for_a_network_larger_than_itself(tmp_path):
    held = as_rosinality(trained(depth=2))
    torch.save({"g_ema": held | {"convs.0.conv.weight": torch.ones(1, 10**7, 1, 1, 1)}}, tmp_path / "wide.pt")
    with pytest.raises(UserError, match="do not fit together"):
        import_stylegan2(tmp_path / "wide.pt", tmp_path / "out.safetensors")
    many = held | {
        name.replace("convs.3.", f"convs.{i}."): tensor
        for i in range(4, 60)
        for name, tensor in held.items()
        if name.startswith("convs.3.")
    }
    many |= {
        name.replace("to_rgbs.1.", f"to_rgbs.{i}."): tensor
        for i in range(2, 30)
        for name, tensor in held.items()
        if name.startswith("to_rgbs.1.")
    }
    torch.save({"g_ema": many}, tmp_path / "deep.pt")
    with pytest.raises(UserError, match="pixels wide"):
        import_stylegan2(tmp_path / "deep.pt", tmp_path / "out.safetensors")


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
    assert result.stdout.strip() == str(out)
    assert result.stderr.count("\n") == 1
    assert "no average style" in result.stderr
    assert load_model(out).resolution == (16, 16)

    class Hostile:
        def __reduce__(self):
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile()))
    assert main(["import", str(tmp_path / "hostile.pkl"), "-o", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "ran").exists()


class TestDiscriminators:
    """They are taken too, so that a training can go on; one of another kind is left out with a note."""

    def judge(self) -> Discriminator:
        torch.manual_seed(1)
        judge = Discriminator(resolution=(16, 16), channels=(10, 8, 6)).eval().requires_grad_(False)
        for name, parameter in judge.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
        return judge

    def as_nvidia(self, judge: Discriminator, **more) -> Persistent:
        def layer(of, activation="lrelu", down=1):
            kinds = {"weight": of.weight} | ({"bias": of.bias} if of.bias is not None else {})
            taps = {"resample_filter": FILTER}
            return Persistent("Conv2dLayer", kinds, taps, activation=activation, down=down)

        blocks = {}
        for i, block in enumerate(judge.blocks):
            parts = {"fromrgb": layer(judge.from_images[0])} if i == 0 else {}
            parts |= {
                "conv0": layer(block.first),
                "conv1": layer(block.second, down=2),
                "skip": layer(block.skip, "linear", 2),
            }
            blocks[f"b{16 >> i}"] = Persistent("DiscriminatorBlock", (), {"resample_filter": FILTER}, parts)
        last = {
            "mbstd": Persistent("MinibatchStdLayer", group_size=4, num_channels=1),
            "conv": layer(judge.last),
            "fc": linear(judge.dense),
            "out": linear(judge.logit),
        }
        blocks["b4"] = Persistent("DiscriminatorEpilogue", modules=last)
        return Persistent("Discriminator", modules=blocks | more)

    def as_rosinality(self, judge: Discriminator) -> dict[str, torch.Tensor]:
        named = {"convs.0.0.weight": judge.from_images[0].weight, "convs.0.1.bias": judge.from_images[0].bias}
        for i, block in enumerate(judge.blocks, 1):
            named |= {
                f"convs.{i}.conv1.0.weight": block.first.weight,
                f"convs.{i}.conv1.1.bias": block.first.bias,
                f"convs.{i}.conv2.0.kernel": FILTER,
                f"convs.{i}.conv2.1.weight": block.second.weight,
                f"convs.{i}.conv2.2.bias": block.second.bias,
                f"convs.{i}.skip.0.kernel": FILTER,
                f"convs.{i}.skip.1.weight": block.skip.weight,
            }
        ends = {"final_conv.0": "last", "final_linear.0": "dense", "final_linear.1": "logit"}
        for theirs, ours in ends.items():
            named[f"{theirs}.weight"] = getattr(judge, ours).weight
            named[f"{theirs}.bias"] = getattr(judge, ours).bias
        named["final_conv.1.bias"] = named.pop("final_conv.0.bias")
        return named

    @pytest.mark.parametrize("kind", ["nvidia", "rosinality"])
    def test_a_training_goes_on_with_both_networks(self, kind, theirs, tmp_path, tagged_faces):
        generator, judge, told = trained(depth=2), self.judge(), []
        source = tmp_path / f"network.{'pkl' if kind == 'nvidia' else 'pt'}"
        if kind == "nvidia":
            theirs(source, {"D": self.as_nvidia(judge), "G_ema": as_nvidia(generator, "skip")})
        else:
            held = {"g_ema": as_rosinality(generator), "d": self.as_rosinality(judge)}
            torch.save({**held, "latent_avg": generator.w_average}, source)
        out = import_stylegan2(source, tmp_path / "out.safetensors", told.append)
        assert "its discriminator was taken too" in told[-1]
        weights, recipe, _ = read_snapshot(out, "networks.discriminator.")
        again = build_discriminator(recipe.discriminator)
        again.load_state_dict(weights)
        images = torch.rand(4, 3, 16, 16) * 2 - 1
        torch.testing.assert_close(again(images), judge(images))

        run = tmp_path / "run"
        slow = {"training.learning_rate": {"default": 1e-9}, "training.batch": 4}
        train(str(out.with_suffix(".toml")), tagged_faces.path, run, images=4, start=out, overrides=slow)
        after = read_snapshot(newest_snapshot(run), "networks.")[0]
        for name, weight in weights.items():
            torch.testing.assert_close(after[f"discriminator.{name}"], weight, atol=1e-5, rtol=1e-4)
        first = "blocks.0.convolutions.0.weight"
        torch.testing.assert_close(
            after[f"generator.{first}"], generator.state_dict()[first], atol=1e-5, rtol=1e-4
        )

    def test_others_are_left_out_with_a_note(self, theirs, tmp_path):
        told = []
        classes = self.as_nvidia(self.judge(), mapping=Persistent("MappingNetwork"))
        theirs(tmp_path / "n.pkl", {"D": classes, "G_ema": as_nvidia(trained(), "skip")})
        out = import_stylegan2(tmp_path / "n.pkl", tmp_path / "out.safetensors", told.append)
        assert "its discriminator is left out (it judges classes)" in told[0]
        assert not out.with_suffix(".toml").exists()
        assert not read_snapshot(out, "networks.")[0]
