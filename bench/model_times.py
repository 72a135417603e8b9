"""How long models take for a pair of 1024 px, in turn: median, and its ratio to the first.

Of one thread it is processor time, of several the time by the clock.

    python bench/model_times.py box field build/other/exported/openvino-int8 --rounds 20

Ratios are taken round by round, so that what else the machine does falls on all of them alike.
"""

import argparse
import time

import numpy as np

import aftermap


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="+", help="as for map --model; the first is what others are measured by"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=1024, help="height and width in pixels")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    models = [aftermap.open_model(name, threads=options.threads) for name in options.models]
    now = time.process_time if options.threads == 1 else time.perf_counter
    shape = (1, 2, 3, options.size, options.size)
    pair = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    seconds = np.zeros((options.rounds + 1, len(models)))
    for row in seconds:  # the first round warms up
        for place, model in enumerate(models):
            begun = now()
            model.predict(pair)
            row[place] = now() - begun
    medians, ratios = np.median(seconds[1:], axis=0), np.median(seconds[1:] / seconds[1:, :1], axis=0)
    print("| model | seconds | to the first |\n|---|---:|---:|")
    for name, median, ratio in zip(options.models, medians, ratios, strict=True):
        print(f"| {name} | {median:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
