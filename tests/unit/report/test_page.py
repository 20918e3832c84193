from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from petct_uad.comparison.compare import read_runs, summarise, write_summary
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import write_table, write_text
from petct_uad.registration.tables import RegistrationRow
from petct_uad.report.page import render_report, report_derivations
from petct_uad.slices.tables import RegionRow
from petct_uad.viewer.page import link_studies
from tests.samples import PETCT_BASELINES
from tests.unit.report.conftest import Project, write_picture

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
VOID = {"meta", "link", "img", "br", "line", "path", "use", "rect", "input"}


class Balance(HTMLParser):
    """Collects elements that are closed out of order, and what pages load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[tuple[str, tuple[int, int]]] = []
        self.loaded: list[str | None] = []
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        (self.links if tag == "a" else self.loaded).extend(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append((tag, self.getpos()))


def render(project: Project) -> str:
    runs = read_runs(project.report.results)
    return render_report(summarise(runs, project.params), runs, project.report)


@pytest.fixture(scope="module")
def html(project: Project) -> str:
    return render(project)


def test_page_loads_nothing_from_elsewhere(html: str) -> None:
    page = Balance()
    page.feed(html)
    assert page.loaded
    assert all(address and address.startswith(("#", "data:")) for address in page.loaded)
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import", html)


def test_links_stay_in_the_page_or_lead_to_files_that_are_there(html: str) -> None:
    page = Balance()
    page.feed(html)
    inside = {address for address in page.links if address and address.startswith("#")}
    ids = set(re.findall(r' id="([^"]+)"', html))
    assert {address[1:] for address in inside} <= ids
    others = {address for address in page.links if address} - inside
    cards = {f"../src/petct_uad/models/{model}/README.md" for model in ("cmad", "patchcore")}
    assert cards < others
    assert all((ROOT / address[3:]).is_file() for address in cards)
    rows = {"cmad-petct", "cmad-pet", "cmad-ct", "patchcore-petct"}
    written = {f"../metrics/runs/{row.split('-')[0]}/{row}/metrics.json" for row in rows}
    assert written < others - cards
    assert all(Path(address[3:]).is_file() for address in others - cards)


def test_a_study_without_a_page_is_shown_with_the_command_that_makes_it(html: str) -> None:
    shown = re.findall(r'<code data-study="(\w+)" data-slice="(\w+)">petct view (\w+)</code>', html)
    assert shown
    assert all(study == typed and place.startswith(study) for study, place, typed in shown)
    assert "viewer/" not in html


def test_studies_html_links_the_pages_that_are_there_and_no_other(
    html: str, tmp_path: Path
) -> None:
    shown = re.findall(r'<code data-study="(\w+)"', html)
    there, missing = shown[0], next(study for study in shown if study != shown[0])
    report, pages = tmp_path / "index.html", tmp_path / "viewer"
    report.write_text(html)
    pages.mkdir()
    (pages / f"{there}.html").touch()
    linked = link_studies(report, pages)
    assert linked == tmp_path / "studies.html"
    page = Balance()
    page.feed(linked.read_text())
    addresses = {address for address in page.links if address and address.startswith("viewer/")}
    assert addresses
    assert {address.partition("#")[0] for address in addresses} == {f"viewer/{there}.html"}
    assert f'data-study="{missing}"' in linked.read_text()
    assert report.read_text() == html


def test_first_screen_says_whose_data_who_is_normal_and_what_the_best_is_set_against(
    html: str,
) -> None:
    first = html.split("<header>")[1].split("</header>", maxsplit=1)[0]
    for words in (
        "tiny: 16 patients, 16 studies",
        "a slice on which no lesion is labelled; 4 of 12 test patients have no other",
        "thresholds from 80 of 4 other patients",
        "48 abnormal and 192 normal slices of 12 other patients",
        "SUVmax: the largest uptake",
        "Research software, not for clinical use",
        'aria-label="AUROC of models, with intervals, beside SUVmax"',
    ):
        assert words in first
    assert "Rows on PET and CT, and SUVmax" in first


def test_bars_are_coloured_by_verdict_and_by_nothing_else(html: str) -> None:
    rows = {
        name: html.split(f'<th scope="row" data-v="{name}">')[1].split("</tr>", maxsplit=1)[0]
        for name in ("cmad-petct", "cmad-ct", "suvmax")
    }
    found = {name: set(re.findall(r'class="(?:ci|at) (\w+)"', row)) for name, row in rows.items()}
    assert found == {"cmad-petct": {"good"}, "cmad-ct": {"bad"}, "suvmax": {"plain"}}
    assert not any("--hue" in row for row in rows.values())
    figure = html.split('aria-label="AUROC of models')[1].split("</svg>", maxsplit=1)[0]
    assert "--good" in figure
    assert "--hue" not in figure


def test_a_rows_name_leads_to_what_it_is_and_where_its_numbers_come_from(html: str) -> None:
    assert '<a href="#row-cmad-petct">cmad-petct</a>' in html
    card = html.split('id="row-cmad-petct"')[1].split("</details>", maxsplit=1)[0]
    assert "petct lineage trace cmad-petct:auroc" in card
    assert "petct lineage trace cmad-petct:aupro" in card
    assert "../metrics/runs/cmad/cmad-petct/metrics.json" in card
    assert re.search(r'<a href="#row-cmad-petct" aria-label="[^"]+">0\.\d{3}</a>', html)
    assert "efficientnet_lite0" in card
    assert "both modalities are better than one" in card
    assert html.split('id="row-suvmax"')[1].split("</details>", maxsplit=1)[0].count("README") == 0


def test_elements_are_closed_in_order(html: str) -> None:
    page = Balance()
    page.feed(html)
    assert (page.wrong, page.open) == ([], [])


def test_every_run_has_a_row_in_order_of_auroc(project: Project, html: str) -> None:
    table = html.split('id="results"')[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r'<th scope="row" data-v="([^"]+)">', table)
    expected = summarise(read_runs(project.report.results), project.params)
    assert rows == [row.run for row in expected.rows]
    assert {*project.runs, *PETCT_BASELINES} == set(rows)


def test_page_says_plainly_what_loses_to_suvmax(html: str) -> None:
    row = html.split('<th scope="row" data-v="cmad-ct">')[1].split("</tr>", maxsplit=1)[0]
    assert '<span class="tag bad">loses to SUVmax</span>' in row
    assert "cmad-petct ranks first among models and beats SUVmax" in html


def test_page_says_whether_both_modalities_are_better_than_one(html: str) -> None:
    claim = html.split("both modalities are better than one")[1].split("better than", maxsplit=1)[0]
    first, second = claim.split("cmad-petct minus cmad-ct</td><td>")
    for comparison in (first.split("cmad-petct minus cmad-pet</td><td>")[1], second):
        assert comparison.startswith("+0.")
        assert "<td>supported</td>" in comparison.split("</tr>")[0]
    assert '<strong class="good">supported</strong>' in first


def test_claims_whose_runs_are_missing_are_shown_as_not_tested(html: str) -> None:
    row = html.split("8 tokens are best")[1].split("</tbody>", maxsplit=1)[0]
    assert "cmad_4_tokens-petct</td><td></td><td></td><td>not tested</td>" in row


def test_every_two_models_are_compared_and_no_baseline(html: str) -> None:
    table = html.split("Every two models")[1].split("</table>", maxsplit=1)[0]
    assert table.count("<tr><td data-v=") == 6
    assert "suvmax" not in table


def test_deviation_over_seeds_stands_beside_models_and_not_beside_baselines(html: str) -> None:
    cells = {
        name: html.split(f'<th scope="row" data-v="{name}">')[1].split("</tr>", maxsplit=1)[0]
        for name in ("cmad-petct", "suvmax")
    }
    assert cells["cmad-petct"].count("± 0.0") == 4
    assert "±" not in cells["suvmax"]
    assert "means over 2 seeds" in html


def test_each_group_of_modalities_has_its_own_curves_with_one_hue_per_model(html: str) -> None:
    titles = re.findall(r'aria-label="ROC curves on ([^"]+)"', html)
    assert titles == ["PET", "CT", "PET and CT"]
    curves = html.split('aria-label="ROC curves on PET and CT"')[1].split("</svg>", maxsplit=1)[0]
    assert {"--hue1", "--hue2", "--trivial"} <= set(re.findall(r"--\w+", curves))
    alone = html.split('aria-label="ROC curves on CT"')[1].split("</svg>", maxsplit=1)[0]
    assert "--hue1" in alone
    assert "--hue2" not in alone


def test_lesions_by_false_findings_are_drawn_for_models_with_a_band_each(html: str) -> None:
    titles = re.findall(r'aria-label="FROC curves on ([^"]+)"', html)
    assert titles == ["PET", "CT", "PET and CT"]
    drawn = html.split('aria-label="FROC curves on PET and CT"')[1].split("</svg>", maxsplit=1)[0]
    assert re.findall(r'class="(\w+)" data-model="(\w+)"', drawn) == [
        ("band", "cmad"), ("band", "patchcore"), ("curve", "cmad"), ("curve", "patchcore"),
    ]  # fmt: skip
    assert all(f">{rate}<" in drawn for rate in ("1/8", "1/2", "1", "8"))


def test_curves_show_suvmax_and_the_best_other_baselines_and_the_table_all(
    project: Project, html: str
) -> None:
    curves = html.split('aria-label="ROC curves on PET"')[1].split("</svg>", maxsplit=1)[0]
    names = [row.run for row in summarise(read_runs(project.report.results), project.params).rows]
    ranked = [name for name in names if name in PETCT_BASELINES - {"suvmax"}]
    shown = {name for name in PETCT_BASELINES if f'class="curve" data-model="{name}"' in curves}
    assert shown == {"suvmax", *ranked[:2]}
    told = html.split("What the trivial baselines are")[1].split("</details>", maxsplit=1)[0]
    assert set(re.findall(r"<em>(\w+)</em>: [^<]{10,}", told)) == PETCT_BASELINES


def test_same_inputs_give_the_same_page(project: Project, html: str) -> None:
    assert render(project) == html


def test_text_from_dicom_headers_is_escaped(html: str) -> None:
    assert "<script>alert(1)</script>" not in html
    assert "z/&lt;script&gt;alert(1)&lt;/script&gt;.dcm" in html


def test_flagged_study_comes_first_with_its_reason(html: str) -> None:
    captions = re.findall(r"before and after registration: ([^\"]+)", html)
    assert captions == ["P13_aa", "P00_aa"]
    assert "body overlap 0.700 is below 0.8" in html


def test_without_registered_studies_no_chart_is_drawn(leaking_project: Project) -> None:
    write_table(leaking_project.report.registered, RegistrationRow, [])
    assert "Displacement" not in render(leaking_project)


def test_failed_expectation_is_shown_with_its_rows(html: str) -> None:
    notice = html.split("images: check 2</strong>")[1].split("</p>", maxsplit=1)[0]
    assert "P04_aa_0003" in notice


def test_data_checks_say_how_many_rows_they_are_about(html: str) -> None:
    assert '<td>scores</td><td class="n">640</td>' in html


def test_pair_of_images_in_two_splits_is_named(html: str) -> None:
    pair = html.split("P00_aa_0003</code> (val) and <code>P04_aa_0003</code> (test): ")[1]
    assert pair.startswith("correlation 0.9971")


def test_livers_that_nobody_knows_are_not_called_sound(html: str) -> None:
    assert "Nobody said where a liver is" in html


def test_slices_that_fell_out_are_counted_with_their_reason(html: str) -> None:
    assert "within guard_mm of an abnormal slice: 1" in html


def test_leaking_protocol_is_marked_above_the_table_and_in_every_row(
    leaking_project: Project,
) -> None:
    html = render(leaking_project)
    assert html.index("Leaking protocol.") < html.index('id="results"')
    rows = len(leaking_project.runs) + len(PETCT_BASELINES)
    assert html.count('<span class="tag warn">leaking</span>') == rows


def test_derivation_of_the_best_run_is_drawn_from_raw_files_to_its_figures(html: str) -> None:
    picture = html.split('aria-label="Derivation of cmad-petct: ')[1].split("</svg>", maxsplit=1)[0]
    arrows = "raw data to ingest, ingest to split, ingest to evaluate cmad-petct, split to evaluate"
    assert picture.startswith(arrows)
    assert "3 raw files" in picture
    assert "code 22222222, params 11111111" in picture


def test_cost_stands_beside_every_model_and_no_baseline(html: str) -> None:
    section = html.split('<section id="cost">')[1].split("</section>", maxsplit=1)[0]
    shown = re.findall(r'data-v="([a-z]\w+-\w+)">\1</th><td class="n" data-v="([\d.]+)"', section)
    assert dict(shown)["cmad-petct"] == "5.0"
    assert len(shown) == 4
    assert "suvmax" not in section


def test_figures_that_params_may_be_chosen_on_are_not_to_be_reported(
    development_project: Project, html: str
) -> None:
    page = render(development_project)
    assert page.index("which are not to be reported") < page.index('id="results"')
    assert "not to be reported" not in html


def test_a_picture_of_another_version_is_refused_by_name(leaking_project: Project) -> None:
    Image.new("RGB", (520, 590)).save(leaking_project.report.panels / "cmad/cmad-petct/best.png")
    with pytest.raises(EvaluationError, match=r"cmad-petct/best\.png.*run `dvc repro compare`"):
        render(leaking_project)


def test_data_checks_of_another_version_are_refused_by_name(leaking_project: Project) -> None:
    leaking_project.report.validation.write_text('{"expectations": [{"name": "file_once"}]}')
    with pytest.raises(EvaluationError, match=r"validation\.json: outcomes of another version"):
        render(leaking_project)


def test_lineage_of_the_report_names_panels_and_tables(project: Project) -> None:
    runs = read_runs(project.report.results)
    summary = summarise(runs, project.params)
    write_summary(Path("metrics"), summary)
    report = Path("reports/index.html")
    write_text(report, render_report(summary, runs, project.report))
    page = report_derivations(report, Path("metrics"), project.report)[-1]
    inputs = {source.id for source in page.inputs}
    assert page.output.id == "file:reports/index.html"
    assert "file:reports/panels/cmad/cmad-petct/worst.png" in inputs
    assert "file:data/interim/tiny/split/slices.csv" in inputs
    assert "file:metrics/runs/trivial/suvmax/scores.csv" in inputs
    assert "file:data/interim/tiny/split/lineage/lineage.safetensors" in inputs


def test_findings_say_what_each_modality_gave_where_a_map_joins_both(html: str) -> None:
    section = html.split('<section id="findings">')[1].split("</section>", maxsplit=1)[0]
    shown = re.findall(r'<th scope="row" data-v="([^"]+)">', section)
    assert shown == ["cmad-petct"]  # the other row on both does not say
    summary = section.split('data-v="cmad-petct"')[1].split("</tr>", maxsplit=1)[0]
    assert summary.count(">25 %<") >= 1
    listed = section.split("<details>")[1]
    assert ">25 %</td>" in listed
    assert ">75 %</td>" in listed


def test_pictures_of_a_joined_map_say_what_each_modality_gave_to_what_is_found(html: str) -> None:
    pictures = html.split('<section id="panels">')[1].split("</section>", maxsplit=1)[0]
    joined = pictures.split("<strong>cmad-petct</strong>")[1]
    assert "PET 25 %, CT 75 %" in joined.split("<strong>worst</strong>", maxsplit=1)[0]


def test_lineage_of_the_report_names_findings(project: Project) -> None:
    assert any(path.name == "findings.csv" for run in project.report.results for path in run.files)


def test_each_run_has_an_auroc_for_each_class_of_lesion_beside_its_size(html: str) -> None:
    section = html.split('<section id="classes">')[1].split("</section>", maxsplit=1)[0]
    heads = re.findall(r"<button[^>]*>(\w+)</button><br><small>([^<]+)</small>", section)
    assert "with its 95 % interval" in section
    # Two of three test patients have a lesion, and of those P05 and P13 a carcinoma.
    assert heads == [
        ("granuloma", "36 slices of 6 patients"),
        ("carcinoma", "12 slices of 2 patients"),
    ]
    rows = section.split("<tbody>")[1].split("</tr>")[:-1]
    assert all(row.count(" to ") == len(heads) for row in rows)
    assert re.findall(r'data-v="([a-z-]+)"', rows[0]) == ["cmad-petct"]


def test_kept_range_of_each_study_is_shown_where_only_the_thorax_counts(
    html: str, project: Project, tmp_path: Path
) -> None:
    assert '<section id="region">' not in html
    interim = Path(shutil.copytree(project.report.interim, tmp_path / "interim"))
    sound = RegionRow("P00_aa", True, 4321.0, -300.0, -60.0, -310.0, -50.0, False, False, 48, 52, 0)
    cut = replace(sound, study_id="P13_aa", at_low_end=True, lesion_slices_outside=3)
    write_table(interim / "split/regions.csv", RegionRow, [sound, cut])
    for row in (sound, cut):
        write_picture(interim / f"split/regions/{row.study_id}.png")
    report = replace(project.report, interim=interim)
    section = render(replace(project, report=report)).split('<section id="region">')[1]
    section = section.split("</section>", maxsplit=1)[0]
    assert "96 of 200 slices of 2 studies" in section
    assert re.findall(r'<th scope="row" data-v="(\w+)">', section) == ["P13_aa", "P00_aa"]
    assert ">-310.0</td>" in section
    assert section.count("the stack ends before the base; 3 slices with lesion lie outside") == 2
    assert section.count('src="data:image/webp') == 2
    assert interim / "split/regions/P00_aa.png" in report.shown_files()


def test_boxes_show_every_model_of_a_modality_beside_suvmax(html: str) -> None:
    for kind in ("Scores of normal and abnormal slices", "AUROC within each patient"):
        titles = re.findall(rf'aria-label="{kind} on ([^"]+)"', html)
        assert titles == ["PET", "CT", "PET and CT"]
        drawn = html.split(f'aria-label="{kind} on PET and CT"')[1].split("</svg>", maxsplit=1)[0]
        assert re.findall(r">([a-z]+(?:-\w+)?)</text>", drawn) == [
            "cmad-petct", "patchcore-petct", "suvmax",
        ]  # fmt: skip
    scores = html.split('aria-label="Scores of normal and abnormal slices on CT"')[1]
    assert {"--normal", "--abnormal"} <= set(re.findall(r"--\w+", scores.split("</svg>")[0]))
