"""How a CSV file is written, found by looking at its first lines: separator, header, decimals."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sparkgmm.runs.local_folder import local_files
from sparkgmm.spark.source import COMPRESSIONS

# So much of a file says how all of it is written.
HEAD_BYTES = 2**18
_LINES = 500
_SEPARATORS = ("\t", ";", "|", ",")  # of two that fit, the one that a comma does not mean as well
_BOMS = (
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_POINT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# 1.234,5 and 0,25: what stands before a comma and three digits alone may be thousands in English
_COMMA = re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?([ T].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}( .*)?|\d\d?:\d\d.*")


@dataclass(frozen=True)
class CsvForm:
    """How a CSV file is written.

    `names` are the columns as Spark calls them. `decimal` is a point or a comma; `padded` says
    whether blanks stand around values, `multi_line` whether a quoted value goes over lines, `doubled`
    whether a quoted value has quotes, which are written twice.
    """

    sep: str
    header: bool
    names: tuple[str, ...]
    encoding: str = "UTF-8"
    decimal: str = "."
    padded: bool = False
    multi_line: bool = False
    doubled: bool = False

    def options(self) -> dict[str, object]:
        """Return what the Spark reader has to be told, but for the types of decimal commas."""
        told: dict[str, object] = {"header": self.header}
        if self.sep != ",":
            told["sep"] = self.sep
        if self.encoding != "UTF-8":
            told["encoding"] = self.encoding
        if self.padded:
            told |= {"ignoreLeadingWhiteSpace": True, "ignoreTrailingWhiteSpace": True}
        if self.doubled:  # Spark takes a backslash for what goes before a quote
            told["escape"] = '"'
        if self.multi_line or self.encoding == "UTF-16":  # Spark cuts lines by bytes of UTF-8
            told["multiLine"] = True
        return told


def find_form(head: bytes) -> CsvForm | None:
    """Return how a file is written by its first bytes, None where they hold no lines."""
    encoding, text = _decoded(head)
    if len(head) >= HEAD_BYTES:
        text = text.rpartition("\n")[0]  # the last line is cut
    if not text.strip():
        return None
    sep = _separator(text)
    rows = list(_rows(text, sep))
    if not rows:
        return None
    stripped = [[cell.strip() for cell in row] for row in rows]
    header = _is_headed(stripped)
    cells = [cell for row in rows[header:] for cell in row]
    return CsvForm(
        sep,
        header,
        _names(stripped[0], header),
        encoding,
        "," if _has_decimal_commas(cells, sep) else ".",
        any(cell != cell.strip() for cell in (*rows[0], *cells)),
        any("\n" in cell for cell in cells),
        any('"' in cell for cell in cells),
    )


def form_of_file(place: object) -> CsvForm | None:
    """Return how the first CSV file of a place is written, None where it is not of this machine.

    What cannot be opened is the reader's to report.
    """
    files = local_files(place)
    if not files or files[0].suffix.lower() in COMPRESSIONS:
        return None
    try:
        with files[0].open("rb") as file:
            return find_form(file.read(HEAD_BYTES))
    except OSError:
        return None


def mending(form: CsvForm, options: Mapping[str, object]) -> str | None:
    """Say what the file looks like and which options read it so, None where they do already.

    Only what makes rows, columns or values other ones is said: header, separator, decimal commas,
    quotes.
    """
    given = {key.lower(): value for key, value in options.items()}
    headed = str(given.get("header", False)).lower() == "true"
    sep = str(given.get("sep", given.get("delimiter", ",")))
    wrong, options_to_set = [], {}
    if form.header and not headed:
        wrong.append(f"its first line looks like a header ({', '.join(form.names[:4])})")
        options_to_set["header"] = "true"
    if len(form.names) > 1 and sep.replace("\\t", "\t") != form.sep:
        wrong.append(f"its values are separated by {form.sep!r}")
        options_to_set["sep"] = '"\\t"' if form.sep == "\t" else f'"{form.sep}"'
    if form.doubled and given.get("escape") != '"':
        wrong.append("quotes within its values are written twice")
        options_to_set["escape"] = "'\"'"
    told = ", ".join(f"{key}: {value}" for key, value in options_to_set.items())
    remedies = [f"set input.options: {{{told}}}"] if told else []
    if form.decimal == "," and not {"schema", "locale"} & set(given):
        wrong.append("its numbers have decimal commas, which are read as text")
        remedies.append("let sparkgmm-init write the options for decimal commas")
    if not wrong:
        return None
    return f"the CSV file is read another way than it looks ({'; '.join(wrong)}): " + ", and ".join(
        remedies
    )


def is_number(cell: str, decimal: str) -> bool:
    """Tell whether a value is a number, written with a point or a comma."""
    return bool(_POINT.fullmatch(cell) or (decimal == "," and _COMMA.fullmatch(cell)))


def is_date(cell: str) -> bool:
    """Tell dates and times of day."""
    return bool(_DATE.fullmatch(cell))


def _decoded(head: bytes) -> tuple[str, str]:
    """Return encoding and text; what is no UTF-8 is taken for Latin-1, which Spark reads."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            codec = "utf-8-sig" if encoding == "UTF-8" else "utf-16"
            return encoding, head.decode(codec, errors="ignore")
    try:
        return "UTF-8", codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "ISO-8859-1", head.decode("latin-1")


