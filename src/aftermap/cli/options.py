"""Options that several commands have, and the headings under which help sorts many; what matters first has none."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

Out = Annotated[Path, Parameter(name=["-o", "--out"])]
MaybeOut = Annotated[Path | None, Parameter(name=["-o", "--out"])]
Flag = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Workers = Annotated[int, Parameter(validator=Number(gte=1))]
Several = Annotated[list[str] | None, Parameter(negative="")]
EngineName = Literal["processes", "ray"]
SplitName = Literal["train", "validation", "test", "unassigned", "all"]

IMAGES = Parameter(group=Group("Images and their ground", sort_key=1))
OBJECTS = Parameter(group=Group("Buildings and regions", sort_key=2))
TILES = Parameter(group=Group("Which tiles", sort_key=3))
RUNNING = Parameter(group=Group("How the model is run", sort_key=4))
RESULT = Parameter(group=Group("What is written", sort_key=5))
COMPATIBLE = Parameter(group=Group("As a published system did", sort_key=6))
