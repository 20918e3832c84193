"""Every line of the list of bad inputs that an ingestion must survive has its cases."""

from __future__ import annotations

import pytest

from tests.func.ingest import test_robustness_files as files
from tests.func.ingest import test_robustness_machine as machine
from tests.func.ingest import test_robustness_pairs as pairs
from tests.func.ingest import test_robustness_pixels as pixels
from tests.func.ingest import test_robustness_series as series
from tests.func.ingest import test_robustness_units as units

# The words of the list, in its order.
LINES = """
File level: empty; 1 to 131 bytes; no preamble; random bytes after DICM; executable header in the
preamble; truncated mid-element; truncated mid-pixel; declared length beyond the file;
undefined-length OB; deflate bomb; JPEG 2000 cut short; unsupported transfer syntax; big-endian;
missing TransferSyntaxUID; wrong TransferSyntaxUID; DICOMDIR with ../; symlink loop; symlink out of
the tree; FIFO; unreadable file; non-UTF-8 names; 255-byte names; HTML text in tags; CSV-formula
text in tags; NUL text in tags; ANSI-escape text in tags; a .dcm that is a JPEG; a .DS_Store;
MR_truncated; rtplan_truncated; no_meta; meta_missing_tsyntax; badVR; ExplVR_BigEndNoMeta;
UN_sequence; bad_sequence; emri_small_jpeg_2k_lossless_too_short; every file that pydicom ships

Series level: duplicate SOPInstanceUID with the same bytes; duplicate SOPInstanceUID with different
bytes; two series in one folder; one series over two folders; CT and PET swapped; thin and thick CT
in one study; attenuation-corrected and uncorrected PET; topogram; MIP; dose report; secondary
capture; missing first slice; missing middle slice; missing last slice; duplicate slice position;
uneven gaps; gantry tilt; reversed InstanceNumber; oblique; feet-first; mixed orientation; mixed
Rows; mixed Columns; mixed spacing; missing PixelSpacing; missing ImagePositionPatient; enhanced
multi-frame PET; dynamic PET; gated PET; chest CT beside a whole-body CT; early and late PET

Pixel level: per-slice RescaleSlope; slope 1e-8; slope 0; slope missing; slope negative; signed and
unsigned; padding value; NaN and inf; all-zero; one-slice; a header that claims 65535 x 65535

PET units and time: GML; CM2ML; BQML; CNTS; PROPCNTS; units missing; DecayCorrection NONE;
DecayCorrection START; DecayCorrection ADMIN; weight 0; weight missing; weight '70 kg'; dose 0; dose
missing; dose given in MBq; half-life missing; half-life of another nuclide; SPECT as PET; injection
after scan; over midnight; timezone; (0018,1078) only; (0018,1078) against (0018,1072); acquisition
time; per-bed acquisition times

Pair level: different FrameOfReferenceUID; no overlap; CT field of view smaller than PET; no PET
partner; PET and CT of two patients under one ID; one patient under two IDs; study withdrawn after
the split

Labels: unknown patient; BOM; CRLF; duplicates; a contour outside the volume; an RTSTRUCT that
references another series; (3006,0024) of another frame; a SEG of zeros; a SEG without Spacing
Between Slices; a SEG without Modality; a SEG cut short; a LABELMAP SEG; a surface in a SEG; a SEG
in a study of its own; a label of no images; a label whose StudyInstanceUID is no UID; two ROIs of
one number; organs among lesions; contours on every second slice

Machine: disk full at each write; kill -9 at each write; read-only data folder; two runs at once
"""
CASES = [name for module in (files, series, pixels, units, pairs, machine) for name in module.CASES]


def test_every_line_has_its_cases(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in LINES.strip().split("\n\n") for line in lines_of(block)]
    covered = {line: sum(case.split(": ")[0] == line for case in CASES) for line in lines}
    assert [line for line, count in covered.items() if not count] == []
    assert {case.split(": ")[0] for case in CASES} <= set(lines)
    with capsys.disabled():
        print(f"\n{len(lines)} lines of the list of bad inputs, {len(CASES)} cases")


def lines_of(block: str) -> list[str]:
    return " ".join(block.split()).split(": ", 1)[1].split("; ")
