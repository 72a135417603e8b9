"""What is known to be odd about published datasets, for the data doctor."""

from aftermap.data.checking.examine import Finding
from aftermap.data.readers.published.releases import RELEASES
from aftermap.data.scene import Manifest

_WITHHELD = {"bright": ("ukraine", "myanmar", "mexico")}
"""Beginnings of the events whose images from before a publisher may not hand on.

Source: README of ChenHongruixuan/BRIGHT.
"""


def release_findings(manifest: Manifest) -> list[Finding]:
    """What is odd about a dataset that was prepared as a published release; nothing for others."""
    release = next((r for name, r in RELEASES.items() if name == _name(manifest)), None)
    if release is None:
        return []
    found = [Finding("info", "licence", None, f"licence of {release.title}: {release.licence}")]
    images = {scene.tile.source if scene.tile is not None else scene.name for scene in manifest.scenes}
    if release.scenes is not None and len(images) != release.scenes:
        unit = "images" if release.form == "classes" else "pairs"
        message = f"{len(images)} {unit} of the {release.scenes} of {release.title}: scores do not compare with others"
        found.append(Finding("warning", "scene-count", None, message))
    unpaired = [name for name in manifest.options.get("unpaired", "").split(",") if withheld(manifest, name)]
    if unpaired:
        message = (
            f"{len(unpaired)} images have no partner, such as {unpaired[0]}: the publisher may not hand these on, and "
            "tells how to get them"
        )
        found.append(Finding("warning", "withheld", None, message))
    if release.name == "bright":
        message = "images after are radar, shown grey: models that learned on optical pairs do not apply"
        found.append(Finding("info", "radar", None, message))
    return found


def withheld(manifest: Manifest, name: str) -> bool:
    """Whether the partner of an image is one that the publisher may not hand on."""
    return name.startswith(_WITHHELD.get(_name(manifest), ()))


def _name(manifest: Manifest) -> str:
    return manifest.options.get("release", "") if manifest.kind == "published" else ""
