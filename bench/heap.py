"""What a training step costs where freed memory goes back to the system, as glibc does by itself, and where it is kept.

    python bench/heap.py --steps 8

A siamese U-Net (EfficientNet-Lite0), 8 pairs of 256 px, forward, backward and AdamW on one thread, each way in processes
of its own that take turns: processor seconds of the program and of the system, new pages, peak memory. The
variables that `aftermap.heap` names must not be set.
"""

import argparse
import resource
import subprocess
import sys
from contextlib import nullcontext


def measure(kept: bool, steps: int) -> None:
    import torch
    import torch.nn.functional as F

    from aftermap import heap
    from aftermap.models.build import build_model
    from aftermap.models.configs import SiameseUnetConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"encoder_name": "tf_efficientnet_lite0", "decoder_channels": (96, 64, 48, 32), "head_stride": 2}
    model = build_model(SiameseUnetConfig(classes=5, encoder_depth=5, **shape))
    images, mask = torch.randn(8, 2, 3, 256, 256), torch.randint(0, 5, (8, 256, 256))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), mask).backward()
        optimizer.step()

    with heap.keeping() if kept else nullcontext():
        step()
        step()
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(steps):
            step()
        after = resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    pages = (after.ru_minflt - before.ru_minflt) // steps
    print(f"| {user / steps:.2f} | {system / steps:.2f} | {pages:,} | {after.ru_maxrss >> 10:,} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=["given back", "kept"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options.only == "kept", options.steps)
        return
    print("| freed memory is | program, s a step | system, s a step | new pages a step | peak MB |")
    print("|---|---:|---:|---:|---:|")
    for _ in range(options.rounds):
        for way in ("given back", "kept"):
            words = [sys.executable, __file__, "--only", way, "--steps", str(options.steps)]
            print(
                f"| {way} ", end=subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            )


if __name__ == "__main__":
    main()
