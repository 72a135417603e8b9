"""DeepLab v3 on a dilated ResNet whose normalisations end in leaky ReLUs: the network of MiB and PLOP, for one date.

Source: Chen et al. 2017 (DeepLab v3); Rota Bulo et al. 2018 (in-place ABN, here as two steps of equal values).
"""

from collections import OrderedDict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aftermap.errors import RecipeError
from aftermap.models.configs.networks import DeeplabConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.unet import upsample
from aftermap.models.weights.pretrained import load_weights

SLOPE = 0.01
"""Of every leaky ReLU."""

WIDTH = 256
"""Channels of the pyramid's branches, and of what the classifier sees."""

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
DILATIONS = {16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}
"""Of the four groups of blocks, by output stride."""

RATES = {16: (6, 12, 18), 8: (12, 24, 32)}
"""Of the pyramid's three dilated convolutions, by output stride."""


class Abn(nn.BatchNorm2d):
    """Batch normalisation and leaky ReLU in one.

    Attributes:
        positive: it scales by |weight| + eps, as the in-place form does, which has to be undone in its backward pass.
    """

    def __init__(self, channels: int, *, positive: bool, active: bool = True) -> None:
        super().__init__(channels)
        self.positive = positive
        self._active = active

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same shape."""
        if self.positive:
            if self.training and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            weight = self.weight.abs() + self.eps
            x = F.batch_norm(
                x,
                self.running_mean,
                self.running_var,
                weight,
                self.bias,
                training=self.training,
                momentum=self.momentum or 0.0,
                eps=self.eps,
            )
        else:
            x = super().forward(x)
        return F.leaky_relu(x, SLOPE) if self._active else x


class Deeplab(DenseModel):
    """Encoder, atrous pyramid and a linear classifier of its 256 channels; the logits are resampled bilinearly."""

    dates = 1

    def __init__(self, config: DeeplabConfig) -> None:
        """Assemble the network.

        Raises:
            ModelError: the encoder's weights are not there or do not fit.
        """
        super().__init__()
        self.classes = config.classes
        self.stride = config.output_stride
        self.encoder = DilatedResnet(config)
        self.decoder = AtrousPyramid(self.encoder.channels[-1], config)
        self.head = nn.Conv2d(WIDTH, config.classes, 1)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, 256, h, w) of images (B, 1, C, H, W) at the output stride.

        Raises:
            RecipeError: learning from one image at a time.
        """
        if self.training and len(image) < 2 and self.decoder.global_pooling_bn.training:
            # the image's mean has one value per channel and image, which normalises to nothing
            raise RecipeError(
                "deeplab-v3 cannot learn from one sample at a time: set batch_size to 2 or more"
            )
        deepest = self.encoder(image[:, 0])[-1]
        features: Tensor = self.decoder(F.leaky_relu(deepest, SLOPE) if self.encoder.gives_sums else deepest)
        return features

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W)."""
        return upsample(self.head(features), size)


class DilatedResnet(nn.Module):
    """A ResNet of bottlenecks whose last groups are dilated in place of strided; weight names are the original's.

    Attributes:
        channels: feature channels of each of its four groups, finest first.
        strides: stride of each in input pixels.
        gives_sums: its maps are those before the leaky ReLU.
    """

    def __init__(self, config: DeeplabConfig) -> None:
        super().__init__()
        self.gives_sums = config.compat_sums
        positive = config.compat_positive_scale
        self.mod1 = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(config.in_channels, 64, 7, stride=2, padding=3, bias=False),
                bn1=Abn(64, positive=positive),
                pool1=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.channels: list[int] = []
        self.strides: list[int] = []
        before, total = 64, 4
        for group, count in enumerate(BLOCKS[config.encoder_name]):
            width, dilation = 64 * 2**group, DILATIONS[config.output_stride][group]
            stride = 2 if group > 0 and dilation == 1 else 1
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(count):
                bottleneck = Bottleneck(
                    before, width, stride=stride if block == 0 else 1, dilation=dilation, positive=positive
                )
                blocks[f"block{block + 1}"] = bottleneck
                before = 4 * width
            if config.compat_sums:
                bottleneck.active = False
            self.add_module(f"mod{group + 2}", nn.Sequential(blocks))
            total *= stride
            self.channels.append(before)
            self.strides.append(total)
        if config.encoder_weights is not None:
            load_weights(self, config.encoder_weights, what=f"encoder {config.encoder_name} of deeplab-v3")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, C, H, W), finest first."""
        return list(self._groups(image))

    def _groups(self, image: Tensor) -> Iterator[Tensor]:
        x = self.mod1(image)
        for group in range(len(self.channels)):
            x = self.get_submodule(f"mod{group + 2}")(x)
            yield x
            if self.gives_sums:
                x = F.leaky_relu(x, SLOPE)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, added to their input; the leaky ReLU comes after the sum.

    Attributes:
        active: whether it comes.
    """

    def __init__(self, before: int, width: int, *, stride: int, dilation: int, positive: bool) -> None:
        super().__init__()
        self.active = True
        after = 4 * width
        self.convs = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(before, width, 1, bias=False),
                bn1=Abn(width, positive=positive),
                conv2=nn.Conv2d(
                    width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
                ),
                bn2=Abn(width, positive=positive),
                conv3=nn.Conv2d(width, after, 1, bias=False),
                bn3=Abn(after, positive=positive, active=False),
            )
        )
        self._projects = stride != 1 or before != after
        if self._projects:
            self.proj_conv = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.proj_bn = Abn(after, positive=positive, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 4 * width, h, w) of (B, before, H, W)."""
        kept = self.proj_bn(self.proj_conv(x)) if self._projects else x
        summed: Tensor = self.convs(x) + kept
        return F.leaky_relu(summed, SLOPE) if self.active else summed


