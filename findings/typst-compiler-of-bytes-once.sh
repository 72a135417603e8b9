#!/usr/bin/env bash
# typst 0.15.2 (Python): a `Compiler` made of bytes sets its document once. The second `compile()` looks for a file that was never
# written, although a Compiler is kept so that it can compile again, with other `sys_inputs`, say. The same source as a file, or
# the bytes given to every call, works each time.
#
# Seen: bytes in the constructor: pdf, then "TypstError file not found (searched at .../__typst_py_bytes__.typ)"; from a file and with
# bytes at each call: both times.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet typst==0.15.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys
from pathlib import Path

import typst

SOURCE = b"= Report"


def twice(compiler, **each):
    seen = []
    for _ in range(2):
        try:
            seen.append("set" if compiler.compile(format="pdf", **each).startswith(b"%PDF") else "no pdf")
        except typst.TypstError as error:
            seen.append(str(error))
    return seen


Path("report.typ").write_bytes(SOURCE)
kept = twice(typst.Compiler(SOURCE))
file = twice(typst.Compiler("report.typ"))
each = twice(typst.Compiler(SOURCE), input=SOURCE)
print("bytes in the constructor:", kept, "a file:", file, "bytes at each call:", each)
as_seen = kept[0] == "set" and "file not found" in kept[1] and file == each == ["set", "set"]
sys.exit(0 if as_seen else "this finding is out of date")
PY
