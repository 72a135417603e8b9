"""Images and vector files at addresses: the part that is needed is copied to this machine, and read like any file.

    fetch_image("https://host/post.tif", online, aoi=path)   the blocks that an area touches, of a COG; else all
    fetch_vectors("s3://bucket/buildings.parquet", online)
    gather([(path, told), ...])                               one path for the tiles of a date, with what is known of each

All of these give a path of this machine, in the cache (`AFTERMAP_CACHE`), so that each byte is read once, whatever is
done with the image afterwards; what is there already of the same version is not read again. GDAL sees a remote file only
through `cog.opened_remote`: its own network is off, it finds nothing beside the file, and what it claims is checked as
for local files before a pixel is read.
"""

from aftermap.geo.online.fetch import fetch_image, fetch_vectors, gather
from aftermap.geo.online.kept import find_kept

__all__ = ["fetch_image", "fetch_vectors", "find_kept", "gather"]