class AtrousPyramid(nn.Module):
    """A 1x1 and three dilated 3x3 convolutions side by side, and the mean, brought back together by a sum.

    In training the mean is that of the image; in use that of windows of `pooling` cells, so that a pixel's class
    does not depend on how large a piece of the image is looked at.
    """

    def __init__(self, channels: int, config: DeeplabConfig) -> None:
        super().__init__()
        positive = config.compat_positive_scale
        self._pooling = config.pooling
        self.map_convs = nn.ModuleList(
            [
                nn.Conv2d(channels, WIDTH, 1, bias=False),
                *(
                    nn.Conv2d(channels, WIDTH, 3, padding=rate, dilation=rate, bias=False)
                    for rate in RATES[config.output_stride]
                ),
            ]
        )
        self.map_bn = Abn(4 * WIDTH, positive=positive)
        self.global_pooling_conv = nn.Conv2d(channels, WIDTH, 1, bias=False)
        self.global_pooling_bn = Abn(WIDTH, positive=positive)
        self.red_conv = nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False)
        self.pool_red_conv = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        self.red_bn = Abn(WIDTH, positive=positive)
        gain = nn.init.calculate_gain("leaky_relu", SLOPE)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 256, h, w) of (B, channels, h, w)."""
        branches = self.map_bn(torch.cat([conv(x) for conv in self.map_convs], dim=1))
        pooled = self.pool_red_conv(self.global_pooling_bn(self.global_pooling_conv(self._pooled(x))))
        result: Tensor = self.red_bn(self.red_conv(branches) + pooled)
        return result

    def _pooled(self, x: Tensor) -> Tensor:
        """Means (B, C, 1, 1), or (B, C, h, w) of windows around each cell; at the edge those of the last whole one."""
        if self.training or self._pooling is None:
            return x.mean((2, 3), keepdim=True)
        height, width = x.shape[-2], x.shape[-1]
        columns = _windows(width, self._pooling, like=x)
        return _windows(height, self._pooling, like=x) @ (x @ columns.transpose(0, 1))


def _windows(side: int, size: int, *, like: Tensor) -> Tensor:
    """Shares (side, side) of all cells of a row in the mean of the window around each.

    It is of `size` cells, or of all where there are fewer; of an even number the further cell lies behind. Shapes may be
    free, as in an exported graph, where a pooling layer wants numbers.
    """
    cells = torch.arange(side, device=like.device)
    count = cells[-1:] + 1
    taken = count.clamp(max=size)
    before = torch.div(taken - 1, 2, rounding_mode="floor")
    first = torch.minimum((cells - before).clamp(min=0), count - taken)[:, None]
    inside = (cells >= first) & (cells < first + taken)
    return inside.to(like.dtype) / taken.to(like.dtype)
