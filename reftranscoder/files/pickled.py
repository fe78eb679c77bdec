"""Pickles read as data: the few operations that make lists, dicts and numbers, and no others.

A pickle is a program for a small machine with a stack.  Python's own machine imports and calls
whatever the program names.  This one has no way to import or call: a name is looked up in a table
of the caller's, and one that is not in it is refused; what the table gives is a function of ours,
which takes arguments that are data.  The standard library only takes the operations apart
(`pickletools.genops`), which runs nothing.

What comes out may refer to itself, and to one part from many places: who looks at it goes down a
fixed number of steps.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import words

LARGEST = 1_000_000  # bytes
_MOST_OPERATIONS = 100_000


class Name(NamedTuple):
    """What a pickle may refer to by name: text, and what calling it gives, if it can be called."""

    name: str
    make: Callable[..., Any] | None = None


class Record:
    """An object of a class that is not here: its attributes, as data."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.attributes: dict[str, Any] = {}


class _Mark:
    """Where the operands of an operation with many begin."""


_MARK = _Mark()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
#: Operations whose argument is the value.
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load(
    content: bytes, names: Mapping[str, Name], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The data that the pickle ``content`` describes.

    ``names`` are those that it may refer to, such as ``"collections.OrderedDict"``;
    ``persistent`` makes a value of a reference to something outside the pickle.

    Raises:
        ValueError: it is damaged, too large, refers to another name, or uses an operation that data
            have no need of.  Nothing that it names is imported or called.
    """
    if len(content) > LARGEST:
        raise ValueError(f"its pickle has {len(content)} bytes, and weights need fewer")
    machine = _Machine(names, persistent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            for operation, argument, _ in pickletools.genops(content):
                machine.spend(1)
                machine.do(operation.name, argument)
        return machine.result()
    except ValueError as error:
        raise ValueError(words(error)) from None
    except Exception as error:  # a stack that is empty, an operand of another type
        raise ValueError(f"its pickle makes no sense: {type(error).__name__}") from None


class _Machine:
    """The stack and the memory of a pickle, and what each operation does to them."""

    def __init__(
        self, names: Mapping[str, Name], persistent: Callable[[Any], Any] | None = None
    ) -> None:
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.spent = 0

    def spend(self, steps: int) -> None:
        """Count what was done: a short pickle may copy one long list again and again."""
        self.spent += steps
        if self.spent > _MOST_OPERATIONS:
            raise ValueError("its pickle has more operations than weights need")

    def do(self, operation: str, argument: Any) -> None:
        if operation in _LITERALS:
            self.stack.append(argument)
        elif operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation])
        elif operation in _TUPLES:
            self._tuple(_TUPLES[operation])
        elif operation in _OPERATIONS:
            _OPERATIONS[operation](self, argument)
        else:
            raise ValueError(f"its pickle uses the operation {operation}, which no weights need")

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise ValueError("its pickle does not end with one value")
        return self._pop()

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("its pickle takes a mark for a value")
        return value

    def _since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("its pickle lacks a mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _tuple(self, size: int) -> None:
        values = [self._pop() for _ in range(size)]
        self.stack.append(tuple(values[::-1]))

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"its pickle takes another value for a {kind.__name__}")
        return self.stack[-1]

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def nothing(self, _: Any) -> None:
        """For what only says how the pickle is written, and for its end."""

    def pop(self, _: Any) -> None:
        self._pop()

    def pop_mark(self, _: Any) -> None:
        self._since_mark()

    def duplicate(self, _: Any) -> None:
        value = self._pop()
        self.stack += [value, value]

    def empty_list(self, _: Any) -> None:
        self.stack.append([])

    def empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def tuple_of_many(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def list_of_many(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def dict_of_many(self, _: Any) -> None:
        self.stack.append(_paired(self._since_mark()))

    def append(self, _: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def appends(self, _: Any) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._top(dict).update(_paired([key, value]))

    def set_items(self, _: Any) -> None:
        values = self._since_mark()
        self._top(dict).update(_paired(values))

    def put(self, place: int) -> None:
        self.memory[place] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memory[len(self.memory)] = self.stack[-1]

    def get(self, place: int) -> None:
        if place not in self.memory:
            raise ValueError("its pickle recalls what it never kept")
        self.stack.append(self.memory[place])

    def name(self, argument: str) -> None:
        self._refer(argument.replace(" ", ".", 1))

    def name_of_two(self, _: Any) -> None:
        last, module = self._pop(), self._pop()
        if not isinstance(last, str) or not isinstance(module, str):
            raise ValueError("its pickle refers to what is no name")
        self._refer(f"{module}.{last}")

    def _refer(self, name: str) -> None:
        if name not in self.names:
            raise ValueError(f"its pickle refers to {words(name)}, which is no part of weights")
        self.stack.append(self.names[name])

    def make(self, _: Any) -> None:
        arguments, name = self._pop(), self._pop()
        if not isinstance(name, Name) or name.make is None or not isinstance(arguments, tuple):
            raise ValueError("its pickle calls what cannot be called")
        self.spend(len(arguments) + sum(len(a) for a in arguments if isinstance(a, list | tuple)))
        try:
            made = name.make(*arguments)
        except TypeError:
            raise ValueError(f"its pickle makes a {name.name} of something else") from None
        self.stack.append(made)

    def build(self, _: Any) -> None:
        """Attributes.  Those of a dict, such as the versions of modules, say nothing of weights."""
        state, made = self._pop(), self.stack[-1]
        if isinstance(made, Record) and isinstance(state, dict):
            self.spend(len(state))
            made.attributes.update({k: v for k, v in state.items() if isinstance(k, str)})
        elif not isinstance(made, dict) or not isinstance(state, dict):
            raise ValueError("its pickle gives attributes to what has none")

    def outside(self, _: Any) -> None:
        if self.persistent is None:
            raise ValueError("its pickle refers to something outside it")
        self.stack.append(self.persistent(self._pop()))


def _paired(values: list[Any]) -> dict[Any, Any]:
    """A dict of keys and values in turn.  Keys are texts or numbers: to hash others may be slow."""
    keys = values[::2]
    if len(values) % 2 or not all(isinstance(key, str | int | float) for key in keys):
        raise ValueError("its pickle has a dict of something else than texts and values")
    return dict(zip(keys, values[1::2], strict=True))


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.nothing,
    "FRAME": _Machine.nothing,
    "STOP": _Machine.nothing,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "EMPTY_LIST": _Machine.empty_list,
    "EMPTY_DICT": _Machine.empty_dict,
    "TUPLE": _Machine.tuple_of_many,
    "LIST": _Machine.list_of_many,
    "DICT": _Machine.dict_of_many,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_of_two,
    "REDUCE": _Machine.make,
    "NEWOBJ": _Machine.make,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.outside,
}
