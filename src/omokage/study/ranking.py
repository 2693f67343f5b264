"""Ranking of sources from "which of the two is better?": the model of Bradley and Terry (1952).

The chance that A is preferred to B is ``1 / (1 + exp(strength of B - strength of A))``. Strengths are fitted
by choix and add up to 0. Two kinds of uncertainty are reported. The interval of a strength is clustered by
person and picture, as all intervals of a study. A bootstrap over persons says how sure the order is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError
from ..progress import Progress, opened
from .statistics import LEVEL, Clusters, Interval, interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """A source in the ranking.

    Attributes:
        name: of the source.
        wins, trials: how often it was preferred, and how often it was shown.
        share: the share of wins, clustered.
        strength: on the log-odds scale, clustered by person and picture.
        bootstrap: low and high of the bootstrap over persons, for the pictures shown.
        first: the share of resamples in which the source comes first.
    """

    name: str
    wins: int
    trials: int
    share: Interval
    strength: Interval
    bootstrap: tuple[float, float]
    first: float


@dataclass(frozen=True)
class Ranking:
    """All sources, the strongest first.

    Attributes:
        rows: one for each source.
        matrix: the share of trials in which the source of the row beat that of the column; NaN: never met.
        names: the order of ``matrix``.
        resamples: number of bootstrap resamples; those in which no finite strength exists are left out.
        notes: what cannot be told.
    """

    rows: list[Ranked]
    matrix: Floats
    names: list[str]
    resamples: int
    notes: tuple[str, ...]


def strengths(wins: ArrayLike) -> Floats:
    """Strengths that fit a table of wins, adding up to 0.

    Args:
        wins: shape (m, m); how often the source of the row beat that of the column.

    Raises:
        UserError: no finite strengths exist, because some sources never lost to, or never beat, any of the
            others (Ford, 1957).

    >>> strengths([[0, 30], [10, 0]]).round(3).tolist()  # half the log of 3
    [0.549, -0.549]
    """
    import choix

    table = np.asarray(wins, np.float64)
    if not connected(table):
        raise UserError("no finite strengths: one source or group always won or always lost; ask more people")
    found: Floats = choix.ilsr_pairwise_dense(table, alpha=0.0, max_iter=1000, tol=1e-10)
    return found - found.mean()


def connected(wins: Floats) -> bool:
    """Whether each source beat each other one directly or through others.

    >>> connected(np.array([[0, 1], [1, 0]])), connected(np.array([[0, 5], [0, 0]]))
    (True, False)
    """
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins)):
        reach = reach | (reach.astype(int) @ reach.astype(int) > 0)
    return bool(reach.all())


def fit_many(wins: Floats, start: Floats | None = None, steps: int = 25) -> Floats:
    """Strengths for many tables at once, shape (b, m, m) to (b, m), by Newton's method; NaN: none exist.

    It does for a bootstrap what choix does for one table; a test compares the two.
    """
    count, size = wins.shape[:2]
    games = wins + wins.swapaxes(1, 2)
    won = wins.sum(2)
    theta = np.zeros((count, size)) if start is None else np.repeat(start[None], count, 0)
    for _ in range(steps):
        chance = 1 / (1 + np.exp(np.clip(theta[:, None, :] - theta[:, :, None], -40, 40)))
        slope = won - (games * chance).sum(2)
        bend = games * chance * (1 - chance)
        hessian = -bend
        hessian[:, np.arange(size), np.arange(size)] = bend.sum(2)
        # One strength is free to choose; adding a constant to the matrix fixes their sum at 0.
        hessian += 1.0 / size + 1e-9 * np.eye(size)
        step = np.linalg.solve(hessian, slope[..., None])[..., 0]
        theta = theta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    theta -= theta.mean(1, keepdims=True)
    whole = np.array([connected(table) for table in np.unique(wins > 0, axis=0)])
    kinds, which = np.unique(wins > 0, axis=0, return_inverse=True)
    finite = whole[which.reshape(-1)] if len(kinds) else np.zeros(0, bool)
    return np.where(finite[:, None], theta, np.nan)


def rank(
    winners: Sequence[str],
    losers: Sequence[str],
    people: ArrayLike,
    winning_pictures: ArrayLike,
    losing_pictures: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
    progress: Progress | None = None,
) -> Ranking:
    """The ranking of sources from trials with two pictures.

    Args:
        winners, losers: shape (n,), the source that was preferred in each trial, and the other one.
        people: shape (n,), who answered.
        winning_pictures, losing_pictures: shape (n,), identifiers of the pictures.
        resamples: of the bootstrap.

    Raises:
        UserError: there are no trials.
    """
    names, coded = np.unique([*winners, *losers], return_inverse=True)
    if not len(names):
        raise UserError("a ranking needs answers; there are none")
    won, lost = coded.reshape(2, -1)
    size = len(names)
    # Columns of pictures by source, not by who won, so that the number of pictures of a source is counted.
    swap = won > lost
    first = np.where(swap, np.asarray(losing_pictures), np.asarray(winning_pictures))
    second = np.where(swap, np.asarray(winning_pictures), np.asarray(losing_pictures))
    clusters = Clusters.of(people, first, second)
    table = np.zeros((size, size))
    np.add.at(table, (won, lost), 1.0)

    notes: list[str] = []
    try:
        theta = strengths(table)
    except UserError:
        theta = np.full(size, np.nan)
        notes.append(
            "A source or group always won or always lost: no finite strengths exist. See the shares of wins."
        )
    influence = _influence(theta, table, won, lost)
    boot = _bootstrap(won, lost, clusters.people, size, resamples, seed, theta, progress)
    usable = boot[np.isfinite(boot).all(1)]
    if len(usable) < len(boot):
        notes.append(
            f"In {len(boot) - len(usable):,} of {len(boot):,} resamples no finite strengths exist; "
            "they are left out."
        )
    # A tie of the strongest counts for each by half, or less if more tie.
    best = usable == usable.max(1, keepdims=True) if len(usable) else np.zeros((0, size), bool)
    shared = best / np.maximum(best.sum(1, keepdims=True), 1)
    leads = shared.mean(0) if len(usable) else np.full(size, np.nan)
    tails = [0.5 - level / 2, 0.5 + level / 2]
    rows = []
    for i, name in enumerate(names):
        mine = (won == i) | (lost == i)
        hit = (won == i)[mine].astype(float)
        share = float(hit.mean())
        ends = np.quantile(usable[:, i], tails) if len(usable) > 1 else (np.nan,) * 2
        rows.append(
            Ranked(
                str(name),
                int(hit.sum()),
                int(mine.sum()),
                interval(
                    share, (hit - share) / len(hit), clusters[mine], level=level, bounds=(0.0, 1.0)
                ),
                interval(float(theta[i]), influence[:, i], clusters, level=level),
                (float(ends[0]), float(ends[1])),
                float(leads[i]),
            )
        )
    games = table + table.T
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.where(games > 0, table / games, np.nan)
    fitted = bool(np.isfinite(theta).all())
    order = sorted(rows, key=lambda row: -(row.strength if fitted else row.share).value)
    return Ranking(order, matrix, [str(name) for name in names], len(boot), tuple(notes))


def _influence(theta: Floats, table: Floats, won: NDArray, lost: NDArray) -> Floats:
    """The influence of each trial on each strength, shape (n, m): its score times the inverse Hessian."""
    size = len(theta)
    if not np.isfinite(theta).all():
        return np.full((len(won), size), np.nan)
    chance = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    bend = (table + table.T) * chance * (1 - chance)
    hessian = np.diag(bend.sum(1)) - bend
    surprise = 1 - chance[won, lost]
    score = np.zeros((len(won), size))
    score[np.arange(len(won)), won] = surprise
    score[np.arange(len(won)), lost] = -surprise
    return score @ np.linalg.pinv(hessian, hermitian=True)


def _bootstrap(
    won: NDArray,
    lost: NDArray,
    people: NDArray[np.int64],
    size: int,
    resamples: int,
    seed: int,
    start: Floats,
    progress: Progress | None,
) -> Floats:
    """Strengths in resamples of whole persons, shape (resamples, m)."""
    persons = int(people.max()) + 1
    tables = np.zeros((persons, size, size))
    np.add.at(tables, (people, won, lost), 1.0)
    rng = np.random.default_rng(seed)
    begin = start if np.isfinite(start).all() else None
    found = []
    with opened(progress, "bootstrap over persons", resamples) as task:
        for done in range(0, resamples, 500):
            batch = min(500, resamples - done)
            weights = rng.multinomial(persons, np.full(persons, 1 / persons), size=batch).astype(float)
            found.append(fit_many(np.tensordot(weights, tables, 1), begin))
            task.advance(batch)
    return np.concatenate(found) if found else np.zeros((0, size))
