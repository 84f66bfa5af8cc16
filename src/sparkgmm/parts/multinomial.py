"""A column of levels: a multinomial in each component, as of latent class analysis.

Goodman (1974), "Exploratory latent structure analysis using both identifiable and unidentifiable
models"; beside Gaussians: Hunt and Jorgensen (1999), "Mixture model clustering using the MULTIMIX
program".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparkgmm.parts.part import Column, Part
from sparkgmm.products import Array

# No component has a level with less than this share of its frequency in all the rows. The bound is
# what a prior says of levels that a component has no row of: the log of a density stays finite, and
# the likelihood of the rows changes by less than a millionth of a nat a row.
LEAST_SHARE = 1e-6
# A column of more levels is no category but text, a name or a number of something.
MOST_LEVELS = 256
# So many levels say what a component is.
_NAMED = 2
# An integer as programs write it that hold it as a float.
WHOLE = re.compile(r"(-?\d+)\.0+")
# The level of a boolean, by what other programs write for it, in small letters.
BOOLEANS = {"true": "true", "1": "true", "false": "false", "0": "false"}


@dataclass(frozen=True, eq=False)
class Multinomial:
    """Levels by their numbers from 0, in one column: log f_j(x) = log p_jx.

    `probabilities` are (k, levels); `least` (levels,) is what none may be below in a fit, 0 where
    nothing is known. `overall` (levels,) are the frequencies in all the rows, which scale starts
    and stand in where a component knows no value at all.
    """

    of: Column
    column: int
    probabilities: Array
    overall: Array

    @classmethod
    def of_all(cls, of: Column, column: int, values: Array, w: Array) -> Multinomial:
        """Return one component: the frequencies of the rows (D, n) of weights w (n,).

        Each level gets half a row more, for those that a sample has not seen.
        """
        levels = np.arange(len(of.levels))
        each = w.sum() / len(w)
        counts = (values[column] == levels[:, None]) @ w + 0.5 * each
        overall = counts / counts.sum()
        return cls(of, column, overall[None], overall)

    @property
    def least(self) -> Array:
        """The least probability of each level, (levels,)."""
        return LEAST_SHARE * self.overall

    @property
    def width(self) -> int:
        """An entry for each level."""
        return len(self.of.levels)

    @property
    def n_parameters(self) -> int:
        """The probabilities of all levels but one."""
        return len(self.probabilities) * (self.width - 1)

    @property
    def natural(self) -> Array:
        """The log-probabilities; of 0 one that is finite, so that products are numbers."""
        return np.log(np.maximum(self.probabilities, 1e-300))

    @property
    def sound(self) -> bool:
        """Whether all are probabilities above 0."""
        return bool((np.isfinite(self.probabilities) & (self.probabilities > 0)).all())

    def fill(self, values: Array, out: Array) -> None:
        """Set a row for each level: 1 where a row has it."""
        np.equal(values[self.column], np.arange(self.width)[:, None], out=out, casting="unsafe")

    def known(self, values: Array) -> Array:
        """Return which rows have one of the levels."""
        codes = values[self.column]
        return np.asarray((codes >= 0) & (codes < self.width))

    def log_density(self, values: Array) -> Array:
        """Return the log-probabilities of the rows' levels; 0 where there is none."""
        codes, known = values[self.column], self.known(values)
        with np.errstate(divide="ignore"):
            logs = np.log(self.probabilities)
        return np.where(known, logs[:, np.where(known, codes, 0).astype(np.intp)], 0.0)

    def coordinates(self, values: Array) -> Array:
        """Return a coordinate for each level, over the root of its frequency.

        Distances are those of correspondence analysis; a level that is not known is in the middle.
        All coordinates together have the variance of levels - 1 features.
        """
        out = np.empty((self.width, values.shape[1]))
        self.fill(values, out)
        out -= np.where(out.any(axis=0), self.overall[:, None], 0.0)
        return out / np.sqrt(self.overall)[:, None]

    def estimate(self, counts: Array, sums: Array) -> Multinomial:
        """Return the levels' shares of what is known, none below its bound."""
        known = sums.sum(axis=1, keepdims=True)
        some = known > 1e-12 * counts[:, None]
        shares = np.where(some, sums / np.where(some, known, 1.0), self.overall)
        return replace(self, probabilities=_bounded(shares, self.least))

    def pack(self) -> Array:
        """Return log-probabilities."""
        return np.log(self.probabilities).ravel()

    def unpacked(self, vector: Array) -> Multinomial:
        """Return what sums to 1 again, and is within the bounds."""
        logs = vector.reshape(-1, self.width)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return replace(self, probabilities=_bounded(shares, self.least))

    def metric(self, root: Array) -> Array:
        """Weigh a log-probability by the root of the rows that have its level."""
        return np.asarray(root * np.sqrt(self.probabilities))

    def slopes(self, sums: Array) -> Array:
        """Return by how much levels are more frequent than their probabilities say."""
        return np.asarray(sums - sums.sum(axis=1, keepdims=True) * self.probabilities)

    def scores(self, j: int, values: Array) -> Array:
        """Return the same of single rows."""
        out = np.empty((self.width, values.shape[1]))
        self.fill(values, out)
        return np.asarray(out - out.sum(axis=0) * self.probabilities[j][:, None])

    @property
    def free(self) -> Array:
        """Log-probabilities may have a constant added; it weighs as the levels do."""
        return self.probabilities

    def take(self, which: Array) -> Multinomial:
        """Return the factors of some components."""
        return replace(self, probabilities=self.probabilities[which])

    def joined(self, others: Sequence[Multinomial]) -> Multinomial:
        """Return these components and the others'."""
        all_of_them = [self.probabilities, *(other.probabilities for other in others)]
        return replace(self, probabilities=np.concatenate(all_of_them))

    def with_mean_at(self, j: int, which: Array) -> Multinomial:
        """Give component j the mean probabilities of some others."""
        probabilities = self.probabilities.copy()
        probabilities[j] = self.probabilities[which].mean(axis=0)
        return replace(self, probabilities=probabilities)

    def alike(self, i: int, j: int, tolerance: float) -> bool:
        """Say whether no probability differs by more."""
        p = self.probabilities
        return bool(np.abs(p[i] - p[j]).max() < tolerance)

    def affinity(self, other: Part) -> Array:
        """Return the log of the sum of the roots of the products, over levels of one name."""
        if not isinstance(other, Multinomial):
            return np.zeros((len(self.probabilities), other.natural.shape[0]))
        theirs = dict(zip(other.of.levels, other.probabilities.T, strict=True))
        nothing = np.zeros(len(other.probabilities))
        aligned = np.array([theirs.get(level, nothing) for level in self.of.levels])
        with np.errstate(divide="ignore"):
            return np.log(np.sqrt(self.probabilities) @ np.sqrt(aligned))

    def aligned(self, of: Column, column: int, unseen: float = 1.0) -> Multinomial:
        """Return the same for other levels, with a factor for those that it does not have."""
        mine = dict(zip(self.of.levels, self.probabilities.T, strict=True))
        others = np.full(len(self.probabilities), unseen)
        probabilities = np.stack([mine.get(level, others) for level in of.levels], axis=1)
        return Multinomial(of, column, probabilities, np.zeros(len(of.levels)))

    def likely(self, shares: Array) -> Array:
        """Return the numbers of the most probable levels."""
        return (shares @ self.probabilities).argmax(axis=1).astype(np.float64)

    def sample(self, labels: Array, rng: np.random.Generator) -> Array:
        """Draw the numbers of levels."""
        passed = np.cumsum(self.probabilities, axis=1)[labels]
        u = rng.random(len(labels)) * passed[:, -1]
        return (passed <= u[:, None]).sum(axis=1).astype(np.float64)

    def summary(self, j: int) -> str:
        """Name the likeliest levels."""
        p = self.probabilities[j]
        first = np.argsort(-p, kind="stable")[:_NAMED]
        return ", ".join(f"{self.of.levels[i]} {p[i]:.0%}" for i in first)

    def written(self) -> dict[str, list[float]]:
        """Return the probabilities of each level in the components."""
        return dict(zip(self.of.levels, self.probabilities.T.tolist(), strict=True))


