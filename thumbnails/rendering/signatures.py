"""What a file is, by its first bytes."""

import codecs
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from thumbnails.rendering.formats import FORMATS

HEAD_BYTES = 4096


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is."""

    format: str
    """A name of `FORMATS`; empty for what no site takes."""
    label: str
    """With its article; empty if it is unknown."""


UNKNOWN = Kind("", "")

PICTURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\0\0\1\0", "ICO"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"8BPS\0\1", "PSD"),
    (b"%PDF-", "PDF"),
)

RAW = (
    (b"FUJIFILMCCD-RAW", "RAF"),
    (b"FOVb", "X3F"),
    (b"IIRO", "ORF"),
    (b"IIRS", "ORF"),
    (b"MMOR", "ORF"),
    (b"IIU\0", "RW2"),
    (b"\0MRM", "MRW"),
)
"""Of cameras whose files do not begin as a TIFF."""

OTHERS = (
    (b"PK\3\4", "a ZIP archive"),
    (b"PK\5\6", "an empty ZIP archive"),
    (b"Rar!\x1a\7", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"FLV\1", "a Flash video"),
    (b"\0\0\1\xba", "an MPEG video"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file"),
    (b"OggS", "an Ogg file"),
    (b"fLaC", "a FLAC recording"),
    (b"ID3", "an MP3 recording"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"8BPS\0\2", "a large Photoshop document (PSB)"),
    (b"gimp xcf", "a GIMP document"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"DDS ", "a DirectDraw texture"),
    (b"icns", "a Macintosh icon"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"AT&TFORM", "a DjVu document"),
    (b"qoif", "a QOI picture"),
    (b"\x80\x2a\x5f\xd7", "a Cineon picture"),
    (b"SDPX", "a DPX picture"),
    (b"XPDS", "a DPX picture"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"{\\rtf", "an RTF document"),
    (b"version https://git-lfs", "a Git LFS pointer, whose picture was not fetched"),
)

HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {b"mif1", b"mif2", b"msf1"} | {
    *(b"avci", b"avcs", b"jpeg", b"jpgs", b"j2ki", b"j2is", b"vvic", b"vvis", b"evbi", b"evbs")
}
"""Of HEIF in general, and with other codecs."""
MEDIA_BRANDS = (
    (b"crx ", "CR3"),
    (b"mif3", "a low-overhead HEIF picture"),
    (b"qt  ", "a QuickTime video"),
    (b"3g", "a 3GP video"),
    (b"M4A", "an MPEG-4 recording"),
    (b"M4B", "an MPEG-4 recording"),
)
"""The first brand of an ISO base media file, or its beginning."""

PLAIN_TIFF = (b"II*\0", b"MM\0*")
TIFF = (*PLAIN_TIFF, b"II\0*", b"MM*\0", b"MM\0+", b"II+\0")
MAKERS = (
    (b"NIKON", "NEF"),
    (b"SONY", "ARW"),
    (b"CANON", "CR2"),
    (b"PENTAX", "PEF"),
    (b"RICOH", "PEF"),
    (b"SAMSUNG", "SRW"),
    (b"SEIKO EPSON", "ERF"),
    (b"HASSELBLAD", "3FR"),
    (b"PHASE ONE", "IIQ"),
    (b"KODAK", "DCR"),
    (b"EASTMAN KODAK", "DCR"),
    (b"LEAF", "MOS"),
    (b"MAMIYA", "MEF"),
)
"""By the beginning of what a TIFF says of its camera's maker."""

COMPRESSION, PHOTOMETRIC, MAKE, SUB_FOLDERS, DNG_VERSION = 259, 262, 271, 330, 50706
OF_A_SENSOR = {(PHOTOMETRIC, 32803), (PHOTOMETRIC, 34892)} | {
    (COMPRESSION, value) for value in (32767, 34713, 65535)
}
"""TIFF tags with the values that only a sensor's data have: a colour filter array, linear raw data,
and compressions of Sony, Nikon and Pentax."""
FOLDERS_AT_MOST, ENTRIES_AT_MOST, VALUES_AT_MOST = 12, 512, 8


def _format(name: str) -> Kind:
    return Kind(name, FORMATS[name].label)


def _raw(name: str) -> Kind:
    return Kind("RAW", f"{FORMATS['RAW'].label} ({name})")


SIGNATURES = (
    *((signature, _format(name)) for signature, name in PICTURES),
    *((signature, _raw(name)) for signature, name in RAW),
    *((signature, Kind("", label)) for signature, label in OTHERS),
)

PATTERNS = (
    # The size of the next header is one of seven.
    (re.compile(rb"(?s)BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"), _format("BMP")),
    (re.compile(rb"P[1-7Ff]\s+(#|-?[0-9]|WIDTH)"), _format("PPM")),
    (re.compile(rb"(?s).{0,1019}%PDF-"), _format("PDF")),
    # A TGA may begin alike, with no number of cursors.
    (re.compile(rb"(?s)\0\0\x02\0(?!\0\0)"), Kind("", "a Windows cursor")),
    (re.compile(rb"(?s).{128}DICM"), Kind("", "a DICOM picture")),
    (re.compile(rb"(?s).{257}ustar"), Kind("", "a tar archive")),
)


