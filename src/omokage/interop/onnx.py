"""Models as ONNX files, for programs without PyTorch, and as sessions of ONNX Runtime, for quick previews.

A file has one input and one output, each with any number of rows:

- "decode": ``z`` (N, *latent_shape), standard normal, to ``image`` (N, C, H, W) in [-1, 1].
- "mapping": ``z`` to styles ``w`` (N, layers, width). "synthesis": ``w`` to ``image``. Families with styles.
- "encode": ``image`` to ``z``. Families that can encode.

Before a file is written, ONNX Runtime runs it on 16 latents or images, and the result is compared with
PyTorch's.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..abilities import Encodes, HasStyles, Truncates
from ..data.text import one_line
from ..errors import UserError
from ..files import cache_folder, replacing
from ..model import PLAIN, Model
from ..models.conditional import unconditioned
from ..sampling import latents
from ..settings import Noises, Settings
from .exportable import Part, prepared

if TYPE_CHECKING:
    import onnxruntime

PartName = Literal["decode", "mapping", "synthesis", "encode"]
INPUTS: dict[PartName, tuple[str, str]] = {
    "decode": ("z", "image"),
    "mapping": ("z", "w"),
    "synthesis": ("w", "image"),
    "encode": ("image", "z"),
}
LIMIT, HALF_LIMIT = 1e-4, 5e-3  # largest differences from PyTorch, in images in [-1, 1]
CHECKED = 16  # latents or images that a file is compared on
OPSET = 20
VERSION = 1  # of the graphs; another number makes those in the cache anew
FORCED = 5.0  # entries of a latent that decide about a condition, see `Sessions`
INSTALL = "ONNX needs further packages: pip install 'omokage[onnx]'"


class Differs(UserError):
    """ONNX Runtime draws something else than PyTorch."""


def parts(model: Model) -> list[PartName]:
    """The parts that a model has beside "decode".

    >>> from omokage.model import load_model
    >>> parts(load_model("fast-64", "cpu")), parts(load_model("style-64", "cpu"))
    ([], ['mapping', 'synthesis'])
    """
    found: list[PartName] = []
    if model.can(HasStyles):
        found += ["mapping", "synthesis"]
    if model.can(Encodes):
        found.append("encode")
    return found


def export_onnx(
    model: Model,
    out: str | Path,
    *,
    half: bool = False,
    with_parts: bool = False,
    tell: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write ``out`` (latents to images) and, ``with_parts``, each further part beside it: its name between
    the stem and the suffix, like ``model-mapping.onnx``. Returns the paths.

    Args:
        half: store weights in half precision; a runtime computes in float32 all the same.
        tell: called with one sentence for each part, with its difference from PyTorch.

    Raises:
        UserError: a missing package, another ending than .onnx, a family that cannot be exported, or a
            difference from PyTorch above `LIMIT` (with ``half`` `HALF_LIMIT`). No file is written then.
    """
    out = Path(out)
    if out.suffix != ".onnx":
        raise UserError(f"-o {one_line(out)}: an ONNX file must end in .onnx")
    names: list[PartName] = ["decode", *(parts(model) if with_parts else ())]
    graphs = {}
    for name in names:
        graphs[name], difference = graph(model, name, half=half)
        if tell is not None:
            tell(f"{name}: at most {difference:.1g} from PyTorch on {CHECKED} faces")
    written = []
    for name, data in graphs.items():
        path = out if name == "decode" else out.with_name(f"{out.stem}-{name}.onnx")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                unfinished.write_bytes(data)
        except OSError as error:
            raise UserError(f"{one_line(path)}: cannot write: {error.strerror or error}") from None
        written.append(path)
    return written


def graph(model: Model, part: PartName = "decode", *, half: bool = False) -> tuple[bytes, float]:
    """One part of ``model`` as the bytes of an ONNX file, and its largest difference from PyTorch.

    Raises:
        UserError: as `export_onnx`, or the model has no such part.
    """
    return compared(model, part, exported(model, part), half=half)


def exported(model: Model, part: PartName = "decode") -> Any:
    """One part of ``model`` as ONNX's `ModelProto`, in float32, not yet compared with PyTorch.

    Raises:
        UserError: a missing package, a part that the model does not have, or a network that cannot be
            exported.
    """
    onnx, _ = _packages()
    if part != "decode" and part not in parts(model):
        model.require(Encodes if part == "encode" else HasStyles)
    taken, given = INPUTS[part]
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                Part(prepared(model.network), part),
                (_rows(model, part)[:3].contiguous(),),  # three, because a size of 1 would count as fixed
                dynamo=True,
                input_names=[taken],
                output_names=[given],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            name = model.recipe.model["name"]
            raise UserError(f"{name} cannot be exported to ONNX: {_why(error)}") from None
    assert program is not None
    proto = program.model_proto
    _single_erf(proto, onnx)
    return proto


