"""A few steps of MiB-CD in one process, or in several; called by the tests, once per process."""

import json
import os

import torch

from aftermap.config import build_config
from aftermap.data.batch import Batch
from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.configs.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.loop import Training, fit
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.objectives.turned_views import Turns
from incremental_stub import Stub

STEPS = 3


class Pieces:
    """Batch n of two samples is a function of n; `joined` puts so many of them together."""

    def __init__(self, joined):
        self.joined = joined

    def batch(self, index):
        parts = [self._piece(index * self.joined + i) for i in range(self.joined)]
        return Batch(torch.cat([p.image for p in parts]), torch.cat([p.mask for p in parts]))

    def _piece(self, index):
        g = torch.Generator().manual_seed(index)
        mask = 2 * torch.randint(0, 2, (2, 8, 8), generator=g)
        return Batch(torch.randn(2, 1, 3, 8, 8, generator=g), mask)


def learn(tree, *, joined, fixed):
    """Weights of the student after some steps, the turns that were drawn, and the thresholds."""
    config = build_config(IncrementalConfig, tree)
    objective = Incremental(config, step=1, heads=[2, 1], teacher=Stub(2, shift=0.25).float())
    drawn, draw = [], objective.turns_of

    def turns_of(image):
        turns = Turns((1,) * len(image)) if fixed else draw(image)
        drawn.append(turns.elements)
        return turns

    objective.turns_of = turns_of
    optimizer = OptimizerConfig(algorithm="sgd", lr=0.1, schedule=CosineConfig(warmup_steps=1))
    training = Training(Stub(3).float(), objective, optimizer, steps=STEPS, seed=1, precision="no")
    if not objective.is_prepared:
        rank = training.accelerator.process_index
        objective.prepare(training.model, iter([Pieces(joined).batch(rank)]))
    for _ in fit(training, Pieces(joined)):
        pass
    weights = {name: value.detach().tolist() for name, value in training.model.state_dict().items()}
    return {"weights": weights, "drawn": drawn, "thresholds": objective.thresholds.tolist()}


def learn_all(*, joined):
    """All that the test compares."""
    plain = {"method": "mib-cd"}
    two = {"method": "mib-cd", "contrastive": {"compat_two_passes": True, "supervise_transformed": True}}
    # a mean over the pixels with a label would weigh the processes by chance
    plop = {"method": "plop", "pseudo_labels": {"compat_mean_over_all": True}}
    return {
        "fixed": learn(plain, joined=joined, fixed=True),
        "two passes": learn(two, joined=joined, fixed=True),
        "plop": learn(plop, joined=joined, fixed=True),
        "drawn": learn(plain, joined=joined, fixed=False),
    }


def write_all(folder):
    """`learn_all` of one of two processes, into a file by its rank."""
    torch.set_num_threads(1)
    learned = learn_all(joined=1)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(learned))
