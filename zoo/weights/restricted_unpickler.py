"""A restricted unpickler that executes no code of the file.

A pickle is a program for a stack machine, and `pickle.load` imports and calls any function that it
names. This unpickler implements only the opcodes that plain values need. A global name is looked up
in a table of the caller, and any other name or opcode is an error. Nothing is imported.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass

LITERAL_OPCODES = {  # their argument is a value
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
}
CONSTANT_OPCODES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
OPCODE_HANDLERS = {  # the other supported opcodes: functions of an `_Unpickler`
    "MARK": lambda machine: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine: machine.pop_tuple(1),
    "TUPLE2": lambda machine: machine.pop_tuple(2),
    "TUPLE3": lambda machine: machine.pop_tuple(3),
    "EMPTY_LIST": lambda machine: machine.stack.append([]),
    "EMPTY_DICT": lambda machine: machine.stack.append({}),
    "APPEND": lambda machine: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine: machine.extend(machine.pop_to_mark()),
    "SETITEM": lambda machine: machine.update([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine: machine.update(machine.pop_to_mark()),
    "STACK_GLOBAL": lambda machine: machine.push_global(machine.stack.pop(-2), machine.stack.pop()),
    "REDUCE": lambda machine: machine.call(machine.stack.pop(-2), machine.stack.pop()),
    "BUILD": lambda machine: machine.stack.pop(),  # sets attributes: ignored
    "BINPERSID": lambda machine: machine.stack.append(machine.persistent_load(machine.stack.pop())),
}

MAX_COPIED_VALUES = 1_000_000  # total length of the containers passed to calls


@dataclass(frozen=True)
class GlobalName:
    """A function or class named by a pickle, such as `torch.FloatStorage`."""

    full: str


def load(file, allowed_globals, persistent_load):
    """Returns the value of the next pickle in a file; leaves the file at the end of the pickle.

    Args:
        file: a binary file.
        allowed_globals: the full names of the functions and classes that the pickle may name,
            each with the function to call instead, or `None` if it may not be called.
        persistent_load: function from a persistent id to its value, as in `pickle.Unpickler`.

    Raises:
        ValueError: the pickle is truncated, or uses anything else.
    """
    machine = _Unpickler(allowed_globals, persistent_load)
    try:
        for name, argument in _instructions(file):
            machine.step(name, argument)
        return machine.stack.pop()
    except (IndexError, KeyError, OverflowError) as error:  # of an empty stack, or of the memo
        raise ValueError("its pickle is damaged: it uses values that do not exist") from error


def _instructions(file):
    """Yields the name and argument of each opcode of a pickle."""
    try:
        for instruction, argument, _ in pickletools.genops(file):
            yield instruction.name, argument
    except ValueError as error:
        raise ValueError(f"its pickle is truncated or damaged ({error})") from error


def make_dict(pairs=()):
    """Returns a dict, in place of the `OrderedDict` of a pickle.

    Raises:
        ValueError: a key is not a string or integer. Deeply nested tuples cannot be hashed.
    """
    found = {}
    for pair in pairs:
        if type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) not in (str, int):
            raise ValueError("it has a dict with keys that are neither strings nor integers")
        found[pair[0]] = pair[1]
    return found


class _Unpickler:
    """The stack machine of a pickle, with its memo."""

    def __init__(self, allowed_globals, persistent_load):
        self.allowed_globals, self.persistent_load = allowed_globals, persistent_load
        self.stack, self.marks, self.memo, self.copied = [], [], {}, 0

    def step(self, name, argument):
        """Executes one opcode."""
        if name in LITERAL_OPCODES:
            self.stack.append(argument)
        elif name in CONSTANT_OPCODES:
            self.stack.append(CONSTANT_OPCODES[name])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.push_global(*argument.split(" ", 1))
        elif name in OPCODE_HANDLERS:
            OPCODE_HANDLERS[name](self)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it uses the opcode {name}, which no dict of tensors needs")

    def pop_to_mark(self):
        """Pops the values above the last mark."""
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def pop_tuple(self, count):
        """Replaces the top values of the stack by a tuple of them."""
        self.stack.append(tuple([self.stack.pop() for _ in range(count)][::-1]))

    def extend(self, items):
        """Extends the list on top of the stack."""
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to a value that is not a list")
        self.stack[-1].extend(items)

    def update(self, items):
        """Adds alternating keys and values to the dict on top of the stack."""
        if type(self.stack[-1]) is not dict:
            raise ValueError("it sets items of a value that is not a dict")
        self.stack[-1].update(make_dict(zip(items[::2], items[1::2], strict=True)))

    def push_global(self, module, name):
        """Pushes the `GlobalName` of a function or class, if it is allowed."""
        if type(module) is not str or type(name) is not str:  # a nested value could not be printed
            raise ValueError("it names a function by a value that is not a string")
        full = f"{module}.{name}"
        if full not in self.allowed_globals:
            raise ValueError(
                f"it needs {full}, which is refused; save only tensors, with "
                "torch.save(model.state_dict(), FILE)"
            )
        self.stack.append(GlobalName(full))

    def call(self, function, arguments):
        """Pushes the result of a call of an allowed function."""
        function_impl = (
            self.allowed_globals[function.full] if isinstance(function, GlobalName) else None
        )
        if function_impl is None or type(arguments) is not tuple:
            raise ValueError("it calls a value that is not a function")
        self.copied += sum(len(x) for x in arguments if type(x) in (tuple, list, dict))
        if self.copied > MAX_COPIED_VALUES:
            raise ValueError(f"it copies more than {MAX_COPIED_VALUES:,} values")
        try:
            self.stack.append(function_impl(*arguments))
        except TypeError as error:
            raise ValueError(f"it calls {function.full} with invalid arguments") from error
