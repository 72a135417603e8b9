"""Datasets found and prepared in one call, as the command line does it."""

from aftermap.data.preparing.cutter import cut
from aftermap.data.preparing.dataset import PreparedFolder, SourceScene
from aftermap.data.preparing.footprint_tiles import footprints_in_pixels
from aftermap.data.preparing.outlined_image import OutlinedImage
from aftermap.data.preparing.prepare import prepare
from aftermap.data.readers.agrivision import agrivision_dataset
from aftermap.data.readers.class_folder import class_folder_dataset
from aftermap.data.readers.folder import folder_dataset
from aftermap.data.readers.isaid import isaid_dataset
from aftermap.data.readers.isprs import isprs_dataset
from aftermap.data.readers.opencities import opencities_dataset
from aftermap.data.readers.spacenet import spacenet_dataset
from aftermap.data.readers.xbd import xbd_dataset
from aftermap.geo.raster import RasterSource

WAYS = ("workers", "overwrite", "strict", "progress")


def _prepared(find):
    def prepared(source, out, *arguments, **options):
        ways = {name: options.pop(name) for name in WAYS if name in options}
        return prepare(find(source, *arguments, **options), out, **ways)

    return prepared


prepare_agrivision = _prepared(agrivision_dataset)
prepare_class_folder = _prepared(class_folder_dataset)
prepare_folder = _prepared(folder_dataset)
prepare_isaid = _prepared(isaid_dataset)
prepare_isprs = _prepared(isprs_dataset)
prepare_opencities = _prepared(opencities_dataset)
prepare_spacenet = _prepared(spacenet_dataset)
prepare_xbd = _prepared(xbd_dataset)


def cut_tiles(image, footprints, out, config, *, name=None, source_split=None):
    """The tiles of one image below `out`, without a manifest."""
    raster = RasterSource.open(image)
    name = name or image.stem
    shapes = None if footprints is None else footprints_in_pixels(footprints, raster.grid)
    source = SourceScene(name, name, image, source_split=source_split)
    return cut(OutlinedImage(raster, shapes, config, name), source, PreparedFolder(out.resolve()))
