"""A training step of a recipe against the same step on batches that are in memory already.

    python bench/training_step.py recipes/damage.yaml PREPARED --steps 20

Steps take turns: one fed by the recipe's own loader, which prepares batches in threads ahead, and one fed with a batch
that was kept. Told are seconds by the clock and by the processor, in which the loader's threads are counted too. The
first steps of each are not counted.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from aftermap.data.batch import Batch
from aftermap.learning.loop import Training
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import load_recipe
from aftermap.workflows.training.run import OrdinaryTraining
from aftermap.workflows.training.scenes import choose_scenes


class Kept:
    """The same batches over and over."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def batch(self, index: int) -> Batch:
        return self._batches[index % len(self._batches)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, as of `aftermap train`")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    changes = [f"data.manifests=[{arguments.data}]", *arguments.set]
    recipe = load_recipe(TrainRecipe, arguments.recipe, changes)
    chosen = choose_scenes(recipe.data, recipe.task)
    made = OrdinaryTraining(recipe, chosen, "bench")
    training: Training = made.training
    kept = Kept([made.source.batch(index) for index in range(4)])
    taken: dict[str, list[tuple[float, float]]] = {"loader": [], "memory": []}
    for turn in range(arguments.steps + arguments.warm):
        for name, source in (("loader", made.source), ("memory", kept)):
            wall, cpu = time.perf_counter(), time.process_time()
            training.advance(source)
            if turn >= arguments.warm:
                taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    for name, steps in taken.items():
        wall, cpu = (statistics.median(step[part] for step in steps) for part in (0, 1))
        print(f"{name}: {wall:.2f} s by the clock, {cpu:.2f} s of the processor")
    ratios = sorted(m[0] / f[0] for f, m in zip(taken["loader"], taken["memory"], strict=True))
    middle = len(ratios) // 4
    print(
        f"precision {training._arithmetic}; memory over loader by the clock: {statistics.median(ratios):.2f} "
        f"({ratios[middle]:.2f} to {ratios[-1 - middle]:.2f} in the middle half)"
    )


if __name__ == "__main__":
    main()
