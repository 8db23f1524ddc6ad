from __future__ import annotations

import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from svdlab import __version__, cli
from svdlab.cli import app
from svdlab.results_table import results_table
from svdlab.video import read_video
from tests.pictures import blobs

SPEC = """
name = "small"
model = "tiny-random"
images = ["a.png"]
metrics = ["flow_mean"]

[grid]
steps = [1, 2]
seed = [0, 1]

[fixed]
num_frames = 2
width = 32
height = 32
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a picture and a specification."""
    blobs().save(tmp_path / "a.png")
    (tmp_path / "small.toml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capfd):
    """Run the command line as a shell would: exit code, standard output, standard error."""
    from rich.console import Console

    monkeypatch.setattr(cli, "out", Console(width=200))
    monkeypatch.setattr(cli, "err", Console(stderr=True, width=200))

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["svdlab", *map(str, words)])
        capfd.readouterr()
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        streams = capfd.readouterr()
        return code, streams.out, streams.err

    return call


def test_help_and_version(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("generate", "sweep", "status", "explain", "diff", "models", "weights", "bench", "doctor"):
        assert command in out
    assert run("--version")[:2] == (0, f"svdlab {__version__}\n")


def test_a_command_leaves_logging_as_it_found_it(run):
    """A handler that outlived its command wrote to a stream that was closed by then."""
    log = logging.getLogger("svdlab")
    before = log.level, log.handlers[:], warnings.showwarning
    assert run("--quiet", "models")[0] == 0
    assert run("models")[0] == 0
    assert (log.level, log.handlers, warnings.showwarning) == before


@pytest.mark.parametrize(
    "command", ["generate", "sweep", "status", "explain", "diff", "models", "weights", "bench", "doctor"]
)
def test_every_command_explains_itself(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_generate_writes_a_clip_and_says_what_it_is(run, folder):
    code, out, err = run(
        *("generate", "a.png", "-o", "clip.mp4", "--seed", 42, "--steps", 1, "--num-frames", 2, "--fps", 7),
        *("--model", "tiny-random"),
    )
    assert code == 0
    assert out.startswith("clip.mp4: 2 frames, 64x64, 7 fps, seed 42, ")
    assert "tiny-random has random weights" in err
    video = read_video("clip.mp4")
    assert (len(video.frames), video.fps) == (2, 7)


def test_the_model_without_a_word_is_the_trained_one(run, folder):
    code, _, err = run("generate", "a.png", "-o", "clip.mp4", "--steps", 1, "--num-frames", 2)
    assert code == 0
    assert "tiny (" in err
    assert "random" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.png", "-o", "clip.mp4", "--steps", 0), "error: steps = 0: must be a whole number from 1 to 40"),
        (("a.png", "-o", "clip.avi"), "error: --output = 'clip.avi': must be a file name ending in .mp4"),
        (("a.png", "-o", "nowhere/clip.mp4"), "in a folder that exists"),
        (("b.png", "-o", "clip.mp4"), "b.png"),
        (("a.png", "-o", "clip.mp4", "--model", "tiny-randm"), "Did you mean 'tiny-random'?"),
        (("a.png", "-o", "clip.mp4", "--width", 100), "width = 100: this model needs a multiple of"),
    ],
)
def test_what_generate_refuses_is_said_in_words_and_leaves_nothing(run, folder, words, said):
    code, out, err = run("generate", *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err + out
    assert not list(folder.glob("**/*.mp4"))


def test_sweep_then_status_then_again(run, folder):
    code, out, _ = run("sweep", "small.toml")
    assert code == 0
    for words in ("denoiser calls", "time", "disk", "random weights", "run directory: runs/small"):
        assert words in out
    frame = pd.read_parquet("runs/small/results.parquet")
    assert (frame["status"] == "done").all()
    assert len(frame) == len(pd.read_csv("runs/small/results.csv")) == 4
    assert all((Path("runs/small") / video).is_file() for video in frame["video"])

    code, out, _ = run("status", "runs/small")
    assert code == 0
    assert "small: 4 cells: 4 done" in out

    before = {path: path.stat().st_mtime_ns for path in Path("runs/small/cells").glob("*/*/clip.mp4")}
    code, out, _ = run("sweep", "small.toml")
    assert code == 0
    assert "nothing to compute" in out
    assert before == {path: path.stat().st_mtime_ns for path in Path("runs/small/cells").glob("*/*/clip.mp4")}


def test_a_dry_run_computes_nothing(run, folder):
    code, out, _ = run("sweep", "small.toml", "--dry-run")
    assert code == 0
    assert "denoiser calls" in out
    assert not Path("runs").exists()


def test_a_run_directory_of_ones_own(run, folder):
    code, out, _ = run("sweep", "small.toml", "--out", "elsewhere")
    assert code == 0
    assert "run directory: elsewhere" in out
    assert (folder / "elsewhere" / "ledger.sqlite").is_file()


def test_failed_cells_are_shown_and_end_with_code_1(run, folder, monkeypatch):
    """A UNet that runs out of memory on two steps: real components, the real error, raised by a hook."""
    import torch

    from svdlab import pipeline

    load = pipeline.load

    def load_greedy(*args, **options):
        pipe = load(*args, **options)
        calls = {"previous": 0.0}

        def hook(module, args, kwargs):
            lower = float(args[1]) < calls["previous"]
            calls["previous"] = float(args[1])
            if lower:
                raise torch.OutOfMemoryError("CUDA out of memory")

        pipe.components.unet.register_forward_pre_hook(hook, with_kwargs=True)
        return pipe

    monkeypatch.setattr(pipeline, "load", load_greedy)
    code, out, _ = run("sweep", "small.toml")
    assert code == 1
    assert out.count("failed: cell") == 2
    assert "out of memory" in out
    code, out, _ = run("status", "runs/small")
    assert "2 done, 2 failed" in out
    monkeypatch.setattr(pipeline, "load", load)
    code, out, _ = run("sweep", "small.toml", "--retry", "failed")
    assert code == 0
    assert "4 done" in run("status", "runs/small")[1]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SPEC.replace("steps", "stepz"), "steps"),
        (SPEC.replace('images = ["a.png"]', 'images = ["none.png"]'), "none.png"),
        (SPEC + "[engin]\n", "engin"),
        ("name = ", "TOML"),
    ],
)
def test_bad_specs_are_refused_before_anything_is_written(run, folder, spec, said):
    Path("bad.toml").write_text(spec)
    code, out, err = run("sweep", "bad.toml")
    assert code == 2
    assert err.startswith("error: ") or "\nerror: " in err
    assert said in err
    assert "Traceback" not in err + out
    assert not Path("runs").exists()