def compared(model: Model, part: PartName, proto: Any, *, half: bool = False) -> tuple[bytes, float]:
    """The bytes of what `exported` made, and their largest difference from PyTorch.

    Styles and latents are compared in shares of their largest entry.

    Raises:
        Differs: the difference is too large.
        UserError: the file would be too large.
    """
    onnx, _ = _packages()
    own = onnx.ModelProto()
    own.CopyFrom(proto)
    _describe(own, model, part, half, onnx)
    if half:
        _halve(own, onnx)
    name = model.recipe.model["name"]
    try:
        onnx.checker.check_model(own)
        data = own.SerializeToString()
    except ValueError as error:  # protobuf's limit of 2 GB
        raise UserError(f"{name} cannot be written as one ONNX file: {one_line(error, 100)}") from None
    rows = _rows(model, part)
    drawn: Any = getattr(model, part)
    wanted = drawn(rows).cpu().float().numpy()
    session = _session(data, 1)
    found = np.concatenate([_run(session, rows[:1]), _run(session, rows[1:])])  # other numbers of rows
    scale = 1.0 if INPUTS[part][1] == "image" else max(1.0, float(np.nanmax(np.abs(wanted))))
    same = np.isnan(wanted) & np.isnan(found)
    difference = float(np.where(same, 0, np.abs(found - wanted)).max()) / scale
    limit = HALF_LIMIT if half else LIMIT
    if not difference <= limit:
        hint = "; export it without --half" if half else ""
        raise Differs(
            f"{name}, {part}: ONNX Runtime differs from PyTorch by {difference:.2g}, allowed is {limit:g}; "
            f"nothing was written{hint}"
        )
    return data, difference


