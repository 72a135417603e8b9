"""Whether an image file is all there, told by its own lengths and checksums instead of by decoding it."""

import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_FRAME = 10  # bytes of the header of a VP8 key frame
_KEY_FRAME_CODE = b"\x9d\x01\x2a"


def is_complete(data: bytes) -> bool:
    """Whether the content of a file says of itself that nothing of it is missing.

    True is told of two formats. Every chunk of a PNG carries a checksum, so its pixels are those that were written. A
    still WebP states its lengths, which is all that decoding one would find out: its decoder makes pixels of any bytes
    that have the right number. Of other formats, and of what looks odd, False is told: decode it to know.
    """
    if data[:8] == _PNG:
        return _is_whole_png(memoryview(data))
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and _is_whole_webp(data)


def _is_whole_png(data: memoryview) -> bool:
    at, kinds = len(_PNG), []
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            return False
        kinds.append(bytes(data[at + 4 : at + 8]))
        at = end + 4
        if kinds[-1] == b"IEND":
            return kinds[0] == b"IHDR" and b"IDAT" in kinds
    return False


def _is_whole_webp(data: bytes) -> bool:
    """Of the plain lossy and lossless forms; one with opacity or several frames is left to its decoder."""
    kind, length = data[12:16], int.from_bytes(data[16:20], "little")
    if int.from_bytes(data[4:8], "little") + 8 > len(data) or 20 + length > len(data) or length < _FRAME:
        return False
    frame = data[20 : 20 + length]
    if kind == b"VP8L":
        return frame[0] == 0x2F
    header = int.from_bytes(frame[:3], "little")
    is_key, first_partition = header & 1 == 0, header >> 5
    return kind == b"VP8 " and is_key and frame[3:6] == _KEY_FRAME_CODE and _FRAME + first_partition <= length
