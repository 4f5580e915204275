"""Pickles read without executing anything in them.

A pickle is a little program that makes objects, and with `pickle` it may call whatever it names.
Here the few instructions that plain values need are followed one by one; a name stands for what the
reader's own table says, and any other name or instruction ends the reading. Nothing is imported.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass

LITERAL_OPCODES = {  # instructions that say a value
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
}
CONSTANT_OPCODES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
OPCODE_HANDLERS = {  # the others that are known: what they do to a `_Machine`
    "MARK": lambda machine: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine: machine.gather(1),
    "TUPLE2": lambda machine: machine.gather(2),
    "TUPLE3": lambda machine: machine.gather(3),
    "EMPTY_LIST": lambda machine: machine.stack.append([]),
    "EMPTY_DICT": lambda machine: machine.stack.append({}),
    "APPEND": lambda machine: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine: machine.update([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine: machine.update(machine.since_mark()),
    "STACK_GLOBAL": lambda machine: machine.name(machine.stack.pop(-2), machine.stack.pop()),
    "REDUCE": lambda machine: machine.call(machine.stack.pop(-2), machine.stack.pop()),
    "BUILD": lambda machine: machine.stack.pop(),  # attributes, which nothing here has
    "BINPERSID": lambda machine: machine.stack.append(machine.persistent_load(machine.stack.pop())),
}

MAX_COPIED_VALUES = 1_000_000  # values in the arguments of all calls together


@dataclass(frozen=True)
class GlobalName:
    """A function or class that a pickle names: `torch.FloatStorage`."""

    full: str


def load(file, allowed_globals, persistent_load):
    """Returns the value of the next pickle of a file, and leaves the file behind it.

    Args:
        file: a binary file.
        allowed_globals: the functions and classes that the pickle may name, in full, and what is
            called in
            the place of each; `None` for those that are not to be called.
        persistent_load: called with each persistent id, for the value that it stands for.

    Raises:
        ValueError: the pickle is cut short, or asks for anything else.
    """
    machine = _Unpickler(allowed_globals, persistent_load)
    try:
        for instruction, argument, _ in pickletools.genops(file):
            machine.step(instruction.name, argument)
        return machine.stack.pop()
    except (IndexError, KeyError, OverflowError) as error:  # an empty stack, a value never kept
        raise ValueError("its pickle is damaged: it uses values that it never made") from error


def make_dict(pairs=()):
    """Returns a dict, such as an `OrderedDict` that a pickle asks for, of words and numbers.

    Raises:
        ValueError: a key is something else, such as tuples that are nested too deep to be hashed.
    """
    found = {}
    for pair in pairs:
        if type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) not in (str, int):
            raise ValueError("it has a dict whose keys are neither words nor numbers")
        found[pair[0]] = pair[1]
    return found


class _Unpickler:
    """The stack that a pickle works on, and the values that it keeps for later."""

    def __init__(self, allowed_globals, persistent_load):
        self.allowed_globals, self.persistent_load = allowed_globals, persistent_load
        self.stack, self.marks, self.memo, self.copied = [], [], {}, 0

    def step(self, name, argument):
        """Does one instruction."""
        if name in LITERAL_OPCODES:
            self.stack.append(argument)
        elif name in CONSTANT_OPCODES:
            self.stack.append(CONSTANT_OPCODES[name])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.name(*argument.split(" ", 1))
        elif name in OPCODE_HANDLERS:
            OPCODE_HANDLERS[name](self)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it asks for {name}, which no dict of tensors needs")

    def since_mark(self):
        """Takes what lies on the stack above the last mark."""
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def gather(self, count):
        """Makes a tuple of what lies on top."""
        self.stack.append(tuple([self.stack.pop() for _ in range(count)][::-1]))

    def extend(self, items):
        """Appends to the list on top."""
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to what is no list")
        self.stack[-1].extend(items)

    def update(self, items):
        """Enters keys and values into the dict on top."""
        if type(self.stack[-1]) is not dict:
            raise ValueError("it sets items of what is no dict")
        self.stack[-1].update(make_dict(zip(items[::2], items[1::2], strict=True)))

    def name(self, module, name):
        """Puts a stand-in for a function or class on the stack, if it is an allowed one."""
        if type(module) is not str or type(name) is not str:  # which may be endless to print
            raise ValueError("it asks for a function whose name is no text")
        full = f"{module}.{name}"
        if full not in self.allowed_globals:
            raise ValueError(
                f"it asks for {full}, which is refused: only tensors are read, as saved by "
                "torch.save(model.state_dict(), FILE)"
            )
        self.stack.append(GlobalName(full))

    def call(self, function, arguments):
        """Puts on the stack what the table makes of a call that the pickle asks for."""
        function_impl = (
            self.allowed_globals[function.full] if isinstance(function, GlobalName) else None
        )
        if function_impl is None or type(arguments) is not tuple:
            raise ValueError("it calls what is no function")
        self.copied += sum(len(x) for x in arguments if type(x) in (tuple, list, dict))
        if self.copied > MAX_COPIED_VALUES:
            raise ValueError("it copies its values again and again")
        try:
            self.stack.append(function_impl(*arguments))
        except TypeError as error:
            raise ValueError(f"it calls {function.full} with what that does not take") from error
