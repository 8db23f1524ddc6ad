"""Whatever a person calls a picture, turned into one plain RGB image; and the one crop that everything after it uses.

A picture may come from anywhere, so its size is checked before it is read and again before it is decoded, only a short
list of formats is decoded, the content decides and not the name, and whatever goes wrong is an `ImageError` in words.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import math
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from svdlab.errors import ImageError
from svdlab.fetch import FetchError, fetch
from svdlab.sniff import FORMATS, describe, picture_format

ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray
"""What `load_image` takes: a path, an http(s) or ``data:`` address, a PIL image, or an array."""

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000
MAX_SIDE = 16_384
MAX_RLE_PIXELS = 4_000_000  # of a run-length bitmap, which PIL decodes in Python, byte by byte
MAX_PPM_PIXELS = 1_000_000  # of a PPM that PIL decodes in Python, number by number: ten times as slow
MAX_DIGITS = 16  # bytes to a pixel of a PPM in digits; comments without end cost more than numbers
WHITE = (255, 255, 255)

# Opened through their own classes: Image.open would first apply its own, process-wide size check, and warn.
_DECODERS: dict[str, Callable[[Any], Image.Image]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
# The decoders that PIL has in Python alone: minutes for a picture of the largest size.
_SLOW = {
    "bmp_rle": ("a run-length encoded bitmap", MAX_RLE_PIXELS),
    "ppm_plain": ("a PPM written out in digits", MAX_PPM_PIXELS),
    "ppm": ("a PPM of an unusual range of values", MAX_PPM_PIXELS),  # the usual ones go to the decoder "raw"
}
_pil_lock = threading.Lock()


class ImageWarning(UserWarning):
    """A picture was used, but not all of what was given."""


def load_image(
    source: ImageSource,
    *,
    background: tuple[int, int, int] = WHITE,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    allow_private_urls: bool = False,
) -> Image.Image:
    """Return `source` as a new PIL image of mode RGB (8 bits a channel, values 0 to 255), with no metadata left.

    What is done on the way, and nothing else: the EXIF rotation is applied; transparency is composed over `background`;
    16-bit grey is divided by 257, so that 65535 becomes 255 (rounded); CMYK, palettes, greyscale and bilevel pictures
    are converted as PIL does; of an animation the first frame is taken, with an `ImageWarning`. An embedded colour
    profile is ignored: the numbers are taken as sRGB.

    Args:
        source: a path (``~`` is understood), an http(s) address (see `svdlab.fetch`), a base64 ``data:`` address,
            a PIL image (the frame it stands at), or an array ``[height, width]`` or ``[height, width, 1 | 3 | 4]`` of
            uint8 in 0..255, uint16 in 0..65535, or floats in 0..1.
        background: red, green and blue, 0 to 255 each, behind transparent pixels. White unless told.
        max_bytes: a larger file is refused before it is read.
        max_pixels: a larger picture (width times height) is refused before it is decoded.
        allow_private_urls: let addresses on your own machine or network be fetched.

    Raises:
        ImageError: missing, unreadable, too large, cut short, or not a picture; the text says which, and what to do.

    Example:
        >>> image = load_image("rocket.png")
        >>> image.mode, image.size
        ('RGB', (1024, 576))
    """
    _check_background(background)
    if isinstance(source, np.ndarray):
        _check_size("the array", source.shape[1::-1], max_pixels)
        return _over(_from_array(source), background)
    if isinstance(source, Image.Image):
        label = "the PIL image"
        _check_size(label, source.size, max_pixels)
        return _finish(source, label, background)
    if not isinstance(source, str | os.PathLike):
        kind = f"{type(source).__module__}.{type(source).__qualname__}"
        raise ImageError(
            f"image: got {kind}; allowed are a path, an http(s) or data: address, a PIL image, or a NumPy array "
            "[height, width, 3] (a tensor: tensor.cpu().numpy())."
        )
    label, data = _read(source, max_bytes, allow_private_urls)
    with _pil_limit(max_pixels):
        image = _open(data, label, max_pixels)
        return _finish(image, label, background)


def prepare(image: Image.Image, *, width: int, height: int) -> Image.Image:
    """Scale `image` to cover `width` x `height` pixels and crop what hangs over, equally on both sides.

    The one resize of svdlab: the model sees its result, and metrics compare frames with its result. Nothing is
    distorted; the filter is Lanczos, widened when scaling down (antialiased); the crop is taken at the exact centre,
    to a fraction of a pixel, in the same step. A picture that already has the size comes back pixel for pixel.

    Args:
        image: mode RGB, as `load_image` returns it.
        width: of the result, in pixels, 1 to 16384.
        height: of the result, in pixels, 1 to 16384.

    Raises:
        ImageError: `image` is not an RGB PIL image, or a size is not allowed.

    Example:
        >>> prepare(load_image("rocket.png"), width=1024, height=576).size
        (1024, 576)
    """
    _require_rgb(image)
    for name, value in (("width", width), ("height", height)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= MAX_SIDE:
            raise ImageError(f"{name}={value!r}: allowed are whole numbers from 1 to {MAX_SIDE} (pixels).")
    width, height = int(width), int(height)
    # The part of the picture that will be seen. Compared in whole numbers, so that a fitting side is used to its edge.
    if image.width * height >= width * image.height:
        box_width, box_height = image.height * width / height, float(image.height)
    else:
        box_width, box_height = float(image.width), image.width * height / width
    x0, x1, dx = _margin(image.width, box_width, width)
    y0, y1, dy = _margin(image.height, box_height, height)
    near = image.crop((x0, y0, x1, y1))
    box = (dx, dy, dx + box_width, dy + box_height)
    return near.resize((width, height), Image.Resampling.LANCZOS, box=box)


def image_digest(image: Image.Image | np.ndarray) -> str:
    """SHA-256 of an RGB picture's size and pixels, as 64 hexadecimal digits: one key for one picture, however it came.

    Args:
        image: a PIL image of mode RGB, or the same as an array uint8 ``[height, width, 3]``.

    Raises:
        ImageError: `image` is neither.

    Example:
        >>> image = load_image("rocket.png")
        >>> image_digest(image) == image_digest(np.asarray(image))
        True
    """
    if not isinstance(image, np.ndarray):
        _require_rgb(image)
        pixels, width, height = image.tobytes(), image.width, image.height
    elif image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        pixels, width, height = image.tobytes(), image.shape[1], image.shape[0]
    else:
        got = f"an array of shape {list(image.shape)} and type {image.dtype}"
        raise ImageError(f"image: got {got}; uint8 [height, width, 3] is needed. load_image() makes a picture of it.")
    return hashlib.sha256(f"RGB {width} {height}\n".encode() + pixels).hexdigest()


def as_data_uri(image: Image.Image, format: str = "PNG") -> str:
    """`image` (mode RGB) as a ``data:`` address, which `load_image` and web services take. PNG keeps every pixel.

    Raises:
        ImageError: `image` is not an RGB PIL image, or `format` is not PNG, JPEG or WEBP.

    Example:
        >>> as_data_uri(image)[:22]
        'data:image/png;base64,'
    """
    _require_rgb(image)
    if format not in ("PNG", "JPEG", "WEBP"):
        raise ImageError(f"format={format!r}: allowed are 'PNG', 'JPEG' and 'WEBP'.")
    buffer = io.BytesIO()
    image.save(buffer, format, quality=95)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _require_rgb(image: Image.Image) -> None:
    if not isinstance(image, Image.Image) or image.mode != "RGB":
        got = f"mode {image.mode}" if isinstance(image, Image.Image) else type(image).__name__
        raise ImageError(f"image: got {got}; a PIL image of mode RGB is needed. load_image() makes one of anything.")


def _margin(size: int, box: float, target: int) -> tuple[int, int, float]:
    """Along one axis: the whole pixels that hold the centred `box` and the filter's reach, and the box's place in them.

    Cutting first keeps that place a small number: PIL takes it in single precision, too coarse on a very long side.
    """
    start = (size - box) / 2
    reach = 3 * max(1.0, box / target) + 2  # Lanczos reaches 3 pixels of the coarser grid
    first, last = max(0, math.floor(start - reach)), min(size, math.ceil(start + box + reach))
    return first, last, start - first


def _read(source: str | os.PathLike[str], max_bytes: int, allow_private: bool) -> tuple[str, bytes]:
    """What to call the picture in messages, and its bytes."""
    text = os.fsdecode(source)
    match = re.match(r"(data):|([a-z][\w+.-]*)://", text, re.IGNORECASE) if isinstance(source, str) else None
    scheme = (match[1] or match[2]).lower() if match else ""
    if scheme == "data":
        label = f"the data: address ({len(text)} characters)"
        data = _from_data_uri(text, label, max_bytes)
    elif scheme in ("http", "https"):
        label = re.split(r"[?#]", text, maxsplit=1)[0][:120]
        try:
            data = fetch(text, max_bytes=max_bytes, allow_private=allow_private)
        except FetchError as error:
            raise ImageError(f"image: {error}") from error
    elif scheme:
        raise ImageError(
            f"image: {text[:120]!r}: {scheme}:// is not read. Give a path, or an http(s) or data: address."
        )
    else:
        label = repr(text if len(text) <= 200 else text[:197] + "...")
        data = _from_file(text, label, max_bytes)
    if not data:
        raise ImageError(f"image: {label} is empty (0 bytes). Fetch or export it again.")
    return label, data


def _from_file(text: str, label: str, max_bytes: int) -> bytes:
    data = b""
    try:
        path = Path(text).expanduser()
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= max_bytes:
            with path.open("rb") as file:
                data = file.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        where = "" if Path(text).is_absolute() else f" The working directory is {str(Path.cwd())!r}."
        raise ImageError(f"image: there is no file {label}.{where} Check the path.") from None
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # no permission, too long a name, a NUL in it, an unknown ~user
        why = getattr(error, "strerror", None) or error
        raise ImageError(f"image: {label} cannot be read as a file ({why}). Check the path and permissions.") from error
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f"image: {label} is a folder. Name one picture in it.")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"image: {label} is a pipe, socket or device. Save the picture to a file and name that.")
    if max(found.st_size, len(data)) > max_bytes:
        raise ImageError(f"image: {label} is larger than the {max_bytes} bytes that are allowed. Save a smaller copy.")
    return data


def _from_data_uri(text: str, label: str, max_bytes: int) -> bytes:
    header, comma, _ = text[:1024].partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise ImageError(f"image: {label} must have the form 'data:image/png;base64,...'; as_data_uri() makes one.")
    if len(text) - len(header) - 1 > 4 * math.ceil(max_bytes / 3):
        raise ImageError(f"image: {label} holds more than the {max_bytes} bytes that are allowed. Save a smaller copy.")
    try:
        return base64.b64decode(text[len(header) + 1 :], validate=True)
    except ValueError as error:
        raise ImageError(
            f"image: {label} is not valid base64 ({error}). Was it cut short, or broken into lines?"
        ) from error


def _open(data: bytes, label: str, max_pixels: int) -> Image.Image:
    """The picture in `data`, its header read and its size checked, its pixels not yet decoded."""
    format = picture_format(data)
    if format is None:
        raise ImageError(f"image: {label} looks like {describe(data)}. Allowed are {FORMATS}.")
    try:
        image = _DECODERS[format](io.BytesIO(data))
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # its tiles may be far larger than the picture
            width, height = max(width, image.tag_v2.get(322, 0)), max(height, image.tag_v2.get(323, 0))
    except Exception as error:  # decoders meet hostile bytes with exceptions of every kind
        raise _damaged(label, format, error) from error
    _check_size(label, (width, height), max_pixels)
    for tile in getattr(image, "tile", ()):
        kind, most = _SLOW.get(tile[0], ("", max_pixels))
        if width * height > most:
            raise ImageError(
                f"image: {label} is {kind} of {width} x {height} pixels, more than the {most} that are decoded of this"
                " kind. Save it as a PNG."
            )
        if tile[0] == "ppm_plain" and len(data) > MAX_DIGITS * width * height + 4096:
            raise ImageError(f"image: {label} is {kind} with {len(data)} bytes for {width} x {height} pixels: refused.")
    return image


def _damaged(label: str, format: str | None, error: Exception) -> ImageError:
    why = f"{type(error).__name__}: {error}"[:200]
    return ImageError(
        f"image: {label} is a damaged or incomplete {format or 'picture'} ({why}). Fetch or export it again."
    )


def _check_size(label: str, size: tuple[int, ...], max_pixels: int) -> None:
    if math.prod(size) > max_pixels:
        raise ImageError(
            f"image: {label} has {' x '.join(map(str, size))} pixels, more than the {max_pixels} that are allowed. "
            "Save a smaller copy, or raise max_pixels if you trust it."
        )


@contextlib.contextmanager
def _pil_limit(max_pixels: int) -> Iterator[None]:
    """Where PIL's own process-wide limit is below ours, lift it while one picture is decoded.

    With the limits as they are shipped this does nothing.
    """
    if Image.MAX_IMAGE_PIXELS is None or max_pixels <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _pil_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _finish(image: Image.Image, label: str, background: tuple[int, int, int]) -> Image.Image:
    """Decode, turn upright, and make RGB."""
    try:
        # A phone's JPEG with a second, hidden picture (MPO) is no animation.
        animated = getattr(image, "is_animated", False) and image.format != "MPO"
        frame = image.tell() if animated else 0
        upright = ImageOps.exif_transpose(image)
        rgb = _over(upright, background)
    except ImageError:
        raise
    except Exception as error:  # as above; also a PIL image whose file was closed
        raise _damaged(label, image.format, error) from error
    if animated:
        text = f"image: {label} has more than one frame; frame {frame} alone is used."
        warnings.warn(text, ImageWarning, stacklevel=3)
    return rgb


def _over(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """A new RGB image without metadata: `image`, over `background` where it is transparent."""
    if image.mode == "F":
        raise ImageError("image: pixels are floats of unknown range (mode F). Give an array of floats in 0..1 instead.")
    if image.mode.startswith("I"):
        image = _from_wide_grey(image)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (*background, 255))
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    rgb = image.convert("RGB")
    rgb.info = {}
    return rgb


def _check_background(background: tuple[int, int, int]) -> None:
    whole = all(isinstance(value, int | np.integer) and 0 <= value <= 255 for value in background)
    if len(background) != 3 or not whole:
        raise ImageError(
            f"background={background!r}: allowed are three whole numbers from 0 to 255 (red, green, blue)."
        )


def _from_wide_grey(image: Image.Image) -> Image.Image:
    """Modes I;16 and I, which hold 16-bit grey, as L; or as LA where one value stands for transparent."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"image: grey values from {values.min()} to {values.max()} (mode {image.mode}); 0 to 65535 is allowed. "
            "Scale them, and give an array of floats in 0..1 instead."
        )
    grey = _to_8_bits(values)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return Image.fromarray(grey)
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)


def _from_array(array: np.ndarray) -> Image.Image:
    """An array as a PIL image of mode L, RGB or RGBA."""
    got = f"image: got an array of shape {list(array.shape)} and type {array.dtype}; "
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        turn = (
            " (np.moveaxis(array, 0, -1) puts channels last)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        )
        raise ImageError(
            f"{got}allowed is [height, width], or [height, width, channels] with 1, 3 or 4 channels{turn}."
        )
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            low, high = array.min(), array.max()
            raise ImageError(f"{got}floats must lie in 0..1 (these: {low:g} to {high:g}). Scale or clip them first.")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = _to_8_bits(array)
    elif array.dtype != np.uint8:
        raise ImageError(
            f"{got}allowed types are uint8 (0..255), uint16 (0..65535) and floats (0..1). Convert it first."
        )
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.ndim == 3 and channels == 1 else array))
