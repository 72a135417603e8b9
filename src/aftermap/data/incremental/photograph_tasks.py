"""The published steps of class-incremental tasks on photographs: MiB's and PLOP's, by the datasets' class numbers."""

from collections.abc import Iterator
from itertools import accumulate, pairwise

from aftermap.data.legends import Legend

Steps = tuple[tuple[str, ...], ...]
"""Names of the new classes of each step."""

_VOC = {
    "19-1": "1-19 20",
    "19-1b": "1-4,6-20 5",
    "15-5": "1-15 16-20",
    "15-5s": "1-15 16 17 18 19 20",
    "10-5-5": "1-10 11-15 16-20",
    "10-1": "1-10 11 12 13 14 15 16 17 18 19 20",
}
_VOC_ORDERS = """
12 9 20 7 15 8 14 16 5 19 4 1 13 2 11 17 3 6 18 10
13 19 15 17 9 8 5 20 4 3 10 11 18 16 7 12 14 6 1 2
15 3 2 12 14 18 20 16 11 1 19 8 10 7 17 6 5 13 9 4
7 5 3 9 13 12 14 19 10 2 1 4 16 8 17 15 18 6 11 20
7 13 5 11 9 2 15 12 14 3 20 1 16 4 18 8 6 10 19 17
7 5 9 1 15 18 14 3 20 10 4 19 11 17 16 12 8 6 2 13
12 9 19 6 4 10 5 18 14 15 16 3 8 7 11 13 2 20 17 1
13 10 15 8 7 19 4 3 16 12 14 11 5 20 6 2 18 9 17 1
1 14 9 5 2 15 8 20 6 16 18 7 11 10 19 3 4 17 12 13
16 13 1 11 12 18 6 14 5 3 7 9 20 19 15 4 2 10 8 17
10 7 6 19 16 8 17 1 14 4 9 3 15 11 12 2 18 20 13 5
18 4 14 17 12 10 7 3 9 1 8 15 6 13 2 5 11 20 16 19
5 4 13 18 14 10 19 15 7 9 3 2 8 16 20 1 12 11 6 17
9 12 13 18 7 1 15 17 10 8 4 5 20 16 6 14 19 11 2 3
9 12 13 18 2 11 15 17 10 8 4 5 20 16 6 14 19 1 7 3
3 14 13 18 2 11 15 17 10 8 4 5 20 16 6 12 19 1 7 9
3 14 13 1 2 11 15 17 7 8 4 5 9 16 19 12 6 18 10 20
3 14 6 1 2 11 12 17 7 20 4 5 9 16 19 15 13 18 10 8
3 15 13 1 2 11 18 17 7 20 8 5 9 16 19 14 6 12 10 4
3 15 13 14 6 11 18 17 7 20 8 4 9 16 10 1 2 12 19 5
1 2 12 14 6 19 18 17 5 20 8 4 9 16 10 3 15 13 11 7
1 2 12 14 13 19 18 7 11 20 8 4 9 16 10 3 15 6 5 17
"""
"""PLOP's orders of `15-5s`, called b to w: fifteen classes at first, then one after the other."""

_B_100 = (
    "1,3,5,6,8-10,12-14,18,19,21-29,31-34,36,38-40,42-49,53-58,60-63,69-71,74-77,80-82,84,86,87,90,91,93,95,96,99-101,"
    "103-107,109,113,116,117,119-121,123,125,126,128-136,140,142-144,147-150"
)
_C_100 = (
    "1,5,6,8-14,16,17,19,20,23-37,40,41,43-46,48,50,52,54,56,57,61,63,65-71,74,76-79,81-87,90,94-99,102,105,106,109-112,"
    "114,115,118-121,123,124,126,128,129,132-136,138,139,142-144,146,147,149"
)
_B_REST = (
    "2,4,7,11,15-17,20,30,35,37,41,50-52,59,64-68,72,73,78,79,83,85,88,89,92,94,97,98,102,108,110-112,114,115,118,122,124,"
    "127,137-139,141,145,146"
)
_C_REST = (
    "2-4,7,15,18,21,22,38,39,42,47,49,51,53,55,58-60,62,64,72,73,75,80,88,89,91-93,100,101,103,104,107,108,113,116,117,"
    "122,125,127,130,131,137,140,141,145,148,150"
)
_ADE = {
    "100-50": "1-100 101-150",
    "100-50b": f"{_B_100} {_B_REST}",
    "100-50c": f"{_C_100} {_C_REST}",
    "100-10": "1-100 101-110 111-120 121-130 131-140 141-150",
    "100-10b": (
        f"{_B_100} 11,16,50,64,66,73,89,92,145,146 30,37,51,52,72,85,98,114,115,138 "
        "2,35,65,97,110,111,112,118,124,141 4,7,15,41,67,78,79,88,108,139 17,20,59,68,83,94,102,122,127,137"
    ),
    "100-10c": (
        f"{_C_100} 3,4,7,18,39,64,73,101,113,137 47,51,55,60,62,80,116,127,140,148 "
        "22,42,49,58,59,89,91,92,108,125 2,38,53,100,104,117,130,131,141,145 15,21,72,75,88,93,103,107,122,150"
    ),
    "100-5": " ".join(["1-100", *(f"{first}-{first + 4}" for first in range(101, 150, 5))]),
    "50": "1-50 51-100 101-150",
    "50b": (
        "1,9,14,18,22,24,25,27-29,32,38,42,45-49,54,56,58,61-63,69,74-77,81,82,84,90,93,96,100,103,104,109,117,119,121,123,"
        "128-130,134-136,144 "
        "3,5,6,8,10,12,13,19,21,23,26,31,33,34,36,39,40,43,44,53,55,57,60,70,71,80,86,87,91,95,99,101,105-107,113,116,120,"
        f"125,126,131-133,140,142,143,147-150 {_B_REST}"
    ),
    "50c": (
        "5,10-13,16,17,19,20,23,27,28,30-33,37,43,46,52,56,57,65,66,69,70,74,76,77,79,82,83,86,87,105,109-111,119,128,129,"
        "132-134,138,142-144,146,147 "
        "1,6,8,9,14,24-26,29,34-36,40,41,44,45,48,50,54,61,63,67,68,71,78,81,84,85,90,94-99,102,106,112,114,115,118,120,"
        f"121,123,124,126,135,136,139,149 {_C_REST}"
    ),
}

_CITIES = (
    "aachen bremen darmstadt erfurt hanover krefeld strasbourg tubingen weimar bochum cologne dusseldorf hamburg jena "
    "monchengladbach stuttgart ulm zurich frankfurt lindau munster"
)
"""Cities of Cityscapes in the order in which PLOP learns them, those of the official validation set last."""
_CITY_COUNTS = {"11-5": (11, 5, 5), "11-1": (11, *(1,) * 10), "1-1": (1,) * 21}
"""PLOP's tasks that add cities and no class: how many cities each step adds."""


def city_places() -> dict[str, Steps]:
    """Cities of Cityscapes that each step adds, by task: PLOP's, all classes being known from the first step on."""
    cities = _CITIES.split()
    tasks = {}
    for name, counts in _CITY_COUNTS.items():
        ends = list(accumulate(counts, initial=0))
        tasks[name] = tuple(tuple(cities[first:end]) for first, end in pairwise(ends))
    return tasks


def voc_tasks(legend: Legend) -> dict[str, Steps]:
    """Tasks on Pascal VOC by name."""
    tasks = {name: _steps(legend, table) for name, table in _VOC.items()}
    for number, order in enumerate(_VOC_ORDERS.split("\n")[1:-1]):
        classes = order.split()
        table = " ".join([",".join(classes[:15]), *classes[15:]])
        tasks[f"15-5s_{chr(ord('b') + number)}"] = _steps(legend, table)
    return tasks


def ade_tasks(legend: Legend) -> dict[str, Steps]:
    """Tasks on ADE20K by name."""
    return {name: _steps(legend, table) for name, table in _ADE.items()}


def _steps(legend: Legend, table: str) -> Steps:
    """Steps of a table such as `1-4,6 5`: class numbers of a step joined by commas, steps by blanks."""
    return tuple(tuple(legend.names[number] for number in _numbers(step)) for step in table.split())


def _numbers(step: str) -> Iterator[int]:
    for part in step.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
