"""The information that rows have on a model: how the likelihood curves at its top.

A row's score is the gradient of its log density, over the coordinates of `pack`. Under the model
the mean outer product of the scores is Fisher's information, which is minus the mean second
derivative. From a sample the outer product is the better estimate of the two where components
overlap: the second derivative is the small difference of what complete data would say and of what
is missing, each with the error of the sample, and in the slow directions of EM that error exceeds
it. The outer product has no difference in it: its error is relative, about the root of two over
the rows in every direction (Berndt, Hall, Hall and Hausman 1974; Louis 1982, eq. 3.2).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sparkgmm.core.acceleration import metric, pack
from sparkgmm.core.model import Model
from sparkgmm.core.profile import Block, Frame
from sparkgmm.covariances.moments import Moments
from sparkgmm.products import Array

Information = Callable[[Model], Array]
"""Returns the information on a model a row, (p, p), over the coordinates of `pack`."""

# A matrix of more parameters is not made: 50 MB.
MOST_PARAMETERS = 2500
# So many floating-point operations are spent on one, half a second, and so many rows a parameter
# at least.
_FLOPS, _LEAST_ROWS = 2e10, 16
# Rows are shared out to so many threads at most, and scores made for so many rows at once.
_PIECES, _CHUNK = 4, 1024
# A component of fewer rows a parameter is given some of complete data.
_FEW_ROWS = 10


def informed(model: Model) -> bool:
    """Return whether there is an information on models of this kind, of this size."""
    return model.family.closed and len(pack(model)) <= MOST_PARAMETERS


def gradient(model: Model, moments: Moments) -> Array:
    """Return the gradient, a row, of the expected log-likelihood of the moments at a model.

    Where the model is the one that measured them it is the gradient of the log-likelihood, by
    Fisher's identity.
    """
    total = moments.counts.sum()
    by_mean, by_stack = model.stack.slopes(moments, model.means)
    by_weight = moments.counts - total * model.weights
    pairs = zip(model.others, moments.others, strict=True)
    by_parts = [part.slopes(sums).ravel() for part, sums in pairs]
    by_all = np.concatenate([by_weight, by_mean.ravel(), by_stack.ravel(), *by_parts])
    return np.asarray(by_all / total)


def scores(model: Model, rows: Array) -> Array:
    """Return the gradients of the log densities of standardised rows (D, n), shape (p, n).

    The columns of parts beside the Gaussian come after the d numeric ones.
    """
    k, X = model.k, rows[: model.d]
    joint = np.empty((k, X.shape[1]))
    parts = []
    for j, mean in enumerate(model.means):
        residual = X - mean[:, None]
        by_mean, by_stack = model.stack.scores(j, residual)
        joint[j] = -0.5 * (residual * by_mean).sum(axis=0)
        parts.append((by_mean, by_stack))
    joint += (np.log(model.weights) - 0.5 * model.stack.log_dets)[:, None]
    for part in model.others:
        joint += part.log_density(rows)
    joint -= joint.max(axis=0)
    R = np.exp(joint, out=joint)
    R /= R.sum(axis=0)
    for r, (by_mean, by_stack) in zip(R, parts, strict=True):
        by_mean *= r
        by_stack *= r
    stacks = [by_stack for _, by_stack in parts]
    if model.family.shared:
        stacks = [np.sum(stacks, axis=0)]
    by_weight = R - model.weights[:, None]
    by_parts = [part.scores(j, rows) * R[j] for part in model.others for j in range(k)]
    return np.concatenate([by_weight, *(by_mean for by_mean, _ in parts), *stacks, *by_parts])


@dataclass(frozen=True)
class SampleInformation:
    """The information by a sample of rows, standardised (D, n), of weights (n,)."""

    X: Array
    w: Array

    @classmethod
    def of(cls, blocks: Sequence[Block], frame: Frame) -> SampleInformation:
        """Take the rows of some blocks."""
        Z, w = frame.standardise(blocks)
        beside = [block.values[len(frame.scale) :] for block in blocks]
        if not len(beside[0]):
            return cls(np.ascontiguousarray(Z.T), w)
        return cls(np.concatenate([Z.T, np.concatenate(beside, axis=1)]), w)

    def __call__(self, model: Model) -> Array:
        """Return the mean outer product of the scores about their mean, (p, p).

        Log-weights are determined but for a constant, to which a unit of information is given; so
        are a component's log-probabilities of levels, and its share of one is given to theirs. To
        a component that has few rows in the sample as many complete ones are added as it has
        parameters: its own scores would leave directions of which nothing is known.
        """
        p, n = len(pack(model)), len(self.w)
        most = max(_LEAST_ROWS * p, int(_FLOPS / p**2))
        chosen = np.arange(0, n, max(1, -(-n // most)))
        pieces = np.array_split(chosen, _PIECES)
        with ThreadPoolExecutor(min(_PIECES, os.cpu_count() or 1)) as pool:
            sums = list(pool.map(lambda rows: self._sums(model, rows), pieces))
        A, g, weight = sums[0]
        for some_A, some_g, some_weight in sums[1:]:
            A, g, weight = A + some_A, g + some_g, weight + some_weight
        A = A / weight - np.outer(g, g) / weight**2
        A[: model.k, : model.k] += np.outer(model.weights, model.weights)
        first = p - sum(len(part.pack()) for part in model.others)
        for part in model.others:
            for free, weight in zip(part.free, model.weights, strict=True):
                mine = slice(first, first + len(free))
                A[mine, mine] += weight * np.outer(free, free)
                first = mine.stop
        A[np.diag_indices(p)] += _of_few_rows(model, len(chosen), p)
        return A

    def _sums(self, model: Model, rows: Array) -> tuple[Array, Array, float]:
        """Return the weighted sums, over some rows, of the scores' products, of them, and of 1."""
        p = len(pack(model))
        A, g, weight = np.zeros((p, p)), np.zeros(p), 0.0
        for first in range(0, len(rows), _CHUNK):
            some = rows[first : first + _CHUNK]
            w = self.w[some]
            S = scores(model, self.X[:, some])
            g += S @ w
            S *= np.sqrt(w)
            A += S @ S.T
            weight += float(w.sum())
        return A, g, weight


def _of_few_rows(model: Model, n_rows: int, p: int) -> Array:
    """Return what is added to the diagonal for components with few of so many rows, (p,)."""
    k = model.k
    each = p / k
    counts = model.weights * n_rows
    share = np.where(counts < _FEW_ROWS * each, each / counts, 0.0)
    of_means = np.repeat(share, model.d)
    of_parts = [np.repeat(share, len(part.pack()) // k) for part in model.others]
    of_stack = np.zeros(p - k - len(of_means) - sum(map(len, of_parts)))
    if not model.family.shared:
        of_stack = np.repeat(share, len(of_stack) // k)
    return np.asarray(np.concatenate([share, of_means, of_stack, *of_parts]) * metric(model) ** 2)
