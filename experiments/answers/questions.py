"""The eight questions: what is asked, how it is answered in three sentences, and by which specifications."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from answers import knobs, sampler
from answers.page import Answer
from answers.runs import Runs
from answers.scenes import TRUE_METRICS


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question and the way to its answer.

    Attributes:
        asks: the question.
        method: three sentences.
        answer: finished sweeps -> what they say.
        teacher: whether the teacher is swept too.
        truth: metrics of `answers.scenes` that are measured.
    """

    asks: str
    method: str
    answer: Callable[[Runs], Answer]
    teacher: bool = False
    truth: tuple[str, ...] = TRUE_METRICS

    def specs(self, name: str) -> list[str]:
        """The files of its specifications, the teacher's last.

        Example:
            >>> QUESTIONS["bucket"].specs("bucket")
            ['bucket.toml', 'bucket-teacher.toml']
        """
        return [f"{name}.toml", *([f"{name}-teacher.toml"] if self.teacher else [])]


PAIRED = (
    "Clips of one picture and seed share their noise and differ in the setting alone, so all differences are paired."
)

QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        "few_steps": Question(
            asks="How few steps are enough?",
            method=(
                f"{PAIRED} "
                "Every step count is held against the most, and is *enough* for a metric if the whole interval "
                "of what it loses lies below a margin that was fixed beforehand (0.5 dB, 1 px of 64, a tenth of "
                "the object). The same pictures and seeds are made by the teacher with all its steps, for "
                "comparison and as the reference of `psnr_ref` and `tof_ref`."
            ),
            answer=sampler.few_steps,
            teacher=True,
        ),
        "schedules": Question(
            asks="Is more steps ever worse, on `animatelcm` and on `even`, and why?",
            method=(
                f"{PAIRED} "
                "Step counts are taken at which `animatelcm` ends at very different noise levels, while `even` "
                "always ends at the same one. If more steps are worse on the former alone, and its metrics follow"
                " the last level, the last level is the reason and not the number of steps."
            ),
            answer=sampler.schedules,
        ),
        "gamma": Question(
            asks="How much fresh noise after each step: gamma from 0 to 1?",
            method=(
                f"{PAIRED} "
                "With gamma 0 a step adds no noise and follows the differential equation (Euler), with 1 it "
                "adds all of the next level (latent consistency). Trends along gamma, its two ends, and the "
                "middle against each end are taken over two step counts."
            ),
            answer=sampler.gamma,
        ),
        "start_sigma": Question(
            asks="What does the noise level at the start do to motion?",
            method=(
                f"{PAIRED} "
                "Sampling of 4 steps starts at levels from 20 to 700, the schedule scaled to it, at two motion "
                "buckets. Displacement is where the object is found in the last frame; position and PSNR are held"
                " to the truth at bucket 255 alone."
            ),
            answer=sampler.start_sigma,
        ),
        "cond_aug": Question(
            asks="What does cond_aug do inside its training range and outside?",
            method=(
                f"{PAIRED} "
                "Noise on the picture goes from none to 4 (pixels are within -1 and 1), and the small student "
                "saw up to 1 in training. Trends are taken inside that range and from its end on, and every value"
                " is held against the usual 0.02."
            ),
            answer=knobs.cond_aug,
        ),
        "decode_chunk": Question(
            asks="Does decoding in chunks flicker?",
            method=(
                "The same latents are decoded in chunks of several lengths, so clips differ in nothing but the "
                "decoder. Bucket 0 asks for no motion, so that a change from frame to frame is a fault there, and"
                " 127 for the usual. What chunks add to the change of neighbouring frames is taken at the seams "
                "and between them."
            ),
            answer=knobs.decode_chunk,
            truth=("sharpness_input",),
        ),
        "bucket": Question(
            asks="Does the motion bucket still steer the student?",
            method=(
                f"{PAIRED} "
                "Student and teacher make the same pictures, buckets and seeds, each with its own sampler. How "
                "much more the teacher follows the bucket is the interaction of model and bucket, a difference of"
                " paired differences."
            ),
            answer=knobs.bucket,
            teacher=True,
        ),
        "seeds_settings": Question(
            asks="Settings or seeds: which explain more?",
            method=(
                "The variance of each metric over the full grid of pictures, seeds and settings is shared out "
                "among them (analysis of variance). That is done apart for pictures that tell where things go, "
                "and for pictures that leave it open, where the seed must decide. Intervals are of the jackknife "
                "over seeds."
            ),
            answer=knobs.seeds_settings,
        ),
    }
)
