"""Protocols: names of measurements. The name says how the measurement is done."""

import re
from dataclasses import dataclass, replace
from difflib import SequenceMatcher, get_close_matches

from ..errors import UserError
from .features import EXTRACTORS

DEFAULT_PROTOCOL = "fid10k-full-inception2015"
PROTOCOLS = (DEFAULT_PROTOCOL, "fid2k-full-inception2015", "fid10k-full-tags")
HELDOUT_PREFIX = "bpd-"
HELDOUT_PROTOCOLS = ("bpd-heldout-8bit", "bpd-heldout-5bit")
_SAMPLES = re.compile(
    r"fid(?P<count>[1-9]\d{0,8})(?P<thousands>k?)-full-(?P<extractor>[a-z0-9]+)(-psi(?P<psi>\d+(\.\d+)?))?"
)
_HELDOUT = re.compile(r"bpd-heldout-(?P<bits>[1-8])bit")


@dataclass(frozen=True)
class Measurement:
    """The settings that a protocol's name stands for.

    Attributes:
        samples: number of images to generate, from the seeds ``seed`` to ``seed + samples - 1``.
        extractor: a name in `features.EXTRACTORS`; the reference is all faces of the set ("full").
        psi: truncation; 1 means none.
    """

    samples: int
    extractor: str
    psi: float = 1.0

    @property
    def name(self) -> str:
        """The protocol's name; ``psi`` is part of it unless it is 1.

        >>> Measurement(10_000, "inception2015", 0.7).name
        'fid10k-full-inception2015-psi0.7'
        """
        count = f"{self.samples // 1000}k" if self.samples % 1000 == 0 else str(self.samples)
        return f"fid{count}-full-{self.extractor}" + ("" if self.psi == 1 else f"-psi{self.psi:g}")

    def at(self, psi: float) -> "Measurement":
        """The same measurement with truncation ``psi``; 1 changes nothing.

        Raises:
            UserError: the protocol already has another psi.
        """
        if psi == 1:
            return self
        if self.psi not in (1, psi):
            raise UserError(
                f"protocol {self.name!r} says psi {self.psi:g}, the option says {psi:g}: drop one"
            )
        return replace(self, psi=psi)


def parse_protocol(name: str) -> Measurement:
    """Parse ``fid{N}k-full-{extractor}`` or ``fid{N}-full-{extractor}``, with or without ``-psi{X}``.

    >>> parse_protocol("fid2k-full-tags")
    Measurement(samples=2000, extractor='tags', psi=1.0)

    Raises:
        UserError: the name has another form, or an unknown extractor; the message gives the nearest right
            name.
    """
    match = _SAMPLES.fullmatch(name)
    if match is None or match["extractor"] not in EXTRACTORS:
        suggestion = max(PROTOCOLS, key=lambda known: _likeness(name, known))
        if match is not None:
            extractor = get_close_matches(match["extractor"], EXTRACTORS, n=1, cutoff=0.0)[0]
            suggestion = name.replace(match["extractor"], extractor)
        raise UserError(
            f"unknown protocol {name!r}: did you mean {suggestion!r}? "
            f"The form is fid10k-full-EXTRACTOR, with {' or '.join(EXTRACTORS)}; or {HELDOUT_PROTOCOLS[0]}"
        )
    samples = int(match["count"]) * (1000 if match["thousands"] else 1)
    if samples < 2:
        raise UserError(
            f"protocol {name!r} asks for {samples} sample: ask for two or more; ten thousand is usual"
        )
    psi = float(match["psi"]) if match["psi"] else 1.0
    return Measurement(samples, match["extractor"], psi)


def _likeness(typed: str, known: str) -> float:
    """How similar two names are. Only as much of ``known`` as was typed counts, or short names would win."""
    return max(SequenceMatcher(None, typed, whole).ratio() for whole in (known, known[: len(typed)]))


def parse_bits(protocol: str) -> int:
    """The bits of a colour value in ``bpd-heldout-{N}bit``.

    >>> parse_bits("bpd-heldout-5bit")
    5

    Raises:
        UserError: the name has another form.
    """
    match = _HELDOUT.fullmatch(protocol)
    if match is None:
        raise UserError(
            f"unknown protocol {protocol!r}: did you mean {HELDOUT_PROTOCOLS[0]!r}? "
            "The form is bpd-heldout-8bit, from 1bit to 8bit"
        )
    return int(match["bits"])
