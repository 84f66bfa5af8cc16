"""Which run an update goes on from, and what every run keeps for the updates to come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from sparkgmm.core.history import History
from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.folder import LATEST, MANIFEST, RunFolder, load_model
from sparkgmm.runs.state import BegunRun
from sparkgmm.spark.file_systems import Use
from sparkgmm.spark.masking import masked
from sparkgmm.spark.storage import Folder

STATISTICS = "statistics.json"
# 2 has a profile whose scatter is a diagonal where no covariance type asks for more.
_FORMAT = 2
_READ = (1, 2)


@dataclass(frozen=True)
class BaseRun:
    """The run that an update goes on from.

    `history` stands for its rows; `lineage` has the addresses of all runs whose rows these are,
    the oldest first, so that no run's rows are added twice.
    """

    run_id: str
    path: str
    sha256: str
    features: tuple[str, ...]
    lineage: tuple[str, ...]
    history: History

    def named(self) -> dict[str, str]:
        """Return what a manifest, or an unfinished run, says of it."""
        return {"run_id": self.run_id, "path": masked(self.path), "sha256": self.sha256}

    def check_features(self, names: Sequence[str]) -> None:
        """Refuse rows of other features.

        Raises
        ------
        ConfigurationError
            If they are not the same in the same order.

        """
        if self.features != tuple(names):
            raise ConfigurationError(
                f"model.update goes on from features {self.features}, the input has "
                f"{tuple(names)}: name the same in the same order, or fit all rows again "
                "(model.update: null)"
            )


def statistics_of(
    history: History,
    features: Sequence[str],
    run: RunFolder,
    spark: SparkSession,
    base: BaseRun | None,
) -> dict[str, Any]:
    """Return statistics.json: what stands for the rows of a run and of those before it."""
    lineage = () if base is None else base.lineage
    return {
        "format_version": _FORMAT,
        "features": list(features),
        "runs": [*lineage, _address(spark, run)],
        **history.to_dict(),
    }


def find_base_run(
    spark: SparkSession, config: FitConfig, run: RunFolder, begun: BegunRun | None, overwrite: bool
) -> BaseRun | None:
    """Return the run to go on from, or None where all rows are to be fitted.

    A run that goes on takes the base it was begun with, and one that is done again the base it had:
    LATEST may hold its own rows by now. The first run of an output root that updates itself has
    none.

    Raises
    ------
    ConfigurationError
        If there is no such run, or it has no statistics, those of another k or covariance type,
        or those of the very rows that are to be added.
    InputError
        If its statistics are not those that it wrote, or not those that the run was begun with.

    """
    if config.model.update is None:
        return None
    folder = Folder(spark, config.model.update, Use("model.update", ConfigurationError))
    own = folder.uri == Folder(spark, run.root_path).uri
    if begun is not None and not overwrite:
        base = _begun_with(folder, begun, run)
    elif run.is_whole() and own:
        base = _base_of_whole(folder, run)
    elif own and not folder.exists(LATEST):
        base = None
    else:
        base = _read(folder)
    if base is not None:
        _check_same_candidate(base, config)
        _check_lineage(base, spark, run)
    return base


def _begun_with(folder: Folder, begun: BegunRun, run: RunFolder) -> BaseRun | None:
    if begun.base is None:
        return None
    base = _recorded(folder, begun.base, run)
    if base.sha256 != begun.base["sha256"]:
        raise InputError(
            f"run {run.run_id!r} was begun on the statistics of run {base.run_id!r}, which are "
            "others now: start it again with --overwrite"
        )
    return base


def _base_of_whole(folder: Folder, run: RunFolder) -> BaseRun | None:
    """Return the base of a whole run that is done again; its statistics may be newer."""
    manifest = run.manifest()
    recorded = manifest.get("updated_from")
    if recorded is not None:
        return _recorded(folder, recorded, run)
    if manifest.get("configuration", {}).get("model", {}).get("update") is not None:
        return None
    raise ConfigurationError(
        f"run {run.run_id!r} was a full fit and not an update: do it again with model.update: "
        "null, or name the run to go on from in model.update, or another output.run_id"
    )


def _recorded(folder: Folder, recorded: Mapping[str, Any], run: RunFolder) -> BaseRun:
    run_id = str(recorded["run_id"])
    there = folder if folder.name == run_id and folder.exists(MANIFEST) else folder.child(run_id)
    if not there.exists(MANIFEST):
        raise ConfigurationError(
            f"run {run.run_id!r} went on from run {run_id!r}, which is gone (output.keep_runs): "
            "name another from before it in model.update with --overwrite, or fit all rows again "
            "(model.update: null)"
        )
    return _read(there)


def _read(folder: Folder) -> BaseRun:
    """Read the statistics of a run, or of the one that LATEST names."""
    run = load_model(folder).run
    path = f"{run.path}/{STATISTICS}"
    listed = _listed_sha256(run)
    if listed is None or not run.exists(STATISTICS):
        raise ConfigurationError(
            f"model.update names run {run.path!r}, which has no {STATISTICS}: fit all rows once "
            "with this version (model.update: null), and update from that run"
        )
    content = run.read_bytes(STATISTICS)
    if hashlib.sha256(content).hexdigest() != listed:
        raise InputError(
            f"{path!r} is not what the run wrote (its checksum is another than {MANIFEST}'s): "
            "restore it, or fit all rows again (model.update: null)"
        )
    try:
        values = json.loads(content)
        if values.get("format_version") not in _READ:
            raise InputError(f"its format_version is {values.get('format_version')!r}")
        features, lineage = tuple(values["features"]), tuple(values["runs"])
        history = History.from_dict(values)
    except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path!r} cannot be used ({error}): fit all rows again (model.update: null)"
        ) from error
    return BaseRun(run.name, run.path, listed, features, lineage, history)


def _listed_sha256(run: Folder) -> str | None:
    """Return the statistics' checksum in the manifest, which `load_model` has read before."""
    files = json.loads(run.read_text(MANIFEST)).get("files", [])
    return next((str(f.get("sha256")) for f in files if f.get("path") == STATISTICS), None)


def _check_same_candidate(base: BaseRun, config: FitConfig) -> None:
    history, model = base.history, config.model
    if (history.k, history.covariance_type) != (model.k[0], model.covariance_type[0]):
        raise ConfigurationError(
            f"model.update {model.update!r} has k = {history.k} and covariance_type "
            f"{history.covariance_type}, the configuration {model.k[0]} and "
            f"{model.covariance_type[0]}: make them equal, or fit all rows again (model.update: "
            "null)"
        )


def _check_lineage(base: BaseRun, spark: SparkSession, run: RunFolder) -> None:
    if _address(spark, run) in base.lineage:
        raise ConfigurationError(
            f"model.update names run {base.run_id!r}, which holds the rows of run {run.run_id!r} "
            "already: name a run from before it, or another output.run_id if these are other rows"
        )


def _address(spark: SparkSession, run: RunFolder) -> str:
    return masked(Folder(spark, run.path).uri)
