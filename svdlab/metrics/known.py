"""Clips of known truth, made by hand from one photograph, so that what is wrong with each is certain.

Every clip says which metrics must read what on it, and why: `Expectation`. `svdlab.metrics.calibration` measures the
clips; the tests assert every expectation on several photographs.

The levels of the photograph are first brought into 32..223, so that noise and changes of brightness are not cut off.
Take a photograph with structure all over: flat parts, such as a clear sky, show no motion to any optical flow, and what
is said of flow here does not hold for them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from math import inf, pi, sqrt
from types import MappingProxyType
from typing import Any

import numpy as np

from svdlab.metrics.context import rgb_array
from svdlab.metrics.known_stage import (
    BLUR,
    BRIGHTEN,
    FLASH,
    GROWTH,
    HEIGHT,
    QUALITY,
    SATURATE,
    SIGMA,
    SOFT,
    SPEED,
    TURN,
    WIDTH,
    Expectation,
    Kind,
    KnownClip,
    Stage,
)


def known_clips(photo: Any, frames: int = 25) -> dict[str, KnownClip]:
    """The clips of known truth made from `photo`, by name, the frozen one first.

    Args:
        photo: uint8 [height, width, 3] RGB, at least 162 px high and 224 px wide for 25 frames.
        frames: 5 to 32 in each clip.

    Raises:
        MetricError: a photograph of another type or too small, or a number of frames that is not allowed.

    Example:
        >>> clips = known_clips(photo)
        >>> clips["pan"].truth
        'the camera moves 2 px a frame to the right'
        >>> svdlab.metrics.score(clips["pan"], names=["flow_mean"])
        {'flow_mean': 1.998}
    """
    stage = Stage(rgb_array("photo", photo, ndim=3), frames)
    return {(clip := make(stage)).name: clip for make in _MAKERS}


def _expect(kind: Kind) -> Callable[..., Expectation]:
    def make(metric: str, low: float, high: float, why: str, over: str = "") -> Expectation:
        return Expectation(metric=metric, kind=kind, low=low, high=high, why=why, over=over)

    return make


_reads, _ignores, _blind, _misled = (_expect(kind) for kind in ("reads", "ignores", "blind", "misled"))


def _bytes(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _mean_distance() -> float:
    """Mean distance, px, of the pixels of a frame from its middle."""
    y, x = np.indices((HEIGHT, WIDTH))
    return float(np.hypot(x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2).mean())


PERFECT = MappingProxyType(
    {
        **dict.fromkeys(("flow_mean", "flow_top5", "warp_error", "occlusion_ratio", "camera_mean", "object_mean"), 0.0),
        **{"flicker": 1.0, "jerk": 0.0, "luma_drift": 0.0, "saturation_drift": 0.0, "sharpness_ratio": 1.0},
        **{"lpips_adjacent": 0.0, "clip_temporal": 1.0},
    }
)  # what a clip reads in which nothing changes
EQUAL = MappingProxyType(
    {
        **{"ssim_input": 1.0, "psnr_input": 100.0, "lpips_input": 0.0, "lpips_input_last": 0.0, "clip_input": 1.0},
        **{"psnr_ref": 100.0, "lpips_ref": 0.0, "tof_ref": 0.0},
    }
)  # what it reads besides if it shows the input picture


def _frozen(stage: Stage) -> KnownClip:
    exact = [
        _reads(name, value - 1e-5, value + 1e-5, "nothing changes") for name, value in {**PERFECT, **EQUAL}.items()
    ]
    return stage.clip("frozen", "every frame is the input picture", stage.still, *exact, speed=0.0)


def _pan(stage: Stage) -> KnownClip:
    gone = SPEED / WIDTH
    return stage.clip(
        "pan", f"the camera moves {SPEED} px a frame to the right", stage.pan,
        _reads("flow_mean", SPEED - 0.05, SPEED + 0.05, "the speed"),
        _reads("flow_top5", SPEED, SPEED + 0.3, "the speed, and a little more at the border"),
        _reads("camera_mean", SPEED - 0.05, SPEED + 0.05, "the speed"),
        _reads("occlusion_ratio", gone, gone + 0.03, "what leaves the frame: speed / width, and a rim"),
        _reads("tof_ref", 0.6 * SPEED, 1.05 * SPEED, "the speed, against the frozen clip; Farneback flow reads low"),
        _ignores("object_mean", 0, 0.03, "all moves with the camera"),
        _ignores("warp_error", 0, 1e-5, "nothing is left once motion is taken out"),
        _misled("flicker", 0, 0.99, "every pixel changes, without a fault"),
        _misled("jerk", 0.005, 1, "every pixel changes, without a fault"),
        _misled("ssim_input", -1, 0.9, "compares place by place"),
        _misled("psnr_input", 0, 30, "compares place by place"),
        _misled("lpips_input", 0.05, 1, "the picture moves away"),
        _misled("lpips_adjacent", 0.01, 1, "grows with motion"),
        speed=float(SPEED),
    )  # fmt: skip


def _zoom(stage: Stage) -> KnownClip:
    speed = GROWTH * _mean_distance()
    frames = np.stack([stage.seen(np.eye(2) / (1 + GROWTH) ** int(t)) for t in stage.times])
    return stage.clip(
        "zoom", f"what is seen grows by {GROWTH:.0%} a frame about the middle", frames,
        *_slow_camera(speed),
        growth=GROWTH, speed=speed,
    )  # fmt: skip


def _rotation(stage: Stage) -> KnownClip:
    speed = 2 * np.sin(np.radians(TURN) / 2) * _mean_distance()

    def turned(t: int) -> np.ndarray:
        c, s = np.cos(np.radians(TURN * t)), np.sin(np.radians(TURN * t))
        return stage.seen(np.array([[c, s], [-s, c]]))  # what is seen turns clockwise

    frames = np.stack([turned(int(t)) for t in stage.times])
    truth = f"what is seen turns by {TURN:g} degrees a frame about the middle, clockwise"
    return stage.clip("rotation", truth, frames, *_slow_camera(speed), turn=TURN, speed=speed)


def _slow_camera(speed: float) -> tuple[Expectation, ...]:
    why = f"mean over the frame: {speed:.3f} px; flow reads low where there is little structure"
    return (
        _reads("flow_mean", 0.75 * speed, 1.1 * speed, why),
        _reads("camera_mean", 0.75 * speed, 1.1 * speed, why),
        _ignores("object_mean", 0, 0.12, "all moves with the camera"),
        _ignores("warp_error", 0, 5e-4, "interpolation softens a little"),
        _misled("ssim_input", -1, 0.9, "compares place by place"),
        _misled("lpips_input", 0.02, 1, "the picture moves away"),
    )


def _noise(stage: Stage) -> KnownClip:
    psnr = 20 * np.log10(255 / SIGMA)
    return stage.clip(
        "noise", f"frozen, with fresh noise of {SIGMA:g} levels in every frame", _bytes(stage.still + stage.noise),
        *_noise_in_warp_error(),
        _reads("flicker", *_about(1 - 2 * SIGMA / sqrt(pi) / 255, 3e-4), "1 - 2 sigma / sqrt(pi) / 255"),
        _reads("jerk", *_about(sqrt(6) * SIGMA * sqrt(2 / pi) / 510, 3e-4), "sqrt(6) sigma sqrt(2 / pi) / 510"),
        _reads("psnr_input", *_about(psnr, 0.05), "20 log10(255 / sigma)"),
        _reads("ssim_input", 0.3, 0.9, "structure is disturbed"),
        _reads("lpips_input", 0.02, 0.5, "grain is seen"),
        _reads("lpips_adjacent", 0.01, 0.2, "grain is seen"),
        _ignores("luma_drift", -0.02, 0.02, "its mean is 0"),
        _ignores("saturation_drift", -0.05, 0.05, "its mean is 0"),
        _blind("sharpness_ratio", 0.95, 1.05, "first and last frame have the same noise"),
        _misled("flow_mean", 0.02, 1, "flow finds motion in all that changes"),
        _misled("object_mean", 0.02, 1, "and it is no camera's"),
        _misled("camera_mean", 0.01, 0.5, "a little of it fits a camera"),
        sigma=SIGMA,
    )  # fmt: skip


def _pan_noise(stage: Stage) -> KnownClip:
    return stage.clip(
        "pan, noise", f"the pan, with fresh noise of {SIGMA:g} levels in every frame", _bytes(stage.pan + stage.noise),
        *_noise_in_warp_error(),
        _reads("flow_mean", SPEED - 0.15, SPEED + 0.15, "the speed"),
        _reads("camera_mean", SPEED - 0.05, SPEED + 0.05, "the speed: noise is averaged out"),
        _reads("psnr_ref", *_about(20 * np.log10(255 / SIGMA), 0.05), "20 log10(255 / sigma), whatever moves"),
        _reads("lpips_ref", 0.02, 0.5, "grain is seen"),
        _misled("object_mean", 0.02, 0.5, "flow finds motion in all that changes"),
        reference=stage.pan, sigma=SIGMA, speed=float(SPEED),
    )  # fmt: skip


def _noise_in_warp_error() -> tuple[Expectation, ...]:
    full = 2 * SIGMA**2 / 255**2
    return (_reads("warp_error", 0.7 * full, 1.02 * full, "2 sigma^2 / 255^2, less what flow fits and smooths away"),)


def _flashing(stage: Stage) -> KnownClip:
    up_down = FLASH * (-1.0) ** stage.times[:, None, None, None]
    return stage.clip(
        "flashing", f"frozen, every other frame {2 * FLASH} levels darker", _bytes(stage.still + up_down),
        _reads("flicker", *_about(1 - 2 * FLASH / 255, 1e-6), "1 - 16 / 255"),
        _reads("jerk", *_about(4 * FLASH / 510, 1e-6), "2 x 16 / 510"),
        _reads("warp_error", *_about((2 * FLASH / 255) ** 2, 1e-4), "(16 / 255)^2"),
        _reads("psnr_input", *_about(20 * np.log10(255 / FLASH), 1e-3), "20 log10(255 / 8)"),
        _ignores("flow_mean", 0, 0.03, "nothing moves"),
        _ignores("camera_mean", 0, 0.03, "nothing moves"),
        _ignores("saturation_drift", -0.01, 0.01, "grey levels only"),
        _blind("luma_drift", -0.3, 0.3, "it goes back and forth"),
        _blind("ssim_input", 0.97, 1, "structure is the same"),
        _blind("lpips_input", 0, 0.02, "structure is the same"),
        _blind("lpips_adjacent", 0, 0.02, "structure is the same"),
        _blind("tof_ref", 0, 0.02, "nothing moves"),
        _blind("sharpness_ratio", 0.99, 1.01, "detail is the same"),
        levels=2.0 * FLASH,
    )  # fmt: skip


def _shuffled(stage: Stage) -> KnownClip:
    speed = SPEED * float(np.abs(np.diff(stage.order)).mean())
    same = "the same frames in another order"
    return stage.clip(
        "shuffled", "the frames of the pan in random order", stage.pan[stage.order],
        _reads("flow_mean", 0.4 * speed, 1.1 * speed, f"jumps of {speed:.1f} px on average; large ones are lost"),
        _reads("occlusion_ratio", 0.04, 0.6, "much leaves the frame, much is not tracked"),
        _reads("jerk", 1.5, inf, "to and fro", "pan"),
        _reads("lpips_adjacent", 2, inf, "neighbours differ more", "pan"),
        _reads("tof_ref", 1, inf, "motion is not that of the pan"),
        _blind("ssim_input", 1 - 1e-6, 1 + 1e-6, same, "pan"),
        _blind("psnr_input", 1 - 1e-6, 1 + 1e-6, same, "pan"),
        _blind("lpips_input", 1 - 1e-4, 1 + 1e-4, same, "pan"),
        _blind("clip_input", 1 - 1e-4, 1 + 1e-4, same, "pan"),
        reference=stage.pan, speed=speed,
    )  # fmt: skip


def _cut(stage: Stage) -> KnownClip:
    at = stage.count // 2
    share = 1 / (stage.count - 1)
    frames = stage.still.copy()
    frames[at:] = stage.window(0, 0)
    return stage.clip(
        "jump cut", f"frozen, and from frame {at} on another part of the photograph", frames,
        _reads("occlusion_ratio", 0.5 * share, share, "one pair of all has no match"),
        _reads("psnr_ref", 40, 75, "half of the frames are right (100 dB), half are wrong"),
        _reads("lpips_input_last", 0.1, 1, "it shows something else in the end"),
        _blind("flicker", 0.95, 1, "a mean over pairs: see the curve"),
        _blind("jerk", 0, 0.05, "a mean over pairs: see the curve"),
        _blind("warp_error", 0, 0.02, "there is little left that it could judge"),
        _blind("lpips_adjacent", 0, 0.1, "a mean over pairs: see the curve"),
        _misled("flow_mean", 0.05, 6, "chance matches across the cut"),
        at=float(at),
    )  # fmt: skip


def _compressed(stage: Stage) -> KnownClip:
    def squeezed(frame: np.ndarray) -> np.ndarray:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=QUALITY)
        return np.asarray(Image.open(file))

    return stage.clip(
        "compressed", f"the pan, every frame as a JPEG of quality {QUALITY}",
        np.stack([squeezed(frame) for frame in stage.pan]),
        _reads("psnr_ref", 22, 33, "what JPEG loses"),
        _reads("lpips_ref", 0.08, 1, "blocks are seen"),
        _reads("warp_error", 50, inf, "blocks stand still while the picture moves", "pan"),
        _reads("flow_mean", 0.6 * SPEED, 1.05 * SPEED, "the speed, held back by blocks that stand still"),
        _misled("object_mean", 0.1, 1, "and are no part of the camera's motion"),
        _blind("flicker", 0.97, 1.03, "motion changes pixels more than blocks do", "pan"),
        reference=stage.pan, quality=float(QUALITY), speed=float(SPEED),
    )  # fmt: skip


def _growing_blur(stage: Stage) -> KnownClip:
    import cv2

    sizes = BLUR * stage.times / (stage.count - 1)
    frames = np.stack(
        [cv2.GaussianBlur(f, (0, 0), float(s)) if s else f for f, s in zip(stage.still, sizes, strict=True)]
    )
    return stage.clip(
        "growing blur", f"frozen, blurred more and more, by {BLUR:g} px in the end", frames,
        _reads("sharpness_ratio", 0, 0.1, "fine detail goes"),
        _reads("ssim_input", 0.5, 0.97, "fine detail goes"),
        _reads("lpips_input", 0.1, 1, "blur is seen"),
        _reads("lpips_input_last", 0.25, 1, "most in the end"),
        _ignores("luma_drift", -0.05, 0.05, "means stay"),
        _blind("warp_error", 0, 3e-4, "neighbours are alike"),
        _blind("flicker", 0.99, 1, "neighbours are alike"),
        _blind("jerk", 0, 0.003, "it goes evenly"),
        _blind("lpips_adjacent", 0, 0.05, "neighbours are alike"),
        _blind("tof_ref", 0, 0.25, "nothing moves"),
        blur=BLUR,
    )  # fmt: skip


def _soft(stage: Stage) -> KnownClip:
    import cv2

    frames = np.stack([cv2.GaussianBlur(stage.still[0], (0, 0), SOFT)] * stage.count)
    same = [_blind(name, value - 1e-5, value + 1e-5, "nothing changes") for name, value in PERFECT.items()]
    return stage.clip(
        "soft", f"frozen, blurred by {SOFT:g} px in every frame", frames, *same,
        _reads("ssim_input", 0.5, 0.97, "detail is missing"),
        _reads("lpips_input", 0.1, 1, "blur is seen"),
        _reads("lpips_ref", 0.1, 1, "blur is seen"),
        _reads("psnr_ref", 20, 37, "detail is missing"),
        _blind("tof_ref", 0, 0.02, "nothing moves"),
        blur=SOFT,
    )  # fmt: skip


def _brightening(stage: Stage) -> KnownClip:
    return stage.clip(
        "brightening", f"frozen, {BRIGHTEN} level brighter every frame",
        _bytes(stage.still + BRIGHTEN * stage.times[:, None, None, None]),
        _reads("luma_drift", BRIGHTEN - 1e-3, BRIGHTEN + 1e-3, "the slope"),
        _ignores("saturation_drift", -1e-3, 1e-3, "grey levels only"),
        _ignores("flow_mean", 0, 0.03, "nothing moves"),
        _ignores("sharpness_ratio", 0.99, 1.01, "detail is the same"),
        _blind("warp_error", 0, 3e-5, "(1 / 255)^2"),
        _blind("flicker", 0.995, 1, "1 - 1 / 255"),
        _blind("jerk", 0, 1e-6, "it goes evenly"),
        _blind("lpips_input_last", 0, 0.05, "structure is the same"),
        _blind("lpips_adjacent", 0, 1e-3, "structure is the same"),
        slope=float(BRIGHTEN),
    )  # fmt: skip


def _colour_drift(stage: Stage) -> KnownClip:
    first = stage.still[0].astype(np.float64)
    grey = (first @ np.array([0.299, 0.587, 0.114]))[..., None]
    slope = SATURATE * float((first.max(axis=-1) - first.min(axis=-1)).mean())
    frames = np.stack([_bytes(grey + (1 + SATURATE * t) * (first - grey)) for t in stage.times])
    return stage.clip(
        "colour drift", f"frozen, colours {SATURATE:.0%} of the first frame's stronger every frame", frames,
        _reads("saturation_drift", 0.9 * slope, 1.1 * slope, f"1 % of the mean chroma: {slope:.2f} levels"),
        _ignores("luma_drift", -0.06, 0.06, "brightness is kept, but for rounding"),
        _ignores("flow_mean", 0, 0.1, "nothing moves"),
        _blind("sharpness_ratio", 0.97, 1.03, "it looks at brightness only"),
        _blind("warp_error", 0, 3e-5, "a level a frame at most"),
        _blind("flicker", 0.995, 1, "a level a frame at most"),
        _blind("lpips_input_last", 0, 0.1, "structure is the same"),
        slope=slope,
    )  # fmt: skip


def _disc(stage: Stage) -> KnownClip:
    share = float(stage.disc.mean())
    return stage.clip(
        "disc", f"a disc that covers {share:.1%} moves {SPEED} px a frame over the frozen picture",
        stage.with_disc(stage.still),
        *_halo("object_mean", share * SPEED),
        *_halo("flow_mean", share * SPEED),
        _reads("flow_top5", 0.75 * SPEED, 1.1 * SPEED, "the speed of what moves most"),
        _reads("tof_ref", 0.9 * share * SPEED, 3 * share * SPEED, "share x speed, and a wider halo"),
        _ignores("camera_mean", 0, 0.02, "what lies behind stands still"),
        _ignores("warp_error", 0, 5e-4, "a rim at the disc"),
        speed=float(SPEED), share=share,
    )  # fmt: skip


def _disc_pan(stage: Stage) -> KnownClip:
    share = float(stage.disc.mean())
    return stage.clip(
        "disc, pan", f"the disc goes {SPEED} px a frame to the right before the pan, which goes as fast to the left",
        stage.with_disc(stage.pan),
        _reads("camera_mean", SPEED - 0.05, SPEED + 0.05, "the speed of what lies behind"),
        *_halo("object_mean", share * 2 * SPEED),
        _blind("flow_mean", SPEED - 0.25, SPEED + 0.1, "equal lengths: camera and disc are not told apart"),
        reference=stage.pan, speed=float(SPEED), share=share,
    )  # fmt: skip


def _halo(metric: str, true: float) -> tuple[Expectation, ...]:
    why = f"share x speed: {true:.3f} px; flow drags along a halo of a few px"
    return (_reads(metric, true, 1.9 * true, why),)


def _about(value: float, within: float) -> tuple[float, float]:
    return value - within, value + within


_MAKERS = (
    _frozen, _pan, _zoom, _rotation, _noise, _pan_noise, _flashing, _shuffled, _cut, _compressed, _growing_blur,
    _soft, _brightening, _colour_drift, _disc, _disc_pan,
)  # fmt: skip
