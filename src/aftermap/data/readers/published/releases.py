"""The published datasets that are known, and the reader of all of them."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from aftermap.classes import DAMAGE
from aftermap.config import build_config
from aftermap.data.legends import (
    BRIGHT,
    BUILDING_CHANGE,
    CHANGE_KINDS,
    FLAIR,
    FLOODNET,
    FOTBCD_KINDS,
    RESCUENET,
    SPACENET8,
    legend_of,
)
from aftermap.data.preparing.class_dataset import class_dataset
from aftermap.data.preparing.class_image import ClassMask
from aftermap.data.preparing.dataset import Dataset, SourceScene
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.preparing.whole_scenes import WholeScenes
from aftermap.data.readers.class_labels import LABEL, LabelReader
from aftermap.data.readers.published.droids import DroneTiles, Imagery, find_droids
from aftermap.data.readers.published.floods import FloodPairs, find_floods
from aftermap.data.readers.published.kinds import KindLabels, find_kinds, find_outlines
from aftermap.data.readers.published.pairs import (
    CHANGE_FOLDERS,
    PairLabels,
    find_bright,
    find_change,
    find_levels,
    find_sentinel,
    read_meaning,
)
from aftermap.data.readers.published.photographs import find_drone_photographs, find_flair
from aftermap.data.readers.published.release import Found, Name, Release, check_folder
from aftermap.errors import DataError, DataWarning, InputError
from aftermap.wording import counted

DRONE_TILE_PX = 1024
"""Side of the tiles of orthomosaics, if nobody says."""

_OWN_SCALE = {name: index for index, name in enumerate(DAMAGE.names)}
_DRONE = "{train,val,test}/{train,val,test}-org-img/N.jpg and .../{train,val,test}-label-img/N_lab.png"

RELEASES: Mapping[Name, Release] = {
    release.name: release
    for release in (
        Release(
            "rescuenet",
            "RescueNet",
            "classes",
            RESCUENET,
            "CDLA-Permissive-1.0",
            _DRONE,
            find_drone_photographs,
            "README of BinaLab/RescueNet (licence, sets); folders and numbers from public code that reads it",
            "that README lists twelve classes with debris and sand; the released masks hold the eleven read here",
            scenes=4494,
        ),
        Release(
            "floodnet",
            "FloodNet-Supervised v1.0",
            "classes",
            FLOODNET,
            "CDLA-Permissive-1.0",
            _DRONE,
            find_drone_photographs,
            "README of BinaLab/FloodNet-Supervised_v1.0 (classes, licence); folders from public code that reads it",
            scenes=2343,
        ),
        Release(
            "flair",
            "FLAIR #1",
            "classes",
            FLAIR,
            "Licence Ouverte / Open Licence 2.0 (Etalab), IGN",
            "D000_0000/Z0_XX/img/IMG_000000.tif (five bands) and D000_0000/Z0_XX/msk/MSK_000000.tif",
            find_flair,
            "IGN's page of FLAIR (classes, numbers, colours, sets); folders from public code that reads it",
            "the licence, which that page does not state",
            scenes=77412,
        ),
        Release(
            "levir-cd",
            "LEVIR-CD",
            "change",
            BUILDING_CHANGE,
            "for academic use only; commercial use is not allowed (images of Google Earth)",
            "A/train_1.png, B/train_1.png and label/train_1.png, or train/A, train/B and train/label",
            partial(find_change, folders=CHANGE_FOLDERS["levir-cd"]),
            "torchgeo's reader of LEVIR-CD and LEVIR-CD+ (folders, values)",
            "the licence, which torchgeo does not state",
        ),
        Release(
            "s2looking",
            "S2Looking",
            "change",
            BUILDING_CHANGE,
            "for academic use only; commercial use is not allowed",
            "{train,val,test}/Image1/N.png, Image2/N.png and label/N.png",
            partial(find_change, folders=CHANGE_FOLDERS["s2looking"]),
            "public code that reads it (folders, values)",
            "the licence; label1 (built) and label2 (torn down) are s2looking-kinds",
            scenes=5000,
        ),
        Release(
            "s2looking-kinds",
            "S2Looking",
            "kinds",
            CHANGE_KINDS,
            "for academic use only; commercial use is not allowed",
            "{train,val,test}/Image1/N.png, Image2/N.png, label1/N.png (built) and label2/N.png (torn down)",
            find_kinds,
            "torchrs' reader (folders, which is which, colours that are not black)",
            "the licence; a pixel that both masks paint is unknown",
            scenes=5000,
        ),
        Release(
            "fotbcd",
            "FOTBCD-Binary",
            "change",
            BUILDING_CHANGE,
            "CC BY-NC-SA 4.0; source data IGN, Licence Ouverte 2.0",
            "images/{train,val,test}/before/N.png, after/N.png and label/N.png",
            partial(find_change, folders=CHANGE_FOLDERS["fotbcd"]),
            "README of abdelpy/FOTBCD-datasets (folders, values, licence)",
        ),
        Release(
            "fotbcd-instances",
            "FOTBCD-Instances",
            "outlines",
            FOTBCD_KINDS,
            "CC BY-NC-SA 4.0; source data IGN, Licence Ouverte 2.0",
            "images/{train,val,test}/before/N.png and after/N.png, and annotations/{train,val,test}.json (COCO)",
            find_outlines,
            "README of abdelpy/FOTBCD-datasets (folders, categories, licence)",
            "how file_name names an image (its last part is taken), and whether rings are polygons alone",
            scenes=4000,
        ),
        Release(
            "bright",
            "BRIGHT",
            "levels",
            BRIGHT,
            "differs by event: mostly CC BY-NC 4.0 (optical images of Maxar, and labels on them); SAR CC BY 4.0",
            "pre-event/N_pre_disaster.tif, post-event/N_post_disaster.tif and target/N_building_damage.tif",
            find_bright,
            "README of ChenHongruixuan/BRIGHT (folders, names), torchgeo's reader (class numbers, lists of the contest)",
            "the licence of each event; nothing but 8-bit images was foreseen",
        ),
        Release(
            "ida-bd",
            "Ida-BD",
            "levels",
            legend_of(DAMAGE),
            "ODC-By 1.0 (DesignSafe PRJ-3563)",
            "images/N_pre_disaster.png, images/N_post_disaster.png and masks/N_post_disaster.png",
            find_levels,
            "public code that reads it (folders, names, numbers 0 to 4)",
            "the licence, and whether masks of the first date come along",
        ),
        Release(
            "ebd",
            "EBD (Extensible Building Damage)",
            "levels",
            legend_of(DAMAGE),
            "not stated where the layout was looked up: see the publisher's page",
            "images/N_pre_disaster.png, images/N_post_disaster.png and targets/N_post_disaster_target.png",
            find_levels,
            "announcements of the paper (Journal of Remote Sensing, doi 10.34133/remotesensing.0733): pairs in the "
            "manner of xBD",
            "folders, names and numbers, which no public code shows; read as Ida-BD and xBD are laid out",
        ),
        Release(
            "xbd-s12",
            "xBD-S12",
            "sentinel",
            legend_of(DAMAGE),
            "CC BY-NC-SA 4.0, as of xBD",
            "s2_tci/N_{pre,post}_disaster_s2_tci.tif and masks/N_mask.tif (made by the publisher's create_masks.py)",
            find_sentinel,
            "README, DATASET.md and code of prs-eth/xbd-s12 (folders, names, numbers, sets)",
            "the licence; bands of Sentinel-1 and the other bands of Sentinel-2 are not read",
            scenes=10315,
        ),
        Release(
            "crasar-u-droids",
            "CRASAR-U-DROIDs",
            "droids",
            legend_of(DAMAGE),
            "CC BY 4.0",
            "{train,test}/imagery/UAS/N.tif with annotations/UAS/building_damage_assessment/N.tif.json and "
            "annotations/UAS/building_alignment_adjustments/N.tif.json",
            find_droids,
            "code of CRASAR/CRASAR-U-DROIDs-BDA (fields, labels, how vectors apply), public code that reads it (folders)",
            "the licence; the word by which outlines are marked that annotators drew (custom); payload version 2.0",
        ),
        Release(
            "spacenet8",
            "SpaceNet 8",
            "flood",
            SPACENET8,
            "CC BY-SA 4.0",
            "AOI_label_image_mapping.csv, AOI_reference.csv, PRE-event/N.tif and POST-event/N.tif",
            find_floods,
            "README of the challenge's baseline (columns, states), public code that reads it (folders, tables)",
            "the licence; GeoJSON annotations are not read, the reference tables hold the same outlines",
        ),
    )
}


def published_dataset(
    source: Path,
    *,
    release: Name,
    damage: str | None = None,
    tile_px: int | None = None,
    overlap_px: int = 0,
    resolution_m: float | None = None,
    imagery: Imagery = "UAS",
    aligned: bool = True,
) -> Dataset:
    """A published dataset, in its publisher's split.

    Args:
        source: the unpacked release, or a folder that holds it.
        release: which.
        damage: what each class of its legend is on the Joint Damage Scale, as `read_meaning` reads it; None keeps
            the release's own classes. Releases that have this scale themselves need none.
        tile_px: cut the images of a release of one date into tiles of this size.
        overlap_px: pixels that neighbouring tiles have in common.
        resolution_m: of CRASAR-U-DROIDs: metres per pixel of the tiles; by default each image's own.
        imagery: of CRASAR-U-DROIDs: which of its sources.
        aligned: of CRASAR-U-DROIDs: move outlines by the vectors that come along.

    Raises:
        DataError: another layout, or files that cannot be used.
        InputError: options that the release does not have.
        RecipeError: sizes of tiles that make no grid.

    Warns:
        DataWarning: images whose partner is missing.
    """
    known = RELEASES.get(release)
    if known is None:
        raise InputError(f"there is no release {release}: known are {', '.join(RELEASES)}")
    check_folder(source, known)
    is_droids = known.form == "droids"
    if not is_droids and (resolution_m is not None or imagery != "UAS" or not aligned):
        raise InputError(
            f"--resolution, --imagery and --no-aligned are for CRASAR-U-DROIDs, not {known.title}: leave them out"
        )
    found = find_droids(source, imagery) if is_droids else known.find(source)
    if not found.scenes:
        alone = f" ({counted(len(found.unpaired), 'image')} without partner)" if found.unpaired else ""
        raise DataError(f"{source} holds nothing of {known.title}{alone}: expected {known.expected}")
    side = tile_px if tile_px is not None or not is_droids else DRONE_TILE_PX
    if known.form in ("classes", "droids"):
        if damage is not None:
            raise InputError(f"--damage is for pairs, and {known.title} has one date: leave it out")
        tiling = build_config(Tiling, {"tile_px": side, "overlap_px": overlap_px}, source="options")
        if is_droids:
            dataset = _drone_tiles(
                known,
                found,
                DroneTiles(tiling.tile_px or DRONE_TILE_PX, overlap_px, resolution_m, aligned),
                imagery,
            )
        else:
            dataset = _classes(known, found, tiling)
    else:
        if tile_px is not None or overlap_px:
            raise InputError(f"the pairs of {known.title} stay whole: leave --tile-px and --overlap-px out")
        dataset = _pairs(known, found, damage)
    notes = {
        "source": str(source.resolve()),
        "release_title": known.title,
        "layout_from": known.source,
        "not_confirmed": known.unconfirmed,
        **_left_out(found),
    }
    if any(scene.split != "unassigned" for scene in found.scenes):
        notes["split"] = "official"
    return replace(dataset, licence=known.licence, notes={**dataset.notes, **notes})


def _classes(release: Release, found: Found, tiling: Tiling) -> Dataset:
    """Images of one date with class numbers; those without label are unlabelled."""
    return class_dataset(
        found.scenes,
        release.legend,
        partial(_read_label, reader=LabelReader(release.legend)),
        kind="published",
        tiling=tiling,
        options={"release": release.name},
        notes={},
    )


def _pairs(release: Release, found: Found, damage: str | None) -> Dataset:
    own = release.legend.name == DAMAGE.name
    if own and damage is not None:
        raise InputError(f"{release.title} has the Joint Damage Scale itself: leave --damage out")
    meaning = _OWN_SCALE if own else None if damage is None else read_meaning(damage, release.legend)
    classes = len(release.legend.names) if meaning is None else len(DAMAGE)
    is_sentinel = release.form == "sentinel"
    read = PairLabels(
        release.legend,
        "change" if release.form == "change" else "levels",
        unknown=(5, 6) if is_sentinel else (),
        meaning=meaning,
        reduce=8 if is_sentinel else 1,
    )
    is_flood = release.form == "flood"
    if release.form in ("kinds", "outlines"):
        whole = WholeScenes(KindLabels(release.form == "outlines", meaning), classes)
    else:
        whole = WholeScenes(read, classes)
    return Dataset(
        kind="published",
        scheme=release.legend.name if meaning is None else DAMAGE.name,
        legend=release.legend if meaning is None else None,
        scenes=found.scenes,
        make=FloodPairs(meaning) if is_flood else whole,
        options={"release": release.name, "damage_levels": damage or ""},
        is_cut=is_flood,
    )


def _drone_tiles(release: Release, found: Found, make: DroneTiles, imagery: Imagery) -> Dataset:
    """Tiles of orthomosaics, which are of one date: levels of damage are the classes of a legend."""
    return Dataset(
        kind="published",
        scheme=release.legend.name,
        legend=release.legend,
        scenes=found.scenes,
        make=make,
        options={
            "release": release.name,
            "tile_px": str(make.tile_px),
            "overlap_px": str(make.overlap_px),
            "resolution_m": "" if make.resolution_m is None else f"{make.resolution_m:g}",
            "imagery": imagery,
            "aligned": str(make.aligned).lower(),
        },
        is_cut=True,
    )


def _read_label(source: SourceScene, reader: LabelReader) -> ClassMask | None:
    return reader.of(source) if LABEL in source.labels else None


def _left_out(found: Found) -> dict[str, str]:
    if not found.unpaired:
        return {}
    names = [path.name for path in found.unpaired]
    warnings.warn(
        f"{counted(len(names), 'image has', 'images have')} no partner of the other date: left out: "
        f"{', '.join(names[:5])}",
        DataWarning,
        stacklevel=3,
    )
    return {"unpaired": ",".join(names)}