def _rows(model: Model, part: PartName) -> Tensor:
    """What a part is compared on: latents of the first seeds, their styles, or the images of them."""
    z = latents(range(CHECKED), model.latent_shape)
    if part == "synthesis":
        return model.mapping(z).cpu().float()
    return model.decode(z).cpu().float() if part == "encode" else z


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it
    except ImportError as error:
        raise UserError(f"{INSTALL} ({error.name} is missing)") from None
    return onnx, onnxruntime


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter says much that is for its developers."""
    names = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _why(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error, 160)


def _describe(proto: Any, model: Model, part: PartName, half: bool, onnx: Any) -> None:
    """What the file is, for whoever finds it."""
    about = model.about
    proto.producer_name, proto.producer_version = "omokage", ""
    proto.doc_string = about.line(part)
    told = {
        "omokage": json.dumps(
            {
                "part": part,
                "family": model.recipe.model["name"],
                "recipe": about.recipe,
                "images": about.images_seen,
                "snapshot": about.snapshot_hash,
                "latent_shape": list(model.latent_shape),
                "resolution": list(model.resolution),
                "conditions": model.conditions,
                "storage": "float16" if half else "float32",
            }
        )
    }
    onnx.helper.set_model_props(proto, told)


def _single_erf(proto: Any, onnx: Any) -> None:
    """Error functions in float32: runtimes have none in float64. Values of conditions are drawn by one."""
    graphs = [proto.graph, *proto.functions]
    for each in graphs:
        nodes = []
        for node in each.node:
            if node.op_type != "Erf":
                nodes.append(node)
                continue
            (taken,), (given,) = node.input, node.output
            small, answer = f"{given}_single", f"{given}_of_single"
            kind = onnx.TensorProto
            nodes += [
                onnx.helper.make_node("Cast", [taken], [small], to=kind.FLOAT),
                onnx.helper.make_node("Erf", [small], [answer]),
                onnx.helper.make_node("CastLike", [answer, taken], [given]),
            ]
        del each.node[:]
        each.node.extend(nodes)


def _halve(proto: Any, onnx: Any) -> None:
    """Store weights in half precision, each followed by a cast to float32.

    Those of one dimension, which are small, and those beyond the range of half precision stay.
    """
    limit = float(np.finfo(np.float16).max)
    casts = []
    for stored in proto.graph.initializer:
        if stored.data_type != onnx.TensorProto.FLOAT or len(stored.dims) < 2:
            continue
        values = onnx.numpy_helper.to_array(stored)
        if not (np.abs(values) <= limit).all():
            continue
        name = stored.name
        stored.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        cast = onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT)
        casts.append(cast)
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    kept = [value for value in proto.graph.value_info if value.name not in {c.output[0] for c in casts}]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)


def _session(data: bytes, threads: int) -> "onnxruntime.InferenceSession":
    _, runtime = _packages()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _run(session: "onnxruntime.InferenceSession", rows: Tensor) -> np.ndarray:
    (taken,) = session.get_inputs()
    return session.run(None, {taken.name: rows.detach().cpu().float().contiguous().numpy()})[0]


class Sessions:
    """A model drawn by ONNX Runtime: several times as fast as PyTorch for single faces on a CPU.

    Images differ from PyTorch's by less than `LIMIT`, so it is for previews; `omokage.model.Model` is exact.
    It has the same methods. Graphs are made at the first use. They are kept in the cache folder under the
    hash of the snapshot, so the next process only reads them.

    Styles come from PyTorch's mapping network, which is small: psi, conditions and ``layers`` work as ever.

    Attributes:
        model: the model.
        threads: how many threads one call uses.
    """

    def __init__(self, model: Model, threads: int = 1) -> None:
        self.model, self.threads = model, threads
        self._open: dict[PartName, Any] = {}

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """As `Model.latent_shape`."""
        return self.model.latent_shape

    def why_not(self, settings: Settings = PLAIN) -> str | None:
        """Why faces with these settings cannot be drawn here, in one sentence; None: they can."""
        model = self.model
        if model.can(HasStyles):
            return None if settings.noise == "constant" else "only constant noise is exported"
        if settings.guidance or settings.jacobi:
            return "guidance and Jacobi iterations are not exported"
        if settings.sampler != PLAIN.sampler or settings.sampler_steps:
            return "only the recipe's own steps of heun are exported"
        if settings.psis != (1.0,) and model.can(Truncates) and not self._scales:
            return f"psi of {model.recipe.model['name']} is not exported"
        return None

    @property
    def _scales(self) -> bool:
        """Whether psi of a family with its own truncation is the same as a factor of the latents."""
        location = getattr(unconditioned(self.model.network), "location", None)
        return location is not None and bool(location.centre.any())

    def decode(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """As `Model.decode`.

        Raises:
            UserError: settings that `why_not` names, or as `export_onnx`.
        """
        if (why := self.why_not(settings)) is not None:
            raise UserError(why)
        if self.model.can(HasStyles):
            return self.synthesis(self.mapping(z, settings))
        settings.of(len(z))
        psi = torch.tensor(settings.psi).view(-1, *[1] * (z.dim() - 1))
        z = z * psi
        if self.model.conditions:
            z = self._forced(z, settings)
        return self._drawn("decode", z)

    def _forced(self, z: Tensor, settings: Settings) -> Tensor:
        """Latents whose last entries, which decide about the conditions, leave no doubt about them."""
        network: Any = self.model.network
        given = self.model.values(settings)
        values = network.drawn(z[:, network.latent :].to(self.model.device), given).cpu()
        rest = torch.cat(
            [
                torch.where(torch.arange(size) == values[:, i, None], FORCED, -FORCED)
                for i, size in enumerate(network.sizes)
            ],
            1,
        )
        return torch.cat([z[:, : network.latent], rest], 1)

    def mapping(self, z: Tensor, settings: Settings = PLAIN) -> Tensor:
        """As `Model.mapping`; by PyTorch."""
        return self.model.mapping(z, settings)

    def synthesis(self, w: Tensor, noise: Noises = "constant") -> Tensor:
        """As `Model.synthesis`, with constant noise only."""
        self.model.require(HasStyles)
        if (why := self.why_not(replace(PLAIN, noise=noise))) is not None:
            raise UserError(why)
        return self._drawn("synthesis", w)

    def encode(self, images: Tensor) -> Tensor:
        """As `Model.encode`, without values of conditions."""
        return self._drawn("encode", images)

    def _drawn(self, part: PartName, rows: Tensor) -> Tensor:
        if part not in self._open:
            self._open[part] = self._opened(part)
        return torch.from_numpy(_run(self._open[part], rows))

    def _opened(self, part: PartName) -> Any:
        if self.model.path is None:  # no file, so no hash to keep it under
            return _session(graph(self.model, part)[0], self.threads)
        _packages()
        name = f"{self.model.snapshot_hash}-{part}-{VERSION}-{torch.__version__.partition('+')[0]}.onnx"
        path = cache_folder() / "onnx" / name
        try:
            return _session(path.read_bytes(), self.threads)
        except Exception:  # missing, cut off or of another version: made anew
            data, _ = graph(self.model, part)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                unfinished.write_bytes(data)
        except OSError:
            pass  # a cache that cannot be written costs time only
        return _session(data, self.threads)


def sessions(model: Model, threads: int = 1) -> Sessions:
    """``model`` drawn by ONNX Runtime, see `Sessions`. Nothing is made before the first face.

    Raises:
        UserError: a package is missing.
    """
    _packages()
    return Sessions(model, threads)
