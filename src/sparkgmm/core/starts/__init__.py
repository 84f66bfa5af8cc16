"""The kinds of starts that `init: auto` adds to k-means++: a function each, and a line in KINDS.

k-means++ in standardised coordinates looks for clusters that lie apart. What it does not see are
clusters that lie within each other, along each other, or apart in a direction in which the data
vary little; each kind here looks where the others do not. Each is a function of the ground, k and
a generator, and returns to which component each row belongs at first: labels (n,), or
responsibilities (k, n).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparkgmm.core.starts import kinds
from sparkgmm.core.starts.ground import Ground
from sparkgmm.products import Array

Kind = Callable[[Ground, int, np.random.Generator], Array]

KINDS: dict[str, Kind] = {
    "bounded": kinds.bounded,
    "whitened": kinds.whitened,
    "whitened rows": kinds.whitened_rows,
    "random metric": kinds.random_metric,
    "some features": kinds.some_features,
    "projected": kinds.projected,
    "neighbourhoods": kinds.neighbourhoods,
    "cuts": kinds.cuts,
    "soft": kinds.soft,
    "shells": kinds.shells,
}
