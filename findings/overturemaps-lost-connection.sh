#!/usr/bin/env bash
# The Python package of Overture Maps (overturemaps 1.0.2) turns a connection that is lost while a release is read into a line on
# standard output and the value None: no exception reaches the caller, who asked for a reader of record batches. Whoever downloads
# buildings with it has to test for None, and has lost standard output as a place for data.
#
# Seen: "Error reading dataset: the connection was lost" on standard output, and None.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet overturemaps==1.0.2 pyarrow==25.0.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import contextlib
import importlib.metadata
import io
import sys

import overturemaps.core as core
import pyarrow


class Lost:
    schema = pyarrow.schema([("geometry", pyarrow.binary())])

    def to_batches(self, **_):
        raise OSError("the connection was lost")


said = io.StringIO()
with contextlib.redirect_stdout(said):
    found = core._record_batch_reader_from_dataset(Lost())
print("overturemaps", importlib.metadata.version("overturemaps"), "gives", found, "and says:", said.getvalue().strip())
if found is not None or "the connection was lost" not in said.getvalue():
    sys.exit("the error reaches the caller: this finding is out of date")
PY
