"""The algorithms: each turns its parameters into a command of aftermap and names the layers that come out of it."""

import json
from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingOutputNumber,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputString,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from . import command

_VECTORS = ["gpkg", "geojson", "json", "shp", "fgb", "parquet", "kml"]
"""Endings of files that aftermap reads itself; other sources are copied into a GeoPackage."""


class _Algorithm(QgsProcessingAlgorithm):
    """What the algorithms have in common: the command is run, and its layers are loaded in the styles of their files."""

    ID = ""
    TITLE = ""
    HELP = ""

    def createInstance(self):  # noqa: N802
        return type(self)()

    def name(self):
        return self.ID

    def displayName(self):  # noqa: N802
        return self.TITLE

    def shortHelpString(self):  # noqa: N802
        return self.HELP

    def flags(self):
        """The work is another process, which is waited for in a thread."""
        return super().flags() | QgsProcessingAlgorithm.FlagCanCancel

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Say before any work that there is no aftermap."""
        try:
            command.find_command(ProcessingConfig.getSetting(command.SETTING) or "")
        except command.CommandError as error:
            return False, str(error)
        return super().checkParameterValues(parameters, context)

    def call(self, words, feedback):
        """Run aftermap with these words; returns what it printed."""
        try:
            program = command.find_command(ProcessingConfig.getSetting(command.SETTING) or "")
            words = [program, *words]
            feedback.pushCommandInfo(" ".join(str(word) for word in words))
            return command.run(
                words, tell=feedback.pushInfo, progress=feedback.setProgress, is_cancelled=feedback.isCanceled
            )
        except command.CommandError as error:
            raise QgsProcessingException(str(error)) from None

    def load(self, path, title, output, context):
        """Have a layer loaded when the algorithm has ended."""
        details = QgsProcessingContext.LayerDetails(title, context.project(), output)
        context.addLayerToLoadOnCompletion(str(path), details)

    def add(self, parameter, *, advanced=False):
        """Add a parameter; advanced ones are folded away."""
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(parameter)


class MapDamage(_Algorithm):
    """`aftermap map`: two dates in, a layer of buildings and rasters out."""

    ID = "map"
    TITLE = "Map damaged buildings"
    HELP = (
        "Maps the damage to every building between two images. Buildings are traced from what the model sees, or are the "
        "footprints given, whose ids and columns are kept. The result folder holds buildings.gpkg, damage.tif and a "
        "page, map.html, that opens without a network. An interrupted run is gone on with by ticking 'Resume'."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802
        for name, when in (("PRE", "before"), ("POST", "after")):
            self.add(QgsProcessingParameterRasterLayer(name, f"Image from {when}", optional=True))
        polygons = [QgsProcessing.TypeVectorPolygon]
        footprints = "Footprints (by default buildings are traced)"
        self.add(QgsProcessingParameterFeatureSource("FOOTPRINTS", footprints, polygons, optional=True))
        self.add(QgsProcessingParameterFeatureSource("AOI", "Area of interest", polygons, optional=True))
        self.add(QgsProcessingParameterString("MODEL", "Model: box, field, or a model folder", "box"))
        for name, when in (("PRE_TILES", "before"), ("POST_TILES", "after")):
            folder = QgsProcessingParameterFile.Folder
            title = f"Folder of tiles from {when}, in place of an image"
            self.add(QgsProcessingParameterFile(name, title, folder, optional=True), advanced=True)
        self.add(QgsProcessingParameterString("BANDS", "Bands, such as 3,2,1", optional=True), advanced=True)
        self.add(
            QgsProcessingParameterString("STRETCH", "Percentiles brought to 8 bits, such as 2,98", optional=True),
            advanced=True,
        )
        self.add(QgsProcessingParameterBoolean("RESUME", "Resume an interrupted run", False), advanced=True)
        self.add(QgsProcessingParameterBoolean("OVERWRITE", "Replace an earlier result", False), advanced=True)
        self.add(QgsProcessingParameterFolderDestination("OUT", "Result folder"))
        self.addOutput(
            QgsProcessingOutputVectorLayer("BUILDINGS", "Buildings", QgsProcessing.TypeVectorPolygon)
        )
        self.addOutput(QgsProcessingOutputRasterLayer("DAMAGE", "Damage by pixel"))
        self.addOutput(QgsProcessingOutputString("PAGE", "Page"))
        self.addOutput(QgsProcessingOutputNumber("COUNT", "Number of buildings"))
        self.addOutput(QgsProcessingOutputNumber("DAMAGED", "Number of damaged buildings"))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        def text(name):
            return self.parameterAsString(parameters, name, context).strip()

        out = Path(text("OUT"))
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()  # QGIS makes temporary folders beforehand
        images = [self.image(parameters, name, context) for name in ("PRE", "POST")]
        words = ["map", *images, "-o", out, "--model", text("MODEL") or "box", "--json"]
        for name in ("FOOTPRINTS", "AOI"):
            words += self.polygons(parameters, name, context, feedback)
        for name in ("BANDS", "STRETCH"):
            if text(name):
                words += [f"--{name.lower()}", text(name)]
        for name in ("RESUME", "OVERWRITE"):
            if self.parameterAsBoolean(parameters, name, context):
                words.append(f"--{name.lower()}")
        summary = json.loads(self.call(words, feedback))["summary"]
        buildings, damage = out / "buildings.gpkg", out / "damage.tif"
        self.load(damage, "Damage by pixel", "DAMAGE", context)
        self.load(f"{buildings}|layername=buildings", "Buildings", "BUILDINGS", context)
        return {
            "OUT": str(out),
            "BUILDINGS": f"{buildings}|layername=buildings",
            "DAMAGE": str(damage),
            "PAGE": str(out / "map.html"),
            "COUNT": summary["buildings"],
            "DAMAGED": summary["damaged"]["buildings"],
        }


    def image(self, parameters, name, context):
        """The file of a raster layer, or the folder of tiles in its place."""
        tiles = self.parameterAsString(parameters, f"{name}_TILES", context).strip()
        layer = self.parameterAsRasterLayer(parameters, name, context)
        if (layer is None) == (not tiles):
            when = "before" if name == "PRE" else "after"
            raise QgsProcessingException(f"give an image from {when}, or a folder of its tiles, and not both")
        return tiles or layer.source()

    def polygons(self, parameters, name, context, feedback):
        """The option for a layer of polygons: its file, or a copy of what is selected or lives in memory only."""
        if not parameters.get(name):
            return []
        path, layer = self.parameterAsCompatibleSourceLayerPathAndLayerName(
            parameters, name, context, _VECTORS, "gpkg", feedback
        )
        return [f"--{name.lower()}", f"{path}:{layer}" if layer else path]


ALGORITHMS = (MapDamage,)
