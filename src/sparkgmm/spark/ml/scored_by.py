"""Which model of this process scored a DataFrame: what transform notes, and an evaluator reads."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pyspark.sql import DataFrame

if TYPE_CHECKING:
    from sparkgmm.spark.ml.model import GaussianMixtureModel

_KEY = "sparkgmm"
# By a key that the model and its copies hold. A model that is gone has scored nothing that anybody
# still evaluates, but for what was kept or came from another process.
_models: WeakValueDictionary[str, GaussianMixtureModel] = WeakValueDictionary()


def register(model: GaussianMixtureModel) -> str:
    """Return the key of a new model."""
    key = uuid.uuid4().hex
    _models[key] = model
    return key


def note(key: str, features: str) -> dict[str, Any]:
    """Return what the metadata of a column that a model adds say of it."""
    return {_KEY: {"model": key, "featuresCol": features}}


def scorer_of(df: DataFrame) -> tuple[GaussianMixtureModel, str] | None:
    """Return the one model that scored a DataFrame, and of which column of it; else None."""
    noted = [field.metadata[_KEY] for field in df.schema.fields if _KEY in field.metadata]
    found = {(entry["model"], entry["featuresCol"]) for entry in noted}
    if len(found) != 1:
        return None
    key, features = found.pop()
    model = _models.get(key)
    return None if model is None or features not in df.columns else (model, features)
