"""Frames of enhanced multi-frame CT and PET, each read as if it were an instance of its own."""

from __future__ import annotations

from pydicom import uid
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DT

from petct_uad.core.errors import PixelError, UnitsError
from petct_uad.ingest.dicom.parsing import tag_of

MULTIFRAME_MODALITIES = {
    uid.EnhancedCTImageStorage: "CT",
    uid.LegacyConvertedEnhancedCTImageStorage: "CT",
    uid.EnhancedPETImageStorage: "PT",
    uid.LegacyConvertedEnhancedPETImageStorage: "PT",
}
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
FUNCTIONAL_GROUPS = (_SHARED, _PER_FRAME)
# What ``read_as_single_frame_pet`` looks at outside of them, and no single-frame PET has.
PET_FRAME_KEYWORDS = ("AttenuationCorrected", "DecayCorrected")
# Enhanced names of what a single-frame object says (PS3.3 C.7.6.16.2).
_SINGLE_FRAME_NAME = {
    "FrameType": "ImageType",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameAcquisitionDuration": "ActualFrameDuration",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "NominalRespiratoryTriggerDelayTime": "TriggerTime",
}
# Units of PET in UCUM (PS3.16 CID 84 and 85), as Units (0054,1001) and SUV Type (0054,1006).
_UNITS = {
    "Bq/ml": ("BQML", ""),
    "Bq/mL": ("BQML", ""),
    "{SUVbw}g/ml": ("GML", "BW"),
    "g/ml{SUVbw}": ("GML", "BW"),
    "{SUVlbm}g/ml": ("GML", "LBM"),
    "{SUVlbm(James128)}g/ml": ("GML", "LBMJAMES128"),
    "{SUVlbm(Janma)}g/ml": ("GML", "LBMJANMA"),
    "{SUVibw}g/ml": ("GML", "IBW"),
    "{SUVbsa}cm2/ml": ("CM2ML", "BSA"),
}


def frame_count(dataset: Dataset, file: str) -> int:
    """How many frames an enhanced object holds.

    Raises:
        PixelError: Number of Frames (0028,0008) is not the number of per-frame items.
    """
    said = int(dataset.get("NumberOfFrames") or 0)
    described = len(dataset.get(_PER_FRAME) or ())
    if said != described or not said:
        raise PixelError(
            file,
            found=f"Number of Frames (0028,0008) {said}, and {described} items in "
            "Per-frame Functional Groups Sequence (5200,9230)",
            expected="one item per frame",
            advice="Export the file again.",
        )
    return said


def frame_attributes(dataset: Dataset, index: int) -> Dataset:
    """One frame's attributes without pixels: the object's own, its shared and per-frame groups."""
    flat = Dataset()
    flat.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    flat.update({tag: item for tag, item in dataset.items() if tag.group not in {0x5200, 0x7FE0}})
    shared = dataset.get(_SHARED) or [Dataset()]
    for groups in (shared[0], dataset[_PER_FRAME].value[index]):
        for group in groups:
            flat[group.tag] = group
            if group.VR == "SQ" and group.value:
                flat.update(group.value[0])
    for enhanced, single in _SINGLE_FRAME_NAME.items():
        if enhanced in flat:  # in its own VR: a duration is no whole number of ms there
            tag, element = tag_of(single), flat[enhanced]
            flat[tag] = DataElement(tag, element.VR, element.value)
    if "AcquisitionTime" not in flat and flat.get("FrameAcquisitionDateTime"):
        _set_moment(flat, "Acquisition", DT(flat.FrameAcquisitionDateTime))
    return flat


def read_as_single_frame_pet(flat: Dataset, file: str) -> None:
    """Write the Enhanced PET modules (PS3.3 C.8.22) of a frame as those of a PET Image (C.8.9).

    Values and units come from the Real World Value Mapping, and the time to which decay is
    corrected from Decay Correction DateTime.

    Raises:
        UnitsError: one of the tags that SUVbw needs is missing or says something else.
    """
    codes = flat.get("MeasurementUnitsCodeSequence") or [Dataset()]
    code = str(codes[0].get("CodeValue", ""))
    if code not in _UNITS:
        tag = "Measurement Units Code Sequence (0040,08EA) in Real World Value Mapping (0040,9096)"
        raise _wrong(file, tag, code, f"one of {', '.join(_UNITS)}")
    units, suv_type = _UNITS[code]
    _set(flat, "Units", units)
    _set(flat, "SUVType", suv_type)
    if "RealWorldValueLUTData" in flat:
        lut = "Real World Value LUT Data (0040,9212)"
        raise _wrong(file, lut, "there", "Real World Value Slope (0040,9225) and Intercept alone")
    for name, tag in (("Slope", "(0040,9225)"), ("Intercept", "(0040,9224)")):
        value = flat.get(f"RealWorldValue{name}")
        if value is None:
            raise _wrong(file, f"Real World Value {name} {tag}", "", "a number")
        _set(flat, f"Rescale{name}", value)
    _set(flat, "CorrectedImage", _corrections(flat, file))
    _set_decay(flat, file)


def _corrections(flat: Dataset, file: str) -> list[str]:
    attenuation = _yes(flat, file, "AttenuationCorrected", "Attenuation Corrected (0018,9759)")
    decay = _yes(flat, file, "DecayCorrected", "Decay Corrected (0018,9758)")
    return ["NORM", *(["ATTN"] if attenuation else []), *(["DECY"] if decay else [])]


def _set_decay(flat: Dataset, file: str) -> None:
    if "DECY" not in flat.CorrectedImage:
        _set(flat, "DecayCorrection", "NONE")
        return
    tag = "Decay Correction DateTime (0018,9701)"
    text = str(flat.get("DecayCorrectionDateTime") or "")
    moment = DT(text) if len(text) >= len("YYYYMMDDHHMM") else None
    if moment is None:
        raise _wrong(file, tag, text, "YYYYMMDDHHMMSS, since Decay Corrected is YES")
    offset = moment.strftime("%z")
    if offset and flat.get("TimezoneOffsetFromUTC", offset) != offset:
        raise _wrong(file, tag, text, "the offset of Timezone Offset From UTC (0008,0201)")
    if offset:
        _set(flat, "TimezoneOffsetFromUTC", offset)
    _set(flat, "DecayCorrection", "START")  # to that moment


def _set_moment(flat: Dataset, name: str, moment: DT) -> None:
    _set(flat, f"{name}Date", moment.strftime("%Y%m%d"))
    _set(flat, f"{name}Time", moment.strftime("%H%M%S.%f"))


def _set(flat: Dataset, keyword: str, value: object) -> None:
    """Put a new element: the old one is shared with the other frames."""
    flat.pop(keyword, None)
    setattr(flat, keyword, value)


def _yes(flat: Dataset, file: str, keyword: str, tag: str) -> bool:
    value = str(flat.get(keyword, ""))
    if value not in {"YES", "NO"}:
        raise _wrong(file, tag, value, "YES or NO")
    return value == "YES"


def _wrong(file: str, tag: str, found: str, expected: str) -> UnitsError:
    return UnitsError(
        file,
        found=f"{tag} {found or 'missing'}",
        expected=expected,
        advice="Export the PET again with this tag kept, or as single-frame PET.",
    )
