"""`make picture`: the README's picture of Old Faithful, as a run's report draws it."""

from pathlib import Path

import numpy as np

from sparkgmm import Mixture, fit_array
from sparkgmm.core.sample import Sample
from sparkgmm.report.sections.rows import mixture_figure
from sparkgmm.report.style import style

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Fit and draw."""
    X = np.loadtxt(ROOT / "data" / "faithful.csv", delimiter=",", skiprows=1)
    found = fit_array(X, 2).mixture
    names = ["eruptions, minutes", "waiting, minutes"]
    mixture = Mixture(found.weights, found.means, found.covariances, features=names)
    with style():
        drawn = mixture_figure(mixture, Sample(X, np.ones(len(X)), complete=True), [0, 1])
    (ROOT / "docs" / "faithful.png").write_bytes(drawn.png)


if __name__ == "__main__":
    main()
