"""Features of a small face encoder trained from scratch on hair and eye tags.

A projected discriminator uses features of a network trained on ImageNet, and so does FID. A generator can
therefore get a good FID without drawing better faces (Kynkäänniemi et al. 2023, "The role of ImageNet classes
in Fréchet inception distance"). This encoder was trained on anime faces only, its labels are hair and eye
colours, and no discriminator uses it. ``bench/judge_tag_encoder.py`` tests it.
"""

from functools import lru_cache

import numpy as np
import torch

from ..tag_encoder import WEIGHTS_SHA256, TagEncoder, network_input, tag_encoder

RESIZE_RULE = "antialiased-bilinear-64"


class TagExtractor:
    """The tag encoder as an extractor: uint8 (B, H, W, 3) to float32 (B, ``dimensions``)."""

    name = "tags"
    resize_rule = RESIZE_RULE
    precision = "fp32"

    def __init__(self, encoder: TagEncoder, file_hash: str) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.file_hash = file_hash
        self.dimensions = encoder.dimensions

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        if len(images) == 0:
            return np.empty((0, self.dimensions), np.float32)
        return self.encoder(network_input(images)).numpy()


@lru_cache(maxsize=1)
def tag_extractor() -> TagExtractor:
    """The shipped encoder. Raises `UserError` if its weight file is missing or altered."""
    return TagExtractor(tag_encoder(), WEIGHTS_SHA256)
