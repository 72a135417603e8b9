"""The page of recipes: docs/recipes.md, made from the YAML files of recipes/.

    python bench/recipe_gallery.py            # write the page; no torch
    python bench/recipe_gallery.py --count    # count the networks that `aftermap models` does not list, then write it

What `aftermap models` lists is taken from its kept counts; other networks of recipes are kept in recipe_gallery.json.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from aftermap.config import read_tree
from aftermap.models.build import without_weights
from aftermap.models.configs import MODEL_CONFIG, AnyModelConfig
from aftermap.workflows.training.recipe_files import shipped_recipes
from aftermap.workflows.weights.catalogue import COUNTS, listed_models

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "recipes.md"
KEPT = Path(__file__).with_suffix(".json")

GROUPS = {
    "": ("Ours", "What the models of this project were made with, and starts for your own."),
    "laptop": ("For a laptop", "A small damage model, alone and under a teacher; see [distillation](distillation.md)."),
    "incremental": ("Classes learned step by step", "See [incremental](incremental.md)."),
    "xview2": ("The xView2 winner", "Networks, losses, crops and schedules as published; see [quirks](quirks.md)."),
    "metadamagenet": ("MetaDamageNet", "The examples of its repository; see [quirks](quirks.md)."),
    "kd": ("Distilled from the winner", "See [distillation](distillation.md)."),
    "opencities": ("Open Cities, third place", "Buildings from drone images; see [self-training](self-training.md)."),
    "search": ("Spaces of a search", "See [search](search.md)."),
}  # fmt: skip

HEAD = """# Recipes that come along

`aftermap train` with one of these files trains it; [training](training.md) says what a recipe can say. M are millions of
parameters, GMAC multiply-accumulates in 1e9 of one image of 1024 x 1024 px, of a pair where the task is damage,
counted as `aftermap models` counts them. Recipes that learn classes in steps are counted with the classes that their
network has by default, for two dates where it takes two.

This page is made by `python bench/recipe_gallery.py` from the files.
"""


def page() -> str:
    """The text of the page."""
    counts = _counts()
    recipes = shipped_recipes()
    parts = [HEAD]
    for folder, (title, text) in GROUPS.items():
        parts += [
            f"## {title}\n",
            f"{text}\n",
            "| recipe | task and network | M | GMAC |",
        ]
        parts += ["| --- | --- | ---: | ---: |"]
        inside = [name for name in recipes if (name.rpartition("/")[0]) == folder]
        parts += [_row(name, recipes[name], counts) for name in inside]
        parts.append("")
    left = {name.rpartition("/")[0] for name in recipes} - GROUPS.keys()
    assert not left, f"recipes/{sorted(left)} belong to no group of this script"
    return "\n".join(parts)


def first_sentence(text: str) -> str:
    """The first sentence of the comment that a recipe begins with, without commands."""
    lines = []
    for line in text.splitlines():
        said = line.removeprefix("#").strip()
        if not line.startswith("#") or said.startswith("aftermap "):
            break
        lines.append(said)
    return re.split(r"(?<=[.])\s+", " ".join(lines))[0].replace("|", "\\|").strip()


def _row(name: str, path: Path, counts: dict[str, dict[str, float]]) -> str:
    tree = read_tree(path)
    config = network(tree)
    size = ("-", "-")
    if config is not None:
        one = counts[_key(config)]
        size = (f"{one['total'] / 1e6:.2f}", f"{one['gmacs']:.1f}")
    what = f"`{name}`<br>{first_sentence(path.read_text())}"
    cells = (what, f"{_task(tree)}<br>{_network(tree, config)}", *size)
    return "| " + " | ".join(cells) + " |"


def network(tree: dict[str, Any]) -> AnyModelConfig | None:
    """The network that a recipe builds, without weights; None where it builds none, or not by itself."""
    given = tree.get("model")
    return without_weights(MODEL_CONFIG.validate_python(given)) if isinstance(given, dict) else None


def _task(tree: dict[str, Any]) -> str:
    if "stages" in tree:
        return "a chain of runs"
    if "space" in tree:
        return "a search"
    if tree.get("kind") == "pretrain":
        return "images without labels"
    if tree.get("kind") == "incremental":
        return f"classes, {tree['task']}"
    kind = {"self-training": ", self-training", "meta-train": ", meta-learning"}.get(tree.get("kind", ""), "")
    kind = ", meta-learning" if "meta" in tree else kind
    return "damage, adaptation" if tree.get("kind") == "adapt-event" else f"{tree.get('task', '-')}{kind}"


def _network(tree: dict[str, Any], config: AnyModelConfig | None) -> str:
    if config is not None:
        encoder = getattr(config, "encoder_name", None)
        return config.kind if encoder is None else f"{config.kind}, {encoder}"
    if tree.get("kind") == "pretrain":
        return f"an encoder, {tree['encoder_name']}"
    if isinstance(tree.get("model"), str):
        return f"the model in the {tree['model']}" if tree["model"] == "box" else str(tree["model"])
    if tree.get("kind") == "self-training":
        student = tree.get("student") or {}
        bases = (tree["teacher"]["recipe"].get("extends"), student.get("extends"))
        return ", ".join(f"`{base}`" for base in dict.fromkeys(bases) if base) or "-"
    return "-"


def _key(config: AnyModelConfig) -> str:
    """What is alike in networks of one size."""
    return (
        f"{config.kind} {config.model_dump_json(exclude_defaults=True, exclude={'encoder_weights', 'kind'})}"
    )


def _listed() -> dict[str, dict[str, float]]:
    """Sizes of what `aftermap models` lists, by key."""
    kept = json.loads(COUNTS.read_text())
    sizes = {}
    for listed in listed_models():
        for use in ("localization", "damage"):
            config: AnyModelConfig | None = getattr(listed, use)
            if config is not None:
                sizes[_key(without_weights(config))] = kept[listed.name][use]
    return sizes


def _counts() -> dict[str, dict[str, float]]:
    return {**(json.loads(KEPT.read_text()) if KEPT.is_file() else {}), **_listed()}


def count() -> None:
    """Count the networks of recipes that are not listed, and keep their sizes."""
    from aftermap.workflows.weights.counting import measure

    listed, kept = _listed(), {}
    for path in shipped_recipes().values():
        config = network(read_tree(path))
        if config is not None and (key := _key(config)) not in listed and key not in kept:
            size = measure(config)
            kept[key] = {"total": size.total, "gmacs": round(size.gmacs, 2)}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--count", action="store_true", help="count networks that are not kept yet")
    if words.parse_args().count:
        count()
    PAGE.write_text(page())
