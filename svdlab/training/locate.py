"""Where an object is in a frame, and how far the camera has moved: estimators that bear with imperfect pictures.

A generated frame is blurred, faded, noisy and off in colour. So an object is found by a matched filter: at every place
within reach, the frame is explained by the background with a share `presence` of the object on it, and the place that
explains most wins. A presence of 1 is the whole object, 1/2 a ghost. The camera's shift is found by the normalised
correlation of what two frames share, its zoom by that of one frame with the enlarged other.

Coordinates are (x, y) in px, x to the right and y down; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MARGIN = 3  # px around an object that are looked at with it: they tell it from a wide change of brightness
TOUCHED = 0.02  # least share of a pixel that an object covers to be part of it
DETAIL = 4.0  # px, standard deviation of the blur that is taken away before camera shifts are measured
OVERLAP = 0.25  # least share of a frame that two frames must share under a shift
GREY = 128.0  # taken from all colours, so that sums stay small


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """An object to be found again; made by `target_of`.

    Attributes:
        position: float64 `[2]`, its centre (x, y) in the input picture.
        reach: px, largest displacement that is looked at, each way.
        background: float32 `[height, width, 3]`, the picture without any object, less 128.
        cover: float32 `[h, w]`, how much of each pixel it covers, 0 to 1, in a box around it.
        colour: float32 `[h, w, 3]`, its colour less 128, times `cover`.
        window: float32 `[h, w]`, 1 for the pixels that are looked at.
        corner: (x, y) of the box's first pixel when the object is at `position`.
        mean: float32 `[2 reach + 1, 2 reach + 1, 3]`, for each displacement (rows dy, columns dx) the mean over the
            window of its contrast E = cover (colour - background there).
        energy: float32 `[2 reach + 1, 2 reach + 1]`, sum over the window of (E - mean)^2.
    """

    position: np.ndarray
    reach: int
    background: np.ndarray
    cover: np.ndarray
    colour: np.ndarray
    window: np.ndarray
    corner: tuple[int, int]
    mean: np.ndarray
    energy: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object as found in one frame.

    Attributes:
        position: float64 `[2]`, (x, y) in px.
        presence: how much of the object is there: 1 all of it, 0.5 a half-transparent one, about 0 none.
    """

    position: np.ndarray
    presence: float


