"""Which study a label object belongs to, and which studies one that is refused may concern.

A lesion that nobody sees counts as normal. So a label object that cannot be read, is of a kind that
nobody reads here, or belongs to no study that is there, costs the studies that it may be of.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pydicom import filereader, uid
from pydicom.dataset import Dataset

from petct_uad.core.archives import exists, find_extent
from petct_uad.core.errors import LabelError
from petct_uad.core.files import sha256_file
from petct_uad.ingest.dicom.header import LABEL_MAP_STORAGE, Header
from petct_uad.ingest.dicom.label_names import ANY_NAME, read_names
from petct_uad.ingest.dicom.label_objects import KINDS
from petct_uad.ingest.dicom.parsing import opened, read_dataset, read_meta, tag_of, values
from petct_uad.ingest.dicom.series import DicomStudy
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.reader import is_uid
from petct_uad.ingest.rejections import printable, rejected_row

# What may hold lesions, and which kind of ingest.labels it is.
_LABEL_CLASSES = {
    str(uid.SegmentationStorage): "SEG",
    str(LABEL_MAP_STORAGE): "SEG",
    str(uid.SurfaceSegmentationStorage): "SEG",
    str(uid.RTStructureSetStorage): "RTSTRUCT",
    str(uid.RTSegmentAnnotationStorage): "RTSTRUCT",
}
_TOLD = ("SOPClassUID", "SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID")
_LAST_TOLD = 0x00200010  # no element of _TOLD comes after it
_HEAD_BYTES = 1024  # preamble, meta information, and the first elements after them
_SEARCHED_BYTES = 1 << 20  # what a label object draws is named before the drawing
# Elements that only a SEG (group 0062) or an RTSTRUCT has (ROIs and their contours, (3006,0020),
# (3006,0022), (3006,0026) and (3006,0039)), in either order of bytes: with their VR and a short
# length, or without a VR and with an item.
_ELEMENT = rb"(?:SQ\0\0|(?:CS|DS|IS|LO|US|UT)(?:\0.|.\0)|....\xfe\xff\0\xe0)"
_ONLY_IN = {
    "SEG": re.compile(rb"(?s)(?:\x62\0|\0\x62).." + _ELEMENT),
    "RTSTRUCT": re.compile(
        rb"(?s)(?:\x06\x30[\x20\x22\x26\x39]\0|\x30\x06\0[\x20\x22\x26\x39])" + _ELEMENT
    ),
}
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+){2,}")  # no number in mm has two points
_META = b"DICM\x02\x00\x00\x00UL\x04\x00"  # how a file begins after its preamble (PS3.10, 7.1)
_IMAGES = ("CT", "PT")


@dataclass(frozen=True)
class _Suspect:
    """A label object that gives no mask; "" where it does not say."""

    file: str
    kinds: tuple[str, ...]  # of SEG and RTSTRUCT: which of them it is, or may be
    patient: str
    study: str
    why: str


def with_references(raw: Path, headers: Sequence[Header]) -> list[Header]:
    """The headers, each SEG and RTSTRUCT with the series of the images that it names one by one.

    Some name no series (0008,1115), or one that an anonymiser has renamed, but name the source of
    each frame, Source Image Sequence (0008,2112), or of each contour, (3006,0016).
    """
    images = {h.sop_instance_uid: h.series_instance_uid for h in headers if h.modality in _IMAGES}
    there = set(images.values())
    return [
        header
        if header.modality in _IMAGES or there & set(header.referenced_series)
        else replace(header, referenced_series=_series_of_sources(raw, header, images))
        for header in headers
    ]


def refuse_doubtful(
    raw: Path,
    studies: Sequence[DicomStudy],
    refused: Sequence[FoundRejection],
    headers: Sequence[Header],
    params: IngestParams,
) -> tuple[list[DicomStudy], list[FoundRejection]]:
    """Refuse studies of which a lesion may be in a label object that gives no mask.

    Args:
        raw: the data set.
        studies: those that were grouped, with and without images.
        refused: what was refused so far: files, and series by their UID.
        headers: of every file that could be read.
        params: which kinds of label objects are asked for, and which names are lesions.
    """
    suspects = [
        *_refused_files(raw, refused, headers),
        *_refused_series(refused, headers),
        *_without_images(raw, studies, params),
    ]
    imaged = [study for study in studies if study.of(*_IMAGES)]
    asked = [suspect for suspect in suspects if set(suspect.kinds) & set(KINDS[params.labels])]
    owners = _owners(imaged) if asked else {}
    doubts: dict[str, _Suspect] = {}
    for suspect in asked:
        named = {owners.get(name, "") for name in _uids_in(raw / suspect.file)}
        doubts |= {study.uid: suspect for study in _concerned(suspect, named, imaged)}
    kept = [study for study in studies if study.uid not in doubts]
    return kept, [_doubtful(study, doubt) for study, doubt in sorted(doubts.items())]


def _series_of_sources(raw: Path, header: Header, images: Mapping[str, str]) -> tuple[str, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sources = set(_sources(read_dataset(raw / header.file)))
    except Exception:  # named where the label is read
        sources = set()
    found = {images[source] for source in sources if source in images}
    return tuple(sorted(found | set(header.referenced_series)))


def _sources(item: Dataset) -> Iterator[str]:
    """Every Referenced SOP Instance UID (0008,1155) of a label object, at any depth."""
    for element in item:
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)
        elif element.VR == "SQ":
            for inner in element.value:
                yield from _sources(inner)


def _refused_files(
    raw: Path, refused: Iterable[FoundRejection], headers: Iterable[Header]
) -> Iterator[_Suspect]:
    """Label objects among the files that were refused, as far as they can be read."""
    read = {header.sop_instance_uid: header.sha256 for header in headers}
    for row in refused:
        path = raw / row.subject
        if path.is_symlink() or not exists(path):
            continue
        told = _what_it_says(path)
        kinds = _kinds_of(path, told)
        copy = read.get(told["SOPInstanceUID"]) == sha256_file(path) if kinds else False
        if kinds and not copy:
            why = f"{row.code}: {row.found}"
            yield _Suspect(row.subject, kinds, told["PatientID"], told["StudyInstanceUID"], why)


def _kinds_of(path: Path, told: Mapping[str, str]) -> tuple[str, ...]:
    """SEG or RTSTRUCT where anything in a file says so; none where it is something else.

    The SOP class is in the meta information too, so among the first bytes of a broken file.
    Where the class itself is broken, the elements do, which no other object has. A DICOM file that
    ends before it says what it is may be either.
    """
    if kind := _LABEL_CLASSES.get(told["SOPClassUID"]):
        return (kind,)
    content = _start_of(path)
    named = {name for name in _LABEL_CLASSES if name.encode() in content[:_HEAD_BYTES]}
    if named:
        return (_LABEL_CLASSES[min(named)],)
    if uid.UID(told["SOPClassUID"]).name != told["SOPClassUID"]:  # the class of something else
        return tuple({told["Modality"]} & set(KINDS["auto"]))
    found = [kind for kind, elements in _ONLY_IN.items() if elements.search(content)]
    if found or told["Modality"]:
        return tuple(kind for kind in (*found, told["Modality"]) if kind in KINDS["auto"])
    whose = told["PatientID"] or told["StudyInstanceUID"]
    return KINDS["auto"] if content[128:].startswith(_META) and not whose else ()


def _what_it_says(path: Path) -> dict[str, str]:
    """Elements of ``_TOLD`` of a file, up to where it breaks; "" for the others."""
    told = dict.fromkeys(_TOLD, "")
    # Whatever pydicom finds wrong with it is in rejected.csv.
    try:
        with opened(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = read_meta(stream)
            told["SOPClassUID"] = str(meta.get("MediaStorageSOPClassUID", ""))
            syntax = uid.UID(str(meta.get("TransferSyntaxUID", uid.ExplicitVRLittleEndian)))
            if syntax.is_deflated:
                return told
            elements = filereader.data_element_generator(
                stream,
                syntax.is_implicit_VR,
                syntax.is_little_endian,
                stop_when=lambda tag, _vr, _length: tag > _LAST_TOLD,
                specific_tags=[*map(tag_of, (*_TOLD, "SpecificCharacterSet"))],
            )
            for element in elements:
                dataset = Dataset({element.tag: element})
                for name in _TOLD:
                    found = values(dataset, name)
                    told[name] = printable(str(found[0])) if found else told[name]
    except Exception:
        return told
    return told


def _refused_series(
    refused: Iterable[FoundRejection], headers: Sequence[Header]
) -> Iterator[_Suspect]:
    """Label objects of a series that was refused as a whole."""
    why = {row.subject: f"{row.code}: {row.found}" for row in refused}
    for header in headers:
        if header.series_instance_uid in why and header.modality not in _IMAGES:
            yield _suspect(header, why[header.series_instance_uid])


def _without_images(
    raw: Path, studies: Iterable[DicomStudy], params: IngestParams
) -> Iterator[_Suspect]:
    """Label objects whose images are not there, but which may hold lesions."""
    for study in studies:
        for header in () if study.of(*_IMAGES) else study.headers:
            if _may_hold_lesions(raw, header, params):
                yield _suspect(header, "it belongs to none of the images that are there")


def _may_hold_lesions(raw: Path, header: Header, params: IngestParams) -> bool:
    try:
        named = read_names(raw, header, params.label_roi)
    except LabelError:
        return True
    anatomy = all(item.anatomy for item in named.structures)
    return not anatomy if params.label_roi == ANY_NAME else bool(named.lesions)


def _suspect(header: Header, why: str) -> _Suspect:
    kinds, study = (header.modality,), header.study_instance_uid
    return _Suspect(header.file, kinds, header.patient, study, why)


def _owners(studies: Iterable[DicomStudy]) -> dict[str, str]:
    """The study of every UID that one study alone has: its own, of its series, slices and frames.

    Some anonymisers write one Frame of Reference UID (0020,0052) into every file.
    """
    owners: dict[str, set[str]] = {}
    for study in studies:
        for header in study.headers:
            for name in (header.study_instance_uid, header.series_instance_uid,
                         header.sop_instance_uid, header.frame_of_reference_uid):  # fmt: skip
                owners.setdefault(name, set()).add(study.uid)
    return {name: min(found) for name, found in owners.items() if len(found) == 1}


def _uids_in(path: Path) -> set[str]:
    """Whatever looks like a UID in a label object, which may break anywhere."""
    return {found.decode() for found in _UID.findall(_start_of(path))}


def _start_of(path: Path) -> bytes:
    try:
        with find_extent(path).open() as stream:
            return stream.read(_SEARCHED_BYTES)
    except OSError:  # rejected.csv says so
        return b""


def _concerned(
    suspect: _Suspect, named: Collection[str], studies: Sequence[DicomStudy]
) -> list[DicomStudy]:
    """Its study and those whose images it names, else its patient's, else those in its folder."""
    same = [study for study in studies if study.uid in {suspect.study, *named}]
    if same:
        return same
    of_patient = [study for study in studies if study.patient == suspect.patient]
    # Without a UID of a study a file is broken, and so may be what it says of its patient.
    if of_patient or (suspect.patient and is_uid(suspect.study)):
        return of_patient
    for folder in PurePosixPath(suspect.file).parents:
        beside = [
            study
            for study in studies
            if any(PurePosixPath(h.file).is_relative_to(folder) for h in study.headers)
        ]
        if beside:
            return beside
    return []


def _doubtful(study: str, suspect: _Suspect) -> FoundRejection:
    return rejected_row(
        LabelError(
            study,
            found=f"{suspect.file}, which may hold lesions of this study; {suspect.why}",
            expected="label objects that can be read and belong to images that are there",
            advice="Export the label object again, or remove it where it has no lesion of this "
            "study: lesions that are not read count as normal.",
        )
    )
