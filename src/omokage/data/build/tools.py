"""The networks and lists with which pictures are handled, loaded once per process."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..derive.optout import OptOut, read_opt_out
from ..steps.clean import thresholds
from ..steps.colours import ColourNames
from ..steps.detect import Detector, FaceScore, open_detector
from ..steps.upscale import Waifu2x, described, upscaler
from .options import AsTheyCome, Options, resolved

if TYPE_CHECKING:
    from ...hardware import Precision


class Tools:
    """The tools for handling pictures. described: their entry in the manifest."""

    options: Options | AsTheyCome
    detector: Detector | None = None
    judge: FaceScore | None = None
    colours: ColourNames | None = None
    enlarge: Waifu2x | None = None
    opt_out: OptOut | None = None
    limits: Mapping[str, float | None]
    described: dict[str, Any]

    def __init__(self, options: Options | AsTheyCome) -> None:
        import cv2
        import PIL

        self.opt_out = None if options.opt_out is None else read_opt_out(options.opt_out)
        if isinstance(options, AsTheyCome):
            self.options, self.limits, self.described = options, {}, {}
            if options.estimate:
                self.colours = ColourNames()
                self.described = {"colours": self.colours.file_hash}
            if self.opt_out is not None:
                self.described["opt_out"] = self.opt_out.described
            return
        options.check()
        self.options = options = resolved(options)
        precision: Precision = "bf16" if options.precision == "bf16" else "fp32"
        if options.detector is not None:
            self.detector = open_detector(
                options.detector,
                rotations=options.rotations,
                threshold=options.threshold,
                precision=precision,
            )
        # Faces found by the network have its score already; those of other detectors are scored by it.
        if options.clean and options.detector != "network":
            self.judge = FaceScore(precision=precision)
        self.colours = ColourNames() if options.label else None
        if options.upscale is not None:
            self.enlarge = upscaler(options.upscale, options.noise, options.model)
        self.limits = thresholds(options.limits) if options.clean else {}
        self.described = {
            "detector": None if self.detector is None else self.detector.described,
            "judge": None if self.judge is None else self.judge.file_hash,
            "colours": None if self.colours is None else self.colours.file_hash,
            "upscale": None if options.upscale is None else described(self.enlarge),
            "thresholds": self.limits,
            "opt_out": None if self.opt_out is None else self.opt_out.described,
            "versions": {"opencv": cv2.__version__, "pillow": PIL.__version__, "numpy": np.__version__},
        }
