"""The algorithms: each turns its parameters into a command of aftermap and names the layers that come out of it."""

import json
from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingOutputFile,
    QgsProcessingOutputFolder,
    QgsProcessingOutputNumber,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputString,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
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

    def add_map(self):
        """Add the parameter for a finished map."""
        folder = QgsProcessingParameterFile.Folder
        self.add(QgsProcessingParameterFile("MAP", "Result folder of 'Map damaged buildings'", folder))

    def polygons(self, parameters, name, context, feedback):
        """FILE:LAYER of a layer of polygons: its own file, or a copy of what is selected or lives in memory only; or ''."""
        if not parameters.get(name):
            return ""
        path, layer = self.parameterAsCompatibleSourceLayerPathAndLayerName(
            parameters, name, context, _VECTORS, "gpkg", feedback
        )
        return f"{path}:{layer}" if layer else path

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
        self.add(
            QgsProcessingParameterBoolean("ALIGN_FOOTPRINTS", "Move footprints onto their houses", False)
        )
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
        given = {name: self.polygons(parameters, name, context, feedback) for name in ("FOOTPRINTS", "AOI")}
        given |= {name: text(name) for name in ("BANDS", "STRETCH")}
        words += options(given)
        for name in ("ALIGN_FOOTPRINTS", "RESUME", "OVERWRITE"):
            if self.parameterAsBoolean(parameters, name, context):
                words.append(f"--{name.lower().replace('_', '-')}")
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


