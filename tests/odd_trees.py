"""Every way in which a tree of JSON can be odd at one place."""

import copy

ODD = (
    None,
    "x",
    "",
    0,
    -1,
    2.5,
    10**30,
    float("inf"),
    float("nan"),
    True,
    [],
    {},
    [[]],
    {"x": None},
    [1, "a"],
)
GONE = object()


def places(tree, path=()):
    """Paths of all nodes below the root, and the root itself."""
    yield path
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def odd_trees(tree, odd=ODD):
    """(what was done, tree) for every node of a tree replaced by every odd value, and for every key left out."""
    for path in places(tree):
        for value in (*odd, GONE):
            if path or value is not GONE:
                what = "gone" if value is GONE else repr(value)
                yield f"{'/'.join(map(str, path))} = {what}", with_value(tree, path, value)


def with_value(tree, path, value):
    """A copy of a tree with another value, or none (`GONE`), at one place."""
    if not path:
        return copy.deepcopy(value)
    changed = copy.deepcopy(tree)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if value is GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = copy.deepcopy(value)
    return changed