def _separator(text: str) -> str:
    """Return the separator by which most lines have as many values as the first."""
    best, found = 0.0, ","
    for sep in _SEPARATORS:
        widths = [len(row) for row in _rows(text, sep)]
        if not widths or widths[0] < 2:
            continue
        alike = round(Counter(widths)[widths[0]] / len(widths), 1)
        if alike > best:
            best, found = alike, sep
    return found


def _rows(text: str, sep: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text), delimiter=sep, skipinitialspace=False)
    try:
        for row in reader:
            if row:
                yield row
            if reader.line_num >= _LINES:
                return
    except csv.Error:  # a value longer than the module takes
        return


def _is_headed(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first line names the columns: words there, and not the words of a row."""
    first = rows[0]
    if any(_looks_like_data(cell) for cell in first) or len(set(first)) == 1 < len(first):
        return False
    if sum(not cell for cell in first) > 1:
        return False
    below = [row for row in rows[1:] if len(row) == len(first)]
    columns = list(zip(*below, strict=True)) if below else [() for _ in first]
    if any(cell and cell in column for cell, column in zip(first, columns, strict=True)):
        return False
    if any(any(_looks_like_data(cell) for cell in column) for column in columns):
        return True
    return all(re.fullmatch(r"[^\W\d][\w .\-()/%]*", cell) for cell in first if cell)


def _looks_like_data(cell: str) -> bool:
    return is_number(cell, ",") or is_date(cell)


def _names(first: Sequence[str], header: bool) -> tuple[str, ...]:
    """Return the columns' names as Spark gives them: numbered where empty or given twice."""
    if not header:
        return tuple(f"_c{i}" for i in range(len(first)))
    times = Counter(name.lower() for name in first)
    return tuple(
        f"_c{i}" if not name else f"{name}{i}" if times[name.lower()] > 1 else name
        for i, name in enumerate(first)
    )


def _has_decimal_commas(cells: Sequence[str], sep: str) -> bool:
    """Tell decimal commas: some, and no value that has a point for one instead.

    Where the comma separates values as well, 1,234 in quotes is taken for a thousand.
    """
    commas = [cell for cell in map(str.strip, cells) if "," in cell and _COMMA.fullmatch(cell)]
    if sep == ",":
        commas = [cell for cell in commas if not _THOUSANDS.fullmatch(cell)]
    points = sum("." in cell and bool(_POINT.fullmatch(cell.strip())) for cell in cells)
    return len(commas) > points
