"""The table of contents of a zip archive, looked at before it is read.

A table may be larger than what the archive holds, name one member twice, or several that share
their bytes, so that a small file becomes a large one in memory.
"""

from __future__ import annotations

import os
import zipfile
from typing import BinaryIO

from ..errors import words

_LARGEST_TABLE = 1_000_000  # bytes: 10,000 members, read in a tenth of a second

# Where an archive ends (APPNOTE.TXT of PKWARE, sections 4.3.14 to 4.3.16).
_END, _END_SIZE, _LONGEST_COMMENT = b"PK\x05\x06", 22, 65535
_END_64, _LOCATOR_64, _LOCATOR_64_SIZE = b"PK\x06\x06", b"PK\x06\x07", 20
_LOCAL, _LOCAL_SIZE = b"PK\x03\x04", 30  # what stands before each member: section 4.3.7


def members(file: BinaryIO) -> list[zipfile.ZipInfo]:
    """What the archive ``file`` says that it holds, in its order.

    Raises:
        ValueError: it is no archive, or its table makes no sense.
    """
    try:
        if _table_size(file) > _LARGEST_TABLE:
            raise ValueError("its table of contents is too long")
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except Exception as error:  # zipfile raises what it stumbles over: struct.error, UnicodeError
        raise ValueError(str(error) or type(error).__name__) from None


def first_byte(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where the content of ``member``, stored as it is, begins in ``file``.

    Raises:
        ValueError: it is compressed or encrypted, or does not lie in the file as the table says.
    """
    if member.flag_bits & 0x1 or member.compress_type != zipfile.ZIP_STORED:
        how = "encrypted" if member.flag_bits & 0x1 else "compressed"
        raise ValueError(f"its {words(member.filename)} is {how}")
    size = file.seek(0, os.SEEK_END)
    file.seek(member.header_offset)
    local = file.read(_LOCAL_SIZE)
    if len(local) < _LOCAL_SIZE or not local.startswith(_LOCAL):
        raise ValueError(f"its {words(member.filename)} is not where its table says")
    name, extra = (int.from_bytes(local[place : place + 2], "little") for place in (26, 28))
    start = member.header_offset + _LOCAL_SIZE + name + extra
    if member.file_size != member.compress_size or start + member.file_size > size:
        raise ValueError(f"its {words(member.filename)} ends outside it")
    return int(start)


def _table_size(file: BinaryIO) -> int:
    """The bytes of the table by the record at the end of the archive; 0 if there is none."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _END_SIZE - _LONGEST_COMMENT)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_SIZE:
        return 0
    table = int.from_bytes(tail[place + 12 : place + 16], "little")
    locator = start + place - _LOCATOR_64_SIZE
    if locator >= 0:
        file.seek(locator)
        found = file.read(_LOCATOR_64_SIZE)
        if found.startswith(_LOCATOR_64):
            file.seek(int.from_bytes(found[8:16], "little"))
            end = file.read(56)
            if end.startswith(_END_64):
                table = int.from_bytes(end[40:48], "little")
    file.seek(0)
    return table
