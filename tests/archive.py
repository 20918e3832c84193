"""The layout of the Imaging Data Commons on an S3 server of our own, on loopback, and its index."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pydicom
import pytest
from ruamel.yaml import YAML

pytest.importorskip("obstore", reason="the extra `cohorts` is not installed")
duckdb = pytest.importorskip("duckdb", reason="the extra `cohorts` is not installed")
boto3 = pytest.importorskip("boto3", reason="pip install 'moto[s3]' flask flask-cors")
moto_server = pytest.importorskip("moto.server", reason="pip install 'moto[s3]' flask flask-cors")
moto_s3 = pytest.importorskip("moto.s3.models", reason="pip install 'moto[s3]' flask flask-cors")
serving = pytest.importorskip("werkzeug.serving", reason="pip install 'moto[s3]'")

BUCKET = "idc-open-data"
OPEN = "public-read"  # no key is needed, as in the buckets of the Imaging Data Commons
COLUMNS = (
    "collection_id VARCHAR, analysis_result_id VARCHAR, PatientID VARCHAR, SeriesInstanceUID "
    "VARCHAR, StudyInstanceUID VARCHAR, source_DOI VARCHAR, Modality VARCHAR, SeriesDescription "
    "VARCHAR, instanceCount BIGINT, license_short_name VARCHAR, crdc_series_uuid VARCHAR, "
    "series_aws_url VARCHAR, series_size_MB DOUBLE"
)


def unspoilt(_key: str, body: bytes) -> bytes:
    return body


@dataclass
class Wire:
    """What lies between the server and whoever asks it."""

    serve: Any
    asked: Counter[str] = field(default_factory=Counter)  # objects, by key
    hold_after: int | None = None  # objects; further ones are never answered
    release: threading.Event = field(default_factory=threading.Event)
    spoil: Callable[[str, bytes], bytes] = unspoilt

    def reset(self) -> None:
        """As it was."""
        self.asked, self.hold_after, self.spoil = Counter(), None, unspoilt
        self.release.clear()

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        key = environ["PATH_INFO"].removeprefix(f"/{BUCKET}/")
        is_object = environ["REQUEST_METHOD"] == "GET" and key.endswith(".dcm")
        if not is_object:
            return self.serve(environ, start)  # type: ignore[no-any-return]
        self.asked[key] += 1
        if self.hold_after is not None and self.asked.total() > self.hold_after:
            self.release.wait(60)
        return [self.spoil(key, b"".join(self.serve(environ, start)))]


@dataclass(frozen=True)
class Archive:
    """A bucket with a cohort, and the index of it."""

    cohort: str
    wire: Wire
    endpoint: str
    client: Any
    index: Path  # of a package that carries it
    loose: Path  # the same files as a folder


@contextmanager
def served(loose: Path, site: Path, cohort: str) -> Iterator[Archive]:
    """A server of loose files, open to all, and a package below ``site`` with the index of them."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each object
    moto_s3.s3_backends.reset()  # they belong to the process, not to a server
    wire = Wire(moto_server.DomainDispatcherApplication(moto_server.create_backend_app))
    server = serving.make_server("127.0.0.1", 0, wire, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="none", aws_secret_access_key="none",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    index = write_index(site, list(upload(client, loose, cohort)))
    try:
        yield Archive(cohort, wire, endpoint, client, index, loose)
    finally:
        wire.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def upload(client: Any, loose: Path, cohort: str) -> Iterator[tuple[object, ...]]:
    """A folder per series and version, objects by names of their own; a row of the index each."""
    for folder in sorted({path.parent for path in loose.rglob("*.dcm")}):
        version = str(uuid.uuid5(uuid.NAMESPACE_OID, str(folder.relative_to(loose))))
        files = sorted(folder.iterdir())
        for file in files:
            name = uuid.uuid5(uuid.NAMESPACE_OID, f"{version}/{file.name}")
            client.put_object(
                Bucket=BUCKET, Key=f"{version}/{name}.dcm", Body=file.read_bytes(), ACL=OPEN
            )
        told = pydicom.dcmread(files[0], stop_before_pixels=True)
        size_mb = sum(file.stat().st_size for file in files) / 1e6
        yield (
            cohort, None, told.PatientID, told.SeriesInstanceUID, told.StudyInstanceUID, "10.1/x",
            told.Modality, folder.name, len(files), "CC BY 4.0", version,
            f"s3://{BUCKET}/{version}/*", size_mb,
        )  # fmt: skip


def write_index(site: Path, rows: list[tuple[object, ...]]) -> Path:
    """A package of the name of idc-index-data."""
    package = site / "idc_index_data"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    told = site / "idc_index_data-99.0.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: idc-index-data\nVersion: 99.0.0\n")
    marks = ", ".join("?" * len(rows[0]))
    with duckdb.connect(":memory:") as database:
        database.execute(f"CREATE TABLE series ({COLUMNS})")
        database.executemany(f"INSERT INTO series VALUES ({marks})", rows)
        database.execute(f"COPY series TO '{package / 'idc_index.parquet'}' (FORMAT parquet)")
    return site


def write_recipe(path: Path, like: Path, **changes: Any) -> None:
    """A recipe like another, but for these sections."""
    content = YAML(typ="safe").load(like.read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        YAML().dump({**content, "collection": path.stem, **changes}, file)
