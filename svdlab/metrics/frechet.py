"""The Frechet distance between two sets of clips: how far apart they lie in the features of a network.

A property of sets, never of a clip: it compares two clouds of features by their means and covariances (Dowson and
Landau 1982; for video, Unterthiner et al. 2018, arXiv:1812.01717). It is biased: two samples of one and the same source
are at a distance above 0, the more so the fewer clips there are (Chong and Forsyth 2020, arXiv:1911.07023). So it is
refused below `MIN_CLIPS`, and every result carries what chance alone reads, and what is left once the bias is
extrapolated away.

Example:
    >>> features = [clip_features(clips, network) for clips in (real, made)]
    >>> compare_sets(*features, network="r3d_18")
    Frechet distance on r3d_18 features: 41.2 with 512 and 512 clips. Without the bias of so many clips 38.7 (95%
    interval 36.4 to 41) ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from svdlab.errors import MetricError
from svdlab.metrics.context import rgb_array

MIN_CLIPS = 256
I3D = "i3d"
I3D_DIMS = 400  # FVD is defined on the logits of an I3D that was trained on Kinetics-400
_FEWEST_HALVES = 10

VideoEncoder = Callable[[np.ndarray], Any]


@dataclass(frozen=True, kw_only=True)
class Frechet:
    """A distance between two sets of clips, with what has to be known to read it.

    Attributes:
        distance: the distance of the two samples as they are, which is what others publish; biased upwards.
        extrapolated: 2 distance - (mean distance of random halves): the bias, which goes as 1 / clips, taken out to
            first order. May be negative where the true distance is near 0.
        error: standard error of either, by the delete-half jackknife over clips (Shao and Wu 1989, Annals of
            Statistics 17); too large rather than too small where the true distance is near 0.
        low, high: extrapolated -/+ the normal quantile times `error`.
        chance: distance between two random halves of the first set, and of the second: their truth is 0. What
            `distance` would read for equal sources with half the clips.
        clips: number of clips in each set.
        dims: length of a feature vector. Covariances have no full rank with fewer clips than that.
        network: what the features are from.
        level: of the interval.
    """

    distance: float
    extrapolated: float
    error: float
    low: float
    high: float
    chance: tuple[float, float]
    clips: tuple[int, int]
    dims: int
    network: str
    level: float

    @property
    def name(self) -> str:
        """``"FVD"`` on the features that define it, otherwise what it is."""
        return "FVD" if self.network == I3D else f"Frechet distance on {self.network} features"

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, with the name.

        Example:
            >>> pd.DataFrame([result.as_dict()])
        """
        return {"name": self.name, **asdict(self)}

    def __str__(self) -> str:
        first, second = self.clips
        few = f" Fewer clips than the {self.dims} dimensions: expect much bias." if min(self.clips) <= self.dims else ""
        return (
            f"{self.name}: {self.distance:.4g} with {first} and {second} clips. Without the bias of so many clips "
            f"{self.extrapolated:.4g} ({self.level:.0%} interval {self.low:.4g} to {self.high:.4g}). Two halves of one "
            "set, whose true "
            f"distance is 0, read {self.chance[0]:.4g} (first) and {self.chance[1]:.4g} (second).{few}"
        )

    __repr__ = __str__


