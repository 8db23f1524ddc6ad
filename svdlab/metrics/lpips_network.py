"""The LPIPS network: the `lpips` package's own module with checked weights, tested before it is used.

Always float32, in evaluation mode, without gradients, autocast or TF32.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import MetricError, WeightsError
from svdlab.metrics.lpips_files import CONVOLUTIONS, package_heads, read_backbone
from svdlab.metrics.lpips_weights import ensure_lpips_weights, find_lpips_weights

if TYPE_CHECKING:
    import torch

# Distance of the two pictures of `_test_pictures`, computed with the verified weights on the CPU.
SELF_TEST_DISTANCE = 0.397138
SELF_TEST_TOLERANCE = 1e-4

Features = list["torch.Tensor"]


class LpipsNetwork:
    """LPIPS with AlexNet, split so that the features of a picture are computed once and compared with many.

    Example:
        >>> net = load_network()
        >>> a, b = net.features(first), net.features(second)    # uint8 [count, height, width, 3]
        >>> net.distances(a, b).shape
        (count,)
    """

    def __init__(self, module: Any, device: str) -> None:
        try:
            self.module = module.to(device)
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
            raise MetricError(
                f"device={device!r} cannot run LPIPS: {str(error).splitlines()[0]}. Use 'cpu', or one that is here."
            ) from error
        self.device = device

    def features(self, pictures: np.ndarray) -> Features:
        """Unit-length features of five layers, each [count, channels, h, w].

        `pictures` are [count, height, width, 3] RGB in 0..255, uint8, or float32 after resizing.
        """
        import torch
        from lpips import normalize_tensor

        with _exact(), torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).to(self.device, torch.float32)
            layers = self.module.net(self.module.scaling_layer(x / 127.5 - 1))
            return [normalize_tensor(layer) for layer in layers]

    def distances(self, first: Features, second: Features) -> np.ndarray:
        """LPIPS, float64 [count], of each picture of `first` to that of `second`, or to its only one (eq. 1)."""
        import torch

        with _exact(), torch.inference_mode():
            parts = zip(self.module.lins, first, second, strict=True)
            layers = [head((a - b) ** 2).mean(dim=(1, 2, 3)) for head, a, b in parts]
            return torch.stack(layers).sum(0).double().cpu().numpy()

    @staticmethod
    def join(first: Features, second: Features) -> Features:
        """The features of the pictures of `first` followed by those of `second`."""
        import torch

        return [torch.cat(layers) for layers in zip(first, second, strict=True)]


def load_network(path: Path | None = None, *, device: str | torch.device = "cpu") -> LpipsNetwork:
    """The network with the weights at `path` (default: wherever `ensure_lpips_weights` finds them), kept per process.

    Raises:
        WeightsError: the weights are absent, damaged or other than AlexNet's, or the self-test failed.
        MetricError: there is no such device here.
    """
    found = find_lpips_weights(path) or ensure_lpips_weights()
    return _load(found.resolve(), found.stat().st_mtime_ns, str(device))


@lru_cache(maxsize=4)
def _load(path: Path, changed: int, device: str) -> LpipsNetwork:
    network = LpipsNetwork(_build(path), device)
    _self_test(network, path)
    return network


def _build(path: Path) -> Any:
    """`lpips.LPIPS` with its own heads and the backbone from `path`, both loaded strictly."""
    import lpips
    import torch

    backbone, heads = read_backbone(path), package_heads()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # it draws random weights first
        for message in ("The parameter 'pretrained' is deprecated", "Arguments other than a weight enum or `None`"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        module = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    module.eval().requires_grad_(False)
    names = {
        f"slice{j}.{i}.{part}": f"features.{i}.{part}"
        for j, i in enumerate(CONVOLUTIONS, 1)
        for part in ("weight", "bias")
    }
    module.net.load_state_dict({own: backbone[theirs] for own, theirs in names.items()}, strict=True)
    state = module.state_dict()
    if any(not torch.equal(state[name], head) for name, head in heads.items()):
        raise WeightsError("the lpips package did not load its own heads: install it again with `pip install lpips`.")
    return module


def _self_test(network: LpipsNetwork, path: Path) -> None:
    """d(x, x) must be 0 and d(x, y) a known number: other or random weights, or another lpips, do not get past this."""
    first, second = _test_pictures()
    a, b = network.features(first), network.features(second)
    same, apart = network.distances(a, a).item(), network.distances(a, b).item()
    if same != 0 or abs(apart - SELF_TEST_DISTANCE) > SELF_TEST_TOLERANCE:
        raise WeightsError(
            f"LPIPS with the weights in {path} gives {apart:.6f} where {SELF_TEST_DISTANCE:.6f} is right, and {same} "
            "for equal pictures: these are not the weights of torchvision's AlexNet. Delete the file, or point "
            "SVDLAB_LPIPS_WEIGHTS elsewhere."
        )


def _test_pictures() -> tuple[np.ndarray, np.ndarray]:
    """Two pictures uint8 [1, 64, 64, 3] made by a rule, so that no random generator has a part in the self-test."""
    y, x, c = np.ogrid[:64, :64, :3]
    first = (3 * x + 2 * y + 40 * c) % 256
    second = (x * y // 8 + 5 * x + 90 * c) % 256
    return first.astype(np.uint8)[None], second.astype(np.uint8)[None]


@contextlib.contextmanager
def _exact() -> Iterator[None]:
    """Full float32: no autocast around us, no TF32 convolutions on a GPU."""
    import torch

    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield
