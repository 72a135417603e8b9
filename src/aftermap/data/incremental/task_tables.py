"""Tables of class-incremental tasks: which classes of a dataset are new at which step."""

from aftermap.data.incremental.photograph_tasks import Steps, ade_tasks, city_places, voc_tasks
from aftermap.data.legends import ADE, CITYSCAPES, VOC, Legend

OFFLINE = "offline"
"""The task that every legend has: all classes at once."""

_ISAID_STEPS: Steps = (
    (
        "baseball_diamond",
        "tennis_court",
        "basketball_court",
        "ground_track_field",
        "swimming_pool",
        "soccer_ball_field",
    ),
    ("bridge", "large_vehicle", "small_vehicle", "roundabout"),
    ("ship", "storage_tank", "harbor"),
    ("helicopter", "plane"),
)
_LOVEDA_STEPS: Steps = (("building", "road"), ("water", "forest"), ("barren", "agriculture"))
_ZURICH_STEPS: Steps = (
    ("buildings", "roads"),
    ("trees", "grass"),
    ("water", "bare_soil"),
    ("railways", "swimming_pools"),
)

PLACES: dict[str, dict[str, Steps]] = {CITYSCAPES.name: city_places()}
"""Tasks whose later steps add places and no class, by legend and name: the places that are new at each step."""

TASKS: dict[str, dict[str, Steps]] = {
    "isprs": {
        "222a": (("impervious_surfaces", "low_vegetation"), ("building", "tree"), ("car", "clutter")),
        "321": (("building", "tree", "clutter"), ("impervious_surfaces", "low_vegetation"), ("car",)),
        "6s": (
            ("building",),
            ("tree",),
            ("impervious_surfaces",),
            ("low_vegetation",),
            ("car",),
            ("clutter",),
        ),
    },
    "agrivision": {
        "6-2": (
            ("double_plant", "drydown", "endrow", "nutrient_deficiency", "planter_skip", "weed_cluster"),
            ("water", "waterway"),
        )
    },
    "isaid": {"4s": _ISAID_STEPS},
    "loveda": {"3s": _LOVEDA_STEPS, "6s": tuple((name,) for step in _LOVEDA_STEPS for name in step)},
    "zurich-summer": {"4s": _ZURICH_STEPS, "8s": tuple((name,) for step in _ZURICH_STEPS for name in step)},
    "dubai-landcover": {
        "3s": (("building", "road"), ("vegetation", "land"), ("water",)),
        "5s": (("building",), ("road",), ("vegetation",), ("water",), ("land",)),
    },
    VOC.name: voc_tasks(VOC),
    ADE.name: ade_tasks(ADE),
    CITYSCAPES.name: {
        name: (CITYSCAPES.names, *((),) * (len(places) - 1))
        for name, places in PLACES[CITYSCAPES.name].items()
    },
    "joint-damage-scale": {"2-2": (("no-damage", "destroyed"), ("minor-damage", "major-damage"))},
}
"""Tasks by legend and name: the classes that are new at each step; the order is that of the model's channels.

Those of ISPRS, iSAID and Agriculture-Vision are MiB-CD's, those of VOC and ADE20K MiB's and PLOP's, those of Cityscapes
PLOP's. `offline`, all
classes at once, is known for every legend.
"""


def tasks_of(legend: Legend) -> dict[str, Steps]:
    """The tasks that are known for a legend, by name; `offline` always."""
    own = tuple(name for index, name in enumerate(legend.names) if index != legend.background)
    return {OFFLINE: (own,)} | TASKS.get(legend.name, {})
