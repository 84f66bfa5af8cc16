"""metrics.prom by Prometheus' own parser, against metrics.json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sparkgmm.runs.prometheus import exposition

PROJECT = Path(__file__).resolve().parents[2]
WEIGHTS = [0.75, 0.25]


def metrics(**changed: Any) -> dict[str, Any]:
    given = {
        "k": 2,
        "covariance_type": "full",
        "log_likelihood": -1130.26396,
        "mean_log_likelihood": -4.155382205882353,
        "n_parameters": 11,
        "bic": 2322.1917,
        "aic": 2282.5,
        "icl": 2322.7,
        "n_iter": 7,
        "converged": True,
        "distance": 3.5e-9,
        "rows_read": 272,
        "rows_used": 270,
        "rows_invalid": 2,
        "seconds": 12.5,
        "seconds_by_step": {"read": 3.0, "fit": 1.5, "report": 8.0},
    }
    return {**given, **changed}


MANIFEST = {
    "run_id": "2026-11-22",
    "finished": "2026-11-23T02:16:00+00:00",
    "versions": {"sparkgmm": "0.1.0"},
    "source": {"commit": "ab" * 20, "dirty": False},
}
ROOT = "s3a://bucket/mixtures/trips"


def read(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return names, labels but for root, and values, as Prometheus reads them."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation.endswith((".", "1."))
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "root"))
            assert labels not in found.get(sample.name, {}), "the same sample twice"
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_prometheus_reads_the_figures_of_metrics_json() -> None:
    found = read(exposition(metrics(), MANIFEST, WEIGHTS, ROOT))
    one = {name: next(iter(values.values())) for name, values in found.items() if len(values) == 1}
    assert one["sparkgmm_log_likelihood_nats"] == -1130.26396
    assert one["sparkgmm_mean_log_likelihood_nats"] == -4.155382205882353  # every digit
    assert one["sparkgmm_rows_read"] == 272
    assert one["sparkgmm_rows_invalid"] == 2
    assert one["sparkgmm_converged"] == 1
    assert one["sparkgmm_distance_nats"] == 3.5e-9
    assert one["sparkgmm_run_duration_seconds"] == 12.5
    assert one["sparkgmm_run_completion_timestamp_seconds"] == 1795400160
    assert found["sparkgmm_step_duration_seconds"][(("step", "fit"),)] == 1.5
    assert found["sparkgmm_component_weight_ratio"] == {
        (("component", "0"),): 0.75,
        (("component", "1"),): 0.25,
    }


def test_the_page_names_all_that_is_written() -> None:
    page = (PROJECT / "docs" / "observability.md").read_text(encoding="utf-8")
    table = page.split("## Prometheus")[1].split("The run_id is")[0]
    named = set(re.findall(r"`(sparkgmm_\w+)", table))
    of_groups = {"sparkgmm_groups", "sparkgmm_groups_fitted", "sparkgmm_groups_failed"}
    assert named - of_groups == set(read(exposition(metrics(), MANIFEST, WEIGHTS, ROOT)))
    rules = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    asked = re.findall(r"sparkgmm_\w+", str(rules))
    assert len(asked) == 4
    assert set(asked) <= named


def test_the_run_id_is_a_label_of_the_info_alone_lest_every_night_begins_new_series() -> None:
    text = exposition(metrics(), MANIFEST, WEIGHTS, ROOT)
    [line] = [line for line in text.splitlines() if "2026-11-22" in line]
    assert line.startswith("sparkgmm_run_info{")
    assert all(f'root="{ROOT}"' in line for line in text.splitlines() if line[0] != "#")


@pytest.mark.parametrize("root", ['a"b', "a\\b", "a\nb", "ä ö/{x}"])
def test_a_root_with_any_characters_arrives_as_it_is(root: str) -> None:
    text = exposition(metrics(), MANIFEST, WEIGHTS, root)
    families = list(text_string_to_metric_families(text))
    assert len(families) > 10
    for family in families:
        assert {sample.labels["root"] for sample in family.samples} == {root}


def test_a_secret_in_the_root_is_masked() -> None:
    text = exposition(metrics(), MANIFEST, WEIGHTS, "s3a://key:hunter2@bucket/mixtures")
    assert "hunter2" not in text


def test_numbers_that_are_none_are_left_out_and_infinite_ones_are_said() -> None:
    text = exposition(metrics(distance=float("inf"), icl=None), MANIFEST, WEIGHTS, ROOT)
    found = read(text)
    assert found["sparkgmm_distance_nats"][()] == float("inf")
    assert "sparkgmm_icl" not in found


def test_the_lines_hold_the_formats_grammar() -> None:
    """Text exposition format 0.0.4: help and type once before the samples of a name."""
    text = exposition(metrics(), MANIFEST, WEIGHTS, ROOT)
    assert text.endswith("\n")
    sample = r'[a-z_]+\{([a-z_]+="[^"]*",?)+\} (-?[\d.e+-]+|[+-]Inf|NaN)'
    name = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert line.split()[2] != name, "the samples of a name stand apart"
            name = line.split()[2]
        elif line.startswith("# TYPE "):
            assert line.split()[2:] == [name, "gauge"]
        else:
            assert re.fullmatch(sample, line), line
            assert line.startswith(f"{name}{{")
