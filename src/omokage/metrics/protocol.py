"""Protocols: names of measurements. The name says how the measurement is done."""

import re
from dataclasses import dataclass, replace
from difflib import SequenceMatcher, get_close_matches

from ..errors import UserError
from ..settings import Settings
from .features import EXTRACTORS

DEFAULT_PROTOCOL = "fid10k-full-inception2015"
PROTOCOLS = (DEFAULT_PROTOCOL, "fid2k-full-inception2015", "fid10k-full-tags")
HELDOUT_PREFIX = "bpd-"
HELDOUT_PROTOCOLS = ("bpd-heldout-8bit", "bpd-heldout-5bit")
_SAMPLES = re.compile(
    r"fid(?P<count>[1-9]\d{0,8})(?P<thousands>k?)-full-(?P<extractor>[a-z0-9]+)(-psi(?P<psi>\d+(\.\d+)?))?"
    r"(-critic(?P<critic>\d+(\.\d+)?))?"
)
_HELDOUT = re.compile(r"bpd-heldout-(?P<bits>[1-8])bit")


@dataclass(frozen=True)
class Measurement:
    """The settings that a protocol's name stands for.

    Attributes:
        samples: number of images to generate, from the seeds ``seed`` to ``seed + samples - 1``.
        extractor: a name in `features.EXTRACTORS`; the reference is all faces of the set ("full").
        psi: truncation; 1 means none.
        critic: as in `omokage.settings.Settings`; 1 means none.
    """

    samples: int
    extractor: str
    psi: float = 1.0
    critic: float = 1.0

    @property
    def name(self) -> str:
        """The protocol's name; ``psi`` and ``critic`` are part of it unless they are 1.

        >>> Measurement(10_000, "inception2015", 0.7, 3).name
        'fid10k-full-inception2015-psi0.7-critic3'
        """
        count = f"{self.samples // 1000}k" if self.samples % 1000 == 0 else str(self.samples)
        pairs = (("psi", self.psi), ("critic", self.critic))
        told = "".join(f"-{name}{value:g}" for name, value in pairs if value != 1)
        return f"fid{count}-full-{self.extractor}{told}"

    @property
    def settings(self) -> Settings:
        """The settings of sampling."""
        return Settings(psi=self.psi, critic=self.critic)

    def at(self, psi: float, critic: float = 1.0) -> "Measurement":
        """The same measurement with truncation ``psi`` and ``critic``; 1 changes nothing.

        Raises:
            UserError: the protocol already has another psi or critic.
        """
        for name, own, value in (("psi", self.psi, psi), ("critic", self.critic, critic)):
            if value != 1 and own not in (1, value):
                raise UserError(
                    f"protocol {self.name!r} says {name} {own:g}, the option says {value:g}: drop one"
                )
        return replace(
            self,
            psi=self.psi if psi == 1 else psi,
            critic=self.critic if critic == 1 else critic,
        )


def parse_protocol(name: str) -> Measurement:
    """Parse ``fid{N}k-full-{extractor}`` or ``fid{N}-full-{extractor}``, then ``-psi{X}`` and ``-critic{X}``.

    >>> parse_protocol("fid2k-full-tags")
    Measurement(samples=2000, extractor='tags', psi=1.0, critic=1.0)

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
    psi, critic = (float(match[name]) if match[name] else 1.0 for name in ("psi", "critic"))
    return Measurement(samples, match["extractor"], psi, critic)


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
