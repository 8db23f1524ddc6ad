"""A recipe: everything that decides what a training run makes, as one frozen object that can be read from TOML."""

from __future__ import annotations

import dataclasses
import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from svdlab.errors import TrainingError
from svdlab.training.networks import UNetSettings
from svdlab.training.objective import Objective
from svdlab.training.record import check_record
from svdlab.training.settings import FREE, LoopSettings
from svdlab.training.vae import CHANNELS, PATCH

RECORD = "recipe.json"
Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class DecoderSettings:
    """How the VAE's decoder is trained."""

    loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=1000, learning_rate=3e-4, averages=(0.995,)))
    world: str = "full"  # stage of the world whose frames it learns
    frames: int = 8  # frames a step, of one clip or of several
    lengths: tuple[int, ...] = ()  # successive frames of a clip: one of these a step; empty: `decoder_lengths`
    noise: float = 0.04  # on the latents
    pca_clips: int = 64  # clips whose frames the latents, and the beginning of the decoder, are fitted to
    upsampling_steps: int = 1200  # of what the decoder begins as, see `svdlab.training.upsampling`


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the teacher's training; it starts from the averaged weights of the stage before."""

    world: str = "full"  # stage of the world: "easy", "headings" or "full"
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=4000))
    objective: Objective = field(default_factory=Objective)
    batch: int = 4  # clips a step, in each process
    frames: int | None = None  # first frames of each clip; None: all
    some: int | None = None  # of these, so many are drawn anew in each step and are all that it computes; None: all

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise TrainingError(f"batch = {self.batch}: must be at least 1.")
        if self.some is not None and self.some < 1:
            raise TrainingError(f"some = {self.some}: must be at least 1 frame, or left out for all.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A teacher, from the first weight to the finished folder. Settings marked * may change when a run goes on.

    Example:
        >>> read_recipe("experiments/tiny.toml").stages[0].world
        'easy'
    """

    name: str = "tiny-teacher"
    seed: int = 0
    size: int = 64  # px
    num_frames: int = 25
    vae_channels: tuple[int, ...] = CHANNELS
    unet: UNetSettings = field(default_factory=UNetSettings)
    train_image_encoder: bool = True  # False: its random features are good enough
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    stages: tuple[Stage, ...] = (Stage(world="easy"), Stage(world="headings"), Stage(world="full"))
    max_guidance: float = 1.0  # what the finished model's card recommends
    processes: int = 0  # * that render
    ahead: int = 2  # * batches that are rendered ahead

    def __post_init__(self) -> None:
        factor = PATCH * 2 ** (len(self.unet.channels) - 1)
        rules: tuple[tuple[str, bool, str], ...] = (
            ("size", self.size >= 16 and self.size % factor == 0, f"a multiple of {factor}, at least 16"),
            ("num_frames", self.num_frames >= 2, "at least 2"),
            ("stages", bool(self.stages), "at least one"),
            ("processes", self.processes >= 0, "0 or more"),
            ("ahead", self.ahead >= 0, "0 or more"),
            (
                "stages",
                all(stage.frames is None or 2 <= stage.frames <= self.num_frames for stage in self.stages),
                f"with frames from 2 to num_frames = {self.num_frames}",
            ),
            (
                "stages",
                all((stage.some or 1) <= (stage.frames or self.num_frames) for stage in self.stages),
                "with some of at most the frames of a clip",
            ),
            (
                "decoder",
                self.decoder.frames >= 1
                and self.decoder.pca_clips >= 1
                and self.decoder.upsampling_steps >= 1
                and all(1 <= length <= self.num_frames for length in self.decoder.lengths),
                "with frames, pca_clips and upsampling_steps of at least 1, and"
                f" lengths from 1 to num_frames = {self.num_frames}",
            ),
        )
        for name, kept, rule in rules:
            if not kept:
                raise TrainingError(f"{name} = {getattr(self, name)!r}: must be {rule}.")


def decoder_lengths(recipe: Recipe) -> tuple[int, ...]:
    """Numbers of successive frames that the decoder is trained on, as a decode chunk may be of any length.

    All, half of them, a quarter and so on, but never two: of a convolution over exactly two frames in bfloat16 some
    CPUs give uninitialised memory as the gradient of the weights (torch 2.15).

    Example:
        >>> decoder_lengths(Recipe(num_frames=25))
        (1, 3, 6, 12, 25)
    """
    halves = {recipe.num_frames >> k for k in range(recipe.num_frames.bit_length())}
    return recipe.decoder.lengths or tuple(sorted(n for n in halves if n != 2 or n == recipe.num_frames))


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from TOML. Its tables are named as the fields are; what is left out keeps its default.

        name = "tiny-teacher"
        [unet]
        channels = [64, 64, 128]
        [[stages]]
        world = "easy"
        loop = { steps = 4000 }

    Raises:
        TrainingError: the file cannot be read, or has a name or a value that a recipe has not.
    """
    return read_settings(Recipe, path)


def read_settings(cls: type[Settings], path: str | os.PathLike[str]) -> Settings:
    """Any of the settings of this room from TOML, as `read_recipe` reads a recipe.

    Raises:
        TrainingError: the file cannot be read, or has a name or a value that these settings have not.

    Example:
        >>> read_settings(DistillSettings, "distill.toml").solver
        'euler'
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read as TOML ({error}).") from error
    return parse(cls, content, where=str(path))


def parse(cls: type, content: Mapping[str, Any], *, where: str) -> Any:
    """A settings dataclass from plain tables, with every name and type checked.

    Raises:
        TrainingError: naming the place, the value and what is allowed.
    """
    hints = get_type_hints(cls)
    unknown = sorted(content.keys() - hints.keys())
    if unknown:
        raise TrainingError(f"{where}: there is no setting {unknown[0]!r}. Known are {', '.join(hints)}.")
    values = {name: _value(hints[name], value, where=f"{where}: {name}") for name, value in content.items()}
    try:
        return cls(**values)
    except TrainingError as error:
        raise TrainingError(f"{where}: {error}") from None
    except TypeError as error:  # one without a default is missing
        raise TrainingError(f"{where}: incomplete ({error}).") from None


def _value(kind: Any, value: Any, *, where: str) -> Any:
    """One value of TOML as the type that a field wants."""
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return parse(kind, value, where=where)  # type: ignore[arg-type]
    origin, args = get_origin(kind), get_args(kind)
    if origin is types.UnionType:
        return _value(next(arg for arg in args if arg is not type(None)), value, where=where)
    if origin is tuple and isinstance(value, list):
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise TrainingError(f"{where} = {value!r}: {len(args)} values are needed.")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(_value(k, v, where=f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is not None and isinstance(value, Mapping):  # a table of numbers by name
        return {key: _value(args[1], part, where=f"{where}.{key}") for key, part in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is not None or type(value) is not kind:
        wanted = getattr(kind, "__name__", str(kind)) if origin is None else "a list or a table"
        raise TrainingError(f"{where} = {value!r}: must be {wanted}.")
    return value


def check_recipe(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Write down the recipe of a run when it begins, and refuse to go on with another one; see `check_record`.

    Further stages may be added at the end: a teacher that is not good enough yet goes on learning.
    """
    free = (*FREE, "processes", "ahead")
    check_record(out / RECORD, dataclasses.asdict(recipe), free=free, resume=resume, grows="stages")