class CountAreas(_Algorithm):
    """`aftermap areas`: a finished map counted by cells, squares or polygons."""

    ID = "areas"
    TITLE = "Count damage by areas"
    HELP = (
        "Counts the buildings of a finished map by H3 cells, by squares, or by polygons such as districts, with built "
        "area and what was not surveyed. A building counts once. Give one kind of areas."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802
        self.add_map()
        kind = QgsProcessingParameterNumber.Integer
        self.add(QgsProcessingParameterNumber("H3", "Resolution of H3 cells, 0 to 15", kind, None, True, 0, 15))
        kind = QgsProcessingParameterNumber.Double
        self.add(QgsProcessingParameterNumber("GRID", "Side of squares in metres", kind, None, True, 10))
        polygons = [QgsProcessing.TypeVectorPolygon]
        self.add(QgsProcessingParameterFeatureSource("BY", "Polygons, such as districts", polygons, optional=True))
        self.add(QgsProcessingParameterString("NAME", "Column of the polygons with their names", optional=True))
        self.add(QgsProcessingParameterString("PCODE", "Column of the polygons with P-codes", optional=True))
        self.add(QgsProcessingParameterRasterLayer("RASTER", "Raster to be summed, such as population", optional=True))
        self.addOutput(QgsProcessingOutputVectorLayer("AREAS", "Areas", QgsProcessing.TypeVectorPolygon))
        self.addOutput(QgsProcessingOutputString("PAGE", "Page"))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        given = {name: self.parameterAsString(parameters, name, context) for name in ("H3", "GRID", "NAME", "PCODE")}
        given["BY"] = self.polygons(parameters, "BY", context, feedback)
        if sum(bool(given[name]) for name in ("H3", "GRID", "BY")) != 1:
            raise QgsProcessingException("give one of H3 cells, squares and polygons")
        raster = self.parameterAsRasterLayer(parameters, "RASTER", context)
        given["RASTER"] = "" if raster is None else raster.source()
        folder = self.parameterAsString(parameters, "MAP", context)
        found = json.loads(self.call(["areas", folder, *options(given), "--json"], feedback))[0]
        layer = Path(folder) / "areas" / f"{found['name']}.gpkg"
        self.load(layer, found["title"], "AREAS", context)
        return {"AREAS": str(layer), "PAGE": str(layer.with_suffix(".html"))}


class WriteReport(_Algorithm):
    """`aftermap report`: a finished map as a document of two pages."""

    ID = "report"
    TITLE = "Report on a damage map"
    HELP = "Writes a finished map as two pages of PDF, as HTML and as DOCX: counts, map, areas, method, limits and rights."
    LANGUAGES = ("en", "fr", "es", "ar")

    def initAlgorithm(self, configuration=None):  # noqa: N802
        self.add_map()
        languages = ["English", "Français", "Español", "العربية"]
        self.add(QgsProcessingParameterEnum("LANGUAGE", "Language", languages, defaultValue=0))
        self.add(QgsProcessingParameterEnum("PAPER", "Paper", ["A4", "Letter"], defaultValue=0))
        for name, title in (("TITLE", "Title"), ("ORGANISATION", "Organisation"), ("CREDIT", "Credit of the imagery")):
            self.add(QgsProcessingParameterString(name, title, optional=True))
        self.addOutput(QgsProcessingOutputFile("PDF", "Report"))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        names = ("TITLE", "ORGANISATION", "CREDIT")
        given = {name: self.parameterAsString(parameters, name, context) for name in names}
        given["LANGUAGE"] = self.LANGUAGES[self.parameterAsEnum(parameters, "LANGUAGE", context)]
        given["PAPER"] = ("a4", "letter")[self.parameterAsEnum(parameters, "PAPER", context)]
        folder = self.parameterAsString(parameters, "MAP", context)
        files = json.loads(self.call(["report", folder, *options(given), "--json"], feedback))["files"]
        return {"PDF": next(file for file in files if file.endswith(".pdf"))}


class WritePackage(_Algorithm):
    """`aftermap package`: the buildings in the formats that other people open."""

    ID = "package"
    TITLE = "Package a damage map"
    HELP = (
        "Writes the buildings of a finished map in the formats that other people open: all are written, or none. With an "
        "agency it writes names, layers, attributes and grades as that agency hands them on, in a folder of its version."
    )
    AGENCIES = ("", "ems", "unosat", "fema", "hdx")
    FORMATS = ("geoparquet", "flatgeobuf", "shapefile", "kmz", "pmtiles", "csv", "xlsx", "stac")

    def initAlgorithm(self, configuration=None):  # noqa: N802
        self.add_map()
        formats = list(self.FORMATS)
        self.add(QgsProcessingParameterEnum("FORMATS", "Formats", formats, allowMultiple=True, defaultValue=[3, 6]))
        self.add(QgsProcessingParameterString("NAME", "Name of the files", "buildings"))
        agencies = ["none: the formats above", "Copernicus EMS", "UNOSAT", "FEMA", "HDX"]
        self.add(QgsProcessingParameterEnum("AGENCY", "As an agency hands it on", agencies, defaultValue=0))
        self.add(QgsProcessingParameterString("CODE", "Code of the activation, such as EMSR123", optional=True))
        self.addOutput(QgsProcessingOutputFolder("PACKAGE", "Package"))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        chosen = [self.FORMATS[number] for number in self.parameterAsEnums(parameters, "FORMATS", context)]
        given = {"FORMAT": ",".join(chosen), "NAME": self.parameterAsString(parameters, "NAME", context)}
        folder = self.parameterAsString(parameters, "MAP", context)
        agency = self.AGENCIES[self.parameterAsEnum(parameters, "AGENCY", context)]
        if agency:
            given = {"PACKAGE": agency, "CODE": self.parameterAsString(parameters, "CODE", context)}
            found = json.loads(self.call(["package", folder, *options(given), "--json"], feedback))
            return {"PACKAGE": str(found["folder"])}
        files = json.loads(self.call(["package", folder, *options(given), "--json"], feedback))["files"]
        return {"PACKAGE": str(Path(files[0]).parent)}


def options(given):
    """Options of a command from values by name; those that are empty are left out."""
    return [word for name, value in given.items() if value for word in (f"--{name.lower()}", value)]


ALGORITHMS = (MapDamage, CountAreas, WriteReport, WritePackage)
