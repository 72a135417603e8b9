"""Speed of the generator: 1024 px pairs per second and core.

OMP_NUM_THREADS=1 python bench/synth.py --scenes 12
"""

import argparse
import time
from collections import defaultdict

import cv2

from aftermap.synthetic import KINDS, make_pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--size", type=int, default=1024)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    spent: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.scenes):
        start = time.process_time()
        pair = make_pair(seed, size_px=options.size, kind=KINDS[seed % len(KINDS)])
        spent[pair.kind].append(time.process_time() - start)
    for kind, seconds in spent.items():
        print(
            f"{kind:12s}{sum(seconds) / len(seconds):6.2f} s of CPU time per pair, slowest {max(seconds):.2f}"
        )
    total = sum(map(sum, spent.values()))
    print(f"{options.scenes / total:.2f} pairs of {options.size} px per second and core")


if __name__ == "__main__":
    main()
