"""Round numbers for axes, short labels for them, and smoothing of curves."""

import math
from collections.abc import Sequence


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About ``about`` evenly spaced round numbers within [``low``, ``high``].

    >>> nice_ticks(0, 320)
    [0.0, 100.0, 200.0, 300.0]
    >>> nice_ticks(0.31, 0.38)
    [0.32, 0.34, 0.36, 0.38]
    """
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough * 0.999), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [``low``, ``high``], both above 0; multiples by 2 and 5 too if there are few.

    >>> log_ticks(15, 400)
    [20.0, 50.0, 100.0, 200.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= 3:
            break
    every = -(-len(ticks) // 7) if ticks else 1
    return ticks[::every]


def tick_label(value: float) -> str:
    """A short number.

    >>> [tick_label(value) for value in (0.0, 0.25, 2000.0, 3e-05, 1500000.0)]
    ['0', '0.25', '2,000', '3e-5', '1.5M']
    """
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) < 1e-3:
        return f"{value:.2g}".replace("e-0", "e-")
    return f"{value:,.6g}"


def smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Moving mean. The window is about a thirtieth of the points, and shorter near the ends.

    >>> smoothed([(0, 1.0), (1, 3.0)])
    [(0, 1.0), (1, 3.0)]
    """
    half = len(points) // 60
    if half == 0:
        return list(points)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    found = []
    for i, (x, _) in enumerate(points):
        reach = min(half, i, len(points) - 1 - i)
        found.append((x, (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)))
    return found
