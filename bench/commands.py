"""What the scripts of this folder share: running aftermap as a user does."""

import os
import subprocess
import sys
from pathlib import Path


def aftermap(words: list[str], log: Path, *, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command on one thread; what it printed. Its messages go to `log`; other exit codes end the script."""
    command = [str(Path(sys.executable).with_name("aftermap")), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "AFTERMAP_TRACKING": "off"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=file, env=environment, text=True)
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(words)} failed: see {log}")
    return done.stdout
