"""Options of every command that runs a model on scenes."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.options import RUNNING
from aftermap.cli.progress import say_when_working

if TYPE_CHECKING:
    from aftermap.inference.backends.base import Precision
    from aftermap.inference.ensemble import Options

TtaName = Literal["none", "half-turn", "flips", "rotations", "full"]
BackendName = Literal["auto", "torch", "onnxruntime", "openvino"]
PrecisionName = Literal["auto", "f32", "bf16", "f16", "fp32", "fp16"]

MOST_THREADS = 4096

TTA_HELP = (
    "Average over views of each image: flips four mirrorings, rotations four quarter turns, full all eight, half-turn "
    "two. Better by a little, slower by as many times."
)
SCALES_HELP = "Average over sizes of each image too, such as 0.75,1,1.25."
BACKEND_HELP = (
    "What runs the network. auto: the exported form that lies in the model's folder, else the fastest, measured on the "
    "first window and remembered; AFTERMAP_BACKEND names one in its place."
)
THREADS_HELP = "Threads of the processor; 0: OMP_NUM_THREADS where it is set, else what the backend chooses."
PRECISION_HELP = (
    "Arithmetic of the network; fp32 and fp16, as trainings call them, are f32 and f16. auto: f16 on a GPU, else f32 "
    "or what an exported model was accepted with."
)
COMPILED_HELP = "On a GPU: let torch.compile build kernels, a minute at first, faster after that."
LOW_MEMORY_HELP = "Hold one member of an ensemble at a time; each is loaded again for every window."


@RUNNING
@Parameter(name="*")
@dataclass(frozen=True)
class Running:
    """How a model is run."""

    tta: Annotated[TtaName, Parameter(help=TTA_HELP)] = "none"
    scales: Annotated[str, Parameter(help=SCALES_HELP)] = "1"
    averaging: Annotated[
        Literal["probabilities", "logits", "votes", "largest"] | None,
        Parameter(
            help="What is averaged over views and members; by default what the ensemble says. One model's views can "
            "also vote, or give each class its largest probability."
        ),
    ] = None
    compat_uint8: Annotated[
        bool | None,
        Parameter(
            help="Cut probabilities to 8 bits before they are averaged over members, as published systems did "
            "that passed them through files; by default what the ensemble says."
        ),
    ] = None
    low_memory: Annotated[bool, Parameter(help=LOW_MEMORY_HELP, negative="")] = False
    device: Annotated[str, Parameter(help="cpu, cuda or cuda:n.")] = "cpu"
    backend: Annotated[BackendName, Parameter(help=BACKEND_HELP)] = "auto"
    threads: Annotated[int, Parameter(help=THREADS_HELP, validator=Number(gte=0, lte=MOST_THREADS))] = 0
    precision: Annotated[PrecisionName, Parameter(help=PRECISION_HELP)] = "auto"
    compiled: Annotated[bool, Parameter(name="--compile", help=COMPILED_HELP, negative="")] = False

    def options(self) -> "Options":
        """The same for the functions below the command line."""
        from aftermap.inference.backends.base import known_device
        from aftermap.inference.ensemble import Options

        known_device(self.device)
        say_choices()
        return Options(
            device=self.device,
            tta=self.tta,
            scales=numbers("--scales", self.scales, "0.75,1,1.25"),
            averaging=self.averaging,
            compat_uint8=self.compat_uint8,
            low_memory=self.low_memory,
            backend=self.backend,
            threads=self.threads,
            precision=_short(self.precision),
            compiled=self.compiled,
        )


AS_IT_IS = Running()


def _short(word: PrecisionName) -> "Precision":
    """The word of inference for what trainings and exports call fp32 and fp16."""
    if word == "fp32":
        return "f32"
    return "f16" if word == "fp16" else word


class _Lines(logging.Handler):
    """Says what is logged as soon as the work is seen to go on; a command that is refused says its reason alone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line until then."""
        say_when_working(record.getMessage())


def say_choices() -> None:
    """Let the choice of a backend be said on standard error."""
    logger = logging.getLogger("aftermap.backends")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())


def numbers(option: str, text: str, example: str) -> tuple[float, ...]:
    """Numbers of an option such as `0.75,1,1.25`.

    Raises:
        InputError: it is no list of numbers.
    """
    from aftermap.errors import InputError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text} is not a list of numbers: pass one such as {example}") from None


def whole_numbers(option: str, text: str, example: str) -> tuple[int, ...]:
    """Whole numbers of an option such as `3,2,1`.

    Raises:
        InputError: it is no list of them.
    """
    from aftermap.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text} is not a list of numbers: pass one such as {example}") from None


def percentiles(text: str | None) -> tuple[float, float] | None:
    """Two percentiles of `--stretch`.

    Raises:
        InputError: other than two rising numbers from 0 to 100.
    """
    from aftermap.errors import InputError

    if text is None:
        return None
    pair = numbers("--stretch", text, "2,98")
    if len(pair) != 2 or not 0 <= pair[0] < pair[1] <= 100:
        raise InputError(f"--stretch {text} is not a pair of percentiles: pass two rising ones such as 2,98")
    return pair[0], pair[1]
