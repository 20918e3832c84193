"""What the README and the docs say is so: figures, links, commands, tests, keys."""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from docs.site import results
from docs.site.pictures import FLOW
from petct_uad.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """The names that a browser gives to headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        if path.endswith("reports/index.html"):  # made by dvc repro
            continue
        assert target.exists(), f"{path}: no such file"
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}: no such heading"


@each_page
def test_every_petct_command_exists(page: Path) -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(
        re.findall(r"(?:`|^|&& )petct ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.M)
    )
    assert named <= known


def test_help_sorts_every_command_under_a_heading_of_the_page() -> None:
    page = (ROOT / "docs/how_to.md").read_text(encoding="utf-8")
    commands = get_command(app).commands  # type: ignore[attr-defined]
    panels = dict.fromkeys(command.rich_help_panel for command in commands.values())
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert list(panels) == [heading for heading in headings if heading in panels]


@pytest.mark.parametrize(
    "page", sorted((ROOT / "src/petct_uad/models").glob("*/README.md")), ids=lambda x: x.parent.name
)
def test_every_file_that_a_models_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8"))
    places = page.parent, ROOT, ROOT / "src/petct_uad"
    assert [name for name in named if not any((at / name).is_file() for at in places)] == []


@pytest.fixture
def figures() -> dict[str, dict[str, str]]:
    """The rows of the last run, unless it is one of your own that nobody committed."""
    changed = ["git", "diff", "--quiet", "HEAD", "--", "metrics/summary.csv"]
    if subprocess.run(changed, cwd=ROOT, check=False).returncode:
        pytest.skip("metrics/summary.csv differs from HEAD's: the pages show the committed run")
    with (ROOT / "metrics/summary.csv").open(encoding="utf-8", newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def auroc(row: dict[str, str]) -> str:
    value, low, high = (float(row[name]) for name in ("auroc", "auroc_low", "auroc_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def difference(row: dict[str, str]) -> str:
    name = "auroc_minus_suvmax"
    value, low, high = (float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def shown_rows() -> list[list[str]]:
    """The cells of the results table, the heading left out."""
    lines = (ROOT / "docs/results.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(results.HEADER)
    table = lines[start + 2 : lines.index("", start)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_results_show_the_models_of_the_last_run(figures: dict[str, dict[str, str]]) -> None:
    rows = shown_rows()
    models = [row for row in rows if row[0] in results.MODELS]
    assert {row[0] for row in models} == set(results.MODELS)
    for name, *cells in models:
        alone = [figures.get(f"{results.MODELS[name]}-{modality}") for modality in ("pet", "ct")]
        both = figures[f"{results.MODELS[name]}-petct"]
        shown = [auroc(row) if row else "" for row in (*alone, both)]
        assert cells == [*shown, difference(both), both["verdict"]], name
    # By value: two rows may print the same AUROC.
    ranked = [float(figures[f"{results.MODELS[name]}-petct"]["auroc"]) for name, *_ in models]
    assert ranked == sorted(ranked, reverse=True)


def test_results_show_the_trivial_baselines_of_the_last_run(
    figures: dict[str, dict[str, str]],
) -> None:
    shown = {row[0].split("*")[1]: row[1:4] for row in shown_rows()[len(results.MODELS) :]}
    assert set(shown) == set(results.TRIVIAL)
    for name, (run, *_) in results.TRIVIAL.items():
        assert [cell for cell in shown[name] if cell] == [auroc(figures[run])]


def test_the_row_that_is_read_aloud_is_of_the_last_run(figures: dict[str, dict[str, str]]) -> None:
    row = figures["patchcore-petct"]
    page = (ROOT / "docs/reading_the_table.md").read_text(encoding="utf-8")
    assert f"| {auroc(row)} | … | {difference(row)} | {row['verdict']}`" in page
    assert f"higher in {100 * float(row['auroc']):.1f} %" in page


def test_the_sentence_and_the_pictures_are_of_the_last_run(
    figures: dict[str, dict[str, str]],
) -> None:
    for path, text in results.pages(figures).items():
        shown = (ROOT / path).read_text(encoding="utf-8")
        assert shown == text, f"{path} is of another run: python -m docs.site.results"


@pytest.mark.parametrize(
    ("adjusted_p", "said"), [("0.01", "Twin of 1 did"), ("0.2", "none of 1 did")]
)
def test_a_model_is_said_to_beat_suvmax_on_real_patients_where_both_aurocs_say_so(
    adjusted_p: str, said: str
) -> None:
    row = {
        "minus_suvmax": "0.1",
        "minus_suvmax_p_holm": "0.01",
        "adjusted_minus_suvmax": "0.1",
        "adjusted_minus_suvmax_p_holm": adjusted_p,
    }
    assert results.real_sentence({"twin-petct": row}) == said


def test_the_picture_of_the_flow_names_stages_that_there_are() -> None:
    yaml = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    stages = re.findall(r"^  (\w+):$", yaml, re.MULTILINE)
    assert [name for box in FLOW for name in box.stages if name not in stages] == []


def test_readme_says_first_what_it_is_and_that_it_is_not_for_patients() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, after = text.partition("**Research software, not for clinical use.**")
    assert len(before.splitlines()) < 10
    assert after.index("make repro") < after.index("petct add") < after.index("petct new model")
    assert len(text.splitlines()) < 90


def test_code_messages_and_pages_speak_plain_english() -> None:
    """What a reader from another country would have to decode; docs/results.md shows a run."""
    idiom = re.compile(
        r"told\s+apart|\bmend(s|ed|ing)?\b|\bdealt\b|\bstands? in\b|\bgoes\s+on\b", re.I
    )
    kinds = ("*.py", "*.md", "*.j2", "*.yaml")
    listed = ["git", "ls-files", "--", *kinds, ":!tests", ":!CHANGELOG.md", ":!metrics"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {
        name: hit[0]
        for name in names.split()
        if name != "docs/results.md"
        if (hit := idiom.search((ROOT / name).read_text(encoding="utf-8")))
    }
    assert found == {}
