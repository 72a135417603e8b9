"""The ground floor: files and folders that appear whole or not at all, and one message for what cannot be written.

    replacing(path)              a file: write to what it yields, the rest is done for you
    replacing_folder(folder)     the same for a folder; what the user put into the old one stays
    make_folder(folder)
    write_text / write_bytes / write_json / read_json
    writing(path)                turns what the system says about a failed write into an OutputError
    keep_inputs(out, *inputs)    refuses to write over what is read
    sha256_of(path)
    csv_text / safe_cell         tables that a spreadsheet shows and never runs
    markdown_table

    Claim(folder)                one writer at a time, until the process ends
    ResultFolder                 a result that takes long: claimed, resumed, published in one step

Files and folders in the making are called `.part-NAME`: whoever finds one that nobody writes may delete it.
"""

from aftermap.files.checksums import sha256_of
from aftermap.files.claims import Claim, turn
from aftermap.files.folders import make_folder, remove_stale, replacing_folder, restore
from aftermap.files.plain_json import read_json, to_plain, write_json
from aftermap.files.result_folder import ResultFolder, check_output, work_path
from aftermap.files.tables import are_safe, csv_text, markdown_table, safe_cell
from aftermap.files.whole import replacing, write_bytes, write_text
from aftermap.files.writing import DiskFullError, keep_inputs, one_line, writing

__all__ = [
    "Claim",
    "DiskFullError",
    "ResultFolder",
    "are_safe",
    "check_output",
    "csv_text",
    "keep_inputs",
    "make_folder",
    "markdown_table",
    "one_line",
    "read_json",
    "remove_stale",
    "replacing",
    "replacing_folder",
    "restore",
    "safe_cell",
    "sha256_of",
    "to_plain",
    "turn",
    "work_path",
    "write_bytes",
    "write_json",
    "write_text",
    "writing",
]
