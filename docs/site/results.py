"""What README and docs/results.md show of the last run, from metrics/summary.csv.

``python -m docs.site.results`` writes the table, the sentence and the pictures anew.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from docs.site.pictures import PALETTES, Bar, flow, result

ROOT = Path(__file__).resolve().parents[2]
HEADER = "| model | PET | CT | PET and CT | PET and CT, minus SUVmax | verdict |"
MODELS = {
    "PatchCore": "patchcore",
    "HDHKD": "hdhkd",
    "Hetero-AE": "hetero_ae",
    "Twin": "twin",
    "CMAD": "cmad",
    "SCRD4AD": "scrd4ad",
    "QFAE": "qfae",
    "nearest slice": "nearest_slice",
    "Mahalanobis": "mahalanobis",
}
# Run, the column of the table that it is in, and what its name is followed by there.
TRIVIAL = {
    "SUVmax": ("suvmax", 1, ""),
    "SUV above 2.5": ("suv_above_2_5", 1, ""),
    "SUV above 4": ("suv_above_4", 1, ""),
    "SUV above 41 %": ("suv_above_41_percent", 1, ""),
    "SUV above the liver's": ("suv_above_liver", 1, ""),
    "mean SUV": ("suv_mean", 1, ""),
    "body area": ("body_area", 2, ""),
    "position": ("position", 1, " in the stack, no image"),
}
BEATS = "beats SUVmax"
_BEGIN, _END = "<!-- result -->", "<!-- /result -->"
Row = Mapping[str, str]


def read_rows(path: Path = ROOT / "metrics/summary.csv") -> dict[str, Row]:
    """The rows of the last run by their names."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def numbers(row: Row, key: str = "auroc") -> tuple[float, float, float]:
    """A figure and the ends of its 95 % interval."""
    value, low, high = (float(row[name]) for name in (key, f"{key}_low", f"{key}_high"))
    return value, low, high


def in_words(row: Row | None, key: str = "auroc", sign: str = "") -> str:
    """``0.938 (0.900 to 0.972)``; empty where there is no such row."""
    if row is None:
        return ""
    value, low, high = (f"{number:{sign}.3f}" for number in numbers(row, key))
    return f"{value} ({low} to {high})"


def by_auroc(rows: Mapping[str, Row]) -> list[tuple[str, str]]:
    """Name and folder of each model, by the falling AUROC of its row on PET and CT."""
    return sorted(MODELS.items(), key=lambda x: numbers(rows[f"{x[1]}-petct"])[0], reverse=True)


def table(rows: Mapping[str, Row]) -> str:
    """The table of docs/results.md, its header included."""
    return "\n".join([HEADER, "| --- " * 6 + "|", *_model_lines(rows), *_trivial_lines(rows)])


def _model_lines(rows: Mapping[str, Row]) -> Iterator[str]:
    for name, model in by_auroc(rows):
        both = rows[f"{model}-petct"]
        alone = [in_words(rows.get(f"{model}-{modality}")) for modality in ("pet", "ct")]
        difference = in_words(both, "auroc_minus_suvmax", "+")
        yield _line([name, *alone, in_words(both), difference, both["verdict"]])


def _trivial_lines(rows: Mapping[str, Row]) -> Iterator[str]:
    for name, (run, column, more) in TRIVIAL.items():
        cells = [f"*{name}*{more}", "", "", "", "", "trivial baseline"]
        cells[column] = in_words(rows[run])
        yield _line(cells)


def _line(cells: list[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def sentence(rows: Mapping[str, Row]) -> str:
    """What README says of the run."""
    name, model = by_auroc(rows)[0]
    best = rows[f"{model}-petct"]
    ahead = [shown for shown, one in by_auroc(rows) if rows[f"{one}-petct"]["verdict"] == BEATS]
    return (
        f"On {best['n_patients']} digital test patients ({best['n_test_abnormal']} abnormal and "
        f"{best['n_test_normal']} normal slices) {len(ahead)} of {len(MODELS)} models on PET and "
        f"CT beat SUVmax, the best of them {name} with an AUROC of {in_words(best)} against "
        f"{in_words(rows['suvmax'])}; on 25 real patients, of an earlier run, "
        "[none did](docs/results.md#25-real-patients)."
    )


def bars(rows: Mapping[str, Row]) -> list[Bar]:
    """Every model on PET and CT, and SUVmax."""
    found = [
        Bar(name, *numbers(row), beats=row["verdict"] == BEATS)
        for name, model in by_auroc(rows)
        if (row := rows[f"{model}-petct"])
    ]
    found.append(Bar("SUVmax", *numbers(rows["suvmax"]), trivial=True))
    return sorted(found, key=lambda bar: bar.value, reverse=True)


def pages(rows: Mapping[str, Row], root: Path = ROOT) -> dict[Path, str]:
    """Every file that shows the run, by its path in the repository: the text it should have."""
    readme, results = Path("README.md"), Path("docs/results.md")
    found = {
        readme: _between(root / readme, lambda: sentence(rows)),
        results: _between(root / results, lambda: table(rows)),
    }
    for palette in PALETTES:
        found[Path(f"docs/flow-{palette}.svg")] = flow(palette)
        drawn = result(bars(rows), numbers(rows["suvmax"])[0], palette)
        found[Path(f"docs/result-{palette}.svg")] = drawn
    return found


def _between(page: Path, make: Callable[[], str]) -> str:
    """The text of a page with what is between its two marks made anew."""
    before, found, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    assert found, f"{page}: expected {_BEGIN} before the result"
    assert ended, f"{page}: expected {_END} behind the result"
    return f"{before}{_BEGIN}\n\n{make()}\n\n{_END}{after}"


if __name__ == "__main__":
    for path, text in pages(read_rows()).items():
        (ROOT / path).write_text(text, encoding="utf-8", newline="\n")
        print(path)
