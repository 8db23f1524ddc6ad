"""Camera apart from objects: one global motion fitted to the optical flow of each pair of frames, and what is left.

The global motion is affine: shift, zoom, rotation and shear, six numbers for a pair. It is fitted to the DIS flow that
the metrics of `svdlab.metrics.flow` use too, robustly: the largest group of pixels that moves as one is taken for what
lies behind, whatever moves otherwise for objects. Which of the two moved in the world no picture can tell.

What the fit takes for the camera is the motion of the largest group. It is therefore mistaken where an object
fills more of the frame than what lies behind it, where what lies behind is flat (a clear sky, a dark wall: there is
no flow to see), and with depth: near and far things that a moving camera shifts by different amounts are not affine,
and the difference reads as object motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from svdlab.metrics.flow import SETTINGS as FLOW_SETTINGS
from svdlab.metrics.registry import metric

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring
    from svdlab.metrics.flow import Flow

POINTS = 600  # pixels of a pair that the fit looks at, drawn at random, the same every time
TRIALS = 100  # with half of the points behind, all miss once in 600 000 pairs
AGREE_PX = 0.25  # working px within which a pixel agrees with a proposed motion
ROUNDS = 8  # of reweighting
TUKEY = 4.685  # 95 % efficiency for normal errors
SCALE_FLOOR = 0.02  # working px; DIS is not truer than this
MIN_VISIBLE = 0.1  # below this share of visible pixels a pair is not tracked, and all its pixels count
SETTINGS = MappingProxyType({**FLOW_SETTINGS, "camera": "affine, MSAC 0.25 px, then Tukey"})


@dataclass(frozen=True, kw_only=True)
class Camera:
    """The global motion of a clip between neighbouring frames, and what is left of the flow without it.

    All in px of the original frame; x to the right, y down; places counted from the middle of the frame. It is the
    motion of what is seen: a camera that goes right has a negative x.

    Attributes:
        matrix: float64 [pairs, 2, 2], A of the displacement A p + shift of a point at p.
        shift: float64 [pairs, 2], (x, y) displacement of the middle of the frame.
        global_length: float64 [pairs], mean length of A p + shift over the whole frame.
        residual_length: float64 [pairs], mean length of flow - (A p + shift) over the visible pixels.

    Example:
        >>> camera = scoring.camera
        >>> camera.shift.mean(axis=0), camera.zoom.mean(), camera.rotation.mean()
        (array([-2., 0.]), 1.0, 0.0)
    """

    matrix: np.ndarray
    shift: np.ndarray
    global_length: np.ndarray
    residual_length: np.ndarray

    @property
    def zoom(self) -> np.ndarray:
        """How much what is seen grows from frame to frame, float64 [pairs]: sqrt(det(I + A)); 1 is not at all."""
        return np.sqrt(np.maximum(np.linalg.det(np.eye(2) + self.matrix), 0))

    @property
    def rotation(self) -> np.ndarray:
        """How far it turns from frame to frame, float64 [pairs], in degrees, clockwise as seen on the screen."""
        a = np.eye(2) + self.matrix
        return np.degrees(np.arctan2(a[:, 1, 0] - a[:, 0, 1], a[:, 0, 0] + a[:, 1, 1]))


def fit_camera(flow: Flow, width: int, height: int) -> Camera:
    """Fit the global motion of every pair.

    Args:
        flow: of the clip, at its working resolution (`svdlab.metrics.flow.estimate_flow`).
        width, height: px of the original frames, in which the result is given.

    Example:
        >>> fit_camera(estimate_flow(frames), 1024, 576).shift.shape
        (24, 2)
    """
    h, w = flow.forward.shape[1:3]
    scale = np.array([width / w, height / h])
    y, x = np.indices((h, w), dtype=np.float64)
    places = np.stack([x - (w - 1) / 2, y - (h - 1) / 2], axis=-1)
    matrices, shifts, moved, left = [], [], [], []
    for forward, visible in zip(flow.forward, flow.visible, strict=True):
        seen = visible if visible.mean() >= MIN_VISIBLE else np.ones_like(visible)
        fit = _fit(places[seen], forward[seen].astype(np.float64))
        motion = places @ fit[:2] + fit[2]
        moved.append(np.linalg.norm(motion * scale, axis=-1).mean())
        left.append(np.linalg.norm((forward - motion)[seen] * scale, axis=-1).mean())
        matrices.append(fit[:2].T * scale[:, None] / scale)
        shifts.append(fit[2] * scale)
    return Camera(
        matrix=np.array(matrices),
        shift=np.array(shifts),
        global_length=np.array(moved),
        residual_length=np.array(left),
    )


@metric(
    "camera_mean",
    unit="px/frame",
    range=(0, np.inf),
    per_frame=True,
    min_frames=2,
    settings=SETTINGS,
    source="robust affine motion (Odobez and Bouthemy 1995; MSAC of Torr and Zisserman 2000) of DIS optical flow",
)
def camera_mean(scoring: Scoring) -> np.ndarray:
    """Motion of the camera: mean length, over the frame, of one affine motion fitted robustly to the optical flow.

    In px of the original frame per frame, one value per pair of neighbours. Exactly 0 for a frozen clip; the speed of a
    pan; about 0 for an object before a still background that has structure. Takes an object that fills most of the
    frame for the camera, and sees no motion of flat backgrounds.
    """
    return scoring.camera.global_length


@metric(
    "object_mean",
    unit="px/frame",
    range=(0, np.inf),
    per_frame=True,
    min_frames=2,
    settings=SETTINGS,
    source="mean length of DIS optical flow less its robust affine motion, over visible pixels (see `camera_mean`)",
)
def object_mean(scoring: Scoring) -> np.ndarray:
    """Motion of objects: mean length of what is left of the optical flow without the camera's part.

    In px of the original frame per frame, a mean over all visible pixels without a threshold: an object that covers a
    tenth of the frame and moves by 2 px reads 0.2 and up to twice that, since dense flow drags along a halo of a few
    px. One value per pair of neighbours, on the scale of `camera_mean`. Exactly 0 for a frozen clip. Depth before a
    moving camera reads as object motion; so do noise and boiling texture: read it beside `warp_error`.
    """
    return scoring.camera.residual_length


def _fit(places: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Affine motion [3, 2] with moves = [place, 1] @ it, of the largest group of points that moves as one.

    MSAC proposes the group; then rounds of least squares with Tukey's weights, whose width follows the error of what
    agrees, so that slow objects are told apart where the flow is true and noise is averaged where it is not.
    """
    if len(places) > POINTS:  # not every n-th: a stride may fall into one column
        some = np.random.default_rng(0).integers(len(places), size=POINTS)
        places, moves = places[some], moves[some]
    rows = np.column_stack([places, np.ones(len(places))])
    weights = _agreeing(places, moves)
    fit = np.zeros((3, 2))
    for _ in range(ROUNDS):
        root = np.sqrt(weights)[:, None]
        fit = np.linalg.lstsq(rows * root, moves * root, rcond=None)[0]
        error = np.linalg.norm(moves - rows @ fit, axis=1)
        scale = max(1.4826 * float(np.median(error[weights > 0])), SCALE_FLOOR)
        new = np.clip(1 - (error / (TUKEY * scale)) ** 2, 0, None) ** 2
        if np.count_nonzero(new) < 3 or np.allclose(new, weights, atol=1e-4):
            break
        weights = new
    return fit


def _agreeing(places: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """1.0 for the points of the largest group that one affine motion explains, else 0.0; all 1.0 if there is none."""
    if len(places) < 3:
        return np.ones(len(places))
    draws = np.random.default_rng(0).integers(len(places), size=(TRIALS, 3))  # the same every time
    rows = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    corners = rows[draws]
    draws = draws[np.abs(np.linalg.det(corners)) > places.std(axis=0).prod()]  # three points on a line fix no motion
    if not len(draws):
        return np.ones(len(places))
    fits = np.linalg.solve(rows[draws], moves[draws])
    apart = rows @ fits - moves
    errors = apart[..., 0] ** 2 + apart[..., 1] ** 2
    best = errors[np.minimum(errors, AGREE_PX**2).sum(axis=1).argmin()]  # MSAC: what agrees counts by how well
    agrees = best <= AGREE_PX**2
    return agrees.astype(np.float64) if np.count_nonzero(agrees) >= 3 else np.ones(len(places))
