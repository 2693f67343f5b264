"""A logistic mixed model with an intercept for each person and picture, for those who must report one.

Right answers follow ``logit(p) = intercept + person + picture(s)`` with normal effects. The likelihood is
integrated by Laplace's approximation (Breslow and Clayton, 1993; what lme4's ``glmer`` does by default).
It is an extra: the clustered intervals of `statistics` need no such assumption. The interval takes the two
standard deviations as known, so it is somewhat narrow when people or pictures are few.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, optimize, stats

from ..errors import UserError
from .statistics import LEVEL, Clusters

Floats = NDArray[np.float64]
MAX_EFFECTS = 3000


@dataclass(frozen=True)
class Mixed:
    """A fitted model.

    Attributes:
        intercept, se: on the log-odds scale; of an average person and average pictures.
        low, high: of the intercept.
        chance_p: two-sided p against even odds.
        person_sd, picture_sd: standard deviations of the effects, in log-odds.
        average: the share of right answers of an average person with average pictures, with its interval.
        likelihood: the approximated log-likelihood.
    """

    intercept: float
    se: float
    low: float
    high: float
    chance_p: float
    person_sd: float
    picture_sd: float
    average: tuple[float, float, float]
    likelihood: float


def fit(correct: ArrayLike, clusters: Clusters, *, level: float = LEVEL) -> Mixed:
    """Fit the model to right and wrong answers, shape (n,).

    Raises:
        UserError: all answers are alike, there are fewer than two people or pictures, or there are more than
            3,000 of both together.
    """
    y = np.asarray(correct, np.float64)
    people, pictures = clusters.counts
    if min(people, pictures) < 2 or not 0 < y.mean() < 1:
        raise UserError("a mixed model needs right and wrong answers, two people and two pictures, or more")
    _, who = np.unique(clusters.people, return_inverse=True)
    _, which = np.unique(clusters.pictures, return_inverse=True)
    which = which.reshape(clusters.pictures.shape)
    persons, shown = int(who.max()) + 1, int(which.max()) + 1
    if persons + shown > MAX_EFFECTS:
        raise UserError(
            f"{persons + shown:,} people and pictures are too many for a mixed model: at most {MAX_EFFECTS:,}"
        )
    model = _Model(y, who, which + persons, persons, shown)
    start = np.array([np.log(y.mean() / (1 - y.mean())), np.log(0.4), np.log(0.4)])
    found = optimize.minimize(
        model.loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6, "maxiter": 400}
    )
    intercept, person_sd, picture_sd = found.x[0], np.exp(found.x[1]), np.exp(found.x[2])
    se = model.standard_error(found.x)
    reach = float(stats.norm.ppf(0.5 + level / 2)) * se

    def share(log_odds: float) -> float:
        return float(1 / (1 + np.exp(-log_odds)))

    return Mixed(
        float(intercept),
        se,
        float(intercept - reach),
        float(intercept + reach),
        float(2 * stats.norm.sf(abs(intercept) / se)),
        float(person_sd),
        float(picture_sd),
        (share(intercept), share(intercept - reach), share(intercept + reach)),
        -float(found.fun),
    )


class _Model:
    """The likelihood; keeps the last effects, which start the next search for them."""

    def __init__(self, y: Floats, who: NDArray, which: NDArray, persons: int, shown: int) -> None:
        self.y = y
        self.columns = np.column_stack([who, which])  # the effects that each answer has
        self.size, self.persons = persons + shown, persons
        self.effects = np.zeros(self.size)

    def _precision(self, log_sds: Floats) -> Floats:
        bounded = np.clip(log_sds, -6, 3)
        return np.exp(-2 * np.where(np.arange(self.size) < self.persons, bounded[0], bounded[1]))

    def _curvature(self, weight: Floats, precision: Floats) -> Floats:
        """The negative second derivative of the joint log-likelihood in the effects."""
        keys = [
            self.columns[:, a] * self.size + self.columns[:, b]
            for a in range(self.columns.shape[1])
            for b in range(self.columns.shape[1])
        ]
        flat = np.bincount(np.concatenate(keys), np.tile(weight, len(keys)), minlength=self.size**2)
        return np.asarray(flat, np.float64).reshape(self.size, self.size) + np.diag(precision)

    def _mode(self, intercept: float, precision: Floats) -> tuple[Floats, Floats, Floats, float]:
        """The most likely effects, the Cholesky factor there, the weights, and the joint log-likelihood."""
        b = self.effects
        joint = self._joint(intercept, b, precision)
        for _ in range(50):
            p = 1 / (1 + np.exp(-(intercept + b[self.columns].sum(1))))
            weight = p * (1 - p)
            factor = linalg.cholesky(self._curvature(weight, precision), lower=True, check_finite=False)
            pull = self.y - p
            slope = sum(np.bincount(column, pull, minlength=self.size) for column in self.columns.T)
            step = linalg.cho_solve((factor, True), slope - precision * b, check_finite=False)
            scale = 1.0
            while True:  # half the step until it is no step back
                after = self._joint(intercept, b + scale * step, precision)
                if after >= joint - 1e-12 or scale < 1e-4:
                    break
                scale /= 2
            b, gain, joint = b + scale * step, after - joint, after
            if gain < 1e-9:
                break
        self.effects = b
        return b, factor, weight, joint

    def _joint(self, intercept: float, b: Floats, precision: Floats) -> float:
        eta = intercept + b[self.columns].sum(1)
        return float((self.y * eta - np.logaddexp(0, eta)).sum() - 0.5 * (precision * b * b).sum())

    def loss(self, parameters: Floats) -> float:
        precision = self._precision(parameters[1:])
        _, factor, _, joint = self._mode(parameters[0], precision)
        return -(joint + 0.5 * float(np.log(precision).sum()) - float(np.log(np.diag(factor)).sum()))

    def standard_error(self, parameters: Floats) -> float:
        """Of the intercept, with the standard deviations taken as known."""
        precision = self._precision(parameters[1:])
        _, factor, weight, _ = self._mode(parameters[0], precision)
        cross = sum(np.bincount(column, weight, minlength=self.size) for column in self.columns.T)
        inner = linalg.cho_solve((factor, True), cross, check_finite=False)
        return float(1 / np.sqrt(weight.sum() - cross @ inner))
