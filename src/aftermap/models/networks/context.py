"""Global context: what matters in the whole image, added to every pixel."""

import torch
from torch import Tensor, nn


class GlobalContext(nn.Module):
    """Attention-weighted mean of all pixels, through a bottleneck, added to each of them; the identity at the start.

    Source: Cao et al. 2019 (GCNet), section 4.2.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, 1, 1)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.LayerNorm([hidden, 1, 1])
        self.expand = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(self.expand.weight)
        if self.expand.bias is not None:
            nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) of the same shape."""
        share = torch.softmax(self.attention(x).flatten(2), dim=2)  # (B, 1, h*w)
        context = torch.bmm(x.flatten(2), share.transpose(1, 2))[..., None]  # (B, C, 1, 1)
        added: Tensor = self.expand(torch.relu(self.norm(self.reduce(context))))
        return x + added
