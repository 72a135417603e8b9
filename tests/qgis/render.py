"""Run by the Python that QGIS is installed for: the layers of a map as QGIS draws them, into a PNG.

render.py OUT.png LAYER...      a raster file, or FILE|layername=NAME of vectors; the first lies on top
"""

import json
import sys

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def main(picture, sources):
    application = QgsApplication([], False)
    application.initQgis()
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
    print(json.dumps({"labels": labels, "features": layers[0].featureCount()}))
    application.exitQgis()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
