"""The worked training batch of incremental learning: a network of sines and cosines, its images and labels."""

import torch
from torch import nn

from aftermap.classes import IGNORE
from aftermap.data.batch import Batch
from aftermap.models.networks.dense import DenseModel


def grid(*sizes):
    return torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in sizes), indexing="ij")


class Stub(DenseModel):
    """tanh of a 3 x 3 convolution, then a 1 x 1 classifier; `shift` is 0.2 of the student, 0.25 of the teacher."""

    dates, stride = 1, 1

    def __init__(self, classes, shift=0.2):
        super().__init__()
        self.classes = classes
        self.encoder = nn.Conv2d(3, 4, 3, padding=1, bias=False, dtype=torch.float64)
        self.head = nn.Conv2d(4, classes, 1, dtype=torch.float64)
        k, c, i, j = grid(4, 3, 3, 3)
        m, n = grid(classes, 4)
        with torch.no_grad():
            self.encoder.weight.copy_(0.2 * torch.cos(shift + 0.6 * k + 0.4 * c + 0.5 * i + 0.3 * j))
            self.head.weight.copy_(torch.sin(0.3 + 0.7 * m + 0.5 * n)[:, :, None, None])
            self.head.bias.copy_(0.1 * torch.arange(classes))

    def forward_features(self, image):
        return torch.tanh(self.encoder(image[:, 0]))

    def forward_head(self, features, size):
        return self.head(features)


def worked_batch(new=2):
    """The batch; `new` is the class that its labels hold beside the background."""
    b, c, h, w = grid(2, 3, 4, 4)
    image = torch.sin(0.1 + 0.5 * b + 0.9 * c + 0.3 * h + 0.2 * w)
    b, h, w = grid(2, 4, 4)
    mask = torch.where((h + w + b) % 3 == 0, new, 0).long()
    mask[0, 0, 0] = IGNORE
    return Batch(image[:, None], mask)


class Counted:
    """How often models ran, and with how many images each time."""

    def __init__(self, *models):
        self.rows = [[] for _ in models]
        for rows, model in zip(self.rows, models, strict=True):
            model.register_forward_pre_hook(lambda _, inputs, rows=rows: rows.append(len(inputs[0])))