def background_of(picture: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """The picture with its objects painted over from their surroundings, float32 `[height, width, 3]`.

    Args:
        picture: uint8 `[height, width, 3]`.
        cover: float32 `[height, width]`, how much of each pixel objects cover, 0 to 1.

    Inpainting after Telea 2004, "An Image Inpainting Technique Based on the Fast Marching Method".
    """
    import cv2

    wide = cv2.dilate((cover > TOUCHED).astype(np.uint8), np.ones((3, 3), np.uint8))  # their soft edges too
    return cv2.inpaint(picture, wide, 3, cv2.INPAINT_TELEA).astype(np.float32)


def target_of(
    picture: np.ndarray, cover: np.ndarray, position: np.ndarray, background: np.ndarray, *, reach: int
) -> Target:
    """One object, ready to be found.

    Args:
        picture: uint8 `[height, width, 3]`, the input picture.
        cover: float32 `[height, width]`, how much of each pixel this object covers, 0 to 1.
        position: `[2]`, its centre (x, y); only differences to it are found, so any fixed point of it will do.
        background: `background_of` the picture, without any of its objects.
        reach: px, largest displacement to look for, each way.

    Raises:
        ValueError: it covers nothing, or cannot be told from the background.

    Example:
        >>> target = target_of(picture, cover, np.array([32.0, 20.0]), background_of(picture, cover), reach=8)
        >>> find(picture, target).presence
        1.0
    """
    import cv2

    whole = np.where(cover > TOUCHED, cover, 0).astype(np.float32)
    if not whole.any():
        raise ValueError("cover: it is empty; the object must be in the picture.")
    behind = background - np.float32(GREY)
    colour = (picture.astype(np.float32) - GREY - (1 - whole[..., None]) * behind) * (whole > 0)[..., None]
    # Room for the margin, in a picture without borders: at another place it may all be seen.
    sides = ((MARGIN, MARGIN), (MARGIN, MARGIN))
    whole, colour = np.pad(whole, sides), np.pad(colour, (*sides, (0, 0)))
    window = cv2.dilate((whole > 0).astype(np.float32), np.ones((2 * MARGIN + 1,) * 2, np.uint8))
    rows, columns = np.nonzero(window.any(1))[0], np.nonzero(window.any(0))[0]
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cover, colour, window = (np.ascontiguousarray(part[box]) for part in (whole, colour, window))
    corner = (int(columns[0]) - MARGIN, int(rows[0]) - MARGIN)

    def over(field: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return _correlate(field, kernel, corner, reach)

    seen = np.ones(picture.shape[:2], np.float32)  # beyond the frame's border nothing is looked at
    count = np.maximum(over(seen, window), 1)
    sums = [over(seen, colour[..., c]) - over(behind[..., c], cover) for c in range(3)]
    mean = np.stack(sums, axis=-1) / count[..., None]
    squares = over(seen, (colour**2).sum(-1)) - 2 * over(behind, cover[..., None] * colour)
    energy = squares + over((behind**2).sum(-1), cover**2) - (mean**2).sum(-1) * count
    if float(energy[reach, reach]) < 1e-3 * 255**2:
        raise ValueError("cover: the object has the colour of the background and cannot be found.")
    # Where an object would vanish before a background of its colour, or out of the frame, it is not looked for.
    energy = np.maximum(energy, 0.05 * float(energy[reach, reach]))
    return Target(
        position=np.asarray(position, dtype=np.float64),
        reach=reach,
        background=behind,
        cover=cover,
        colour=colour,
        window=window,
        corner=corner,
        mean=mean,
        energy=energy,
    )


def presences(frame: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """How much of the object is at every displacement, and how much of the frame that explains.

    With R the frame less the background and E the contrast that the object would have there, both less their means
    over the window, the presence a = sum(R E) / sum(E^2) minimises sum((R - a E)^2), and lowers it by a sum(R E).

    Args:
        frame: uint8 `[height, width, 3]`.

    Returns:
        (presence, explained), float32 `[2 reach + 1, 2 reach + 1]`, rows dy, columns dx; `explained` is 0 where the
        presence is negative.
    """
    residual = frame.astype(np.float32) - np.float32(GREY) - target.background

    def over(field: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return _correlate(field, kernel, target.corner, target.reach)

    product = over(residual, target.colour) - over((residual * target.background).sum(-1), target.cover)
    for c in range(3):
        product -= target.mean[..., c] * over(residual[..., c], target.window)
    presence = product / target.energy
    return presence, np.maximum(presence, 0) * product


def find(frame: np.ndarray, target: Target) -> Found:
    """The place in `frame` where the object explains most, to a fraction of a pixel, within the target's reach.

    The highest point of the second result of `presences`; a parabola through it and its neighbours, along x and along
    y, gives the fraction.
    """
    presence, explained = presences(frame, target)
    peak, _ = vertex(explained)
    x, y = np.rint(peak).astype(int)
    return Found(position=target.position + (peak - target.reach), presence=float(presence[y, x]))


def presence_near(frame: np.ndarray, target: Target, position: np.ndarray, *, tolerance: float) -> float:
    """How much of the object is within `tolerance` px of a place: where it explains most there; 0 or more.

    Places beyond the target's reach count as empty.
    """
    presence, explained = presences(frame, target)
    x, y = np.asarray(position) - target.position
    dy, dx = np.mgrid[-target.reach : target.reach + 1, -target.reach : target.reach + 1]
    near = np.hypot(dx - x, dy - y) <= max(tolerance, 0.75)  # the nearest pixel at least
    if not near.any():
        return 0.0
    best = int(np.argmax(np.where(near, explained, -1.0)))
    return max(0.0, float(presence.flat[best]))


def _correlate(field: np.ndarray, kernel: np.ndarray, corner: tuple[int, int], reach: int) -> np.ndarray:
    """Sum of `field` times the kernel, whose corner is at `corner` plus each displacement; 0 beyond the border."""
    import cv2

    x, y = corner
    height, width = kernel.shape[:2]
    before = (max(0, reach - y), max(0, reach - x))
    after = (max(0, y + reach + height - field.shape[0]), max(0, x + reach + width - field.shape[1]))
    edges = [(before[0], after[0]), (before[1], after[1])] + [(0, 0)] * (field.ndim - 2)
    padded = np.pad(field, edges)
    top, left = y - reach + before[0], x - reach + before[1]
    area = padded[top : top + 2 * reach + height, left : left + 2 * reach + width]
    return cv2.matchTemplate(
        np.ascontiguousarray(area, np.float32), np.ascontiguousarray(kernel, np.float32), cv2.TM_CCORR
    )


def camera_shift(first: np.ndarray, second: np.ndarray, *, reach: int) -> np.ndarray:
    """How far the scene has moved from `first` to `second`, float64 `[2]` (x, y) in px, at most `reach` each way.

    The shift with the highest normalised correlation of the two overlapping parts, over the three channels, once their
    slow changes of brightness are taken away; computed for all shifts at once by Fourier transforms (Padfield 2012,
    "Masked Object Registration in the Fourier Domain", with whole frames as masks). Frames without any detail: 0.

    Args:
        first, second: uint8 `[height, width, 3]`.

    Example:
        >>> camera_shift(photo[:, 3:67], photo[:, :64], reach=10)
        array([3., 0.])
    """
    return best_shift(first, second, reach=reach)[0]


def best_shift(first: np.ndarray, second: np.ndarray, *, reach: int) -> tuple[np.ndarray, float]:
    """`camera_shift`, and the correlation that speaks for it, -1 to 1; 0 for frames without detail."""
    a, b = _detail(first), _detail(second)
    height, width = a.shape[:2]
    reach_y, reach_x = min(reach, height - 1), min(reach, width - 1)
    ones = np.ones((height, width, 1), dtype=np.float64)

    def correlate(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        size = (2 * height, 2 * width)
        spectrum = np.conj(np.fft.rfft2(p, size, axes=(0, 1))) * np.fft.rfft2(q, size, axes=(0, 1))
        full = np.fft.irfft2(spectrum, size, axes=(0, 1)).sum(-1)
        rows, columns = np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)
        return full[np.ix_(rows % size[0], columns % size[1])]

    count = np.maximum(np.round(correlate(ones, ones)), 1)
    # Detail has a mean of almost zero everywhere, so the means of the overlaps are left in.
    cross, energy_a, energy_b = correlate(a, b), correlate(a**2, ones), correlate(ones, b**2)
    weight = np.sqrt(np.maximum(energy_a * energy_b, 0))
    least = 1e-6 * count * 255**2  # an overlap without detail correlates with nothing
    shared = (count >= OVERLAP * height * width) & (weight > least)
    if not shared.any():
        return np.zeros(2), 0.0
    score = np.where(shared, cross / np.maximum(weight, least), -1.0)
    return vertex(score)[0] - (reach_x, reach_y), float(score.max())


def camera_zoom(first: np.ndarray, second: np.ndarray) -> float:
    """How much the scene has grown about the frame's middle from `first` to `second`; 1: not at all.

    The factor from 0.8 to 2.2 under which the enlarged `first` correlates best with `second` (normalised, over the
    three channels and what both show, once slow changes of brightness are taken away). Frames without any detail: 1.

    Args:
        first, second: uint8 `[height, width, 3]`.

    Example:
        >>> camera_zoom(photo, photo)
        1.0
    """
    return best_zoom(first, second)[0]


def best_zoom(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """`camera_zoom`, and the correlation that speaks for it, -1 to 1; 0 for frames without detail."""
    import cv2

    grid = np.geomspace(0.8, 2.2, 64)
    grid /= grid[np.argmin(np.abs(grid - 1))]  # one point is exactly 1
    height, width = first.shape[:2]
    middle = np.array([width - 1, height - 1]) / 2
    seen, ones = _detail(second), np.ones((height, width), np.float32)
    scores = np.full(len(grid), -1.0)
    for n, factor in enumerate(grid):
        matrix = np.array([[factor, 0, middle[0] * (1 - factor)], [0, factor, middle[1] * (1 - factor)]])
        grown = cv2.warpAffine(first, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = cv2.warpAffine(ones, matrix, (width, height), flags=cv2.INTER_LINEAR)[..., None] >= 1
        a, b = _detail(grown) * inside, seen * inside
        weight = float(np.sqrt((a**2).sum() * (b**2).sum()))
        if weight > 1e-6 * height * width * 255**2:
            scores[n] = float((a * b).sum()) / weight
    if scores.max() <= 0:
        return 1.0, 0.0
    place = vertex(scores[None])[0][0]
    return float(np.exp(np.interp(place, np.arange(len(grid)), np.log(grid)))), float(scores.max())


def vertex(surface: np.ndarray) -> tuple[np.ndarray, float]:
    """The highest point of `surface` `[h, w]`: its place (x, y) to a fraction, and its height.

    Along each axis a parabola through the highest sample and its two neighbours; at a border the sample itself.

    Example:
        >>> vertex(np.array([[0.0, 1.0, 1.0, 0.0]]))
        (array([1.5, 0. ]), 1.125)
    """
    y, x = np.unravel_index(int(np.argmax(surface)), surface.shape)
    top = float(surface[y, x])
    place, height = np.array([x, y], dtype=np.float64), top
    for axis, line, at in ((0, surface[y], x), (1, surface[:, x], y)):
        if 0 < at < len(line) - 1:
            before, after = float(line[at - 1]), float(line[at + 1])
            bend = before - 2 * top + after
            if bend < 0:
                offset = 0.5 * (before - after) / bend
                place[axis] += offset
                height -= 0.25 * (before - after) * offset
    return place, height


def _detail(frame: np.ndarray) -> np.ndarray:
    """The frame less its slow changes, float64 `[height, width, 3]`."""
    import cv2

    pixels = frame.astype(np.float64)
    return pixels - cv2.GaussianBlur(pixels, (0, 0), DETAIL, borderType=cv2.BORDER_REFLECT)
