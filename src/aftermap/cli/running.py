"""Options of every command that runs a model on scenes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from aftermap.inference.ensemble import Options

TtaName = Literal["none", "half-turn", "flips", "rotations", "full"]

TTA_HELP = (
    "Average over views of each image: flips four mirrorings, rotations four quarter turns, full all eight, half-turn "
    "two. Better by a little, slower by as many times."
)
SCALES_HELP = "Average over sizes of each image too, such as 0.75,1,1.25."
LOW_MEMORY_HELP = "Hold one member of an ensemble at a time; each is loaded again for every window."


@Parameter(name="*")
@dataclass(frozen=True)
class Running:
    """How a model is run."""

    tta: Annotated[TtaName, Parameter(help=TTA_HELP)] = "none"
    scales: Annotated[str, Parameter(help=SCALES_HELP)] = "1"
    averaging: Annotated[
        Literal["probabilities", "logits"] | None,
        Parameter(help="What is averaged over views and members; by default what the ensemble says."),
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

    def options(self) -> "Options":
        """The same for the functions below the command line."""
        from aftermap.inference.ensemble import Options

        return Options(
            device=self.device,
            tta=self.tta,
            scales=numbers("--scales", self.scales, "0.75,1,1.25"),
            averaging=self.averaging,
            compat_uint8=self.compat_uint8,
            low_memory=self.low_memory,
        )


AS_IT_IS = Running()


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
