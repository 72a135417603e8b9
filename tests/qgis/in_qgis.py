"""Run by the Python that QGIS is installed for: algorithms of the plugin, and the layers of a map as QGIS draws them.

    in_qgis.py REQUEST      {"run": [[ALGORITHM, PARAMETERS, VARIABLES], ...], "picture": FILE, "layers": [SOURCE, ...]}

QGIS takes seconds to start, so all is done in one. Sources are raster files, or FILE|layername=NAME of vectors; the first
lies on top. Printed are, by algorithm, its results or the errors it told, and what QGIS says of the first layer.
"""

import json
import os
import sys

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


class Told(QgsProcessingFeedback):
    """What an algorithm tells of its errors."""

    def __init__(self):
        super().__init__(False)
        self.errors = []

    def reportError(self, error, fatalError=False):  # noqa: N802, N803
        self.errors.append(error)


def run(name, parameters, variables):
    algorithm, told = QgsApplication.processingRegistry().createAlgorithmById(name), Told()
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    before = dict(os.environ)
    os.environ.update(variables)
    results, done = algorithm.run(parameters, context, told)
    os.environ.clear()
    os.environ.update(before)
    return results if done else {"errors": told.errors}


def draw(picture, sources):
    layers = []
    for source in sources:
        is_raster = source.split("|")[0].endswith(".tif")
        layers.append(
            QgsRasterLayer(source, "raster") if is_raster else QgsVectorLayer(source, "vector", "ogr")
        )
        assert layers[-1].isValid(), source
    QgsProject.instance().addMapLayers(layers)
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[0].crs())
    settings.setExtent(layers[0].extent().buffered(layers[0].extent().width() * 0.02))
    settings.setOutputSize(QSize(700, 700))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(picture)
    renderer = layers[0].renderer()
    labels = (
        [category.label() for category in renderer.categories()] if hasattr(renderer, "categories") else []
    )
    return {"labels": labels, "features": layers[0].featureCount()}


def main(request):
    application = QgsApplication([], False)
    application.initQgis()
    from aftermap_toolbox.plugin import AftermapPlugin

    plugin = AftermapPlugin(None)
    plugin.initProcessing()
    answers = [run(*each) for each in request["run"]]
    print(json.dumps({"run": answers, "drawn": draw(request["picture"], request["layers"])}))
    plugin.unload()
    application.exitQgis()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
