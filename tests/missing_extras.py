"""Stands in front of the command where extras are not installed: `python missing_extras.py MODULES COMMAND ...`."""

import importlib.abc
import sys


class NotInstalled(importlib.abc.MetaPathFinder):
    """Modules that cannot be found, as if no distribution held them.

    Args:
        names: top-level modules.
    """

    def __init__(self, names):
        self.names = frozenset(names)

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


if __name__ == "__main__":
    sys.meta_path.insert(0, NotInstalled(sys.argv.pop(1).split(",")))
    from aftermap.cli.app import main

    main(sys.argv[1:])