def compare_sets(
    first: np.ndarray,
    second: np.ndarray,
    *,
    network: str,
    min_clips: int = MIN_CLIPS,
    halves: int = 20,
    level: float = 0.95,
    seed: int = 0,
) -> Frechet:
    """The Frechet distance between two sets of clips, with its interval, its bias, and what chance reads.

    Args:
        first, second: features [clips, dims] of each set, by one network with one preprocessing; see `clip_features`.
        network: name of that network. ``"i3d"`` only for the 400 logits of an I3D trained on Kinetics-400; the result
            is then called FVD.
        min_clips: fewer are refused. Lower it only to see what becomes of the number.
        halves: random halves for the standard error, the bias and what chance reads; 10 at least.
        level: of the interval, inside 0..1.
        seed: of the choice of halves.

    Raises:
        MetricError: too few clips, features of another shape, not finite, or a setting that is not allowed.

    Example:
        >>> compare_sets(real, made, network="r3d_18").extrapolated
        38.7
    """
    from scipy.stats import norm

    x, y = _features("first", first), _features("second", second)
    _check(x, y, network=network, min_clips=min_clips, halves=halves, level=level)
    rng = np.random.default_rng(seed)
    distance = frechet_distance(x, y)
    parts = np.array([frechet_distance(_split(x, rng)[0], _split(y, rng)[0]) for _ in range(halves)])
    extrapolated, error = 2 * distance - float(parts.mean()), float(parts.std())
    reach = float(norm.ppf((1 + level) / 2)) * error
    return Frechet(
        distance=distance,
        extrapolated=extrapolated,
        error=error,
        low=extrapolated - reach,
        high=extrapolated + reach,
        chance=(_chance(x, rng), _chance(y, rng)),
        clips=(len(x), len(y)),
        dims=x.shape[1],
        network=network,
        level=level,
    )


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two samples [clips, dims]; the formula alone, for any number.

    m are the sample means and S the sample covariances (with n - 1). With X and Y the centred samples over
    sqrt(n - 1), the eigenvalues of S1 S2 are the squared singular values of X Y^T, so the trace of the root is the sum
    of these. No matrix is inverted and no root of a singular one is taken, so it holds for fewer clips than dimensions.

    Raises:
        MetricError: fewer than two clips, features of another shape, or not finite.

    Example:
        >>> frechet_distance(x, x + 3.0)    # 4 dims: 4 * 3^2
        36.0
    """
    from scipy.linalg import svdvals

    x, y = _features("first", first), _features("second", second)
    _check_dims(x, y)
    shift = x.mean(0) - y.mean(0)
    a, b = _factor(x), _factor(y)
    spread = (a**2).sum() + (b**2).sum() - 2 * svdvals(a @ b.T).sum()
    return float(shift @ shift + max(0.0, spread))  # rounding alone can take the spread below 0


def frechet_gaussians(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """The same for given means [dims] and covariances [dims, dims], such as published statistics of a data set.

    Raises:
        MetricError: shapes that do not fit, or a matrix that is no covariance.
    """
    m1, m2 = (np.asarray(m, dtype=np.float64) for m in (mean1, mean2))
    a, b = _root("cov1", cov1, len(m1)), _root("cov2", cov2, len(m1))
    if m1.shape != m2.shape or m1.ndim != 1:
        raise MetricError(f"mean1 and mean2 must be [dims] each; they are {list(m1.shape)} and {list(m2.shape)}.")
    from scipy.linalg import svdvals

    spread = (a**2).sum() + (b**2).sum() - 2 * svdvals(a @ b.T).sum()
    return float((m1 - m2) @ (m1 - m2) + max(0.0, spread))


def clip_features(clips: Iterable[Any], network: VideoEncoder, *, progress: bool = True) -> np.ndarray:
    """Features of each clip by `network`: float64 [clips, dims].

    Args:
        clips: clips, or arrays uint8 [frames, height, width, 3]. Number and size of frames change the features: all
            must be equal, and equal between the two sets that are compared.
        network: any function of such an array that returns one vector [dims], such as
            `svdlab.metrics.load_video_network` makes.
        progress: show a bar.

    Raises:
        MetricError: no clips, clips of different shape, or a network that returns something else than finite vectors.

    Example:
        >>> clip_features((sweep.clip(cell) for cell in df.cell), network).shape
        (512, 512)
    """
    from tqdm.auto import tqdm

    rows: list[np.ndarray] = []
    shape: tuple[int, ...] | None = None
    for clip in tqdm(clips, desc="features", disable=not progress):
        frames = rgb_array("clips", getattr(clip, "frames", clip), ndim=4)
        shape = shape or frames.shape
        if frames.shape != shape:
            raise MetricError(
                f"clips: number {len(rows)} is {list(frames.shape)}, those before {list(shape)}: features of clips of "
                "different length or size do not compare. Make them equal first."
            )
        row = np.asarray(network(frames), dtype=np.float64)
        if row.ndim != 1 or (rows and row.shape != rows[0].shape) or not np.isfinite(row).all():
            raise MetricError(f"network must return one finite vector a clip; for number {len(rows)} it did not.")
        rows.append(row)
    if not rows:
        raise MetricError("clips is empty: there is nothing to take features of.")
    return np.stack(rows)


def _check(x: np.ndarray, y: np.ndarray, *, network: str, min_clips: int, halves: int, level: float) -> None:
    if not isinstance(network, str) or not network:
        raise MetricError(f"network={network!r} must name the network of the features, such as 'r3d_18'.")
    _check_dims(x, y)
    if "fvd" in network.lower() or (network.lower() == I3D and network != I3D):
        raise MetricError(
            f"network={network!r}: name the network that the features are from; the distance is called FVD if that is "
            "'i3d', and for no other."
        )
    if network == I3D and x.shape[1] != I3D_DIMS:
        raise MetricError(
            f"network='i3d': FVD stands on the {I3D_DIMS} logits of an I3D of Kinetics-400; these features have "
            f"{x.shape[1]}. Name the network that they are from."
        )
    whole = isinstance(min_clips, int) and isinstance(halves, int) and isinstance(level, float)
    if not whole or min_clips < 4 or halves < _FEWEST_HALVES or not 0 < level < 1:
        raise MetricError(
            f"min_clips={min_clips!r}, halves={halves!r}, level={level!r}: allowed are a whole min_clips of 4 or more, "
            f"whole halves of {_FEWEST_HALVES} or more and a level inside 0..1."
        )
    for which, features in (("first", x), ("second", y)):
        if len(features) < min_clips:
            raise MetricError(
                f"{which}: {len(features)} clips are too few for a Frechet distance, at least {min_clips} are needed. "
                "With few clips the covariance is poorly known and the distance reads high, by an amount that depends "
                "on the number, so that it says more about the number than about the clips. Make more clips, or "
                "compare the clips pair by pair with the metrics of the table."
            )


def _check_dims(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape[1] != y.shape[1]:
        raise MetricError(
            f"first has {x.shape[1]} dims and second {y.shape[1]}: take the features of both with the same network."
        )


def _features(name: str, given: np.ndarray) -> np.ndarray:
    try:
        features = np.asarray(given)
    except ValueError as error:  # a ragged list
        raise MetricError(f"{name} must be features [clips, dims], each row of one length.") from error
    if features.ndim != 2 or len(features) < 2 or features.shape[1] < 1 or features.dtype.kind not in "fiu":
        raise MetricError(
            f"{name} must be real features [clips, dims] of at least 2 clips; got {features.dtype} "
            f"{list(features.shape)}. clip_features makes them."
        )
    features = features.astype(np.float64)
    if not np.isfinite(features).all():
        raise MetricError(f"{name} holds NaN or infinite features: look at what the network was given.")
    return features


def _factor(features: np.ndarray) -> np.ndarray:
    """A matrix F of at most [dims, dims] with F^T F the sample covariance."""
    centred = (features - features.mean(0)) / math.sqrt(len(features) - 1)
    return np.linalg.qr(centred).R if len(centred) > centred.shape[1] else centred


def _root(name: str, given: np.ndarray, dims: int) -> np.ndarray:
    """F with F^T F the covariance `given`."""
    cov = np.asarray(given, dtype=np.float64)
    if cov.shape != (dims, dims) or not np.isfinite(cov).all() or not np.allclose(cov, cov.T):
        raise MetricError(f"{name} must be a symmetric matrix [{dims}, {dims}]; got {list(cov.shape)}.")
    values, vectors = np.linalg.eigh(cov)
    if values.min() < -1e-8 * max(values.max(), 0.0):
        raise MetricError(f"{name} has the negative eigenvalue {values.min():.3g}, so it is no covariance.")
    return np.sqrt(values.clip(0))[:, None] * vectors.T


def _split(features: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two random halves without a common clip; one clip is left out of an odd number."""
    order, half = rng.permutation(len(features)), len(features) // 2
    return features[order[:half]], features[order[half : 2 * half]]


def _chance(features: np.ndarray, rng: np.random.Generator) -> float:
    return float(np.mean([frechet_distance(*_split(features, rng)) for _ in range(_FEWEST_HALVES)]))
