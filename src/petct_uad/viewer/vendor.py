"""Fetch NiiVue for the page of a study: ``make viewer``, after raising a version below.

What it writes is in git, since `petct view` must work without a network and without Node.js.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "vendor"
_BUNDLE = "package/dist/niivue.umd.js"


@dataclass(frozen=True)
class Package:
    """One of npm, pinned."""

    name: str
    version: str
    sha256: str  # of its archive
    licence: str = ""  # the file in it; none where it has no text


NIIVUE = Package(
    "@niivue/niivue",
    "0.69.0",
    "6e9a6a471b428eb3b258a0086beca9187d95e43a781a39e8a519c6da246af485",
)
# What the bundle holds beside NiiVue, as its dist/metafile-esm.json says.
BUNDLED = (
    Package(
        "@lukeed/uuid",
        "2.0.1",
        "54beeedbb0087987c04591bc3adb18ba6099c8ddb0dcdc271fc564f1376bb7ee",
        "package/license",
    ),
    Package(
        "@ungap/structured-clone",
        "1.4.0",
        "f481575dc2f23f404e3eec77eb6726bdf9c7d130f1b43f214291e601acf50996",
        "package/LICENSE",
    ),
    Package(
        "@zarrita/storage",
        "0.1.4",
        "c1624ff17b3164c236f06407e23e772ef9c65b314ba626d252186ac8623912fd",
        "package/LICENSE",
    ),
    Package(
        "array-equal",
        "1.0.2",
        "2223d3c01ba35e4948ed5e19e903c18e0a2c3530a96957423e31b03e1ddabb51",
        "package/LICENSE",
    ),
    Package(
        "fflate",
        "0.8.3",
        "38c2cd824402407b43153c782274aec2ea83ea688e4aa0b743c5f2c305857d92",
        "package/LICENSE",
    ),
    Package(
        "gl-matrix",
        "3.4.4",
        "e08f1f9fc56d91d2aa1392e51cbc3db00d3eb9572dcb352acd9e187fc1a7e63a",
        "package/LICENSE.md",
    ),
    Package(
        "nifti-reader-js",
        "0.8.0",
        "30528e62dfdf31488afe9f857dca8a03893f42dadec356ec5cf073e5d7d31949",
        "package/LICENSE",
    ),
    Package(
        "numcodecs",
        "0.3.2",
        "7edfa5a4358a028eb4e339d46ffbf8d8d7ce30e89e410f5ede1b0eadb556a15a",
        "package/LICENSE",
    ),
    Package(
        "zarrita",
        "0.5.4",
        "bbdb2741fa9c154eeca7fc330a6e6b8ba190037454cdfee5d359eb505d794b0a",
        "package/LICENSE",
    ),
)
# NiiVue's archive names its licence without the text, which is this (its repository, LICENSE).
_BSD_2_CLAUSE = """BSD 2-Clause License

Copyright (c) 2021, Niivue
All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this
   list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice,
   this list of conditions and the following disclaimer in the documentation
   and/or other materials provided with the distribution.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


def main() -> None:
    """Write the bundle, compressed, and the licences of all that is in it."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = _member(_fetch(NIIVUE, Path(folder)), _BUNDLE)
        texts = [_titled(NIIVUE, _BSD_2_CLAUSE)]
        for package in BUNDLED:
            licence = _member(_fetch(package, Path(folder)), package.licence)
            texts.append(_titled(package, licence.decode()))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "niivue.umd.js.gz").write_bytes(gzip.compress(bundle, mtime=0))
    (FOLDER / "LICENCES.txt").write_text("\n\n".join(texts), encoding="utf-8")


def _fetch(package: Package, folder: Path) -> Path:
    """The package's archive, once its hash is the pinned one."""
    name = f"{package.name}@{package.version}"
    command = ["npm", "pack", "--silent", name]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    archive = folder / done.stdout.split()[-1]
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{name}: SHA-256 {found}, expected {package.sha256}; nothing is written.")
    return archive


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as opened:
        content = opened.extractfile(name)
        assert content is not None, f"{archive} has no file {name}"
        return content.read()


def _titled(package: Package, text: str) -> str:
    title = f"{package.name} {package.version}"
    return f"{title}\n{'=' * len(title)}\n\n{text.strip()}\n"


if __name__ == "__main__":
    main()
