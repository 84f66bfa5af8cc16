"""sparkgmm-init: what it sees in a table, and that what it writes is a configuration that fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from sparkgmm.runs.cli import init_main
from sparkgmm.runs.column_kinds import kinds_of
from sparkgmm.runs.config import FitConfig, load_config
from sparkgmm.runs.csv_form import CsvForm, find_form, mending
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.init_job import init
from sparkgmm.runs.reading import how_to_read
from sparkgmm.runs.terminal import Terminal

WriteCsv = Callable[..., str]


def form_of(*lines: str, encoding: str = "utf-8") -> CsvForm:
    found = find_form("".join(f"{line}\n" for line in lines).encode(encoding))
    assert found is not None
    return found


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_each_separator_is_found_beside_a_text_that_holds_another(sep: str) -> None:
    other = ";" if sep == "," else ","
    rows = [sep.join(["1.5", f"red{other} green", str(i)]) for i in range(20)]
    assert form_of(sep.join(["a", "b", "c"]), *rows).sep == sep


def test_decimal_commas_are_told_from_separators_and_from_thousands() -> None:
    assert form_of("a;b", "1,5;2,25", "-0,5;1.234,5").decimal == ","
    assert form_of("1,5;2,25", "3,0;4,5").sep == ";"  # as many values by the comma
    assert form_of("a,b", '"1,5",x', '"2,25",y').decimal == ","
    assert form_of("a,b", '"1,500",x', '"12,250",y').decimal == "."
    assert form_of("a;b", "1.5;x,1", "2.5;y").decimal == "."


def test_a_header_is_words_above_values() -> None:
    assert form_of("city,size", "Rome,1", "Oslo,2").header
    assert form_of("a,b").header  # and no row below
    assert not form_of("1.5,2", "3,4").header
    assert not form_of("red,1", "green,2", "red,3").header  # its first value comes again
    assert not form_of("2024-01-02,5", "2024-01-03,6").header


def test_names_are_those_that_spark_gives() -> None:
    # CSVHeaderChecker and makeSafeHeader of Spark: numbered where empty, or twice in any case
    assert form_of("a,b,,A", "1,2,3,4").names == ("a0", "b", "_c2", "A3")
    assert form_of("1,2").names == ("_c0", "_c1")


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"), ("latin-1", "ISO-8859-1"), ("utf-16", "UTF-16")],
)
def test_encodings_are_found(encoding: str, named: str) -> None:
    form = form_of("größe;b", "1;2", encoding=encoding)
    assert (form.encoding, form.names) == (named, ("größe", "b"))


def test_what_is_read_as_it_looks_is_not_mended() -> None:
    form = form_of("a;b", "1;2", "3;4")
    assert mending(form, {"header": True, "sep": ";"}) is None
    assert mending(form, {"HEADER": "true", "delimiter": ";"}) is None
    assert 'set input.options: {header: true, sep: ";"}' in str(mending(form, {}))
    pipes = form_of("a,b", '1,"6"" pipe, steel"')
    assert pipes.options() == {"header": True, "escape": '"'}
    assert mending(pipes, {"header": True, "escape": '"'}) is None
    assert """set input.options: {escape: '"'}""" in str(mending(pipes, {"header": True}))
    tabs = form_of("a\tb", "1\t2")
    assert mending(tabs, {"header": True, "sep": "\\t"}) is None


def kind(name: str, values: object, decimal: str = ".") -> tuple[str, str]:
    found = kinds_of(pa.table({name: values}), decimal)[0]
    return found.kind, found.what


def test_each_kind_of_column_is_told_with_the_reason() -> None:
    rng = np.random.default_rng(0)
    assert kind("x", rng.normal(size=300))[0] == "numeric"
    assert kind("year", rng.integers(1990, 2020, 300))[0] == "numeric"
    assert kind("stops", rng.poisson(2, 300))[0] == "counts"
    assert kind("species", rng.integers(0, 3, 300))[0] == "categorical"
    assert kind("weekend", rng.random(300) < 0.3)[0] == "categorical"
    assert kind("city", rng.choice(["Rome", "Oslo"], 300))[0] == "categorical"
    assert kind("trip_id", rng.permutation(10**6)[:300]) == (
        "out",
        "an id: whole numbers, no two rows have the same",
    )
    assert "id" in kind("anything", np.arange(300))[1]  # the number of a row
    assert kind("x", np.full(300, 7.0)) == ("out", "constant: it is 7 in every row")
    assert "date" in kind("day", pa.array([0, 1], pa.timestamp("ns")))[1]
    assert "date" in kind("day", ["2024-01-02", "2024-01-03"])[1]
    assert kind("note", [f"words {i}" for i in range(300)])[0] == "out"
    assert "begin with 0" in kind("zip", ["01234", "50670"] * 50)[1]
    assert "null in 67%" in kind("rare", [1.5, None, None, 2.5, None, None])[1]
    assert "holds 'oops'" in kind("x", ["1.5", "2.5", "oops"])[1]
    assert kind("x", pa.array([None, None], pa.float64())) == ("out", "no value in any row")


def test_words_for_no_value_among_numbers_are_nulls() -> None:
    found = kinds_of(pa.table({"x": ["1,5", "NA", "2.000,25", "", "+3"]}), ",")[0]
    assert (found.kind, found.words, found.nulls) == ("numeric", ("NA",), 2)
    assert found.what == "1.5 to 2000.25"


@pytest.fixture
def own_table(tmp_path: Path) -> Path:
    """As a spreadsheet writes it: semicolons, decimal commas, nulls, ids, a label, Latin-1."""
    rng = np.random.default_rng(1)
    lines = ["Kunden-ID;Größe;Gewicht;Käufe;Ort;leer;Datum"]
    for i in range(300):
        shift = 15 * (i % 2)
        weight = "NA" if i % 50 == 7 else f"{60 + shift + rng.normal():.2f}".replace(".", ",")
        size = f"{160 + shift + rng.normal():.1f}".replace(".", ",")
        place = "Köln" if rng.random() < 0.5 else "Bonn"
        lines.append(f"{9000 + 7 * i};{size};{weight};{rng.poisson(2)};{place};x;2024-01-02")
    path = tmp_path / "own.csv"
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")
    return path


def test_a_spreadsheets_table_is_fitted_by_what_init_writes(
    spark: SparkSession, own_table: Path, tmp_path: Path
) -> None:
    written = tmp_path / "own.yaml"
    told = init(str(own_table), str(written), overwrite=False, verbose=False)
    assert "features Größe, Gewicht\n" in told
    assert "left out Kunden-ID: an id" in told
    overrides = ["model.k=2", f"output.path={tmp_path / 'runs'}", "output.run_id=a"]
    overrides.append("output.report=false")
    config = load_config(str(written), overrides, FitConfig)
    assert how_to_read(config.input) is None
    run_fit(spark, config, Terminal(), overwrite=False)
    metrics = json.loads((tmp_path / "runs" / "a" / "metrics.json").read_text())
    model = json.loads((tmp_path / "runs" / "a" / "model.json").read_text())
    assert model["features"] == ["Größe", "Gewicht"]
    assert metrics["rows_read"] == 300
    means = np.array(model["means"])
    assert np.abs(means[means[:, 0].argsort()] - [[160, 60], [175, 75]]).max() < 0.5


def test_a_file_that_is_read_otherwise_than_it_looks_says_how_to_read_it(
    spark: SparkSession, own_table: Path, tmp_path: Path
) -> None:
    from sparkgmm.errors import InputError

    config = FitConfig.model_validate(
        {"input": {"path": str(own_table)}, "output": {"path": str(tmp_path / "runs")}}
    )
    with pytest.raises(InputError, match=r'set input.options: \{header: true, sep: ";"\}'):
        run_fit(spark, config, Terminal(), overwrite=False)


@pytest.mark.parametrize("form", ["parquet", "json"])
def test_files_with_types_are_looked_at_without_spark(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    table = pa.table({"x": rng.normal(size=50), "name": [f"n{i}" for i in range(50)]})
    path = tmp_path / f"t.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    written = init(str(path), None, overwrite=False, verbose=False)
    config_path = tmp_path / "c.yaml"
    config_path.write_text(written)
    config = load_config(str(config_path), (), FitConfig)
    assert (config.input.format, config.input.features) == (form, ["x"])
    assert "#   name  # text of which no two rows have the same: an id" in written


def test_a_far_table_is_looked_at_by_spark_and_found_the_same(
    spark: SparkSession, own_table: Path
) -> None:
    from sparkgmm.runs.first_look import look_at_files, look_by_spark

    # through Spark the text comes as UTF-8, so the names are given without umlauts
    text = own_table.read_text("latin-1").replace("ö", "oe").replace("ä", "ae").replace("ß", "ss")
    own_table.write_text(text)
    far = look_by_spark(spark, str(own_table), "csv")
    near = look_at_files(str(own_table), [own_table])
    assert far.options == near.options
    assert far.columns == near.columns


def test_init_replaces_nothing_unasked_and_names_what_is_wrong(
    tmp_path: Path, write_csv: WriteCsv, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_csv("a,b", *(f"{i * 1.5},{i % 7}.5" for i in range(30)))
    written = tmp_path / "t.yaml"
    assert init_main([table, "--output", str(written)]) == 0
    assert init_main([table, "--output", str(written)]) == 2
    assert "exists: give another file, or --overwrite" in capsys.readouterr().err
    assert init_main([table, "--output", str(written), "--overwrite"]) == 0
    empty = write_csv(name="empty.csv")
    assert init_main([empty]) == 3
    assert "is empty" in capsys.readouterr().err
    odd = write_csv("a,b", "1,2", name="odd.dat")
    assert init_main([odd]) == 2
    assert "its extension does not say: name it .csv, .tsv" in capsys.readouterr().err
    words = write_csv("a,b", "x,y", "z,w", name="words.csv")
    assert init_main([words]) == 3
    assert "has no column of numbers to fit (a: " in capsys.readouterr().err


def test_a_file_with_tabs_is_no_tables_name_and_its_nulls_are_modelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{i * 1.5}\t{'' if i % 9 == 0 else i % 7 + 0.5}\t{i / 7}" for i in range(60)]
    (tmp_path / "tab.tsv").write_text("\n".join(["a\tb\tc", *rows]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(init("tab.tsv", None, overwrite=False, verbose=False))
    config = load_config("c.yaml", (), FitConfig).input
    assert (config.path, config.features, config.missing) == ("tab.tsv", ["a", "b", "c"], "model")
    assert config.invalid_rows == "fail"
    table = pa.table({"x": [1.5, 2.5, float("inf")] * 9, "y": [float(i) ** 2 for i in range(27)]})
    pq.write_table(table, "t.parquet")
    written = init("t.parquet", None, overwrite=False, verbose=False)
    assert "invalid_rows: quarantine" in written
    assert "missing:" not in written


def test_a_table_of_categories_alone_gets_latent_classes_and_their_nulls_are_seen(
    write_csv: WriteCsv, tmp_path: Path
) -> None:
    rows = ["red,yes", "blue,no", "red,", "blue,yes"] * 30
    text = init(write_csv("colour,paid", *rows), None, False, False)
    path = tmp_path / "fit.yaml"
    path.write_text(text)
    config = load_config(str(path)).input
    assert (config.features, config.categorical) == ([], ["colour", "paid"])
    assert config.missing == "model"
