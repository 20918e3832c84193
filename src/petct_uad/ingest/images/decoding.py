"""One image as grey levels or colours, and its mask, from files that may be anything."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from petct_uad.core.errors import LabelError, PixelError, UnreadableFileError
from petct_uad.core.files import sha256_bytes

_MAX_SIDE_PX = 4096
_DICOM = (".dcm", ".dicom")
_MOST_CLASSES = 8  # grey levels of a mask, black included
# Eight bits a channel; Pillow would clip deeper ones at 255.
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class DecodedImage:
    """What one file holds.

    Attributes:
        levels: (h, w) uint8 grey levels, or (h, w, 3) of red, green and blue; upright.
        sha256: of the file's bytes.
    """

    levels: NDArray[np.uint8]
    sha256: str

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        height, width, *_ = self.levels.shape
        return height, width

    @property
    def pixels_sha256(self) -> str:
        """Of size and levels."""
        return sha256_bytes(f"{self.levels.shape}".encode() + self.levels.tobytes())


def read_image(raw: Path, file: str, colour: bool = False) -> DecodedImage:
    """Read an image as luma (ITU-R 601-2), or in colour: a grey one has three equal planes then.

    Raises:
        UnreadableFileError: missing, or no format that Pillow knows.
        PixelError: cannot be decoded, is deeper than 8 bits, too large, several frames, or blank.
    """
    image = _read(raw, file, "RGB" if colour else "L")
    if not np.ptp(image.levels, axis=(0, 1)).any():
        level = ", ".join(map(str, np.unique(image.levels[0, 0])))
        raise PixelError(
            file,
            found=f"the {'colour' if colour else 'grey'} level {level} everywhere",
            expected="a picture of something",
            advice="Restore the file from its publisher, or take it out of the set.",
        )
    return image


def read_mask(raw: Path, file: str, image: DecodedImage, label: int) -> DecodedImage:
    """Read the mask of an image: 255 where there is a lesion, else 0.

    A mask of few grey levels has one per class, and all but 0 are lesions, whose classes are joined
    into one. One of many is blurred by compression or resizing, and a lesion is what is brighter
    than half its maximum.

    Raises:
        UnreadableFileError: as of an image.
        PixelError: as of an image.
        LabelError: not of the image's size, empty for an abnormal one, or not for a normal one.
    """
    mask = _read(raw, file, "L")
    if mask.size_px != image.size_px:
        raise LabelError(
            file,
            found=f"a mask of {mask.size_px[1]} x {mask.size_px[0]} pixels",
            expected=f"the picture's {image.size_px[1]} x {image.size_px[0]}",
            advice="Restore both files from their publisher.",
        )
    many = np.unique(mask.levels).size > _MOST_CLASSES
    lesion = mask.levels > (int(mask.levels.max()) // 2 if many else 0)
    if bool(lesion.any()) != bool(label):
        raise LabelError(
            file,
            found=f"{int(lesion.sum())} lesion pixels",
            expected="at least one in an abnormal picture and none in a normal one",
            advice="Move the picture where it belongs, or restore the mask from its publisher.",
        )
    return DecodedImage(lesion.astype(np.uint8) * 255, mask.sha256)


def _read(raw: Path, file: str, mode: Literal["L", "RGB"]) -> DecodedImage:
    try:
        content = (raw / file).read_bytes()
    except OSError as error:
        raise UnreadableFileError(
            file,
            found=error.strerror or "nothing",
            expected="a picture",
            advice="Restore the file from its publisher, or take it out of the list.",
        ) from error
    if file.lower().endswith(_DICOM):
        grey = Image.fromarray(_read_dicom(content, file))
        return DecodedImage(np.asarray(grey.convert(mode)), sha256_bytes(content))
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as opened:
            warnings.simplefilter("ignore")
            _check(opened, file)
            upright = ImageOps.exif_transpose(opened).convert(mode)
    except UnidentifiedImageError as error:
        raise UnreadableFileError(
            file,
            found="no format that Pillow knows",
            expected="PNG, JPEG, TIFF or another picture",
            advice="Convert it, or take it out of the set.",
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _undecodable(file, error) from error
    return DecodedImage(np.asarray(upright, dtype=np.uint8), sha256_bytes(content))


def _read_dicom(content: bytes, file: str) -> NDArray[np.uint8]:
    """A radiograph as a viewer shows it: through its VOI LUT (0028,1050), bright where dense."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        _check_dicom(dataset, file)
        values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    except (InvalidDicomError, EOFError) as error:
        raise UnreadableFileError(
            file,
            found=f"no DICOM ({error})",
            expected="a radiograph in one DICOM file",
            advice="Restore the file from its publisher.",
        ) from error
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _undecodable(file, error) from error
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    return _to_bytes(-values if inverted else values)


def _undecodable(file: str, error: Exception) -> PixelError:
    return PixelError(
        file,
        found=f"pixels that cannot be decoded ({error})",
        expected="a whole picture",
        advice="Restore the file from its publisher.",
    )


def _check_dicom(dataset: pydicom.Dataset, file: str) -> None:
    size = int(dataset.Columns), int(dataset.Rows)
    frames = int(dataset.get("NumberOfFrames") or 1)
    kind = str(dataset.PhotometricInterpretation)
    if kind.startswith("MONOCHROME") and frames == 1 and max(size) <= _MAX_SIDE_PX:
        return
    raise PixelError(
        file,
        found=f"{frames} frame(s) of {size[0]} x {size[1]} pixels, {kind} (0028,0004)",
        expected=f"one, MONOCHROME1 or MONOCHROME2, at most {_MAX_SIDE_PX} pixels wide and high",
        advice="Convert it to an 8-bit PNG.",
    )


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """From the darkest to the brightest value: 0 to 255."""
    low, high = float(values.min()), float(values.max())
    scaled = (values.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6))
    return np.asarray(np.rint(np.clip(scaled, 0, 255)), dtype=np.uint8)


def _check(opened: Image.Image, file: str) -> None:
    frames = getattr(opened, "n_frames", 1)
    small = max(opened.size) <= _MAX_SIDE_PX
    if opened.mode in _MODES and frames == 1 and small:
        return
    raise PixelError(
        file,
        found=f"{frames} frame(s) of {opened.size[0]} x {opened.size[1]} pixels, {opened.mode}",
        expected=f"one, 8 bits a channel, at most {_MAX_SIDE_PX} pixels wide and high",
        advice="Convert it to an 8-bit PNG; Pillow would clip deeper grey levels.",
    )
