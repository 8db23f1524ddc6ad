"""What bytes are, by how they begin. Names and declared types are not believed."""

from __future__ import annotations

import re

FORMATS = "PNG, JPEG, WebP, GIF, BMP, TIFF or PPM"
"""The picture formats that are decoded, for people. No others: each decoder is a door."""

_PICTURES: dict[str, bytes] = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{12}",
    "TIFF": rb"II[*+]\x00|MM\x00[*+]",
    "PPM": rb"P[1-6]\s",
}
_OTHERS: dict[str, bytes] = {
    "a web page (HTML); the address of the picture itself is needed": rb"\s*<(!doctype html|html|head|body)",
    "an SVG drawing, which has no pixels; export it as PNG": rb"\s*<(svg|(\?xml|!--|!doctype svg).*<svg)\b",
    "XML text": rb"\s*<\?xml",
    "a Git LFS pointer, not the file behind it; run `git lfs pull`": rb"version https://git-lfs",
    "a PDF document; export a page as PNG": rb"%PDF",
    "a HEIC photograph; export it as JPEG": rb"....ftyp(hei|hev|mif1|msf1)",
    "an AVIF image; save it as PNG": rb"....ftypavi[fs]",
    "an MP4 video; take one frame of it": rb"....ftyp",
    "a WebM or Matroska video; take one frame of it": rb"\x1aE\xdf\xa3",
    "a JPEG XL image; save it as PNG": rb"\xff\x0a|\x00\x00\x00\x0cJXL ",
    "a JPEG 2000 image; save it as PNG": rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51",
    "a Photoshop document; export it as PNG": rb"8BPS",
    "an icon; save it as PNG": rb"\x00\x00\x01\x00|icns",
    "a NumPy file; np.load it and give the array": rb"\x93NUMPY",
    "an archive; unpack it": rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf",
    "JSON text": rb"\s*[\[{]\s*[\"\[{\]}]",
    "base64 text; put 'data:image/png;base64,' before it": rb"iVBORw0KGgo|/9j/|R0lGOD|UklGR",
    "plain text": rb"[\t\n\r\x20-\x7e\x80-\xf4]+\Z",
}


def picture_format(data: bytes) -> str | None:
    """PIL's name of the picture format in which `data` begins, or None if it is none of those that are decoded.

    Example:
        >>> picture_format(b"GIF89a..."), picture_format(b"<html>")
        ('GIF', None)
    """
    return _first(_PICTURES, data)


def describe(data: bytes) -> str:
    """In words, what `data` looks like that is no picture, with what to do about it where that is known.

    Example:
        >>> describe(b"8BPS...")
        'a Photoshop document; export it as PNG'
    """
    words = _first(_OTHERS, data.removeprefix(b"\xef\xbb\xbf"))
    return words or f"no picture format that is known here (it starts with {data[:8].hex(' ')})"


def _first(table: dict[str, bytes], data: bytes) -> str | None:
    head = data[:1024]
    return next((name for name, magic in table.items() if re.match(magic, head, re.DOTALL | re.IGNORECASE)), None)
