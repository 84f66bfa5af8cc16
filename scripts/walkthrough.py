"""Build docs/walkthrough.ipynb from the cells below, run it, and save it with its outputs.

    .venv/bin/python scripts/walkthrough.py [--output docs/walkthrough.ipynb]

The same cells give the same file: no times, no paths of this machine, no random cell ids.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "walkthrough.ipynb"
CELLS: list[tuple[str, str]] = []
# Settings of another installation, which would win over this one's.
_FOREIGN = {"SPARK_HOME", "PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"}
_ENVIRONMENT = {
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # or the kernel's debugger warns of frozen modules
    "OMP_NUM_THREADS": "1",  # 272 rows are no work for two
    "OPENBLAS_NUM_THREADS": "1",
    "PYSPARK_SUBMIT_ARGS": (  # nothing that pays on large data alone
        "--master local[1] --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=1 "
        "--conf spark.sql.codegen.wholeStage=false --conf spark.driver.extraJavaOptions="
        "'-XX:TieredStopAtLevel=1 -XX:+UseSerialGC' pyspark-shell"
    ),
}
# An address in memory is another one each time.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def text(source: str) -> None:
    """Add a cell of Markdown."""
    CELLS.append(("markdown", source.strip("\n")))


def code(source: str) -> None:
    """Add a cell of Python."""
    CELLS.append(("code", source.strip("\n")))


text(r"""
# From one Gaussian to a mixture

Old Faithful, a geyser, was watched for 272 eruptions: how long each lasted, and how long it was
until the next. There are short eruptions followed by short waits, and long ones followed by long
waits. This notebook finds the two kinds from the numbers alone, first by hand and then with
`sparkgmm`, and looks at what comes out.

Each formula stands beside the name that computes it, a path below `src/sparkgmm/` and a name in
that file. [theory.md](theory.md) has the proofs and the sources.
""")

code("""
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import sparkgmm
from sparkgmm import Mixture, fit_array

root = next(p for p in [Path.cwd(), *Path.cwd().parents] if (p / "data/faithful.csv").exists())
features = ["eruptions", "waiting"]  # both in minutes
X = np.loadtxt(root / "data/faithful.csv", delimiter=",", skiprows=1)
n, d = X.shape

