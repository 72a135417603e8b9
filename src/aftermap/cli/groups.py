"""Headings under which the help of a command with many options sorts them; what matters first has none."""

from cyclopts import Group, Parameter

IMAGES = Parameter(group=Group("Images and their ground", sort_key=1))
OBJECTS = Parameter(group=Group("Buildings and regions", sort_key=2))
TILES = Parameter(group=Group("Which tiles", sort_key=3))
RUNNING = Parameter(group=Group("How the model is run", sort_key=4))
RESULT = Parameter(group=Group("What is written", sort_key=5))
COMPATIBLE = Parameter(group=Group("As a published system did", sort_key=6))
