"""Maps of damaged buildings from images taken before and after a disaster; `aftermap.api` lists what it does.

The public names are loaded on first use, so that `import aftermap` needs neither torch nor GDAL.
"""

from importlib import import_module
from inspect import isfunction
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "DAMAGE": "aftermap.classes",
    "BUILDING": "aftermap.classes",
    "ClassScheme": "aftermap.classes",
    "AftermapError": "aftermap.errors",
    "Grid": "aftermap.geo.grid",
    "Manifest": "aftermap.data.scene",
    "Scene": "aftermap.data.scene",
    "Batch": "aftermap.data.batch",
    "build_model": "aftermap.models.build",
    "load_model": "aftermap.artefacts.store",
    "save_model": "aftermap.artefacts.store",
    "pull_model": "aftermap.artefacts.hub",
    "push_model": "aftermap.artefacts.hub",
    "Predictor": "aftermap.inference.predictor",
    "open_predictor": "aftermap.inference.ensemble",
    "MapResult": "aftermap.workflows.mapping.result",
    **dict.fromkeys(("find", "footprints", "compare", "fuse", "fuse_cells", "monitor"), "aftermap.api"),
    **dict.fromkeys(
        (
            *(
                "map",
                "map_buildings",
                "map_classes",
                "map_many",
                "learn",
                "open_model",
                "predict",
                "evaluate",
                "score",
                "benchmark",
                "train",
                "adapt",
                "adapt_map",
            ),
            *("agency_package", "collect"),
            "report",
            *("prepare", "check", "split", "synth"),
            *("answers", "totals", "areas", "package"),
        ),
        "aftermap.api",
    ),
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        found = getattr(import_module(_PUBLIC[name]), name)
        if isfunction(found):
            from aftermap.wording import called_from_python

            found = called_from_python(found)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'aftermap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
