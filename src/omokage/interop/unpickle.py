"""A pickle reader that calls only harmless stand-ins and does a bounded amount of work.

Python's own unpickler lets a file name anything, and a short file can keep it busy for hours: hashing tuples
of the same tuple, thirty levels deep, takes an hour in one step that Ctrl-C cannot stop. Here every
instruction is one step of a loop, the number of steps is limited, and only plain values may be keys of dicts
or members of sets.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from ..errors import UserError

MAX_STEPS = 500_000
"""Instructions and entries passed to stand-ins, in one file. NVIDIA's and rosinality's files use a tenth."""

MAX_KEY_ENTRIES = 16
"""Most entries of a tuple that is used as a key. None of them may be a tuple."""

MAX_TUPLE_KEYS = 10_000
MAX_INTEGER_BITS = 256
_MAX_PROTOCOL = 5

Names = Mapping[tuple[str, str], Callable[..., Any]]


class Inert:
    """Stands for an object of a class that is not needed: accepts any arguments and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class Record(dict):
    """Stands for a dict with attributes."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)


class Budget:
    """Limits for reading one file: steps, bytes of its parts, and keys that are tuples."""

    def __init__(self, size: int) -> None:
        self._steps, self._bytes, self._tuple_keys = MAX_STEPS, size, MAX_TUPLE_KEYS

    def spend(self, steps: int) -> None:
        """Count steps; ValueError if there are too many."""
        self._steps -= steps
        if self._steps < 0:
            raise ValueError(f"more than {MAX_STEPS:,} instructions, which no weights need")

    def take(self, size: int) -> None:
        """Count bytes of a part of the file; ValueError if all parts together exceed the file."""
        self._bytes -= size
        if self._bytes < 0:
            raise ValueError("the same bytes in several parts")

    def tuple_key(self) -> None:
        """Count a key that is a tuple; ValueError if there are too many."""
        self._tuple_keys -= 1
        if self._tuple_keys < 0:
            raise ValueError(f"more than {MAX_TUPLE_KEYS:,} keys that are tuples")


class _Pickle:
    """The stack machine. ``names``: stand-ins by allowed name. ``persistent``: returns storages."""

    def __init__(self, names: Names, persistent: Callable[[Any], Any], budget: Budget) -> None:
        self.names, self.persistent, self.budget = names, persistent, budget
        self.callable = {id(stand_in) for stand_in in names.values()}
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, file: BinaryIO) -> Any:
        """Read the next pickle in ``file``; the position in the file is then behind that pickle."""
        for opcode, argument, _ in pickletools.genops(file):
            self.budget.spend(1)
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name in _PLAIN:
                if type(argument) is int and argument.bit_length() > MAX_INTEGER_BITS:
                    raise ValueError(f"an integer of {argument.bit_length():,} bits")
                self.stack.append(argument)
            else:
                step = _STEPS.get(opcode.name)
                if step is None:
                    raise ValueError(f"the instruction {opcode.name}, which no weights need")
                step(self, argument)
        raise ValueError("no end")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("an instruction without its operand")
        return self.stack.pop()

    def top(self) -> Any:
        self.stack.append(value := self.pop())
        return value

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("an instruction without its mark")
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def pop_or_mark(self) -> None:
        if self.marks and len(self.stack) == self.marks[-1]:
            self.marks.pop()
        else:
            self.pop()

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is not text")
        if (module, name) not in self.names:
            shown = f"{module}.{name}"[:200]
            raise UserError(f"the file wants to use {shown}, which no weights need; nothing was executed")
        self.stack.append(self.names[module, name])

    def named_by_stack(self) -> None:
        name = self.pop()
        self.name(self.pop(), name)

    def build(self, kind: Callable[[Any], Any], items: list[Any]) -> None:
        if kind in (set, frozenset):
            for item in items:
                self.check_key(item)
        self.stack.append(kind(items))

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            for item in items:
                self.check_key(item)
            target.update(items)
        else:
            raise ValueError("entries for something that has none")

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("entries for something that has none")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.check_key(key)
            target[key] = value

    def set_item(self) -> None:
        value = self.pop()
        self.set_items([self.pop(), value])

    def build_dict(self) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def check_key(self, key: Any) -> None:
        """ValueError unless hashing and comparing ``key`` takes very little time."""
        if type(key) is tuple:
            self.budget.tuple_key()
            entries = key
            if len(key) > MAX_KEY_ENTRIES:
                raise ValueError("a key of too many entries")
        else:
            entries = (key,)
        for entry in entries:
            kind = type(entry)
            if kind is int and entry.bit_length() > 64:
                raise ValueError("a key that is too large an integer")
            if kind not in (str, bytes, int, float, bool, type(None)) and not isinstance(entry, Inert):
                raise ValueError(f"a key that is not plain ({kind.__name__})")

    def call(self) -> None:
        """Call a stand-in with its arguments; nothing else can be called."""
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple or id(function) not in self.callable:
            raise ValueError("a call of something that is not a function")
        self.budget.spend(len(arguments))
        for argument in arguments:
            if isinstance(argument, tuple | list | dict | set | frozenset):
                self.budget.spend(len(argument))
        self.stack.append(function(*arguments))

    def new(self) -> None:
        arguments, kind = self.pop(), self.pop()
        if arguments != () or id(kind) not in self.callable or not isinstance(kind, type):
            raise ValueError("an object of something that is not a class")
        if not issubclass(kind, Inert | Record):
            raise ValueError("an object of a class that cannot be made this way")
        self.stack.append(kind())

    def set_state(self) -> None:
        """Set the state of a stand-in. No other object of this process can be changed."""
        state = self.pop()
        target = self.top()
        if not isinstance(target, Inert | Record | OrderedDict):
            raise ValueError("a state for an object that has none")
        if isinstance(state, tuple | dict):
            self.budget.spend(len(state))
        if not isinstance(target, OrderedDict):
            target.__setstate__(state)

    def remember(self, place: int) -> None:
        self.memo[place] = self.top()

    def recall(self, place: int) -> None:
        if place not in self.memo:
            raise ValueError(f"nothing stored in memo entry {place}")
        self.stack.append(self.memo[place])

    def check_protocol(self, protocol: int) -> None:
        if protocol > _MAX_PROTOCOL:
            raise ValueError(f"protocol {protocol}")


_PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_STEPS: dict[str, Callable[[_Pickle, Any], None]] = {
    "PROTO": _Pickle.check_protocol,
    "FRAME": lambda pickle, size: None,
    "NONE": lambda pickle, _: pickle.stack.append(None),
    "NEWTRUE": lambda pickle, _: pickle.stack.append(True),
    "NEWFALSE": lambda pickle, _: pickle.stack.append(False),
    "MARK": lambda pickle, _: pickle.marks.append(len(pickle.stack)),
    "POP": lambda pickle, _: pickle.pop_or_mark(),
    "POP_MARK": lambda pickle, _: pickle.since_mark().clear(),
    "DUP": lambda pickle, _: pickle.stack.append(pickle.top()),
    "EMPTY_LIST": lambda pickle, _: pickle.stack.append([]),
    "EMPTY_TUPLE": lambda pickle, _: pickle.stack.append(()),
    "EMPTY_DICT": lambda pickle, _: pickle.stack.append({}),
    "EMPTY_SET": lambda pickle, _: pickle.stack.append(set()),
    "LIST": lambda pickle, _: pickle.build(list, pickle.since_mark()),
    "TUPLE": lambda pickle, _: pickle.build(tuple, pickle.since_mark()),
    "TUPLE1": lambda pickle, _: pickle.build(tuple, [pickle.pop()]),
    "TUPLE2": lambda pickle, _: pickle.build(tuple, [pickle.pop(), pickle.pop()][::-1]),
    "TUPLE3": lambda pickle, _: pickle.build(tuple, [pickle.pop(), pickle.pop(), pickle.pop()][::-1]),
    "FROZENSET": lambda pickle, _: pickle.build(frozenset, pickle.since_mark()),
    "DICT": lambda pickle, _: pickle.build_dict(),
    "APPEND": lambda pickle, _: pickle.extend([pickle.pop()]),
    "APPENDS": lambda pickle, _: pickle.extend(pickle.since_mark()),
    "ADDITEMS": lambda pickle, _: pickle.extend(pickle.since_mark()),
    "SETITEM": lambda pickle, _: pickle.set_item(),
    "SETITEMS": lambda pickle, _: pickle.set_items(pickle.since_mark()),
    "PUT": _Pickle.remember,
    "BINPUT": _Pickle.remember,
    "LONG_BINPUT": _Pickle.remember,
    "MEMOIZE": lambda pickle, _: pickle.remember(len(pickle.memo)),
    "GET": _Pickle.recall,
    "BINGET": _Pickle.recall,
    "LONG_BINGET": _Pickle.recall,
    "GLOBAL": lambda pickle, both: pickle.name(*both.split(" ", 1)),
    "STACK_GLOBAL": lambda pickle, _: pickle.named_by_stack(),
    "REDUCE": lambda pickle, _: pickle.call(),
    "NEWOBJ": lambda pickle, _: pickle.new(),
    "BUILD": lambda pickle, _: pickle.set_state(),
    "PERSID": lambda pickle, text: pickle.stack.append(pickle.persistent(text)),
    "BINPERSID": lambda pickle, _: pickle.stack.append(pickle.persistent(pickle.pop())),
}


def read_pickle(file: BinaryIO, names: Names, persistent: Callable[[Any], Any], budget: Budget) -> Any:
    """Read the next pickle in ``file``. It may call only what ``names`` lists.

    Raises:
        UserError: the pickle names something else.
        ValueError: the pickle is damaged, or asks for more than weights need.
    """
    return _Pickle(names, persistent, budget).read(file)