def kind_of(file: Readable) -> Kind:
    """Returns what the file is, and leaves its position at its begin."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    found = _by_signature(head)
    if found.format == "TIFF" and head.startswith(PLAIN_TIFF) and (raw := _raw_in_tiff(file, head)):
        found = _raw(raw)
    elif not found.label and _ends_as_tga(file):
        found = _format("TGA")
    file.seek(0)
    return found


def _by_signature(head: bytes) -> Kind:
    if not head:
        return Kind("", "an empty file")
    for signature, kind in SIGNATURES:
        if head.startswith(signature):
            return kind
    for kind_by in (_of_tiff, _of_base_media, _of_riff, _by_what_follows, _of_text):
        if (found := kind_by(head)) is not None:
            return found
    return UNKNOWN


def _of_tiff(head: bytes) -> Kind | None:
    if not head.startswith(TIFF):
        return None
    return _raw("CR2") if head[8:10] == b"CR" else _format("TIFF")


def _of_riff(head: bytes) -> Kind | None:
    if not head.startswith(b"RIFF"):
        return None
    kinds = {b"WEBP": _format("WEBP")} | {
        b"AVI ": Kind("", "an AVI video"),
        b"WAVE": Kind("", "a WAV recording"),
    }
    return kinds.get(head[8:12])


def _by_what_follows(head: bytes) -> Kind | None:
    """By more than how it begins."""
    return next((kind for pattern, kind in PATTERNS if pattern.match(head)), None)


def _ends_as_tga(file: Readable) -> bool:
    """A TGA has a signature at its end, if any."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 18))
    return file.read(18) == b"TRUEVISION-XFILE.\0"


def _of_base_media(head: bytes) -> Kind | None:
    """ISO/IEC 14496-12: the file type box lists brands."""
    if head[4:8] != b"ftyp":
        return None
    size = min(max(int.from_bytes(head[:4]), 16), 256)
    major = head[8:12]
    brands = {major, *(head[at : at + 4] for at in range(16, size - 3, 4))}
    # A brand of HEIF in general leaves it to the items what codes them.
    if brands & AVIF_BRANDS or (major in {b"mif1", b"msf1"} and b"av01" in head):
        return _format("AVIF")
    if brands & HEVC_BRANDS or (major in {b"mif1", b"msf1"} and b"hvc1" in head):
        return _format("HEIC")
    if major in HEIF_BRANDS:
        return Kind("", "a HEIF picture without HEVC")
    for brand, label in MEDIA_BRANDS:
        if major.startswith(brand):
            return _raw(label) if label == "CR3" else Kind("", label)
    return Kind("", "an MP4 video")


def _of_text(head: bytes) -> Kind | None:
    text = _as_text(head)
    if text is None:
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if re.match(r"<!doctype html|<html|<head|<body", start):
        return Kind("", "an HTML page")
    if start.startswith("<") and (
        root := re.search(r"<(?:[a-z_][\w.-]*:)?(svg|html)[\s>/]", start)
    ):
        return _format("SVG") if root[1] == "svg" else Kind("", "an HTML page")
    return Kind("", "an XML document" if start.startswith("<?xml") else "a text file")


def _as_text(head: bytes) -> str | None:
    try:
        # The last character may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    return None if re.search(r"[\0-\x08\x0e-\x1a\x1c-\x1f]", text) else text


# --- RAW photos in the clothes of a TIFF ----------------------------------------------------------


def _raw_in_tiff(file: Readable, head: bytes) -> str:
    """The kind of RAW photo; empty for any other TIFF, and a damaged one.

    Its first picture may be a small preview, so all of its folders' tags are looked at.
    """
    if head[8:12] == b"IIII":
        return "IIQ"
    maker, is_dng, is_of_sensor = b"", False, False
    try:
        for tag, values in _tags(file, head):
            if tag == MAKE and not maker:
                maker = values if isinstance(values, bytes) else b""
            is_dng |= tag == DNG_VERSION
            is_of_sensor |= any((tag, value) in OF_A_SENSOR for value in values)
    except struct.error:
        pass  # damaged
    if is_dng:
        return "DNG"
    if not is_of_sensor:
        return ""
    named = (name for start, name in MAKERS if maker.upper().startswith(start))
    return next(named, "of a camera")


def _tags(file: Readable, head: bytes) -> Iterator[tuple[int, bytes | tuple[int, ...]]]:
    """Yields the tags of the TIFF's folders that tell a RAW photo, with text or whole numbers."""
    order = "<" if head.startswith(b"II") else ">"
    waiting = [struct.unpack_from(f"{order}I", head, 4)[0]]
    for _ in range(FOLDERS_AT_MOST):
        if not waiting:
            return
        start = waiting.pop(0)
        file.seek(start)
        (count,) = struct.unpack(f"{order}H", file.read(2))
        entries = file.read(12 * min(count, ENTRIES_AT_MOST) + 4)
        for at in range(0, len(entries) - 11, 12):
            tag, type_, number = struct.unpack_from(f"{order}HHI", entries, at)
            if tag in {COMPRESSION, PHOTOMETRIC, MAKE, SUB_FOLDERS, DNG_VERSION}:
                values = _values(file, order, type_, number, entries[at + 8 : at + 12])
                if tag == SUB_FOLDERS:
                    waiting += [value for value in values if value]
                yield tag, values
        if count <= ENTRIES_AT_MOST and len(entries) >= 12 * count + 4:
            (following,) = struct.unpack_from(f"{order}I", entries, 12 * count)
            waiting += [following] if following else []


def _values(
    file: Readable, order: str, type_: int, number: int, inline: bytes
) -> bytes | tuple[int, ...]:
    letter = {1: "B", 2: "s", 3: "H", 4: "I", 13: "I"}.get(type_)
    if letter is None:
        return ()
    number = min(number, 64 if letter == "s" else VALUES_AT_MOST)
    size = number * struct.calcsize(f"={letter}")
    if size > len(inline):
        file.seek(struct.unpack(f"{order}I", inline)[0])
        inline = file.read(size)
    if letter == "s":
        return inline[:number]
    return struct.unpack(f"{order}{number}{letter}", inline[:size])
