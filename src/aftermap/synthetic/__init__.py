"""Synthetic disasters: towns before and after, with exact truth, for training where real data cannot be shipped."""

from aftermap.synthetic.damage import KINDS
from aftermap.synthetic.pair import Footprint, Pair, make_pair

__all__ = ["KINDS", "Footprint", "Pair", "make_pair"]
