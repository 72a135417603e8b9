"""The plugin: nothing but a provider of algorithms."""

from qgis.core import QgsApplication

from .provider import AftermapProvider


class AftermapPlugin:
    """Adds the provider while the plugin is loaded, with a window or without one (`qgis_process`)."""

    def __init__(self, interface):
        self.interface = interface
        self.provider = None

    def initProcessing(self):  # noqa: N802
        """Add the provider; QGIS calls this where there is no window."""
        self.provider = AftermapProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):  # noqa: N802
        """Add the provider; QGIS calls this where there is a window."""
        self.initProcessing()

    def unload(self):
        """Take the provider away."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
