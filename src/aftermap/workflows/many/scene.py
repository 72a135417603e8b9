"""One scene of many: mapped as a draft, packed, and put in its place."""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from aftermap.errors import GeoreferenceError
from aftermap.files import make_folder, write_json
from aftermap.geo.pair import Alignment
from aftermap.workflows.many.pairs import Pair
from aftermap.workflows.many.parts import FACTS, Parts, pack
from aftermap.workflows.mapping.settings import identity
from aftermap.worklist.job import Do, Job
from aftermap.worklist.worker import resident_bytes

_ADDRESS = ("://", ":/", "/vsi")


@dataclass(frozen=True)
class SceneWork:
    """Mapping scenes: what every worker gets.

    Attributes:
        parts: where finished scenes go.
        scratch: folder of this machine for what is under way.
        model: as the user named it.
        align: see `mapping.damage.map_damage`.
        options: of every map, as `mapping.settings.MapKeywords`.
    """

    parts: Parts
    scratch: Path
    model: str
    align: Alignment = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)

    def start(self) -> Do:
        """Open the model, once for all scenes of this worker.

        Raises:
            ModelError: it cannot be used.
        """
        from aftermap.inference.ensemble import EnsemblePredictor, open_predictor
        from aftermap.workflows.mapping.damage import map_damage
        from aftermap.workflows.mapping.inputs.elsewhere import Elsewhere
        from aftermap.workflows.mapping.settings import Settings

        settings = Settings(model=self.model, **self.options)
        predictor = open_predictor(self.model, settings.running)

        def do(job: Job) -> dict[str, Any]:
            begun, pair, name = time.monotonic(), pair_of(job.what), job.what["part"]
            if isinstance(predictor, EnsemblePredictor) and predictor.gate is not None:
                predictor.gate.seen = predictor.gate.skipped = 0
            folder = make_folder(self.scratch) / name
            options = {"draft": True, "resume": True, "overwrite": True, **self.options}
            options |= {"pre_date": pair.pre_date, "post_date": pair.post_date, "block": pair.block}
            named = [Path(each) for each in (pair.footprints, pair.cloud_mask, pair.pre, pair.post) if each]
            with Elsewhere.of(*named) as elsewhere:
                area = options.get("aoi")
                if pair.footprints is not None:
                    options["footprints"] = elsewhere.vectors(Path(pair.footprints))
                if pair.cloud_mask is not None:
                    options["cloud_mask"] = elsewhere.mask(Path(pair.cloud_mask), area, None)
                pre, post = (elsewhere.path(each, area) for each in (pair.pre, pair.post))
            result = map_damage(pre, post, folder, align=self.align, model=predictor, **options)
            if result.damage.grid.crs is None:
                shutil.rmtree(folder, ignore_errors=True)
                raise GeoreferenceError(
                    f"{pair.pre} has no georeference, so nobody knows where its map belongs: map it alone"
                )
            facts = {
                "attempts": job.attempt,
                "buildings": len(result.buildings),
                "damaged": result.summary["damaged"]["buildings"],
                "megapixels": round(result.megapixels, 3),
                "resumed_rows": result.resumed_rows,
                "warnings": len(result.warnings),
                "resident_mb": round(resident_bytes() / 1e6),
            }
            seconds = round(time.monotonic() - begun, 2)
            write_json(folder / FACTS, facts | {"seconds": seconds}, sync=False)
            file = pack(folder, folder.with_name(f"{name}.zip"))
            is_first = self.parts.keep(name, file)
            for path in (folder, file):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            return facts | {"part": name, "first": is_first}

        return do


def job_of(pair: Pair, decides: Mapping[str, Any]) -> Job:
    """The job of a scene; it holds addresses alone.

    Args:
        pair: the scene.
        decides: what, beside its files, decides its map.
    """
    what = {
        each.name: value.isoformat() if isinstance(value := getattr(pair, each.name), date) else value
        for each in fields(Pair)
    }
    return Job(pair.name, what | {"part": f"{pair.name}-{key_of(pair, decides)}"})


def pair_of(what: Mapping[str, Any]) -> Pair:
    """The scene of a job."""
    values: dict[str, Any] = {each.name: what[each.name] for each in fields(Pair)}
    for name in ("pre_date", "post_date"):
        values[name] = None if values[name] is None else date.fromisoformat(values[name])
    return Pair(**values)


def key_of(pair: Pair, decides: Mapping[str, Any]) -> str:
    """What decides the map of a scene, as twelve letters: an image that was exchanged makes another part."""
    named = {"pre": pair.pre, "post": pair.post, "footprints": pair.footprints, "cloud_mask": pair.cloud_mask}
    tree = {
        "files": {key: _identity(value) for key, value in named.items()},
        "days": [str(pair.pre_date), str(pair.post_date)],
        "block": pair.block,
        **decides,
    }
    text = json.dumps(tree, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _identity(address: str | None) -> Any:
    """Enough of a file, or of each in a folder, to see that it is still the same one; addresses as they are."""
    if address is None or any(mark in address for mark in _ADDRESS):
        return address
    path = Path(address)
    path = path if path.exists() else Path(address.rpartition(":")[0] or address)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    return [address, [identity(each) for each in files]]
