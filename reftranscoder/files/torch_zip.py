"""What ``torch.save`` writes, read without PyTorch: a zip of one pickle and of raw storages.

The pickle is read as data (`files.pickled`): the names that tensors need are in a table here, and
any other is refused.  A tensor in it is a storage, a first entry, sizes and strides, which become a
`Stored` once they are seen to lie within the storage.  Nothing is allocated for it before it is
read.  (``torch/serialization.py`` and ``torch/_utils.py`` of PyTorch 2 define the layout.)
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import FileError, shown, words
from .archive import first_byte, members
from .pickled import LARGEST, Name, Record, load
from .stored import AGAIN, Checksum, Stored, extension_dtype

_MOST_AXES = 8
_NEWER = "Save it again with a newer one, by torch.save of torch.load(path, weights_only=True)."

#: torch's names of number types -> NumPy's, or that of ml_dtypes.
_DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "float8_e4m3fn",
    "float8_e5m2": "float8_e5m2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "i1",
    "uint8": "u1",
    "bool": "?",
}
#: Storages with a type, and the type of their entries.
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_UNTYPED = "torch.storage.UntypedStorage"

#: Classes whose objects people pickle beside weights: their attributes are read as data.
CONFIGURATIONS = (
    "sae_training.config.LanguageModelSAERunnerConfig",
    "transcoder_training.config.LanguageModelSAERunnerConfig",
)


class _Storage(NamedTuple):
    """The bytes of a member of the archive, and the type of their entries where it has one."""

    member: zipfile.ZipInfo
    dtype: str | None
    entries: int  # of entries; of bytes where there is no type


def read_torch(path: Path) -> Any:
    """The value that ``torch.save`` put into ``path``: dicts, lists, numbers, texts, and `Stored`.

    A parameter is a tensor here, and an object of a class in `CONFIGURATIONS` a
    `files.pickled.Record`.

    Raises:
        FileError: it is damaged, refers to what weights do not need, or a tensor in it does not lie
            where the file has one.
    """
    try:
        with open(path, "rb") as file:
            if file.read(2) != b"PK":
                raise FileError(path, "was saved by PyTorch before 1.6, as a bare pickle", _NEWER)
            listed = members(file)
            prefix = _prefix(listed)
            inside = {m.filename.removeprefix(prefix): m for m in listed}
            if len(inside) != len(listed):
                raise ValueError("it has two members of one name")
            if sum(m.file_size for m in listed) > file.seek(0, 2):
                raise ValueError("its members are larger than the file")
            order = _content(file, inside, "byteorder", b"little")
            if order != b"little":
                raise ValueError(f"its numbers are {words(order.decode('latin-1'))}-endian")
            content = _content(file, inside, "data.pkl", b"")
            tensors = Tensors(path, file, inside)
            return load(content, tensors.names, tensors.storage)
    except FileError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot be read as PyTorch's: {words(error)}", AGAIN) from None
    except MemoryError:
        raise FileError(path, "does not fit into the memory that is free") from None


def _prefix(listed: list[zipfile.ZipInfo]) -> str:
    """The folder, in the archive, in which everything is: named after the file, as a rule."""
    found = [m.filename for m in listed if m.filename.split("/")[1:] == ["data.pkl"]]
    if len(found) != 1:
        raise ValueError("it holds no pickle of tensors, or several")
    return found[0].removesuffix("data.pkl")


def _content(
    file: BinaryIO, inside: Mapping[str, zipfile.ZipInfo], name: str, default: bytes
) -> bytes:
    """The bytes of a small member, whose checksum agrees."""
    if name not in inside:
        return default
    member = inside[name]
    if member.file_size > LARGEST:
        raise ValueError(f"its {name} has {member.file_size} bytes, and weights need fewer")
    file.seek(first_byte(file, member))
    content = file.read(member.file_size)
    if zlib.crc32(content) != member.CRC:
        raise ValueError(f"the checksum of its {name} does not agree")
    return content


class Tensors:
    """The names that a pickle of tensors refers to, and what they make."""

    def __init__(self, path: Path, file: BinaryIO, inside: Mapping[str, zipfile.ZipInfo]) -> None:
        self.path, self.file, self.inside = path, file, inside
        makers: dict[str, Callable[..., Any] | None] = {
            "collections.OrderedDict": _ordered,
            "torch._utils._rebuild_tensor_v2": self.typed,
            "torch._utils._rebuild_tensor_v3": self.untyped,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.device": _device,
            "torch.Size": _size,
            _UNTYPED: None,
        }
        makers |= {f"torch.{storage}": None for storage in _STORAGES}
        makers |= {f"torch.{dtype}": None for dtype in _DTYPES}
        makers |= {name: partial(Record, name) for name in CONFIGURATIONS}
        self.names = {name: Name(name, make) for name, make in makers.items()}

    def storage(self, reference: Any) -> _Storage:
        """What ``("storage", type, key, device, count)`` refers to."""
        if not isinstance(reference, tuple) or len(reference) != 5 or reference[0] != "storage":
            raise ValueError("its pickle refers to something outside it that is no storage")
        _, kind, key, _, count = reference
        member = self.inside.get(f"data/{key}") if isinstance(key, str) else None
        if member is None or not isinstance(kind, Name) or not _is_count(count):
            raise ValueError(f"its pickle refers to a storage that is not there: {shown(key)}")
        if kind.name == _UNTYPED:
            return _Storage(member, None, count)
        dtype = _STORAGES.get(kind.name.removeprefix("torch."))
        if dtype is None:
            raise ValueError(f"its storage {shown(key)} is a {shown(kind.name)}")
        return _Storage(member, dtype, count)

    def typed(
        self, storage: Any, first: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, *_: Any
    ) -> Stored:
        """A tensor whose type is that of its storage."""
        if not isinstance(storage, _Storage) or storage.dtype is None:
            raise ValueError("its pickle makes a tensor of no storage")
        return self._stored(storage, storage.dtype, first, shape, strides)

    def untyped(
        self,
        storage: Any,
        first: Any,
        shape: Any,
        strides: Any,
        _grad: Any,
        _hooks: Any,
        dtype: Any,
        *_: Any,
    ) -> Stored:
        """A tensor of a type that has no storage of its own, such as float8."""
        if not isinstance(storage, _Storage) or storage.dtype is not None:
            raise ValueError("its pickle makes a tensor of no storage")
        name = dtype.name.removeprefix("torch.") if isinstance(dtype, Name) else None
        if name not in _DTYPES:
            raise ValueError(f"its pickle makes a tensor of the type {shown(name)}")
        return self._stored(storage, name, first, shape, strides)

    def _stored(self, storage: _Storage, name: str, first: Any, shape: Any, strides: Any) -> Stored:
        written = _DTYPES[name]
        named = written == name  # a type that NumPy lacks
        dtype = extension_dtype(self.path, name) if named else np.dtype(written)
        size = storage.member.file_size
        if storage.entries * (dtype.itemsize if storage.dtype else 1) != size:
            raise ValueError(f"a storage of {storage.entries} entries has {size} bytes")
        within = size // dtype.itemsize
        counts = (shape, strides)
        if not _is_count(first) or not all(isinstance(c, tuple) for c in counts):
            raise ValueError("its pickle makes a tensor of no sizes")
        fits = len(shape) == len(strides) <= _MOST_AXES and all(map(_is_count, shape + strides))
        if not fits or not _lies_within(first, shape, strides, within):
            raise ValueError(f"a tensor of shape {shown(shape)} does not lie within its storage")
        start = first_byte(self.file, storage.member)
        return Stored(
            path=self.path,
            dtype=dtype,
            shape=shape,
            start=start + first * dtype.itemsize,
            strides=tuple(stride * dtype.itemsize for stride in strides),
            checksum=Checksum(start, size, storage.member.CRC),
        )


def _lies_within(first: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int) -> bool:
    """Whether no entry is outside the storage, and no more are asked for than it has."""
    last = first + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    return math.prod(shape) <= count and (0 in shape or last < count)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _ordered(pairs: Any = ()) -> dict[str, Any]:
    made = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("its pickle has an OrderedDict of something else than pairs")
        made[pair[0]] = pair[1]
    return made


def _parameter(tensor: Any, _grad: Any, _hooks: Any) -> Any:
    return tensor


def _device(name: Any, *_: Any) -> str:
    return words(name) if isinstance(name, str) else "a device"


def _size(sizes: Any) -> tuple[Any, ...]:
    return tuple(sizes) if isinstance(sizes, list | tuple) else ()