def test_status_of_something_else(run, folder):
    code, _, err = run("status", "nowhere")
    assert code == 2
    assert "nowhere" in err


def test_a_cell_is_explained_and_sweeps_are_compared(run, folder):
    assert run("sweep", "small.toml")[0] == 0
    cell = pd.read_parquet("runs/small/results.parquet")["cell"][0]
    code, out, _ = run("explain", "runs/small", cell[:6])
    assert code == 0
    assert out.startswith(f"cell {cell}: done\n\nrequest\n")
    assert "flow_mean" in out
    code, out, _ = run("diff", "runs/small", "runs/small")
    assert code == 0
    assert "Latents: bit-identical in 4 of 4 pairs." in out

    (Path("runs/small/cells") / cell[:2] / cell / "clip.mp4").unlink()
    code, out, _ = run("explain", "runs/small", cell)
    assert code == 1
    assert "clip.mp4 is missing." in out
    code, _, err = run("explain", "runs/small", "nothing")
    assert code == 2
    assert "no cell that begins like this" in err
    code, _, err = run("diff", "runs/small", "nowhere")
    assert code == 2
    assert "nowhere: is not the directory of a sweep" in err


def test_models_are_listed_with_licence_and_size(run):
    code, out, _ = run("models")
    assert code == 0
    assert "animatelcm-svd-xt-1.1" in out
    assert "tiny-random" in out
    assert "7.56 GB" in out
    assert re.search(r"^fal-ai/fast-svd-lcm +Hosted", out, re.MULTILINE)


def test_weights_of_lpips_and_of_a_model_that_has_none(run):
    code, out, _ = run("weights", "lpips")
    assert code == 0
    assert Path(out.removeprefix("LPIPS weights: ").strip()).is_file()
    for name in ("tiny-random", "fal-ai/fast-svd-lcm"):
        assert "nothing to fetch" in run("weights", name)[1]
    code, _, err = run("weights", "svd-xl")
    assert code == 2
    assert "svd-xt" in err


def test_doctor_finds_this_installation_well(run):
    code, out, _ = run("doctor")
    assert code == 0
    assert "a fitting pair" in out
    assert "problem" not in out


def test_ctrl_c_ends_in_one_word(run, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    code, _, err = run("models")
    assert (code, err.strip()) == (130, "interrupted")


def test_the_results_table_averages_over_pictures_and_seeds():
    frame = pd.DataFrame(
        {
            "cell": list("abcd"),
            "steps": [1, 1, 2, 2],
            "seed": [0, 1, 0, 1],
            "status": ["done", "done", "done", "failed"],
            "flow_mean": [1.0, 3.0, 5.0, None],
        }
    )
    table = results_table(frame, axes=["steps", "seed"])
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns == {"steps": ["1", "2"], "done": ["2/2", "1/2"], "flow_mean": ["2", "5"]}
    assert results_table(frame, axes=["steps", "seed"], most=1).caption == "1 more rows are in results.csv"
    assert results_table(frame, axes=["seed"]).row_count == 1
    narrow = results_table(frame, axes=["steps", "seed"], width=20)
    assert [column.header for column in narrow.columns] == ["steps", "done"]


@pytest.mark.slow
def test_help_is_quick_and_import_is_light():
    """No absolute time: what matters is that nothing heavy is loaded."""
    heavy = ("torch", "diffusers", "transformers", "cv2", "pandas", "matplotlib", "av", "lpips")
    for code in ("import svdlab", "import svdlab.cli", "import svdlab, svdlab.metrics, svdlab.models, svdlab.sweep"):
        check = f"{code}; import sys; print([m for m in {heavy!r} if m in sys.modules])"
        out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
        assert out.strip() == "[]", code


def test_a_sweep_that_is_decoded_later_by_its_own_command(folder):
    runner = CliRunner()
    swept = runner.invoke(app, ["sweep", "small.toml", "--decode", "preview", "--device", "cpu"])
    assert swept.exit_code == 0, swept.output
    assert "when somebody looks" in swept.output
    assert "4 cells have no frames yet: svdlab decode runs/small\n" in swept.output
    run = folder / "runs" / "small"
    assert pd.read_csv(run / "results.csv")["video"].isna().all()
    key = pd.read_csv(run / "results.csv")["cell"][0]
    one = runner.invoke(app, ["decode", "runs/small", key[:6]])
    assert (one.exit_code, one.stdout.splitlines()[-1]) == (0, "small: 1 cell decoded, 3 left")
    rest = runner.invoke(app, ["decode", "runs/small", "--model", "tiny-random", "--device", "cpu"])
    assert (rest.exit_code, rest.stdout.splitlines()[-1]) == (0, "small: 3 cells decoded, 0 left")
    assert len(list(run.rglob("clip.mp4"))) == 4
    assert pd.read_csv(run / "results.csv")["flow_mean"].notna().all()
