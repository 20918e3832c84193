"""What the structures of a label object are called, and which of them are lesions."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from petct_uad.ingest.dicom.drawing import wrong_label
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.parsing import opened, read_meta, read_tags, tag_of
from petct_uad.ingest.rejections import printable

ANY_NAME = ".*"  # the default of ingest.label_roi, with which nobody has said what is a lesion

_SEQUENCES = {"SEG": "SegmentSequence", "RTSTRUCT": "StructureSetROISequence"}
_NUMBER_TAGS = {"SEG": "Segment Number (0062,0004)", "RTSTRUCT": "ROI Number (3006,0022)"}
_LESION = re.compile(
    r"lesion|tumou?r|gtv|\bmass|metasta|\bmets?\b|neoplas|cancer|malignan|nodul|\w+oma\b|\bavid"
    r"|hot ?spot|uptake",
    re.IGNORECASE,
)
# Beside DICOM's own terms: plurals and Latin as segmentation programs and planning systems write
# them, and the outlines and margins of radiotherapy, which hold healthy tissue (AAPM TG-263).
_NO_LESION = {
    "adrenal", "autochthon", "body", "bone", "bowel", "cava", "clavicula", "cord", "couch", "ctv",
    "external", "fat", "gland", "gluteus", "iliopsoas", "itv", "marrow", "muscle", "oesophagus",
    "parotid", "ptv", "trunc", "trunk", "vertebrae", "vessel",
}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class Structure:
    """One segment or ROI: its number, name, and whether it is said to be anatomy."""

    number: int
    name: str
    anatomy: bool


@dataclass(frozen=True)
class NamedObject:
    """A label object, and which of its structures are lesions by ``ingest.label_roi``."""

    header: Header
    structures: tuple[Structure, ...]
    pattern: str

    @property
    def lesions(self) -> tuple[str, ...]:
        """Names that the pattern matches as a whole, sorted."""
        return split_names((item.name for item in self.structures), self.pattern)[0]

    @property
    def passed_over(self) -> tuple[str, ...]:
        """The other names, sorted."""
        return split_names((item.name for item in self.structures), self.pattern)[1]

    @property
    def lesion_numbers(self) -> tuple[int, ...]:
        """Numbers of the segments or ROIs that are lesions, in the order of the file."""
        lesions = self.lesions
        return tuple(item.number for item in self.structures if item.name in lesions)

    @property
    def anatomy(self) -> tuple[str, ...]:
        """Names of those structures, lesions by the pattern or not, that are no lesions' names."""
        return tuple(sorted({item.name for item in self.structures if item.anatomy}))

    @property
    def in_words(self) -> str:
        """The file and all that it names."""
        names = ", ".join(sorted({item.name for item in self.structures})) or "nothing"
        return f"{self.header.file} ({names})"


def read_names(raw: Path, header: Header, pattern: str) -> NamedObject:
    """Read what a SEG or RTSTRUCT names.

    Raises:
        LabelError: it cannot be read, or two of its structures share a number, so that nobody can
            tell which of them is drawn.
    """
    # pydicom raises many types on objects that break its rules.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structures = tuple(_structures(raw, header))
    except Exception as error:
        found = printable(f"{type(error).__name__}: {error}")
        raise wrong_label(header, found, f"a readable {header.modality}") from error
    named = NamedObject(header, structures, pattern)
    if named.lesions:
        _check_numbers(named)
    return named


def split_names(names: Iterable[str], pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that a pattern matches as a whole, and the others, each once and sorted."""
    every = sorted(set(names))
    taken = tuple(name for name in every if re.fullmatch(pattern, name))
    return taken, tuple(name for name in every if name not in taken)


def is_anatomy(name: str) -> bool:
    """Is a name that of an organ, a tissue or an outline, and of no lesion?

    Organs are those that DICOM names in one word (PS3.16 CID 7191, 7192, 4031).
    """
    if _names_lesion(name):
        return False
    words = {word.casefold() for word in _WORD.findall(name)}
    known = _anatomy() | _NO_LESION
    return any(word in known or word.removesuffix("s") in known for word in words)


def _names_lesion(name: str) -> bool:
    return _LESION.search(name.replace("_", " ")) is not None


@cache
def _anatomy() -> frozenset[str]:
    lists = (codes.cid7191, codes.cid7192, codes.cid4031)
    meanings = (code.meaning for one in lists for code in one.concepts.values())
    return frozenset(meaning.casefold() for meaning in meanings if meaning.isalpha())


def _structures(raw: Path, header: Header) -> Iterator[Structure]:
    name = _SEQUENCES[header.modality]
    with opened(raw / header.file) as stream:
        dataset = read_tags(
            stream, read_meta(stream), [tag_of("SpecificCharacterSet"), tag_of(name)]
        )
        items = list(dataset.get(name) or ())
    for item in items:
        yield from _segment(item) if header.modality == "SEG" else [_roi(item)]


def _roi(item: Dataset) -> Structure:
    name = printable(str(item.get("ROIName", "")))
    return Structure(int(item.ROINumber), name, is_anatomy(name))


def _segment(item: Dataset) -> Iterator[Structure]:
    """A segment; none where it is the background of a label map."""
    kind = _code(item, "SegmentedPropertyTypeCodeSequence")
    if kind == codes.DCM.Background:
        return
    name = printable(str(item.SegmentLabel))
    said = _code(item, "SegmentedPropertyCategoryCodeSequence") == codes.SCT.AnatomicalStructure
    anatomy = is_anatomy(name) or (said and not _names_lesion(name))
    yield Structure(int(item.SegmentNumber), name, anatomy)


def _code(item: Dataset, name: str) -> Code | None:
    found = item.get(name)
    if not found:
        return None
    value, scheme, meaning = (
        str(found[0].get(key, "")) for key in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    )
    return Code(value, scheme, meaning)


def _check_numbers(named: NamedObject) -> None:
    counts = Counter(item.number for item in named.structures)
    twice = [item for item in named.structures if counts[item.number] > 1]
    if twice:
        number = twice[0].number
        names = " and ".join(item.name for item in twice if item.number == number)
        tag = _NUMBER_TAGS[named.header.modality]
        raise wrong_label(named.header, f"{tag} {number} of {names}", "a number for each of them")
