"""Every family as an ONNX file: it draws what PyTorch draws, for any number of faces, or it is refused."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from standins import CONDITIONS, SMALLEST, small_model

from omokage.abilities import DrawsBySteps
from omokage.errors import UserError
from omokage.families import MODELS
from omokage.interop.onnx import LIMIT, compared, export_onnx, exported, parts, sessions
from omokage.model import Model
from omokage.sampling import latents
from omokage.settings import Settings

onnx = pytest.importorskip("onnx", reason="ONNX is not installed (pip install 'omokage[onnx]')")
runtime = pytest.importorskip("onnxruntime")

# As small as they get: the exporter's time grows with the number of layers.
TINIER = {
    "glow": {"size": 8},
    "illustration": {"channels": [8]},
    "pixel-transformer": {"size": 8, "width": 8},
    "progan": {"resolution": [8, 8], "channels": [8, 8]},
    "r3gan": {"channels": [8, 8]},
    "realnvp": {"size": 8, "scales": 2, "blocks": 0},
    "sagan": {"channels": [8, 8]},
    "stylegan": {"resolution": [8, 8], "channels": [8, 8]},
    "stylegan2": {"resolution": [8, 8], "channels": [8, 8]},
    "unet": {"size": 8, "channels": [8], "attention_at": 8},
    # One that mixes the entries of tokens and removes noise, which needs the derivative of the density.
    "tarflow": {"size": 8, "noise": 0.05, "mixed": True, "blocks": 1},
}


def tiny(name, monkeypatch, conditions=None) -> Model:
    if name in TINIER:
        monkeypatch.setitem(SMALLEST, name, {**SMALLEST.get(name, {}), **TINIER[name]})
    return small_model(name, conditions)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_family_draws_the_same_in_onnx(name, monkeypatch) -> None:
    model = tiny(name, monkeypatch)
    proto = exported(model)
    (taken,), (given,) = proto.graph.input, proto.graph.output
    assert (taken.name, given.name) == ("z", "image")
    assert taken.type.tensor_type.shape.dim[0].dim_param  # any number of faces
    if model.can(DrawsBySteps):  # and not its network once for each step
        assert [node.op_type for node in proto.graph.node].count("Loop") == 1
    data, difference = compared(model, "decode", proto)
    assert difference <= LIMIT
    told = json.loads(next(p.value for p in onnx.load_from_string(data).metadata_props if p.key == "omokage"))
    assert told["family"] == name
    assert told["latent_shape"] == list(model.latent_shape)
    monkeypatch.setattr("omokage.interop.onnx.HALF_LIMIT", 0.1)  # random weights are sensitive
    small, difference = compared(model, "decode", proto, half=True)
    assert len(small) < len(data)
    assert difference > LIMIT / 100
    monkeypatch.setattr("omokage.interop.onnx.HALF_LIMIT", difference / 2)
    with pytest.raises(UserError, match="nothing was written; export it without --half"):
        compared(model, "decode", proto, half=True)


def test_an_encoder_beside_its_decoder(monkeypatch, tmp_path) -> None:
    model = tiny("vae", monkeypatch)
    written = export_onnx(model, tmp_path / "vae.onnx", with_parts=True)
    assert [path.name for path in written] == ["vae.onnx", "vae-encode.onnx"]
    images = model.decode(latents(range(5), model.latent_shape))
    (z,) = runtime.InferenceSession(written[1]).run(None, {"image": images.numpy()})
    assert torch.allclose(torch.from_numpy(z), model.encode(images), atol=1e-4)


def test_a_flow_goes_both_ways(monkeypatch) -> None:
    model = tiny("glow", monkeypatch)
    assert parts(model) == ["encode"]
    images = model.decode(latents(range(5), model.latent_shape))
    z = sessions(model).encode(images)
    assert torch.allclose(z, model.encode(images), atol=1e-4)
    assert torch.allclose(model.decode(z), images, atol=1e-3)


def test_of_a_denoiser_only_the_recipes_own_steps_are_exported(monkeypatch) -> None:
    drawn = sessions(tiny("unet", monkeypatch))
    for other in (Settings(sampler="euler"), Settings(sampler_steps=5)):
        assert drawn.why_not(other) == "only the recipe's own steps of heun are exported"
    assert drawn.why_not(Settings(psi=0.5)) is None


class TestSessions:
    """What the studio draws previews with."""

    def test_styles_come_from_pytorch_and_images_from_the_runtime(self, monkeypatch) -> None:
        model = tiny("stylegan2", monkeypatch, CONDITIONS)
        drawn, z = sessions(model), latents(range(3), model.latent_shape)
        settings = Settings(psi=(0.5, 1.0, -0.5), conditions={"eyes": "green"}, layers=2)
        assert torch.allclose(drawn.decode(z, settings), model.decode(z, settings), atol=LIMIT)
        assert drawn.why_not(Settings(noise="none")) == "only constant noise is exported"
        with pytest.raises(UserError, match="only constant noise"):
            drawn.decode(z, Settings(noise="none"))

    def test_psi_and_conditions_of_a_family_without_styles(self, monkeypatch) -> None:
        model = tiny("skipgan", monkeypatch, CONDITIONS)
        drawn, z = sessions(model), latents(range(24), model.latent_shape)
        assert "psi of skipgan" in str(drawn.why_not(Settings(psi=0.7)))  # its centre is not known
        model.network.network.location.move(torch.linspace(-1, 1, 8), torch.eye(8) * 1.5)
        for settings in (Settings(psi=0.7), Settings(conditions={"hair": "red"})):
            assert torch.allclose(drawn.decode(z, settings), model.decode(z, settings), atol=LIMIT)

    def test_a_graph_is_kept_under_the_hash_of_its_snapshot(self, monkeypatch, tmp_path) -> None:
        monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path))
        model = replace(tiny("dcgan", monkeypatch), path=tmp_path / "a", snapshot_hash="ab" * 32)
        z = latents([5], model.latent_shape)
        first = sessions(model).decode(z)
        (kept,) = (tmp_path / "onnx").iterdir()
        assert kept.name.startswith("ab" * 32)
        before = kept.stat().st_mtime_ns
        assert torch.equal(sessions(model).decode(z), first)
        assert kept.stat().st_mtime_ns == before
        kept.write_bytes(b"cut off")
        assert torch.equal(sessions(model).decode(z), first)
        assert kept.stat().st_size > 1000


class TestRefusals:
    def test_a_difference_leaves_nothing(self, monkeypatch, tmp_path) -> None:
        model = tiny("dcgan", monkeypatch)
        monkeypatch.setattr("omokage.interop.onnx.LIMIT", 1e-9)
        with pytest.raises(UserError, match=r"dcgan, decode: ONNX Runtime differs .* allowed is 1e-09"):
            export_onnx(model, tmp_path / "model.onnx", with_parts=True)
        assert not list(tmp_path.iterdir())

    def test_names_and_packages(self, monkeypatch, tmp_path) -> None:
        model = tiny("dcgan", monkeypatch)
        with pytest.raises(UserError, match=r"must end in \.onnx"):
            export_onnx(model, tmp_path / "model.pt")
        with pytest.raises(UserError, match="dcgan has no styles"):
            exported(model, "mapping")
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(UserError, match=r"pip install 'omokage\[onnx\]' \(onnxscript is missing\)"):
            export_onnx(model, tmp_path / "model.onnx")
        assert not list(tmp_path.iterdir())
