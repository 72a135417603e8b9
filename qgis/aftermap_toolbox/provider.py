"""The provider: the algorithms, and the setting that says where aftermap is."""

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import ALGORITHMS
from .command import SETTING


class AftermapProvider(QgsProcessingProvider):
    """Algorithms that call the user's aftermap."""

    def id(self):
        """As `qgis_process` names it: aftermap:map."""
        return "aftermap"

    def name(self):
        """As the toolbox shows it."""
        return "aftermap"

    def icon(self):
        """That of QGIS for providers without one."""
        return QIcon() or QgsProcessingProvider.icon(self)

    def load(self):
        """Add the setting, then the algorithms."""
        ProcessingConfig.addSetting(
            Setting(self.name(), SETTING, "Command of aftermap (empty: the one on the path)", "", valuetype=Setting.FILE)
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        """Take the setting away."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self):  # noqa: N802
        """Tell QGIS of every algorithm."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
