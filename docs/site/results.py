"""What README and docs/results.md show: of the last run, and of five folds of real patients.

From ``metrics/summary.csv``, and from ``docs/real_patients.csv``, which is ``metrics/folds.csv`` as
``petct folds`` wrote it of them. ``python -m docs.site.results`` writes the tables, the sentence
and the pictures anew.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
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
REAL_HEADER = (
    "| row | sees | AUROC | minus SUVmax | position-adjusted AUROC | minus SUVmax "
    "| lesions found at 1 false finding per study | at 2 |"
)
REAL = ROOT / "docs/real_patients.csv"
_SEES = {"pet": "PET", "ct": "CT", "petct": "PET and CT"}
_SIGNIFICANT = 0.05
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


def real_table(rows: Mapping[str, Row]) -> str:
    """Every row of the real patients, by falling AUROC; a significant difference is bold."""
    ranked = sorted(rows.values(), key=lambda row: numbers(row)[0], reverse=True)
    return "\n".join([REAL_HEADER, "| --- " * 8 + "|", *map(_real_line, ranked)])


def _real_line(row: Row) -> str:
    run = row["run"]
    trivial = {one: f"*{name}*" for name, (one, *_) in TRIVIAL.items()}
    shown = trivial | {f"{x}-{y}": name for name, x in MODELS.items() for y in _SEES}
    plain, adjusted = (_real_difference(row, kind) for kind in ("", "adjusted_"))
    found = [in_words(row, key) if row[key] else "" for key in ("adjusted", "froc_1", "froc_2")]
    sees = _SEES.get(run.partition("-")[2], "")
    return _line([shown[run], sees, in_words(row), plain, found[0], adjusted, *found[1:]])


def _real_difference(row: Row, kind: str) -> str:
    if not row[key := f"{kind}minus_suvmax"]:
        return ""
    words = in_words(row, key, "+")
    return f"**{words}**" if float(row[f"{key}_p_holm"]) < _SIGNIFICANT else words


def real_sentence(rows: Mapping[str, Row]) -> str:
    """Which of the models on PET and CT beat SUVmax there, as docs/protocol.md counts it."""
    both = {name: rows[run] for name, x in MODELS.items() if (run := f"{x}-petct") in rows}
    kinds = ("", "adjusted_")
    ahead = [name for name, row in both.items() if all(_is_above(row, x) for x in kinds)]
    return f"{' and '.join(ahead)} of {len(both)} did" if ahead else f"none of {len(both)} did"


def _is_above(row: Row, kind: str) -> bool:
    value, p = (float(row[f"{kind}minus_suvmax{part}"]) for part in ("", "_p_holm"))
    return value > 0 and p < _SIGNIFICANT


def sentence(rows: Mapping[str, Row], real: Mapping[str, Row]) -> str:
    """What README says of both."""
    name, model = by_auroc(rows)[0]
    best = rows[f"{model}-petct"]
    ahead = [shown for shown, one in by_auroc(rows) if rows[f"{one}-petct"]["verdict"] == BEATS]
    return (
        f"On {best['n_patients']} digital test patients ({best['n_test_abnormal']} abnormal and "
        f"{best['n_test_normal']} normal slices) {len(ahead)} of {len(MODELS)} models on PET and "
        f"CT beat SUVmax, the best of them {name} with an AUROC of {in_words(best)} against "
        f"{in_words(rows['suvmax'])}; on {real['suvmax']['n_patients']} real patients, in "
        f"five folds, [{real_sentence(real)}](docs/results.md#25-real-patients)."
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
    real = read_rows(root / REAL.relative_to(ROOT))
    found = {
        readme: _between(root / readme, {"result": sentence(rows, real)}),
        results: _between(root / results, {"result": table(rows), "real": real_table(real)}),
    }
    for palette in PALETTES:
        found[Path(f"docs/flow-{palette}.svg")] = flow(palette)
        drawn = result(bars(rows), numbers(rows["suvmax"])[0], palette)
        found[Path(f"docs/result-{palette}.svg")] = drawn
    return found


def _between(page: Path, made: Mapping[str, str]) -> str:
    """The text of a page with what is between two marks of a name made anew."""
    text = page.read_text(encoding="utf-8")
    for name, new in made.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        assert found, f"{page}: expected {begin} before the result"
        assert ended, f"{page}: expected {end} behind the result"
        text = f"{before}{begin}\n\n{new}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    for path, text in pages(read_rows()).items():
        (ROOT / path).write_text(text, encoding="utf-8", newline="\n")
        print(path)
