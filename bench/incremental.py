"""Classes learned step by step: what each method keeps of the old ones and takes up of the new ones, at equal steps.

    aftermap data prepare folder dubai-landcover --legend dubai-landcover --tile-px 256 --event-pattern 'tile[0-9]+' \\
        -o dubai
    aftermap data split dubai --hold-out tile4 --validate-on tile1
    python bench/incremental.py dubai --task 3s -o build/incremental
    python bench/incremental.py dubai --task 5s -o build/incremental --arms fine-tuning lwf ilt plop mib mib-cd joint

All arms of a seed go on from one model of the first step, which is learned without any of the methods; joint training
takes as many steps as they take in all. Run it again to go on where it stopped.
"""

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aftermap.config import read_tree
from commands import aftermap

CONTRASTIVE = "objective.contrastive."
PUBLISHED = [
    "objective.method=mib-cd",
    CONTRASTIVE + "features=embedding",
    CONTRASTIVE + "stop_gradient=false",
    CONTRASTIVE + "draws=per-batch",
    CONTRASTIVE + "compat_two_passes=true",
    CONTRASTIVE + "supervise_transformed=true",
]
ARMS: dict[str, list[str]] = {
    "fine-tuning": ["objective.method=fine-tuning"],
    "lwf": ["objective.method=lwf"],
    "ilt": ["objective.method=ilt"],
    "plop": ["objective.method=plop"],
    "mib": ["objective.method=mib"],
    # the published contrastive distillation: behind the dropout, with a doubled batch
    "mib-cd": PUBLISHED,
    # what of it is the doubled batch alone: turned copies are learned from, features are not compared
    "mib-doubled": [*PUBLISHED, CONTRASTIVE + "factor=0", CONTRASTIVE + "factor_old=0"],
    # without the doubled batch
    "mib-cd-single": [*PUBLISHED[:-1], CONTRASTIVE + "supervise_transformed=false"],
    # before the dropout, and without the doubled batch
    "mib-cd-trunk": [
        *PUBLISHED[:-1],
        CONTRASTIVE + "features=trunk",
        CONTRASTIVE + "supervise_transformed=false",
    ],
    # our defaults: before the dropout, every sample turned by itself, one pass, the plain view is the goal
    "mib-cd-ours": ["objective.method=mib-cd"],
    # where nothing else holds the old classes: without distillation, and with the published recipe of that kind
    "unbiased-ft": ["objective.method=unbiased-fine-tuning"],
    "unbiased-ft-cd": [
        "objective.method=unbiased-fine-tuning",
        *PUBLISHED[1:],
        CONTRASTIVE + "factor_old=10",
    ],
    "joint": ["joint=true"],
}


def steps_of(options: argparse.Namespace) -> tuple[int, int]:
    """Optimizer steps of the first step of the task, and of each later one."""
    tree = read_tree(Path(options.recipe))
    return options.first or int(tree["first"]["steps"]), options.steps or int(tree["steps"])


def words(options: argparse.Namespace, seed: int) -> list[str]:
    """What all runs of a seed have in common."""
    first, later = steps_of(options)
    given = [f"data.manifests=[{options.data}]", f"task={options.task}", f"seed={seed}", *options.set]
    given += [f"first.steps={first}", f"first.evaluate_every={first}"]
    return ["train", options.recipe, *given, f"steps={later}", f"evaluate_every={later}"]


def finish(options: argparse.Namespace, run: Path, command: list[str]) -> None:
    """Run a training to its end, from where it stopped if it is there; nothing where it is done."""
    log = run.with_suffix(".log")
    if (run / "run.json").is_file():
        if json.loads((run / "run.json").read_text()).get("status") == "complete":
            return
        command = ["train", "--resume", str(run)]
    aftermap([*command, *(["-o", str(run)] if "--resume" not in command else [])], log)
    print(run.name, file=sys.stderr, flush=True)


def start(options: argparse.Namespace, seed: int) -> Path:
    """The run that holds the model of the first step."""
    run: Path = options.out / f"{options.task}-start-{seed}"
    finish(options, run, [*words(options, seed), "objective.method=fine-tuning", "--step", "0"])
    return run


def learn(options: argparse.Namespace, arm: str, seed: int) -> Path:
    """The run of an arm."""
    run: Path = options.out / f"{options.task}-{arm}-{seed}"
    command = [*words(options, seed), f"name={arm}", *ARMS[arm]]
    if arm == "joint":
        first, later = steps_of(options)
        total = first + later * (options.count - 1)
        finish(options, run, [*command, f"first.steps={total}", f"first.evaluate_every={total}"])
    else:
        begun = options.out / f"{options.task}-start-{seed}"
        finish(options, run, [*command, "--from", str(begun / "steps" / "0" / "model")])
    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="prepared and split")
    parser.add_argument("--task", default="3s")
    parser.add_argument("--count", type=int, help="steps of the task; by default the number in its name")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--recipe", default="bench/incremental.yaml")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--first", type=int, help="optimizer steps of the first step")
    parser.add_argument("--steps", type=int, help="optimizer steps of each later step")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--set", nargs="*", default=[], help="key=value words for all runs")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/incremental"))
    options = parser.parse_args()
    options.count = options.count or int(options.task.rstrip("s"))
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(lambda seed: start(options, seed), seeds))
        pairs = [(arm, seed) for seed in seeds for arm in options.arms]
        runs = list(pool.map(lambda pair: learn(options, *pair), pairs))
    report = options.out / f"{options.task}-report"
    shutil.rmtree(report, ignore_errors=True)
    compared = ["incremental-report", *map(str, runs), "--by", "name", "-o", str(report)]
    aftermap(compared, report.with_suffix(".log"))
    print((report / "comparison.md").read_text())


if __name__ == "__main__":
    main()