INK, GREY, BLUE, ORANGE = "#23272f", "#8b9099", "#0072B2", "#E69F00"
GREEN, PINK, RED = "#009E73", "#CC79A7", "#D55E00"
plt.rcParams |= {"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False}
pd.DataFrame(X, columns=features).describe().loc[["count", "mean", "std", "min", "max"]].round(3)
""")

text(r"""
## 1. Maximum likelihood

Which Gaussian describes the 272 waits best? The one under which they are most likely, that is,
whose mean $\mu$ and standard deviation $\sigma$ lie at the top of

$$
\ell(\mu, \sigma) = \sum_i \ln \mathcal N(x_i \mid \mu, \sigma^2)
= -\frac n2 \ln 2\pi - n \ln \sigma - \sum_i \frac{(x_i - \mu)^2}{2 \sigma^2} .
$$

Where both derivatives are zero, $\mu$ is the mean of the waits and $\sigma^2$ their variance,
divided by $n$. One M-step is all it takes: `core/prior.py: m_step`.
""")

code('''
waiting = X[:, 1]


def log_likelihood(mean, sd):
    """Return the log-likelihood of the waits, for an array of means and one of sds."""
    z = (waiting[:, None, None] - mean) / sd
    return (-0.5 * np.log(2 * np.pi) - np.log(sd) - 0.5 * z**2).sum(axis=0)


top = waiting.mean(), waiting.std()
means, sds = np.meshgrid(np.linspace(68.3, 73.5, 101), np.linspace(11.9, 15.7, 101))
below = log_likelihood(means, sds) - log_likelihood(*np.reshape(top, (2, 1, 1)))

one = fit_array(X[:, 1:], 1, reg_covar=0).mixture
one = Mixture(one.weights, one.means, one.covariances, features=["waiting"])

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
lines = left.contour(means, sds, below, levels=[-8, -4.5, -2, -0.5], colors=BLUE, linewidths=1)
left.clabel(lines, fmt="%g nats", fontsize=8)
left.plot(*top, "+", color=INK, markersize=12)
left.set(xlabel="mean", ylabel="standard deviation", title="Log-likelihood, below its top")
right.hist(waiting, bins=np.arange(42, 100, 3), density=True, color=GREY, alpha=0.35)
sparkgmm.plot(one, ax=right)
right.set(title="The most likely Gaussian", xlim=(30, 110))
print(f"closed form  mean {top[0]:.4f}  sd {top[1]:.4f}")
print(f"fit_array    mean {one.means[0, 0]:.4f}  sd {one.covariances[0, 0, 0] ** 0.5:.4f}")
''')

text(r"""
The arithmetic is right and the answer is not: the bell stands highest in the valley between two
humps. Maximum likelihood finds the best model of a kind. The kind is ours to choose.

## 2. A mixture, by hand

Let a row come from component $j$ with probability $\pi_j$, and then from that component's
Gaussian. Its density is $p(x) = \sum_j \pi_j \mathcal N(x \mid \mu_j, \Sigma_j)$, and the
logarithm of that sum has no top in closed form. But if we knew which component each row came
from, every component would be the case above. And if we knew the components, Bayes' theorem would
tell which of them each row came from. *Expectation-maximisation* goes back and forth between the
two (Dempster, Laird and Rubin 1977).

| | formula | below | in the code |
|---|---|---|---|
| E | $\ln a_{ij} = \ln \pi_j + \ln \mathcal N(x_i \mid \mu_j, \Sigma_j)$ | `joint` | `density.py: natural_parameters` |
| E | $\ln p(x_i) = \ln \sum_j a_{ij}$ | `log_density` | `core/statistics.py: softmax`, `mixture.py: Mixture.log_density` |
| E | $r_{ij} = a_{ij} / p(x_i)$ | `R` | `core/statistics.py: softmax`, `mixture.py: Mixture.responsibilities` |
| M | $N_j = \sum_i r_{ij}$ | `counts` | `covariances/moments.py: Moments.counts` |
| M | $\pi_j = N_j / n$, $\;\mu_j = \frac{1}{N_j} \sum_i r_{ij} x_i$ | `counts / n`, `means` | `core/prior.py: m_step` |
| M | $\Sigma_j = \frac{1}{N_j} \sum_i r_{ij} (x_i - \mu_j)(x_i - \mu_j)^\top$ | `covariances` | `covariances/full.py: Full.estimate` |
""")  # noqa: E501

code('''
def em_step(weights, means, covariances):
    """Return the log-likelihood, and the parameters that one step of EM leads to."""
    residuals = X[:, None, :] - means
    squares = np.einsum("nka,kab,nkb->nk", residuals, np.linalg.inv(covariances), residuals)
    log_det = np.linalg.slogdet(covariances).logabsdet
    joint = np.log(weights) - 0.5 * (d * np.log(2 * np.pi) + log_det + squares)
    log_density = np.logaddexp.reduce(joint, axis=1)
    R = np.exp(joint - log_density[:, None])
    counts = R.sum(axis=0)
    means = R.T @ X / counts[:, None]
    residuals = X[:, None, :] - means
    covariances = np.einsum("nk,nka,nkb->kab", R, residuals, residuals) / counts[:, None, None]
    return log_density.sum(), (counts / n, means, covariances)


# A poor start: the two means lie crosswise to the two kinds of eruption.
means = np.array([[4.5, 50.0], [2.0, 85.0]])
start = np.full(2, 0.5), means, np.array([np.cov(X.T, bias=True)] * 2)
path, heights = [start], []
for _ in range(80):
    height, step = em_step(*path[-1])
    heights.append(height)
    path.append(step)
print(f"log-likelihood {heights[0]:.3f} at the start, {heights[-1]:.3f} after 80 passes")
''')

code("""
fig, axes = plt.subplots(2, 2, figsize=(9.5, 7.2), layout="constrained")
for ax, t in zip(axes.flat, (1, 35, 42, 60), strict=True):
    sparkgmm.plot(Mixture(*path[t], features=features), X, ax=ax)
    ax.set(title=f"after {t} pass{'es' * (t > 1)}", xlim=(1.2, 5.4), ylim=(38, 100))
""")

text(r"""
No step falls: that is a theorem. But for some thirty passes hardly anything happens. The start is
near a *saddle*, where both components share all rows, and the way out is flat. Small steps are no
sign of a top, and who takes them for one stops here. `sparkgmm` stops where the *estimated
distance* to the limit is small (`core/em.py: distance`), which takes the slope into account and
not the last gain.
""")

code("""
from sklearn.mixture import GaussianMixture as SklearnMixture

precisions = np.linalg.inv(start[2])
by_step = SklearnMixture(
    2, weights_init=start[0], means_init=start[1], precisions_init=precisions
).fit(X)
by_distance = fit_array(
    X, 2, weights_init=start[0], means_init=start[1], precisions_init=precisions, reg_covar=0
)

best = by_distance.log_likelihood
stops = by_step.n_iter_
climbs = (("EM by hand", heights, GREY), ("fit_array", by_distance.log_likelihoods, BLUE))
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, climb, colour in climbs:
    below = np.maximum(best - np.array(climb), 1e-9)
    ax.semilogy(np.arange(1, len(below) + 1), below, color=colour, label=name)
ax.plot(stops, best - heights[stops], "o", color=ORANGE, label="scikit-learn's defaults stop")
ax.set(xlabel="passes over the data", ylabel="nats below the top", xlim=(0, 65), ylim=(3e-9, 1e4))
ax.legend(frameon=False)
print(f"scikit-learn: {stops} passes, converged_ = {by_step.converged_}, ", end="")
print(f"{best - by_step.score(X) * n:.1f} nats below the top")
print(f"fit_array:    {by_distance.n_iter} passes, converged = {by_distance.converged}")
""")

text(r"""
Neither would start there of itself: both draw good seeds, and `fit_array` ten sets of them. The
point is what to believe when a fit says that it has converged.

## 3. The same by `fit_array`
""")

code('''
result = fit_array(X, 2)


def named(m):
    """Return the mixture with the names of our features."""
    return Mixture(m.weights, m.means, m.covariances, m.covariance_type, features)


mixture = named(result.mixture)
print(f"log-likelihood {result.log_likelihood:.5f} after {result.n_iter} passes")
mixture
''')

code("""
fig, ax = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
sparkgmm.plot(mixture, X, ax=ax);
""")

text(r"""
Each eruption has the colour of its components, mixed by its responsibilities. The lines hold 50,
80, 95 and 99 per cent of the mixture, in the smallest region that can; the ellipses are one and
two standard deviations of a component.

Inside, a pass over the data is not a loop over components. The log joint density is linear in
$T(x) = (1, x_a, x_a^2, x_a x_b)$, so for all rows and all components at once it is one matrix
product $L = \eta\, T$ (`core/statistics.py: NaturalKernel`), in coordinates where each feature
has mean 0 and standard deviation 1 (`core/profile.py: Frame`).
""")

code("""
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.density import natural_parameters

frame = Frame.of(Profile.of(Block(X.T.copy(), None)))
eta = natural_parameters(from_mixture(mixture, frame))  # (k, F)
Z = (X - frame.shift) / frame.scale
T = np.vstack([np.ones(n), Z.T, Z.T**2, Z[:, 0] * Z[:, 1]])  # (F, n)
log_density = np.logaddexp.reduce(eta @ T, axis=0) - frame.log_volume
print("eta", eta.shape, " T", T.shape)
print("the same densities:", np.allclose(log_density, mixture.log_density(X), rtol=0, atol=1e-12))
""")

text(r"""
## 4. Soft against hard assignment

A responsibility of 0.8 says that four in five such rows come from this component, and one in five
does not. Hard assignment, 1 for the likeliest and 0 for the others, throws that away. On Old
Faithful nothing is lost, since the kinds are far apart.
""")

code("""
certainty = mixture.responsibilities(X).max(axis=1)
print(f"eruptions less than 99% certain: {(certainty < 0.99).sum()} of {n}")
unsure = np.argmin(certainty)
print(f"the least certain: {X[unsure]}, {certainty[unsure]:.0%} for component ", end="")
print(mixture.predict(X)[unsure])
""")

text(r"""
Where components overlap it matters. Two Gaussians with means $-1$ and $1$ and standard deviation
1, in equal shares: hard assignment cuts at 0. Each side then loses its own tail and gets the
other's, so that its mean and variance are those of $|x|$,

$$
m = \mu\,(2 \Phi(\mu) - 1) + 2 \varphi(\mu) = 1.167, \qquad v = 1 + \mu^2 - m^2 = 0.639,
$$

however many rows there are (Bryant and Williamson 1978).
""")

code("""
truth = Mixture([0.5, 0.5], [[-1.0], [1.0]], [[[1.0]], [[1.0]]], "tied")
Y, _ = truth.sample(100_000, seed=0)

soft = fit_array(Y, 2, covariance_type="tied").mixture

y = Y[:, 0]
cut = y.mean()
for _ in range(50):  # classification EM with one variance: 2-means
    sides = y[y < cut], y[y >= cut]
    cut = 0.5 * (sides[0].mean() + sides[1].mean())
shares = [len(side) / len(Y) for side in sides]
variance = sum(share * side.var() for share, side in zip(shares, sides, strict=True))
hard = Mixture(shares, [[side.mean()] for side in sides], np.full((2, 1, 1), variance), "tied")

rows = {"truth": truth, "soft": soft, "hard": hard}
pd.DataFrame(
    {name: [*np.sort(m.means[:, 0]), m.covariances[0, 0, 0]] for name, m in rows.items()},
    index=["left mean", "right mean", "variance"],
).T.round(3)
""")

code("""
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
x = np.linspace(-4.5, 4.5, 400)
ax.hist(y, bins=90, range=(-4.5, 4.5), density=True, color=GREY, alpha=0.35, label="rows")
for name, m, colour in (("soft", soft, BLUE), ("hard", hard, ORANGE)):
    ax.plot(x, np.exp(m.log_density(x[:, None])), color=colour, label=name)
ax.set(xlabel="x", ylabel="density", ylim=(0, None))
ax.legend(frameon=False);
""")

text(r"""
The rows show one hump, the soft fit follows it, and the hard fit invents a valley.

## 5. K-means beside a mixture

K-means is what remains of EM when all components are round, of equal size and of no width (see
[theory.md](theory.md#soft-and-hard)). It cuts half-way between its centres. So where clusters are
long, or of unlike size, it cuts through them.
""")

code("""
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

long = np.array([[4.1672, 2.6796], [2.6796, 2.0828]])
truth = Mixture(
    [0.5, 0.3, 0.2],
    [[0.0, 0.0], [1.2, 2.6], [-2.4, 3.0]],
    [long, 0.25 * np.eye(2), [[0.6, -0.3], [-0.3, 1.2]]],
)
Y, labels = truth.sample(900, seed=0)
kmeans = KMeans(3, n_init=10, random_state=0).fit(Y)
found = fit_array(Y, 3).mixture

# K-means draws as round components of one size, in the order of the mixture's
distances = np.linalg.norm(found.means[:, None] - kmeans.cluster_centers_, axis=2)
nearest = np.argmin(distances, axis=1)
width = kmeans.inertia_ / Y.size
balls = Mixture(
    np.full(3, 1 / 3), kmeans.cluster_centers_[nearest], [width * np.eye(2)] * 3, "spherical"
)
fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4), layout="constrained", sharey=True)
grid = np.stack(np.meshgrid(np.linspace(-7, 7, 500), np.linspace(-5, 7, 500)), axis=-1)
for ax, m, title in ((left, balls, "k-means"), (right, found, "mixture")):
    colours = np.array([BLUE, ORANGE, GREEN])[m.predict(Y)]
    ax.scatter(*Y.T, s=8, c=colours, linewidths=0)
    borders = m.predict(grid.reshape(-1, 2)).reshape(500, 500)
    for j in range(3):
        ax.contour(*np.moveaxis(grid, -1, 0), borders == j, levels=[0.5], colors=INK, linewidths=1)
    ax.plot(*m.means.T, "+", color=INK, markersize=10)
    index = adjusted_rand_score(labels, m.predict(Y))
    ax.set(title=f"{title}: adjusted Rand index {index:.2f}", xlabel="x0")
left.set(ylabel="x1");
""")

text(r"""
K-means also takes the units as they come. Give the eruptions in seconds, and it thinks that they
matter 60 times more. A mixture has covariances for that.
""")

code("""
seconds = X * [60, 1]
pairs = {
    "k-means": [KMeans(2, n_init=10, random_state=0).fit_predict(U) for U in (X, seconds)],
    "mixture": [fit_array(U, 2).mixture.predict(U) for U in (X, seconds)],
}
for name, (minutes, as_seconds) in pairs.items():
    moved = (minutes != as_seconds).sum()
    print(f"{name}: {min(moved, n - moved)} eruptions change sides with the unit")
""")

text(r"""
## 6. Three implementations, one maximum

The maximum of a likelihood does not depend on who climbs it. Run to the end, scikit-learn,
Spark's own MLlib and `sparkgmm` must agree. Each adds something to the covariances unless told
not to; here none does.
""")

code('''
from pyspark.ml.clustering import GaussianMixture as MllibMixture
from pyspark.ml.feature import VectorAssembler

from sparkgmm.spark.session import start_session

spark = start_session("walkthrough")
schema = "eruptions double, waiting double"
table = spark.read.csv(str(root / "data/faithful.csv"), schema, header=True)
vectors = VectorAssembler(inputCols=features, outputCol="features").transform(table).cache()
mllib = MllibMixture(k=2, tol=1e-9, maxIter=500, seed=1).fit(vectors)
sklearn = SklearnMixture(2, tol=1e-12, max_iter=1000, reg_covar=0, random_state=0).fit(X)


def heaviest_first(weights, means, covariances):
    """Return a mixture with its components in our order."""
    order = np.argsort(weights)[::-1]
    return Mixture(*(np.array(a)[order] for a in (weights, means, covariances)), features=features)


fits = {
    "scikit-learn": heaviest_first(sklearn.weights_, sklearn.means_, sklearn.covariances_),
    "MLlib": heaviest_first(
        mllib.weights,
        [g.mean.toArray() for g in mllib.gaussians],
        [g.cov.toArray() for g in mllib.gaussians],
    ),
    "sparkgmm": named(fit_array(X, 2, reg_covar=0).mixture),
}
spark.stop()
''')

code('''
def parameters(m):
    """Return every number of a mixture, by name."""
    values = {}
    for j in range(m.k):
        values[f"weight {j}"] = m.weights[j]
        for a in range(d):
            values[f"mean {j} {features[a]}"] = m.means[j, a]
        for a, b in ((0, 0), (0, 1), (1, 1)):
            values[f"covariance {j} {features[a]}, {features[b]}"] = m.covariances[j, a, b]
    return values | {"log-likelihood": m.log_likelihood(X)}


side_by_side = pd.DataFrame({name: parameters(m) for name, m in fits.items()})
largest = (side_by_side.max(axis=1) - side_by_side.min(axis=1)).max()
print(f"all three within 1e-3 of each other in every number: {largest < 1e-3}")
side_by_side.round(4)
''')

text(r"""
And so must the picture. Below are the contours of the two components, each on its own:
scikit-learn's wide and pale, ours thin and dashed on top.
""")

code('''
x, y = np.linspace(1.1, 5.7, 240), np.linspace(33, 102, 240)
grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def component_density(m, j):
    """Return the density of one component over the grid."""
    alone = Mixture([1.0], m.means[j : j + 1], m.covariances[j : j + 1])
    return np.exp(alone.log_density(grid)).reshape(240, 240)


fig, ax = plt.subplots(figsize=(6.8, 5.0), layout="constrained")
ax.scatter(*X.T, s=12, color=GREY, alpha=0.7, linewidths=0)
for j, colour in enumerate((BLUE, ORANGE)):
    peak = np.exp(-0.5 * np.linalg.slogdet(fits["sparkgmm"].covariances[j])[1]) / (2 * np.pi)
    levels = peak * np.exp(-0.5 * np.array([3, 2.5, 2, 1.5, 1, 0.5]) ** 2)
    theirs = component_density(fits["scikit-learn"], j)
    ours = component_density(fits["sparkgmm"], j)
    ax.contour(x, y, theirs, levels, colors=colour, linewidths=4, alpha=0.35)
    ax.contour(x, y, ours, levels, colors=INK, linewidths=0.9, linestyles="--")
ax.plot([], [], color=BLUE, linewidth=4, alpha=0.35, label="scikit-learn")
ax.plot([], [], color=INK, linewidth=0.9, linestyle="--", label="sparkgmm")
ax.legend(frameon=False, loc="lower right")
ax.set(xlabel="eruptions", ylabel="waiting", title="0.5, 1, ... 3 standard deviations");
''')

text(r"""
## 7. Choosing k and the covariance type

A larger model is never less likely. Schwarz's criterion charges $\ln n$ for each of $\nu$
parameters, lower is better:

$$
\mathrm{bic} = -2 \ell + \nu \ln n .
$$

| type | $\Sigma_j$ | $\nu$ for $k$ components in 2 dimensions |
|---|---|---|
| full | any | $6k - 1$ |
| tied | one for all components | $3k + 2$ |
| diag | diagonal | $5k - 1$ |
| spherical | $\sigma_j^2 I$ | $4k - 1$ |

`mixture.py: n_parameters` counts, `mixture.py: Mixture.bic`, `mixture.py: Mixture.aic` and
`mixture.py: Mixture.icl` judge. A job does the same over lists of k and types, in shared passes.
""")

code("""
ks, kinds = range(1, 6), ("full", "tied", "diag", "spherical")
candidates = {(k, t): fit_array(X, k, covariance_type=t).mixture for t in kinds for k in ks}
bic = pd.DataFrame({t: {k: candidates[k, t].bic(X) for k in ks} for t in kinds})
winner = min(candidates, key=lambda key: candidates[key].bic(X))

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for t, colour, marker in zip(kinds, (BLUE, ORANGE, GREEN, PINK), "os^D", strict=True):
    left.plot(ks, bic[t], color=colour, marker=marker, markersize=4, label=t)
left.plot(winner[0], bic.loc[winner], "o", color="none", markeredgecolor=INK, markersize=14)
left.set(xlabel="k", ylabel="bic", ylim=(2300, 2400), xticks=ks, title="Lower is better")
left.legend(frameon=False)
sparkgmm.plot(named(candidates[winner]), X, ax=right)
right.set(title=f"The winner: k = {winner[0]}, {winner[1]}")
bic.round(1)
""")

code("""
for criterion in ("aic", "bic", "icl"):
    worth = {key: getattr(m, criterion)(X) for key, m in candidates.items()}
    k, t = min(worth, key=worth.get)
    print(f"{criterion}: k = {k}, {t}, {worth[k, t]:.1f}")
""")

text(r"""
Spherical is off the chart: a circle in minutes by minutes fits neither kind. Bic takes three
components that share one covariance, where the long eruptions, which are not quite Gaussian, are
described by two. Icl adds the price of overlap, and takes the two kinds that one sees. Aic
charges least and takes most. They answer different questions: bic describes a density, icl finds
clusters.

## 8. Outliers

`mixture.py: Mixture.log_density` is low where a row is unusual. As a threshold take what one in a
hundred of the eruptions themselves falls below. A row need not be extreme in any feature to be an
outlier; it may just lie where nothing lies.
""")

code("""
log_density = mixture.log_density(X)
threshold = np.quantile(log_density, 0.01, method="inverted_cdf")
strange = np.array([[3.1, 66.0], [3.2, 90.0], [2.0, 80.0], [4.5, 55.0]])

fig, ax = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
sparkgmm.plot(mixture, X, ax=ax)
low = X[log_density < threshold]
ax.plot(*low.T, "o", color="none", markeredgecolor=INK, markersize=11, label="of the 272")
ax.plot(*strange.T, "x", color=RED, markersize=9, markeredgewidth=2, label="made up")
ax.legend(frameon=False, loc="lower right")

deviations = np.abs((strange - X.mean(axis=0)) / X.std(axis=0)).max(axis=1)
print(f"threshold {threshold:.3f} nats")
pd.DataFrame(
    {
        "eruptions": strange[:, 0],
        "waiting": strange[:, 1],
        "sd from the mean, at most": deviations.round(2),
        "log density": mixture.log_density(strange).round(2),
        "outlier": mixture.log_density(strange) < threshold,
    }
)
""")

text(r"""
## 9. Nulls

The observer goes home early after short eruptions: seven in ten of the waits that follow them are
not on record. To drop such rows is to drop short eruptions. With `missing="model"` a row counts by
what it has, $p(x_o) = \sum_j \pi_j N(x_o; \mu_{j,o}, \Sigma_{j,oo})$, and the rest is integrated
out. That is right as long as what was seen says why a value is missing, as it does here: the
eruption's length was seen.
""")

code("""
rng = np.random.default_rng(5)
gone = (X[:, 0] < 3) & (rng.random(len(X)) < 0.7)
gaps = np.column_stack([X[:, 0], np.where(gone, np.nan, X[:, 1])])

fits = {
    "all 272 rows, before": fit_array(X, 2).mixture,
    f"the {int((~gone).sum())} whole rows": fit_array(gaps[~gone], 2).mixture,
    "all 272 rows, with nulls": fit_array(gaps, 2, missing="model").mixture,
}
pd.DataFrame(
    {
        name: {
            "weight of short eruptions": m.weights[m.means[:, 0].argmin()].round(3),
            "their mean wait": m.means[m.means[:, 0].argmin(), 1].round(1),
            "mean of all waits": (m.weights @ m.means[:, 1]).round(1),
        }
        for name, m in fits.items()
    }
).T
""")

text(r"""
The whole rows find the clusters and get their shares wrong, and with them every mean over both. Of
a wait that is missing the mixture says what to expect, given the eruption (`mixture.py:
Mixture.expect`), and how far off that may be. `mixture.py: Mixture.impute` puts the mean in its
place: good for a table that must have no gaps, but for fitting it would be wrong, as the rows would
vary less than they do.
""")

code("""
model = fits["all 272 rows, with nulls"]
mean, sd = model.expect(gaps[gone], [1])
truth = X[gone, 1]

fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
ax.plot(*X[~gone].T, "o", color=INK, alpha=0.25, markersize=4, label="seen")
ax.plot(X[gone, 0], truth, "o", color=RED, markersize=4, label="taken away")
order = np.argsort(X[gone, 0])
at, middle, around = X[gone, 0][order], mean[order, 0], sd[order, 0]
ax.plot(at, middle, color=BLUE, label="expected")
ax.fill_between(at, middle - around, middle + around, color=BLUE, alpha=0.2, linewidth=0)
ax.set(xlabel="eruption, minutes", ylabel="wait, minutes")
ax.legend(frameon=False)
print(f"off by {np.sqrt(((truth - mean[:, 0]) ** 2).mean()):.1f} minutes, expected {sd.mean():.1f}")
""")

text(r"""
## From here

The same fit as a Spark job, on any number of rows, is `make run`; the [README](../README.md)
shows how to run it on your own table. [design.md](design.md) says how it works,
[decisions.md](decisions.md) what was measured, [theory.md](theory.md) why it is right.
""")


def build() -> nbformat.NotebookNode:
    """Return the notebook, not yet run."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, (kind, source) in enumerate(CELLS, 1):
        make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        notebook.cells.append(make(source, id=f"cell-{number:02d}"))
    return notebook


def run(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run the notebook in a fresh kernel of this Python, from a folder of the repository."""
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    with tempfile.TemporaryDirectory(prefix="walkthrough-") as sockets:
        NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
            # no port, but a socket that this user alone can open
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
        ).execute(env=environment | _ENVIRONMENT)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop what is not the notebook's own: standard error, addresses, bytes that show nothing."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            data = output.get("data", {})
            if "text/plain" in data:
                data["text/plain"] = _ADDRESS.sub("", data["text/plain"])
            if "image/png" in data:
                data["image/png"] = _smaller(data["image/png"])
    written = nbformat.writes(notebook)
    for path in (ROOT, Path.home(), Path(sys.prefix)):
        if str(path) in written:
            raise SystemExit(f"error: the notebook's outputs name {path}: do not print it")


def _smaller(picture: str) -> str:
    """Return a PNG in 256 colours, which is a third of the bytes and looks the same."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    written = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def main() -> None:
    """Build, run and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=NOTEBOOK)
    output = parser.parse_args().output
    notebook = build()
    run(notebook, ROOT)
    tidy(notebook)
    nbformat.write(notebook, output)
    print(f"{output}: {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
