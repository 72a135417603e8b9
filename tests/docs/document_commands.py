"""The commands that README and docs show, and what it takes to run each on a tiny world."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

TINY = (
    "model.encoder_name=resnet10t 'model.encoder_options={channels: [8,16,16,16], stem_width: 8}' "
    "model.encoder_weights=null model.encoder_depth=3 model.decoder_channels=[16,16,16] "
    "sampling.crop_px=64 sampling.batch_size=2 optimizer.schedule.warmup_steps=1 precision=no steps=2 evaluate_every=2"
)
SMALL = (
    "model.encoder_depth=2 'model.encoder_options={channels: [8,16,16,16], stem_width: 8}' model.decoder_channels=[8,8] "
    "sampling.crop_px=32 sampling.batch_size=2 optimizer.schedule.warmup_steps=1 precision=no steps=2 evaluate_every=2 "
    "later.steps=2"
)
SHORT = "steps=2 evaluate_every=2 sampling.crop_px=64 sampling.batch_size=2 precision=no"

RUN: list[tuple[str, str]] = [
    (r"train recipes/(localization|damage)\.yaml", TINY),
    (r"train recipes/finetune\.yaml data\.manifests='\[xbd-prepared\]'$", SHORT + " -o runs/tuned"),
    (r"train recipes/opencities/small\.yaml", SHORT),
    (r"train recipes/incremental/small\.yaml .*-o runs/cover", SMALL),
    (r"train recipes/adapt-event\.yaml .*-o runs/event", "steps=2 crop_px=64 batch_size=2 force=true"),
    (r"adapt box", "--steps 2 --precision no --force"),
    (r"evaluate runs/damage/model xbd-prepared$", "--split all --bootstrap 10"),
    (r"benchmark xbd-prepared -m box -m old", "--bootstrap 10"),
    (r"predict ", ""),
    (r"score ", ""),
    (r"tune-thresholds runs/damage", "--split all"),
    (r"ensemble runs/a/model", ""),
    (r"models$", ""),
    (r"data prepare xbd", ""),
    (r"data prepare folder (imagery|images)", ""),
    (r"data (check|split|steps)", ""),
    (r"data from-footprints", "--size 64 --min-building 0"),
    (r"map ", ""),
    (r"(package|areas|totals) ", ""),
]
"""A command that one of these fits is run, with further words that make it small."""

NOT_RUN: list[tuple[str, str]] = [
    (
        r"edges\.yaml|plain|runs/(b0|own)$|(storm|fields)-prepared",
        "of docs/extending.md; tests/docs/test_extending.py follows that page",
    ),
    (
        r"encoder_weights=encoder",
        "of docs/encoders.md; tests/models/test_brought_encoder.py trains from a file",
    ),
    (r"moves|pairs-prepared", "of docs/tutorial.md; tests/docs/test_tutorial.py follows that page"),
    (r"change\.yaml|runs/change", "tests/workflows/test_change_classes.py trains and maps a small one"),
    (r"^aftermap collect ", "needs several maps; tests/workflows/package make some"),
    (r"^aftermap (find|footprints) ", "read online; tests/workflows have servers of their own"),
    (
        r"^aftermap map (--post|.*--task p)",
        "needs a model trained for one date; tests/workflows/test_map_one_date.py makes one",
    ),
    (r"^aftermap map .*(https://|--pair )", "read online; tests/workflows have servers of their own"),
    (r"^aftermap report ", "needs a finished map; tests/workflows/report make some"),
    (r"^aftermap data synth", "the world of these tests is made by it"),
    (
        r"^aftermap review",
        "needs a map and a person; tests/cli/test_review_command.py does what it does without",
    ),
    (
        r"^aftermap (serve|worker)( |$)",
        "run until they are ended; tests/web/service and tests/cli start them",
    ),
    (r"^aftermap demo", "a minute; tests/workflows/test_demo.py runs a small one"),
    (r"-m field", "needs a package of its own; tests/test_field_package.py opens its model by its folder"),
    (r"hf://|weights (pull|push)", "asks a hub; tests/artefacts/test_hub.py has one of its own"),
    (
        r"weights import|winner",
        "needs files that others published; tests/workflows/test_import_*.py make stand-ins",
    ),
    (r"aftermap runs( |$)", "needs recorded runs; tests/cli/test_runs_command.py has some"),
    (
        r"recipes/(xview2|metadamagenet|kd)/",
        "trains a published network for hours; tests/workflows build and step each",
    ),
    (
        r"recipes/(laptop|self-training|search)|search ",
        "minutes of training; tests/workflows and tests/cli run small ones",
    ),
    (
        r"^aftermap learn |--features|^aftermap adapt \S+ -o|runs/town",
        "needs answers of a reviewer; tests/workflows/event_model and test_adapt_answers.py have some",
    ),
    (r"^aftermap pretrain |encoder_weights=runs", "tests/workflows/test_pretraining.py runs small ones"),
    (r"^aftermap (bench|export|meta-train|run|search) ", "minutes by design; tests/cli runs small ones"),
    (
        r"student|exported/|models/|ensemble|gated|both|combine",
        "needs models of its page; tests of that command make them",
    ),
    (
        r"data prepare (published|auto|huggingface|torchgeo)|bright-",
        "needs a release of others; tests/data/test_releases.py makes small ones",
    ),
    (
        r"dubai|zurich|loveda|vaihingen|cityscapes|split cities|prepared --task|potsdam|mexico|oam-ggaba|michael",
        "needs a dataset that may not come along",
    ),
    (r"^aftermap map-many ", "needs a list of pairs; tests/workflows/many run small ones"),
    (r"^aftermap (compare|fuse|monitor) ", "needs finished maps and other layers; tests/workflows make some"),
    (
        r"mine-\{fold\}|benchmark .*-r |benchmark .*few-shot",
        "trains for every fold; tests/workflows/benchmark do on squares",
    ),
    (
        r"incremental-report|--from |--resume|--step",
        "goes on from another run; tests/workflows/test_incremental*.py do",
    ),
    (
        r"map tiles/|evaluate runs/buildings|\[prepared\]|\[buildings\]|best.yaml|runs/nir|"
        r"runs/mib|runs/buildings/model|jq|--split test$",
        "another spelling of a command that is run",
    ),
    (r"data='\[event\]'|meta|without-michael", "another spelling of a command that is run"),
]
"""Why a command that no pattern of RUN fits is not run; those patterns win over RUN's."""


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it."""

    page: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        """Its words, without `aftermap`."""
        return shlex.split(self.text, comments=True)[1:]

    @property
    def kind(self) -> tuple[str, ...]:
        """What is alike in commands that differ only in names of files: sub-command, recipe, options and keys."""
        words = self.words
        names = [w for w in words[:3] if re.fullmatch(r"[a-z-]+", w)][:1]
        recipes = [w for w in words if w.startswith("recipes/")]
        options = sorted(w.split("=")[0] for w in words if w.startswith("-"))
        return (*names, *(words[1:3] if names == ["data"] else ()), *recipes, *options)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def shown_commands() -> list[Shown]:
    """Every `aftermap ...` line in the code blocks of README and docs, continued lines joined."""
    found = []
    for page in PAGES:
        fenced, pending, start = False, "", 0
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.startswith("```"):
                fenced = not fenced
                continue
            text = line.strip()
            if not pending and not (text.startswith("aftermap ") and (fenced or line.startswith("    "))):
                continue
            start = start if pending else number
            pending += text
            if pending.endswith("\\"):
                pending = pending[:-1]
                continue
            found.append(Shown(page.name, start, pending))
            pending = ""
    return found


def how(command: Shown) -> tuple[str | None, str]:
    """Further words to run a command with, or None and the reason why it is not run."""
    text = " ".join(shlex.join(command.words).split())
    plain = command.text.split(" #")[0].strip().removeprefix("aftermap ").strip()
    for pattern, reason in NOT_RUN:
        if re.search(pattern, command.text.split(" #")[0]):
            return None, reason
    for pattern, extra in RUN:
        if re.match(pattern, plain) or re.match(pattern, text):
            return extra, ""
    raise AssertionError(f"{command}: neither run nor marked why not: {command.text}")
