"""A terminal that a test can read: it wraps what is too long, moves its cursor, and wraps anew when it is resized."""

import io
import re

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions

TOKENS = re.compile(r"\033\[\??[\d;]*[A-Za-z]|\r|\n|[^\033\r\n]")


class Terminal(io.StringIO):
    """What is written to it, as it shows it; `text` is all of it raw. The cursor is visible or not."""

    def __init__(self, columns, lines=24):
        super().__init__()
        self.columns, self.height, self.text, self.cursor_visible = columns, lines, "", True
        self.rows, self.row, self.column = [""], 0, 0

    def isatty(self):
        return True

    def write(self, text):
        self.text += text
        for token in TOKENS.findall(text):
            self.take(token)
        return len(text)

    def take(self, token):
        if token == "\n":
            self.next_row()
        elif token == "\r":
            self.column = 0
        elif move := re.fullmatch(r"\033\[(\d+)A", token):
            self.row = max(self.row - int(move[1]), 0)
        elif token == "\033[2K":
            self.rows[self.row] = ""
        elif token.startswith("\033[?25"):
            self.cursor_visible = token.endswith("h")
        elif token.startswith("\033"):
            assert token.endswith("m"), repr(token)
        else:
            self.put(token)

    def put(self, character):
        if self.column + cell_len(character) > self.columns:
            self.next_row()
        row = self.rows[self.row]
        assert cell_len(row) == self.column or not row.strip(), "written over what is there"
        self.rows[self.row] = row + " " * (self.column - cell_len(row)) + character
        self.column += cell_len(character)

    def next_row(self):
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.rows):
            self.rows.append("")

    def resize(self, columns):
        """Wraps what it shows anew; the cursor stays where it is in the text."""
        rows, self.columns = self.rows, columns
        pieces = [[row[i : i + columns] for i in range(0, max(len(row), 1), columns)] for row in rows]
        self.row = sum(map(len, pieces[: self.row + 1])) - 1
        self.column = len(pieces[-1][-1])
        self.rows = [piece for row in pieces for piece in row]

    def shown(self):
        """Its lines from the first to the last that is not empty."""
        return "\n".join(row.rstrip() for row in self.rows).rstrip().split("\n")


def patch_size(monkeypatch):
    """Lets rich know the size of a `Terminal`, and take it for one that moves its cursor."""
    usual = Console.size.fget

    def size(console):
        stream = console.file
        return ConsoleDimensions(stream.columns, stream.height) if isinstance(stream, Terminal) else usual(console)

    monkeypatch.setattr(Console, "size", property(size))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
