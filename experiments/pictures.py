"""Write the pictures of the questions, and the truth about them.

    python experiments/pictures.py

Scenes of svdlab's world that training never renders go into experiments/pictures: a PNG file of each, truth.json with
its index and where its object is and goes, and in truth/ the true last frames, side by side where there are several.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from answers.scenes import PICTURES, SIZE, write_scenes
from svdlab.errors import SvdlabError


def main(arguments: list[str] | None = None) -> int:
    """Write the pictures as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder; created")
    parser.add_argument("--size", type=int, default=SIZE, help="px of height and width, 32 to 512")
    given = parser.parse_args(arguments)
    try:
        scenes = write_scenes(given.out, size=given.size)
    except (SvdlabError, OSError) as error:
        parser.error(str(error))
    print(f"{given.out}: {', '.join(scenes.files)}")  # noqa: T201 (a command speaks to its caller)
    return 0


if __name__ == "__main__":
    sys.exit(main())
