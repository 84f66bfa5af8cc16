"""The report of a run: one page that holds everything, and its figures as files beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from threadpoolctl import threadpool_limits

from sparkgmm.core.profile import Profile
from sparkgmm.core.quantiles import threshold
from sparkgmm.core.sample import Membership
from sparkgmm.core.selection import Candidate
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report import figures, tables
from sparkgmm.report.drift import Since, change_table, nights_figure, words
from sparkgmm.report.remarks import remarks
from sparkgmm.report.style import COLOURS, Picture, style
from sparkgmm.report.views import correlation, names_of, telling_features

# What the page itself carries for the pairs that are not drawn: so many numbers of the sample.
_CARRIED = 60_000
_CARRIED_ROWS = 1500


@dataclass(frozen=True)
class Run:
    """All that a report tells of a run; the rows come as a bounded sample."""

    chosen: Candidate
    candidates: Sequence[Candidate]
    profile: Profile
    membership: Membership
    metrics: Mapping[str, Any]
    manifest: Mapping[str, Any]
    since: Since | None = None


def report(run: Run) -> dict[str, bytes]:
    """Return the files of the report: report.html and plots/*.png."""
    with threadpool_limits(1, user_api="blas"):  # many small matrices: threads would be in the way
        return _files(run)


def _files(run: Run) -> dict[str, bytes]:
    mixture, configuration = run.chosen.mixture, run.manifest["configuration"]
    criterion = configuration["model"]["criterion"]
    membership, sample = run.membership, run.membership.sample
    features = telling_features(mixture, sample, figures.CORNER)
    sd = np.sqrt(run.profile.variance)
    with style():
        drawn = {
            "mixture": figures.mixture_figure(mixture, sample, features),
            "criterion": figures.criterion_figure(run.candidates, run.chosen, criterion),
            "membership": figures.membership_figure(membership),
            "means": figures.means_figure(mixture, run.profile.mean, sd),
            "convergence": figures.convergence_figure(run.candidates, run.chosen),
            "nights": None if run.since is None else nights_figure(run.since),
        }
    pictures = {name: picture for name, picture in drawn.items() if picture is not None}
    page = render(
        "report.html",
        pictures,
        scripts=["pairs.js"] if mixture.d > 2 else [],
        run_id=run.manifest["run_id"],
        mixture=mixture,
        metrics=run.metrics,
        criterion=criterion,
        chosen=run.chosen,
        sample=sample,
        names=names_of(mixture),
        shown=[names_of(mixture)[i] for i in features],
        remarks=remarks(
            run.chosen, run.candidates, membership, run.metrics, configuration, run.since
        ),
        since=run.since,
        changed=[] if run.since is None else words(run.since),
        changes=None
        if run.since is None or run.since.drift is None
        else change_table(run.since.drift),
        components=tables.component_table(membership, run.metrics["sum_of_weights"]),
        means=tables.mean_table(mixture),
        correlations=tables.correlation_tables(mixture),
        profile=tables.profile_table(run.profile, names_of(mixture)),
        candidates=tables.candidate_table(run.candidates, run.chosen, criterion),
        facts=tables.fact_table(run.metrics, run.manifest),
        thresholds=[(q, threshold(membership.density_quantiles, q)) for q in figures.OUTLIERS],
        configuration=yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True),
        pairs=_pairs(mixture, membership, features) if mixture.d > 2 else None,
    )
    return {"report.html": page.encode(), **plots(pictures.values())}


def plots(pictures: Any) -> dict[str, bytes]:
    """Return the figures as files."""
    return {f"plots/{picture.name}.png": picture.png for picture in pictures}


def render(
    template: str, pictures: Mapping[str, Picture], scripts: Sequence[str] = (), **values: Any
) -> str:
    """Fill a template; everything that comes from the data is escaped.

    The page's own policy lets it load nothing and run no script but the ones given here.
    """
    environment = Environment(
        loader=PackageLoader("sparkgmm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files("sparkgmm.report") / "templates"
    code = [Markup((folder / name).read_text(encoding="utf-8")) for name in scripts]
    hashes = [base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in code]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    css = Markup((folder / "page.css").read_text(encoding="utf-8"))
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return environment.get_template(template).render(
        pictures=pictures, code=code, css=css, policy=policy, **values
    )


def _pairs(mixture: Mixture, membership: Membership, features: Sequence[int]) -> Markup:
    """Return what the page needs to draw any pair, as JSON that cannot end its element."""
    X = membership.sample.thinned(max(50, min(_CARRIED_ROWS, _CARRIED // mixture.d)))
    low, high = np.quantile(X, [0.005, 0.995], axis=0)
    units = np.where(high > low, high - low, np.maximum(np.abs(X).max(axis=0), 1e-300))
    sd = np.sqrt(np.einsum("kii->ki", mixture.covariances))
    below = np.tril_indices(mixture.d, -1)
    carried = {
        "names": names_of(mixture),
        "first": list(features[:2]),
        "colours": COLOURS,
        "means": [_rounded(mean, units) for mean in mixture.means],
        "sd": [_rounded(mine, mine) for mine in sd],
        # in thousandths, row by row below the diagonal
        "correlations": [
            np.rint(1e3 * correlation(c)[below]).astype(int).tolist() for c in mixture.covariances
        ],
        "rows": [
            _rounded(column, np.full(len(X), unit)) for column, unit in zip(X.T, units, strict=True)
        ],
        "labels": mixture.predict(X).tolist(),
    }
    text = json.dumps(carried, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _rounded(values: Array, units: Array) -> list[float]:
    """Return numbers to a thousandth of their unit or better, without more digits than that."""
    decimals = 3 - np.floor(np.log10(units)).astype(int)
    pairs = zip(values.tolist(), decimals.tolist(), strict=True)
    rounded = (round(value, places) for value, places in pairs)
    return [int(value) if value.is_integer() else value for value in rounded]
