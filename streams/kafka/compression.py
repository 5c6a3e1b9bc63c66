"""The compressions of Kafka, undone within a limit of bytes."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cramjam
import numpy as np

from schemas.wire import Reason, RejectedError
from streams.kafka.batches import BATCH_HEADER
from streams.kafka.records import DamagedError

# Bytes of a batch without compression, and about the bytes of a fetch that are read at once.
LARGEST_BATCH = 64 << 20
ATTRIBUTE_BYTES = slice(21, 23)  # in the header
CODEC_BITS = 0x07  # bits of the attributes
GZIP_CODEC, SNAPPY_CODEC, LZ4_CODEC, ZSTD_CODEC = 1, 2, 3, 4
XERIAL_MAGIC = b"\x82SNAPPY\x00"  # begins a stream of blocks
XERIAL_HEADER = 16  # bytes before the first block


def inflated(whole: memoryview, codec: int) -> memoryview:
    """A batch as it was before compression. Raises Exception."""
    packed = bytes(whole[BATCH_HEADER.size :])
    if codec == GZIP_CODEC:
        content = _gunzipped(packed)
    elif codec == SNAPPY_CODEC:
        content = _unsnapped(packed)
    elif codec in (LZ4_CODEC, ZSTD_CODEC):
        content = _unframed(packed, cramjam.lz4 if codec == LZ4_CODEC else cramjam.zstd)
    else:
        raise RejectedError(
            Reason.UNKNOWN_CODEC,
            f"a batch is compressed in way {codec}, which is none of Kafka's",
        )

    # The header of the same batch without compression.
    attributes = BATCH_HEADER.unpack_from(whole)[5] & ~CODEC_BITS
    head = bytearray(whole[: BATCH_HEADER.size])
    head[ATTRIBUTE_BYTES] = attributes.to_bytes(2, "big", signed=True)
    return memoryview(bytes(head) + content)


def _gunzipped(packed: bytes) -> bytes:
    members: list[bytes] = []
    capacity = LARGEST_BATCH
    while packed.rstrip(b"\0"):
        member = zlib.decompressobj(wbits=31)
        members.append(member.decompress(packed, capacity + 1))
        capacity -= len(members[-1])
        if capacity < 0:
            raise _too_large()
        if not member.eof:
            raise DamagedError("gzip ends early")
        packed = member.unused_data
    return b"".join(members)


def _unsnapped(packed: bytes) -> bytes:
    """The content of one block of snappy or, as Java's clients write it, of a stream of blocks."""
    blocks = [packed]
    if packed.startswith(XERIAL_MAGIC):
        blocks = []
        at = XERIAL_HEADER
        while at < len(packed):
            (length,) = struct.unpack_from(">I", packed, at)
            blocks.append(packed[at + 4 : at + 4 + length])
            at += 4 + length
    if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > LARGEST_BATCH:
        raise _too_large()
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _unframed(packed: bytes, codec: Any) -> bytes:
    content = np.empty(LARGEST_BATCH, np.uint8)
    try:
        return content[: codec.decompress_into(packed, content)].tobytes()
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):
            raise _too_large() from error
        raise DamagedError(f"{error}") from error


def _too_large() -> RejectedError:
    return RejectedError(
        Reason.TOO_LARGE,
        f"a batch is more than {LARGEST_BATCH} bytes when it is not compressed",
    )
