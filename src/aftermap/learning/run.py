"""Run folders: what was asked for, what happened, and the state to go on from."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aftermap import __version__
from aftermap.data.scene import Scene
from aftermap.errors import OutputError, TrainingError
from aftermap.files import make_folder, read_json, remove_stale, restore, write_json, write_text, writing

_LIBRARIES = ("torch", "torchvision", "timm", "segmentation_models_pytorch", "accelerate", "kornia", "numpy")


@dataclass
class Run:
    """A run folder: `recipe.yaml`, `run.json`, `metrics.jsonl`, `log.txt`, `samples/`, `model/`, `resume/`."""

    folder: Path

    def restore(self) -> None:
        """Put right what a killed process, or one of an older version, left of the saved state."""
        if self.resume.exists() or self.folder.is_dir():
            restore(self.resume)
            remove_stale(self.folder)
            for name in ("resume.old", "resume.part"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    @property
    def has_state(self) -> bool:
        """Whether there is a saved state to go on from."""
        return (self.resume / "step.json").is_file()

    @staticmethod
    def check_new(folder: Path) -> None:
        """Raise an OutputError where the folder holds a run already."""
        if (folder / "run.json").exists():
            raise OutputError(f"{folder} already holds a run: pass --resume to go on with it, or another -o")

    @classmethod
    def start(cls, folder: Path, recipe_yaml: str, facts: dict[str, Any]) -> "Run":
        """Create a run folder.

        Raises:
            OutputError: it holds a run already, or cannot be written.
        """
        cls.check_new(folder)
        make_folder(folder / "samples")
        write_text(folder / "recipe.yaml", recipe_yaml)
        run = cls(folder)
        run.record(
            id=uuid.uuid4().hex,
            status="running",
            started=_now(),
            version=__version__,
            git=_git_sha(),
            machine=machine(),
            environment=environment(),
            **facts,
        )
        return run

    @property
    def model(self) -> Path:
        """The deliverable: a model folder."""
        return self.folder / "model"

    @property
    def resume(self) -> Path:
        """Saved state to go on from."""
        return self.folder / "resume"

    def record(self, **facts: Any) -> None:
        """Merge facts into `run.json`."""
        with writing(self.folder, resumable=True):
            file = self.folder / "run.json"
            write_json(file, (self.facts() if file.exists() else {}) | facts)

    def facts(self) -> dict[str, Any]:
        """What `run.json` says.

        Raises:
            TrainingError: it cannot be read, or says something else.
        """
        facts = read_json(self.folder / "run.json", error=TrainingError)
        if not isinstance(facts, dict):
            raise TrainingError(f"{self.folder / 'run.json'} holds no facts of a run")
        return facts

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add one line to `metrics.jsonl`."""
        self._append("metrics.jsonl", json.dumps(values))

    def metrics(self, *, up_to_step: int | None = None) -> list[dict[str, Any]]:
        """All evaluations, or those up to a step; later ones are cut off the file, they will be made again."""
        lines = self.read_metrics()
        if up_to_step is None or not (self.folder / "metrics.jsonl").exists():
            return lines
        kept = [line for line in lines if line["step"] <= up_to_step]
        with writing(self.folder, resumable=True):
            write_text(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
        return kept

    def read_metrics(self) -> list[dict[str, Any]]:
        """All evaluations; the last line of a killed run, which may be cut short, is none."""
        file = self.folder / "metrics.jsonl"
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]

    def log(self, text: str) -> None:
        """Add a line with the time to `log.txt`."""
        self._append("log.txt", f"{_now()} {text}")

    def _append(self, name: str, line: str) -> None:
        with writing(self.folder, resumable=True), (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def machine() -> str:
    """Processor, cores and accelerator in a few words."""
    import torch

    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}"


def environment() -> dict[str, str]:
    """Versions of Python and of the libraries that can change what a run learns."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def data_checksum(scenes: Sequence[Scene]) -> str:
    """SHA-256 of what is learned from: names, splits and events of the scenes and checksums of their files.

    Neither the order of the scenes nor the place of the files plays a part.
    """
    lines = sorted(
        json.dumps([s.name, s.event, s.split, s.width, s.height, s.class_pixels, sorted(s.checksums.items())])
        for s in scenes
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git_sha() -> str | None:
    """Commit of the code that runs; None where it is installed and not a checkout."""
    here = Path(__file__)
    try:
        for words in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
            found = subprocess.run(
                ["git", "-C", str(here.parent), *words],
                capture_output=True,
                text=True,
                timeout=5,
                check=False,
            )
            if found.returncode:
                return None
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
