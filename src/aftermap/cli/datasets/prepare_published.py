"""`aftermap data prepare published` and `auto`: datasets that are known by their name, or by their files."""

from pathlib import Path
from typing import Literal

from aftermap.cli.datasets.dataset_output import BY_DEFAULT, Preparing
from aftermap.cli.options import Flag


def published(
    source: Path,
    *,
    release: str,
    damage: str | None = None,
    tile_px: int | None = None,
    overlap_px: int = 0,
    resolution: float | None = None,
    imagery: Literal["UAS", "CREWED", "SATELLITE"] = "UAS",
    aligned: Flag = True,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare a published dataset of disasters or buildings, in its publisher's split and with its licence noted.

    rescuenet, floodnet (drone photographs), flair (land cover of France), levir-cd, s2looking, fotbcd (change of
    buildings), s2looking-kinds, fotbcd-instances (what was built and torn down), bright (optical before, radar after),
    ida-bd, ebd, xbd-s12 (damage), spacenet8 (floods), crasar-u-droids (damage in drone
    orthomosaics). Images stay where they are, unless they are cut.

    Example: aftermap data prepare published ~/BRIGHT --release bright -o bright

    Example: aftermap data prepare published ~/LEVIR-CD --release levir-cd --damage changed=destroyed -o levir

    Args:
        source: The unpacked release, or a folder that holds it.
        release: Which of them.
        damage: What each class of a release of pairs is on the Joint Damage Scale, such as
            intact=no-damage,damaged=major-damage,destroyed=destroyed; background and unknown are possible too. Without
            it the release's own classes are kept, which recipes of classes learn.
        tile_px: Cut images of one date into tiles of this size; by default they stay whole, and orthomosaics become
            tiles of 1024.
        overlap_px: Pixels that neighbouring tiles have in common.
        resolution: Of crasar-u-droids: metres per pixel of the tiles; by default each image's own.
        imagery: Of crasar-u-droids: which of its sources.
        aligned: Of crasar-u-droids: move outlines by the vectors that come along.
        preparing: Where and how the dataset is prepared.
    """
    preparing.prepare(
        "published",
        source,
        release=release,
        damage=damage,
        tile_px=tile_px,
        overlap_px=overlap_px,
        resolution_m=resolution,
        imagery=imagery,
        aligned=aligned,
    )


def auto(source: Path, *, preparing: Preparing = BY_DEFAULT) -> None:
    """Recognise what dataset a folder holds, say why, and prepare it as its own command would without options.

    Every kind that 'data prepare' reads is known by the names of its files and folders. Where these fit none or several,
    nothing is prepared, and the nearest commands are named.

    Example: aftermap data prepare auto ~/xview2 -o xview2-prepared

    Args:
        source: The unpacked dataset.
        preparing: Where and how the dataset is prepared.
    """
    from aftermap.cli.output import say
    from aftermap.data.readers.published.recognise import recognise

    found = recognise(source)
    say(f"taken for what '{found.known.command(source)}' reads: {found.why}", error=True)
    preparing.prepare(found.known.kind, source, **found.known.options)
