"""Coverage-guided fuzzing of the two readers that take files from strangers: pictures, and specs of sweeps.

    pip install atheris
    python -m tests.faults.fuzz images --minutes 10
    python -m tests.faults.fuzz spec --minutes 10

Whatever the bytes, a reader must give a result or one of svdlab's own errors. The first other exception ends the run
with a traceback, and the bytes that led to it are kept in the folder of the run; they belong into `tests/faults/found`,
where `test_found.py` reads them again. Every seed is read by that test too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

FOUND = Path(__file__).parent / "found"


def read_picture(data: bytes, folder: Path) -> None:
    """Bytes as a picture on disk, opened and prepared as a request does."""
    from svdlab.errors import SvdlabError
    from svdlab.images import load_image, prepare

    path = folder / "picture"
    path.write_bytes(data)
    with contextlib.suppress(SvdlabError):
        image = prepare(load_image(path), width=32, height=32)
        if image.size != (32, 32) or image.mode != "RGB":
            raise AssertionError(f"a prepared picture of {image.size} in {image.mode}")


def read_sweep(data: bytes, folder: Path) -> None:
    """Bytes as the specification of a sweep."""
    from svdlab.errors import SvdlabError
    from svdlab.sweep.spec import Spec, read_spec

    path = folder / "spec.toml"
    path.write_bytes(data)
    with contextlib.suppress(SvdlabError):
        if not isinstance(read_spec(path), Spec):
            raise AssertionError("read_spec gave something else than a Spec")


TARGETS: dict[str, Callable[[bytes, Path], None]] = {"images": read_picture, "spec": read_sweep}


def seeds(target: str) -> Iterator[bytes]:
    """Small well-formed files to begin with."""
    if target == "spec":
        from tests.faults.test_hostile import SPEC  # here, since it imports what is to be instrumented

        yield SPEC
        yield b'name = "a"\nimages = "*.png"\nmetrics = "default"\n[grid]\nseed = "0..9"\n[engine]\nkind = "local"\n'
        return
    from PIL import Image

    for mode in ("RGB", "P", "L", "I;16", "CMYK", "RGBA"):
        for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
            file = io.BytesIO()
            with contextlib.suppress(OSError, ValueError):  # not every kind holds every mode
                Image.new(mode, (5, 4)).save(file, kind)
                yield file.getvalue()


def fuzz(target: str, minutes: float, home: Path) -> None:
    """Run libFuzzer over one target; it ends the process, with code 0 if nothing was found."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is needed: pip install atheris (there are wheels for Linux)")
    with atheris.instrument_imports(include=["svdlab", "PIL", "tomllib"]):
        import tomllib  # noqa: F401

        import PIL.Image

        import svdlab.images
        import svdlab.sweep.spec  # noqa: F401
    PIL.Image.init()
    warnings.simplefilter("ignore")
    corpus = home / "corpus"
    corpus.mkdir()
    for number, data in enumerate([*seeds(target), *(path.read_bytes() for path in sorted(FOUND.glob(f"{target}-*")))]):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [f"-max_total_time={minutes * 60:.0f}", "-max_len=4096", "-timeout=300", f"-artifact_prefix={home}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: TARGETS[target](data, home))
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix=f"svdlab-fuzz-{given.target}-"))
    sys.stderr.write(f"what is found is kept in {home}\n")
    fuzz(given.target, given.minutes, home)


if __name__ == "__main__":
    main()
