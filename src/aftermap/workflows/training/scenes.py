"""Which scenes a recipe learns from, and which choose its best step."""

from dataclasses import dataclass
from pathlib import Path

from aftermap.data.checking.doctor import check
from aftermap.data.checking.examine import files_of
from aftermap.data.checking.splits import random_holdout
from aftermap.data.scene import Manifest, Scene, has_labels, manifest_file
from aftermap.errors import DataError
from aftermap.wording import counted
from aftermap.workflows.training.config import DataConfig, LearnedTask


@dataclass(frozen=True, slots=True)
class Chosen:
    """Scenes of a training run, in the order of the manifests; those without labels come last."""

    training: list[Scene]
    validation: list[Scene]


def choose_scenes(
    wanted: DataConfig,
    task: LearnedTask,
    *,
    deep: bool = False,
    unlabelled: bool = False,
    label_free: bool = False,
) -> Chosen:
    """Labelled scenes for training and validation, and unlabelled ones for training if asked for.

    Args:
        wanted: manifests, splits, events and hold-out.
        task: damage needs both dates and a damage mask.
        deep: decode every image and mask in the check of the data.
        unlabelled: take the scenes of the training splits that lack the task's labels too, for teachers to tell
            about them. Never those of other splits: a test is no test of a student that has seen its images.
        label_free: the validation scenes need no labels either.

    Raises:
        DataError: the data did not pass its check, or one of the two would be empty.
    """
    pooled: list[Scene] = []
    bare: list[Scene] = []
    for path in wanted.manifests:
        for scene in checked_manifest(path, deep=deep, unlabelled=unlabelled or label_free).scenes:
            if scene.event not in wanted.exclude_events and (task == "building" or scene.post is not None):
                (pooled if has_labels(scene, task) else bare).append(scene)
    training = [s for s in pooled if s.split in wanted.train_splits]
    if wanted.holdout is None:
        judged = [*pooled, *bare] if label_free else pooled
        validation = [s for s in judged if s.split == wanted.validation_split]
    else:
        training, validation = _held_out(training, wanted)
    if unlabelled:
        training += [s for s in bare if s.split in wanted.train_splits]
    if not training or not validation:
        raise DataError(
            f"{len(training)} training and {len(validation)} validation scenes for task {task}: "
            "assign splits with 'aftermap data split'"
        )
    return Chosen(training, validation)


def checked_manifest(path: Path, *, deep: bool = False, unlabelled: bool = False) -> Manifest:
    """A prepared dataset that has passed its check.

    What has passed it without any error in this process is not checked again while none of its files changes: the
    jobs of a plan, the trials of a search and the folds of a benchmark learn from the same images.

    Args:
        path: its folder or manifest.
        deep: decode every image and mask.
        unlabelled: scenes may lack labels.

    Raises:
        DataError: it has not; the first error is told.
    """
    manifest = Manifest.load(path)
    place, state = (path.resolve(), deep), _state(path, manifest)
    if _passed.get(place) == state:
        return manifest
    found = check(manifest, deep=deep).errors
    errors = [error for error in found if not (unlabelled and error.code == "unlabelled")]
    if errors:
        raise DataError(
            f"{path} did not pass its check ({counted(len(errors), 'error')}; first: {errors[0].message}): "
            f"see 'aftermap data check {path}'"
        )
    if not found:
        _passed[place] = state
    return manifest


State = tuple[tuple[int, int, int] | None, ...]
_passed: dict[tuple[Path, bool], State] = {}
"""What has passed its check, and whether a deep one; with the state in which its files were."""


def _state(path: Path, manifest: Manifest) -> State:
    """Number, size and time of every file of a dataset; None where it is not there."""
    files = [manifest_file(path), *(file for scene in manifest.scenes for file in files_of(scene).values())]
    return tuple(_seen(file) for file in files)


def _seen(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _held_out(scenes: list[Scene], wanted: DataConfig) -> tuple[list[Scene], list[Scene]]:
    """A random share of the training scenes as validation; they are learned from too where the recipe says so."""
    assert wanted.holdout is not None
    # the published order: xBD's train folder, then tier3, each sorted by name
    scenes = sorted(scenes, key=lambda s: (s.source_split == "tier3", s.name))
    learned, held = random_holdout(len(scenes), wanted.holdout.seed, wanted.holdout.fraction)
    validation = [scenes[i] for i in held]
    return (list(scenes) if wanted.holdout.compat_train_on_all else [scenes[i] for i in learned]), validation
