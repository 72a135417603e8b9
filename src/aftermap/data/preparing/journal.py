"""The folder of a prepared dataset while it is made: who may write into it, and what of it is finished."""

import json
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from aftermap.data.scene import MANIFEST_NAME, Manifest, Scene
from aftermap.errors import DataError, DataWarning, OutputError
from aftermap.files import Claim, make_folder, write_text, writing
from aftermap.files.claims import LOCK_NAME
from aftermap.files.whole import PREFIX

JOURNAL_NAME = "prepare.journal"
IMAGES = "images"
MASKS = "masks"
SOFT = "soft"


class Journal:
    """Finished scenes, one JSON line each, valid for one set of options."""

    def __init__(self, path: Path, options: Mapping[str, str]) -> None:
        self.path = path
        self.options = dict(options)
        self.scenes: dict[str, Scene] = {}
        self._claim: Claim | None = None
        self._noted = 0

    def load(self, earlier: Manifest | None) -> None:
        """Take over scenes of an earlier manifest and of an interrupted run with the same options."""
        if earlier is not None:
            options = {"kind": earlier.kind, "scheme": earlier.scheme, **earlier.options}
            if all(options.get(key) == value for key, value in self.options.items()):
                self.scenes = {scene.name: scene for scene in earlier.scenes}
        try:
            lines = self.path.read_text().splitlines()
        except OSError:
            return
        if not lines or lines[0] != json.dumps(self.options):
            return
        for line in lines[1:]:
            try:
                scene = Scene.model_validate_json(line)
            except ValueError:  # the last line of a killed run
                continue
            self.scenes[scene.name] = scene

    def add(self, scene: Scene) -> None:
        """Note a finished scene."""
        with writing(self.path):
            self._file.write(scene.model_dump_json() + "\n")
            self._file.flush()
        self._noted += 1

    def abandon(self) -> bool:
        """Where a run ends without any finished scene, remove the journal and the folders it made; say whether."""
        if self._noted:
            return False
        out = self.path.parent
        self.release()
        with suppress(OSError):  # a folder that holds something stays
            self.path.unlink(missing_ok=True)
            for folder in (*(out / name for name in (MASKS, IMAGES, SOFT) if (out / name).is_dir()), out):
                folder.rmdir()
        return True

    def __enter__(self) -> "Journal":
        self._claim = Claim(self.path.parent)
        lines = [json.dumps(self.options), *(scene.model_dump_json() for scene in self.scenes.values())]
        self._noted = len(self.scenes)
        write_text(self.path, "\n".join(lines) + "\n")
        with writing(self.path):
            self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def release(self) -> None:
        """Let another process write into the folder."""
        if self._claim is not None:
            self._claim.release()


def claim(out: Path, names: Collection[str], *, kind: str, overwrite: bool) -> Manifest | None:
    """Make `out` and return the manifest of an earlier preparation in it.

    Args:
        out: the folder.
        names: of the scenes that are to come; empty where they are not known yet.
        kind: name of the reader.
        overwrite: take a folder that holds other things, or another dataset.

    Raises:
        OutputError: `out` holds other things or another dataset, or cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file, expected a folder for the prepared data: choose another -o")
    ours = (out / MANIFEST_NAME).is_file() or (out / JOURNAL_NAME).is_file()
    if out.is_dir() and not ours and not overwrite and not all(_is_beginning(path) for path in out.iterdir()):
        raise OutputError(
            f"{out} exists and holds other files: choose another -o, or pass --overwrite to add to it"
        )
    earlier = _earlier(out)
    if earlier is not None and not overwrite and _is_other(earlier, names, kind):
        raise OutputError(
            f"{out} holds another dataset ({len(earlier.scenes)} scenes of kind {earlier.kind}): choose another -o, "
            "or pass --overwrite to replace its manifest"
        )
    make_folder(out / MASKS)
    return earlier


def _is_beginning(path: Path) -> bool:
    """Whether it is what a preparation leaves that was killed before its journal was there."""
    if path.name in (IMAGES, MASKS, SOFT):
        return path.is_dir() and not any(path.iterdir())
    return path.name == LOCK_NAME or path.name.startswith(PREFIX)


def _earlier(out: Path) -> Manifest | None:
    try:
        return Manifest.load(out)
    except DataError:
        return None


def _is_other(earlier: Manifest, names: Collection[str], kind: str) -> bool:
    """Whether a manifest is of another reader, or has no scene in common with those that are to come."""
    if earlier.kind != kind:
        return True
    known = {scene.name for scene in earlier.scenes}
    return bool(known and names) and known.isdisjoint(names)


def keep_splits(manifest: Manifest, earlier: Manifest | None) -> Manifest:
    """Carry over the splits of an earlier preparation of the same scenes."""
    if earlier is None or all(scene.split == "unassigned" for scene in earlier.scenes):
        return manifest
    splits = {scene.name: scene.split for scene in earlier.scenes}
    if splits.keys() != {scene.name for scene in manifest.scenes}:
        warnings.warn(
            "the scenes have changed, so their splits were dropped: run 'aftermap data split'", DataWarning, 3
        )
        return manifest
    scenes = [scene.model_copy(update={"split": splits[scene.name]}) for scene in manifest.scenes]
    kept = {key: value for key, value in earlier.options.items() if key.startswith("split")}
    return manifest.model_copy(update={"scenes": scenes, "options": {**manifest.options, **kept}})
