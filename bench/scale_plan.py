"""Machines, hours, bytes and money of a map of a large area, on paper, from measured rates.

    python bench/scale_plan.py
    python bench/scale_plan.py --area 10000 --gsd 0.5 --machines 1 2 4 8 --cores 16 --machine-hour 0.68
    python bench/scale_plan.py --map-seconds 0.8 --json

Every assumption is an option with its value printed beside the result. The rates were measured by `bench/map_many.py` on
two cores (docs/benchmarks.md); prices are assumptions and not anybody's offer: put in yours.
"""

import argparse
import json
import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Plan:
    """What is assumed; rates per megapixel are of one date's pixels of the map, for both dates together."""

    area: float = 10_000.0  # km2
    gsd: float = 0.5  # m
    overlap: float = 0.1  # share of ground that is in two scenes
    scene_side: float = 10_000.0  # px
    map_seconds: float = 0.48  # CPU s per Mpx: a scene by a worker that has its model
    start_seconds: float = 1.0  # CPU s per worker: imports, model, compiled graph
    merge_seconds: float = 0.13  # CPU s per Mpx, by the one process that merges
    merge_alone: float = 0.28  # share of it that one thread does while the others wait
    merge_threads: int = 8  # that share the rest, as far as there are cores
    efficiency: float = 0.9  # of all cores together against one
    input_mb: float = 2.7  # MB per Mpx, both dates, GeoTIFF with deflate
    part_mb: float = 1.26  # MB per Mpx, until the map is there
    output_mb: float = 1.15  # MB per Mpx, COGs
    buildings: float = 1_000.0  # per km2
    building_seconds: float = 65e-6  # CPU s to merge and write a building
    building_kb: float = 2.0  # kB per building in all formats
    building_memory_kb: float = 4.3  # kB of memory per building while tables are merged
    cores: int = 16  # of a machine
    worker_gb: float = 0.9  # memory of a worker
    machine_hour: float = 0.68  # money
    storage_month: float = 0.023  # money per GB and month
    egress_gb: float = 0.0  # money per GB read, where images lie in another place
    network: float = 250.0  # MB/s that a machine reads from a bucket


def computed(plan: Plan, machines: int) -> dict[str, Any]:
    """Hours, bytes and money with so many machines."""
    pixels = plan.area * 1e6 / plan.gsd**2 / 1e6  # Mpx
    mapped = pixels * (1 + plan.overlap)
    scenes = math.ceil(mapped * 1e6 / plan.scene_side**2)
    workers = machines * plan.cores
    core_seconds = mapped * plan.map_seconds + workers * plan.start_seconds
    busy = min(workers, scenes)
    mapping = core_seconds / busy / plan.efficiency
    reading = mapped * plan.input_mb / (machines * plan.network)
    merge_core_seconds = pixels * plan.merge_seconds + plan.area * plan.buildings * plan.building_seconds
    shared = pixels * plan.merge_seconds * (1 - plan.merge_alone)
    merging = merge_core_seconds - shared + shared / min(plan.merge_threads, plan.cores)
    wall = max(mapping, reading) + merging
    found = plan.area * plan.buildings
    inputs, parts = mapped * plan.input_mb / 1e3, mapped * plan.part_mb / 1e3
    outputs = pixels * plan.output_mb / 1e3 + found * plan.building_kb / 1e6
    # the other machines go home when the scenes are done; one merges
    machine_hours = machines * max(mapping, reading) / 3600 + merging / 3600
    return {
        "machines": machines,
        "workers": workers,
        "scenes": scenes,
        "mapping_hours": max(mapping, reading) / 3600,
        "merging_hours": merging / 3600,
        "wall_hours": wall / 3600,
        "core_hours": (core_seconds + merge_core_seconds) / 3600,
        "memory_gb_per_machine": plan.cores * plan.worker_gb,
        "memory_gb_of_merging": found * plan.building_memory_kb / 1e6 + 1,
        "input_gb": inputs,
        "parts_gb": parts,
        "output_gb": outputs,
        "money_machines": machine_hours * plan.machine_hour,
        "money_month_of_storage": outputs * plan.storage_month,
        "money_reading": inputs * plan.egress_gb,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for each in fields(Plan):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default)
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    plan = Plan(**{each.name: getattr(options, each.name) for each in fields(Plan)})
    found = [computed(plan, machines) for machines in options.machines]
    if options.json:
        print(json.dumps({"assumed": vars(plan), "computed": found}, indent=1))
        return
    first = found[0]
    size = plan.area * 1e6 / plan.gsd**2 / 1e9
    print(f"{plan.area:,.0f} km2 at {plan.gsd:g} m: {size:,.1f} Gpx, {first['scenes']:,} scenes")
    print(
        f"read {first['input_gb']:,.0f} GB, parts {first['parts_gb']:,.0f} GB, map {first['output_gb']:,.0f} GB\n"
    )
    print("| machines | workers | mapping, h | merging, h | in all, h | core hours | machines cost |")
    print("|---|---|---|---|---|---|---|")
    for row in found:
        print(
            f"| {row['machines']} | {row['workers']} | {row['mapping_hours']:.2f} | {row['merging_hours']:.2f} | "
            f"{row['wall_hours']:.2f} | {row['core_hours']:.1f} | {row['money_machines']:.2f} |"
        )
    machine, merging = first["memory_gb_per_machine"], first["memory_gb_of_merging"]
    print(f"\nmemory: {machine:.0f} GB a machine, {merging:.0f} GB to merge the tables")
    print(f"a month of storage: {first['money_month_of_storage']:.2f}; reading: {first['money_reading']:.2f}")
    print("\nassumed: " + ", ".join(f"{name} {value:g}" for name, value in vars(plan).items()))


if __name__ == "__main__":
    main()
