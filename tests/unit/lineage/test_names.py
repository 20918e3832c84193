"""A row's figures lie where the evaluation writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from petct_uad.core.errors import PseudonymError
from petct_uad.core.files import write_json
from petct_uad.evaluation.results import ResultPaths
from petct_uad.evaluation.trivial import TRIVIAL, TRIVIAL_BASELINES
from petct_uad.ingest.pseudonyms import KEY_VARIABLE, PUBLIC, Pseudonyms, create_key, read_key
from petct_uad.lineage.names import family_of, metrics_file, patient_pseudonyms
from petct_uad.schema import load_params

ROWS = {
    **load_params(Path(__file__).parents[3] / "params/cpu.yaml").rows,
    **{baseline.name: TRIVIAL for baseline in TRIVIAL_BASELINES},
}


@pytest.mark.parametrize("run", ROWS)
def test_figures_are_sought_where_the_evaluation_writes_them(run: str) -> None:
    assert family_of(run) == ROWS[run]
    assert metrics_file(run) == ResultPaths.of(Path("metrics"), ROWS[run], run).metrics


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pseudonyms:
    """Of the one data set in the working directory; the key lies where it should."""
    home = tmp_path / "home"
    ingest = home / "data/interim/mine/ingest"
    ingest.mkdir(parents=True)
    (ingest / "instances.csv").touch()
    monkeypatch.chdir(home)
    create_key(tmp_path / "mine.key")
    create_key(tmp_path / "another.key")
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "mine.key"))
    found = Pseudonyms("secret", read_key(tmp_path / "mine.key"))
    content = {"pseudonyms": "secret", "key_fingerprint": found.fingerprint()}
    write_json(ingest / "identity.json", content)
    return found


def test_patient_id_is_sought_under_the_key_of_its_data_set(secret: Pseudonyms) -> None:
    assert patient_pseudonyms("Doe") == {secret.patient("Doe")}
    assert secret.patient("Doe") != PUBLIC.patient("Doe")


def test_patient_id_is_not_sought_under_another_key(
    secret: Pseudonyms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would be found, as if the patient had left."""
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "another.key"))
    with pytest.raises(PseudonymError, match=r"another\.key: not the key"):
        patient_pseudonyms("Doe")
    pseudonym = secret.patient("Doe")
    assert patient_pseudonyms(pseudonym) == {pseudonym}
