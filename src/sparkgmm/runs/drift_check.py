"""What a run says of the one before: labels, drift.json, and whether LATEST may name it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import SparkSession

from sparkgmm.core.drift import (
    OUTLIERS,
    Crossing,
    Drift,
    Labelled,
    changes,
    crossings,
    divergence_by_chance,
    jensen_shannon,
    mean_log_density,
    share_below,
)
from sparkgmm.core.quantiles import threshold
from sparkgmm.core.rows import Rows
from sparkgmm.core.sample import Sample
from sparkgmm.core.selection import Candidate
from sparkgmm.errors import ConfigurationError, DriftError, InputError
from sparkgmm.report.past_runs import PastRun, PastRuns
from sparkgmm.runs.config import RUN_ID, DriftConfig, FitConfig
from sparkgmm.runs.folder import (
    MANIFEST,
    RunFolder,
    StoredModel,
    latest_of,
    load_model,
    to_json,
)
from sparkgmm.runs.state import Say
from sparkgmm.spark.file_systems import Use
from sparkgmm.spark.masking import masked
from sparkgmm.spark.storage import Folder

DRIFT = "drift.json"
# The report shows so many runs, this one among them.
_SHOWN_RUNS = 30


@dataclass(frozen=True)
class ComparedRun:
    """The run that a new one is compared with.

    `mean_log_likelihood` is that of its own rows, in nats a row; `edge` the log density below
    which 0.1% of them are, or None where its model does not say.
    """

    folder: Folder
    labelled: Labelled
    mean_log_likelihood: float
    edge: float | None

    @classmethod
    def of(cls, model: StoredModel) -> ComparedRun:
        """Read what a run says of itself.

        Raises
        ------
        InputError
            If its metrics.json cannot be read.
        """
        path = f"{model.run.path}/metrics.json"
        try:
            metrics = json.loads(model.run.read_text("metrics.json"))
            n_rows = max(float(metrics["sum_of_weights"]), float(metrics["rows_used"]))
            mean = float(metrics["mean_log_likelihood"])
        except Exception as error:
            raise InputError(
                f"{path!r} cannot be read, which the drift section needs ({error!r}): restore it, "
                "or name another run by drift.against"
            ) from error
        labels = model.labels or tuple(range(model.mixture.k))
        labelled = Labelled(model.mixture, labels, model.next_label, n_rows)
        edge = None if model.quantiles is None else threshold(model.quantiles, OUTLIERS)
        return cls(model.run, labelled, mean, edge)

    @property
    def run_id(self) -> str:
        """Its run_id."""
        return self.folder.name


def previous_run(run: RunFolder) -> Folder | None:
    """Return the run before this one in its output root, or None if this is the first.

    That is the one that LATEST names. A run that is done again is not its own predecessor: it
    follows the one that it followed before, as long as that is there.
    """
    root = run.root
    record = run.manifest().get("drift") if run.is_whole() else None
    if isinstance(record, dict):
        before = record.get("previous")
        if before is None:
            return None
        if RUN_ID.fullmatch(str(before)) and root.exists(f"{before}/{MANIFEST}"):
            return root.child(str(before))
    latest = latest_of(root)
    return None if latest in (None, run.run_id) else root.child(str(latest))


def open_compared_run(
    spark: SparkSession, config: FitConfig, run: RunFolder, say: Say
) -> ComparedRun | None:
    """Return the run to compare with; None without a drift section, or in the first run.

    Raises
    ------
    ConfigurationError
        If drift.against is no run, or the run does not have what a threshold is for.
    InputError
        If the run cannot be read.
    """
    if config.drift is None:
        return None
    path = config.drift.against
    folder = None if path is None else Folder(spark, path, Use("drift.against", ConfigurationError))
    if folder is None or folder.uri == run.root.uri:
        folder = previous_run(run)
        if folder is None:
            say(f"no earlier run in {run.root_path}: there is nothing to compare with yet")
            return None
    earlier = ComparedRun.of(load_model(folder))
    limits = (config.drift.warn.outlier_share, config.drift.fail.outlier_share)
    if earlier.edge is None and limits != (None, None):
        raise ConfigurationError(
            f"run {earlier.folder.path!r} has no log_density_quantiles, which outlier_share of "
            "drift.warn and drift.fail needs: set it to null, or name another by drift.against"
        )
    return earlier


def check_same_features(
    earlier: ComparedRun | None, names: Sequence[str], beside: Sequence[str] = ()
) -> None:
    """Refuse to compare mixtures of other features; those `beside` are categorical or counts.

    Raises
    ------
    ConfigurationError
        If their names or their order differ.
    """
    if earlier is None:
        return
    mixture = earlier.labelled.mixture
    had = [part.of.name for part in mixture.parts]
    same = mixture.features in (None, tuple(names)) and sorted(had) == sorted(beside)
    if same:
        return
    raise ConfigurationError(
        f"run {earlier.folder.path!r}, which drift compares with, has features "
        f"{[*(mixture.features or ()), *had]}, the input {[*names, *beside]}: name the same "
        "in the same order, or begin in another output.path"
    )


@dataclass(frozen=True)
class Judged:
    """A new run's labels, what changed, and which thresholds that crosses.

    `earlier` and `drift` are None in the first run. `previous` is the run before this one in its
    own output root, which may be another than the one compared with.
    """

    run_id: str
    mean_log_likelihood: float
    labelled: Labelled
    earlier: ComparedRun | None
    drift: Drift | None
    crossed: tuple[Crossing, ...]
    previous: str | None

    @property
    def verdict(self) -> str:
        """Tell first, steady, warned or failed."""
        if self.drift is None:
            return "first"
        levels = {crossing.level for crossing in self.crossed}
        return "failed" if "fail" in levels else "warned" if "warn" in levels else "steady"

    @property
    def accepted(self) -> bool:
        """Whether LATEST may name the run."""
        return self.verdict != "failed"

    def record(self) -> dict[str, Any]:
        """Return drift.json."""
        weights = zip(self.labelled.labels, self.labelled.mixture.weights.tolist(), strict=True)
        return {
            "format_version": 1,
            "run_id": self.run_id,
            "previous": self.previous,
            "against": None
            if self.earlier is None
            else {"run_id": self.earlier.run_id, "path": masked(self.earlier.folder.path)},
            "verdict": self.verdict,
            "crossed": [crossing._asdict() for crossing in self.crossed],
            "labels": list(self.labelled.labels),
            "next_label": self.labelled.next_label,
            "weights": dict(sorted(weights)),
            "mean_log_likelihood": self.mean_log_likelihood,
            **_figures(self.drift),
        }


def _figures(drift: Drift | None) -> dict[str, Any]:
    if drift is None:
        return {"measures": None, "components": []}
    return {
        "measures": drift.measures,
        "divergence_error": drift.divergence.error,
        "divergence_by_chance": divergence_by_chance(drift.before, drift.after),
        "mean_log_density": drift.mean_log_density,
        "components": [
            {"status": change.status, "weight_change": change.weight_change, **asdict(change)}
            for change in drift.changes
        ],
    }


def judge_drift(
    config: DriftConfig | None,
    run: RunFolder,
    earlier: ComparedRun | None,
    chosen: Candidate,
    rows: Rows,
) -> Judged | None:
    """Give the components their labels, and compare them and the rows with an earlier run.

    Without a drift section there is nothing to judge: None.
    """
    if config is None:
        return None
    before = previous_run(run)
    previous = None if before is None else before.name
    mixture, n_rows = chosen.mixture, max(chosen.weight, float(rows.profile.n_rows))
    mean = chosen.mean_log_likelihood
    if earlier is None:
        labelled = Labelled.first(mixture, n_rows)
        return Judged(run.run_id, mean, labelled, None, None, (), previous)
    labelled = earlier.labelled.following(mixture, n_rows)
    drift = _measure(earlier, labelled, rows)
    crossed = tuple(
        crossing
        for level in ("fail", "warn")
        for crossing in crossings(drift.measures, level, getattr(config, level).model_dump())
    )
    return Judged(run.run_id, mean, labelled, earlier, drift, crossed, previous)


def _measure(earlier: ComparedRun, after: Labelled, rows: Rows) -> Drift:
    """Compare in one pass over all the rows: their mean log density under the earlier mixture.

    The share of outliers is that of the pilot sample's rows, the divergence comes from rows drawn
    from the two mixtures.
    """
    before = earlier.labelled
    density = mean_log_density(rows, before.mixture)
    share = None
    if earlier.edge is not None:
        sample = Sample.of(rows)
        share = share_below(before.mixture, sample.X, sample.weights, earlier.edge, rows.columns)
    return Drift(
        before,
        after,
        tuple(changes(before, after)),
        jensen_shannon(before.mixture, after.mixture),
        density,
        earlier.mean_log_likelihood - density,
        share,
    )


def in_manifest(judged: Judged | None) -> dict[str, Any]:
    """Return what manifest.json says, from which a job that runs again knows the verdict."""
    if judged is None:
        return {}
    record = {
        "verdict": judged.verdict,
        "previous": judged.previous,
        "against": None if judged.earlier is None else judged.earlier.run_id,
        "crossed": [str(crossing) for crossing in judged.crossed if crossing.level == "fail"],
    }
    return {"drift": record}


def drift_json(judged: Judged | None) -> dict[str, bytes]:
    """Return the file that a run keeps, by its name."""
    return {} if judged is None else {DRIFT: to_json(judged.record()).encode()}


def refuse_drifted(run: RunFolder, manifest: Mapping[str, Any], written: bool = True) -> None:
    """Stop at a run that failed its thresholds, by its manifest.

    Where it was not `written` there is a run in its place that stays: the one that LATEST names.

    Raises
    ------
    DriftError
        With the measures, where the run is, and how to accept it.
    """
    record = manifest.get("drift")
    if not isinstance(record, Mapping) or record.get("verdict") != "failed":
        return
    where = (
        f"it is in {run.path}, and LATEST does not name it"
        if written
        else f"it was not written, as the run in {run.path} stays"
    )
    raise DriftError(
        f"run {run.run_id!r} drifted from {record.get('against')!r} "
        f"({'; '.join(map(str, record.get('crossed', [])))}): {where}; fix the input, or accept it "
        "by the same job with --overwrite --set drift.fail={}"
    )


def past_runs_of(
    judged: Judged | None, run: RunFolder, config: DriftConfig | None
) -> PastRuns | None:
    """Return what the report shows: the changes, and the runs before this one."""
    if judged is None or config is None:
        return None
    return PastRuns(
        None if judged.earlier is None else judged.earlier.run_id,
        judged.labelled,
        judged.drift,
        judged.crossed,
        [*_past_runs(run.root, judged), _past_run(judged.record())],
        {level: getattr(config, level).model_dump() for level in ("warn", "fail")},
    )


def _past_runs(root: Folder, judged: Judged) -> list[PastRun]:
    """Read the runs before this one, the oldest first, as far back as each names the one before."""
    runs: list[PastRun] = []
    seen, run_id = {judged.run_id}, judged.previous
    while run_id is not None and run_id not in seen and len(runs) < _SHOWN_RUNS - 1:
        if not RUN_ID.fullmatch(str(run_id)):  # it must not lead elsewhere
            break
        seen.add(run_id)
        path = f"{run_id}/{DRIFT}"
        try:
            values = json.loads(root.read_text(path)) if root.exists(path) else {}
            runs.insert(0, _past_run(values))
            run_id = values["previous"]
        except (ValueError, KeyError, TypeError, AttributeError):
            break  # a run without a drift section, or a damaged file: the picture begins after it
    return runs


def _past_run(values: Mapping[str, Any]) -> PastRun:
    """Take from a drift.json what the picture needs; raise what a damaged one makes."""
    measures = values["measures"] or {}
    figures = (
        values["mean_log_likelihood"],
        values.get("mean_log_density"),
        measures.get("divergence"),
        measures.get("outlier_share"),
    )
    own, earlier, divergence, outliers = (None if x is None else float(x) for x in figures)
    weights = {int(label): float(weight) for label, weight in values["weights"].items()}
    run_id, verdict = str(values["run_id"]), str(values["verdict"])
    return PastRun(run_id, weights, own, earlier, divergence, outliers, verdict)


def lines_of(judged: Judged) -> list[str]:
    """Return what the person at the terminal reads of it."""
    if judged.drift is None or judged.earlier is None:
        return []
    drift = judged.drift
    shown = [
        f"since {judged.earlier.run_id}: divergence {drift.divergence.value:.4g} nats",
        f"log density {-drift.log_density_fall:+.4g} nats a row",
    ]
    if drift.outlier_share is not None:
        shown.append(f"{drift.outlier_share:.2%} outliers")
    lines = [", ".join(shown)]
    for status in ("appeared", "vanished"):
        labels = [str(change.label) for change in drift.changes if change.status == status]
        if labels:
            lines.append(f"{status}: label {', '.join(labels)}")
    return [*lines, *(f"drift: {crossing}" for crossing in judged.crossed)]
