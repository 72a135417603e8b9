"""How a dataset is split: by shares or by folds, as one set of options."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from aftermap.data.checking.folds import OPEN_CITIES_FOLDS, assign_folds
from aftermap.data.checking.splits import By, assign_splits
from aftermap.data.scene import Manifest, manifest_file
from aftermap.errors import DataError


class SplitOptions(TypedDict, total=False):
    """Keywords of `split_dataset`."""

    by: By | None
    fractions: Sequence[float] | None
    seed: int | None
    hold_out: Sequence[str]
    validate_on: Sequence[str]
    group_zoom: int | None
    folds: int | None
    fold: int | None
    compat_leak: bool


def split_file(data: Path, *, out: str | Path | None = None, **options: Unpack[SplitOptions]) -> Manifest:
    """Assign the scenes of a prepared dataset as `split_dataset` does, in its manifest or in another file.

    Raises:
        DataError: there is no dataset, or options that do not go together or with it.
        OutputError: the file cannot be written.
    """
    assigned = split_dataset(Manifest.load(data), **options)
    assigned.save(manifest_file(data) if out is None else Path(out))
    return assigned


def split_dataset(
    manifest: Manifest,
    *,
    by: By | None = None,
    fractions: Sequence[float] | None = None,
    seed: int | None = None,
    hold_out: Sequence[str] = (),
    validate_on: Sequence[str] = (),
    group_zoom: int | None = None,
    folds: int | None = None,
    fold: int | None = None,
    compat_leak: bool = False,
) -> Manifest:
    """Assign every scene by shares, see `assign_splits`, or by folds where one is named, see `assign_folds`.

    Args:
        manifest: scenes; their present splits do not matter.
        by: whole events (the default), groups (tiles of the ground with `group_zoom`), blocks inside each event, random
            scenes, or as the publisher has it (`source`).
        fractions: of train, validation and test; 0.7, 0.15 and 0.15 by default.
        seed: another split of the same kind; 0 by default.
        hold_out: events that become the test split.
        validate_on: events that become the validation split.
        group_zoom: groups are the web-mercator tiles of this zoom.
        folds: instead of fractions: validate on one of so many folds of whole groups, train on the others.
        fold: which one, from 0.
        compat_leak: folds of single scenes at random, as the Open Cities system makes them.

    Raises:
        DataError: options of the two ways together, or values that they do not take.
    """
    try:
        if fold is None and folds is None and not compat_leak:
            return assign_splits(
                manifest,
                by=by or ("event" if group_zoom is None else "group"),
                fractions=(0.7, 0.15, 0.15) if fractions is None else fractions,
                seed=seed or 0,
                hold_out=hold_out,
                validate_on=validate_on,
                group_zoom=group_zoom,
            )
        unused = {
            "--by": by not in (None, "group"),
            "--fractions": fractions is not None,
            "--seed": seed is not None,
            "--validate-on": validate_on,
        }
        if taken := [name for name, given in unused.items() if given]:
            raise DataError(f"{taken[0]} does not go with folds, which are dealt out by group: leave it out")
        if fold is None:
            known = "--folds" if folds is not None else "--compat-leak"
            raise DataError(f"{known} is given without --fold, the number of the one to validate on (from 0)")
        if folds is None and not compat_leak:
            raise DataError("--fold is given without --folds, their number: pass e.g. --folds 5")
        return assign_folds(
            manifest,
            folds=OPEN_CITIES_FOLDS if folds is None else folds,
            fold=fold,
            group_zoom=group_zoom,
            hold_out=hold_out,
            compat_leak=compat_leak,
        )
    except ValueError as error:
        raise DataError(str(error)) from None
