"""aftermap in the Processing toolbox of QGIS."""


def classFactory(interface):  # noqa: N802 (QGIS calls it by this name)
    """The plugin; QGIS calls this when it loads it."""
    from .plugin import AftermapPlugin

    return AftermapPlugin(interface)
