"""A command line: a program's flags, by argparse, and the overrides of the config; how a program starts and ends."""

import argparse
import inspect
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vae_jax.errors import UserError, message_of, unknown_name
from vae_jax.files import cache_folder, user_path
from vae_jax.phrases import printable, shorten, whole_number
from vae_jax.screen import wrap_text

Overrides = list[tuple[str, str]]
"""(field, text) of each --config.field=text, in their order."""


def split_overrides(argv: Sequence[str]) -> tuple[Overrides, list[str]]:
    """The overrides of the config, --config.a.b=value or --config.a.b value, and all other words.

    A field without a value is true, as absl reads a flag of a boolean field.
    """
    overrides, others, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            others.append(word)
            continue
        field, equals, value = word.removeprefix("--config.").partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        overrides.append((field, value))
    return overrides, others


def text(value: str) -> str:
    """A flag's text, of at least one character, none of which a terminal or a script would act on."""
    if not value:
        raise argparse.ArgumentTypeError("has no value")
    if printable(value) != value:
        raise argparse.ArgumentTypeError(
            f"'{printable(value)}' is not allowed; give text without line breaks and control characters"
        )
    return value


def path(value: str) -> Path:
    """A flag that names a folder or a file; ~ is the user's home."""
    try:
        return user_path(text(value))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def words(value: str) -> tuple[str, ...]:
    """A flag of names with commas between, each once."""
    return tuple(dict.fromkeys(text(word) for word in value.split(",") if word))


def paths(value: str) -> tuple[Path, ...]:
    """A flag of folders with commas between, each once."""
    return tuple(map(path, words(value)))


def whole(minimum: int, meaning_of_0: str = "") -> Callable[[str], int]:
    """A flag that is a whole number of at least `minimum`."""

    allowed = f"a whole number, or 0 for {meaning_of_0}" if meaning_of_0 else f"a whole number of at least {minimum}"

    def read(value: str) -> int:
        try:
            number = whole_number(text(value))
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{value!r} is not allowed; give {allowed}")
        return number

    return read


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """A flag that is one of these words."""

    def read(value: str) -> str:
        if value not in allowed:
            raise argparse.ArgumentTypeError(str(unknown_name("", value, allowed)).removeprefix(": "))
        return value

    return read


def switch(value: str) -> bool:
    """A flag that is true or false."""
    if value not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{value!r} is not allowed; give true or false")
    return value == "true"


class Parser(argparse.ArgumentParser):
    """Flags of one program. What is wrong is a UserError of one line; unknown flags are named with the nearest one.

    Args:
        program: the subcommand of vae-jax, or the module that `launcher` runs.
        manual: what it does, in as many paragraphs as it takes.
        config: whether the program takes --config and --config.a.b=value.
        launcher: what a person types before `program`: "vae-jax" or "python -m".
    """

    def __init__(self, program: str, manual: str | None, config: bool = False, launcher: str = "vae-jax"):
        super().__init__(
            prog=f"{launcher} {program}",
            description=inspect.cleandoc(manual or ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.takes_config = config
        self._usual: dict[str, Any] = {}
        if config:
            self.flag("config", text, "digits", "NAME|FILE.py[:ARG]", "a packaged config, or a file with get_config()")
            self.add_argument("--config.FIELD", metavar="VALUE", help="sets a field of the config (any type)")

    def flag(self, name: str, kind: Callable[[str], Any], default: Any, metavar: str, meaning: str) -> None:
        """Adds --name; `default` None means that it may be left out."""
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        known = f" (default: {shown})" if shown else ""
        self.add_argument(f"--{name}", type=kind, default=None, metavar=metavar, help=meaning + known)
        self._usual[name] = default

    def switch(self, name: str, meaning: str) -> None:
        """Adds --name, which is false unless it is given."""
        self.add_argument(
            f"--{name}", type=switch, nargs="?", const=True, default=False, metavar="true|false", help=meaning
        )

    def parse(self, argv: Sequence[str]) -> tuple[argparse.Namespace, Overrides]:
        """(the flags, the overrides of the config). Raises UserError for what is unknown or not allowed."""
        overrides, others = split_overrides(argv)
        flags, unknown = self.parse_known_args(others)
        for name, default in self._usual.items():  # argparse would read them as if they had been typed
            if getattr(flags, name) is None:
                setattr(flags, name, default)
        if unknown:
            word = unknown[0].partition("=")[0]
            raise unknown_name(word, word.lstrip("-"), self._names())
        if overrides and not self.takes_config:
            field = f"--config.{overrides[0][0]}"
            raise UserError(f"{field}: this program takes no config; a run's config is in its folder")
        return flags, overrides

    def _names(self) -> list[str]:
        names = [option.removeprefix("--") for option in self._option_string_actions if option.startswith("--")]
        return ["config.<field>" if name == "config.FIELD" else name for name in names]

    def error(self, message: str) -> NoReturn:
        """Raises UserError in place of argparse's usage and exit."""
        flag, _, problem = message.removeprefix("argument ").partition(": ")
        if problem in ("expected one argument", "has no value"):
            problem = f"has no value; give one, as in {flag}=VALUE"
        raise UserError(f"{flag}: {problem}" if problem else message)


def run_program(main: Callable[[list[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a program and leaves with its status.

    What a person gave that is wrong, or the machine has run out of, is one line and status 2; a reader of its output
    that has gone, as head does, ends it in silence.
    """
    use_compilation_cache()
    try:
        status = main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        sys.exit(status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        sys.exit(128 + signal.SIGPIPE)
    except (UserError, OSError) as error:
        _leave(message_of(error))
    except MemoryError:
        _leave("this machine's memory is full; take smaller batches, fewer members at once or a smaller network")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _leave(
            f"the device's memory is full ({str(error).partition(chr(10))[0][:120]}); take smaller batches, fewer "
            "members at once or a smaller network"
        )


def _leave(message: str) -> NoReturn:
    lines = [shorten(printable(line)) for line in message.split("\n")]
    print(wrap_text("\n".join(["error: " + lines[0], *lines[1:]]), stream=sys.stderr), file=sys.stderr)
    sys.exit(2)


def command(program: str, words: Sequence[str] = ()) -> str:
    """A program of vae-jax with its words as a person here would type it, by the path of this Python's script."""
    return shlex.join([*_program(program), *words])


def _program(program: str) -> list[str]:
    script = Path(sys.executable).parent / "vae-jax"
    if not script.exists():
        return [_relative(Path(sys.executable)), "-m", "vae_jax", program]
    on_path = shutil.which("vae-jax")
    return ["vae-jax" if on_path and Path(on_path) == script else _relative(script), program]


def _relative(file: Path) -> str:
    inside = file.is_relative_to(Path.cwd())
    return str(file.relative_to(Path.cwd())) if inside else str(file)


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or the user's cache folder."""
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(cache_folder("xla"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