def text_of(value: Any) -> str | None:
    """Return a value as the text of a level; None where it is not known."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return None
        return str(int(value)) if float(value).is_integer() else str(float(value))
    return str(value)


def level_of(text: str, levels: Collection[str]) -> str | None:
    """Return which of the levels a text is, however its program writes it; None if it is none.

    Booleans are `True` and 1 elsewhere, and integers beside gaps are 2.0.
    """
    if text in levels:
        return text
    whole = WHOLE.fullmatch(text)
    if whole:
        text = whole[1]
    if len(levels) <= 2 and set(levels) <= set(BOOLEANS.values()):
        text = BOOLEANS.get(text.lower(), text)
    return text if text in levels else None


def _bounded(shares: Array, least: Array) -> Array:
    """Return the most likely probabilities (k, levels) for these shares, none below the least.

    Those at their bound have it, and the others share the rest as they did: what the conditions of
    Karush, Kuhn and Tucker leave.
    """
    low = shares < least
    if not low.any():
        return shares
    while True:
        free = np.where(low, 0.0, shares)
        rest = 1 - (low * least).sum(axis=1, keepdims=True)
        scaled = np.where(low, least, free * (rest / free.sum(axis=1, keepdims=True)))
        lower = low | (scaled < least)
        if (lower == low).all():
            return scaled
        low = lower
