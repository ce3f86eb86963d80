"""Options of the two programs: each also an environment variable, which manifests set more easily."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from lazyfs.errors import UsageError
from lazyfs.parsing import parse_log_format, parse_log_level


class Settings:
    """A parser of options whose variables begin with `prefix`."""

    def __init__(self, program: str, prefix: str, text: str) -> None:
        self._program = program
        self._prefix = prefix
        self._parser = argparse.ArgumentParser(program, description=text, allow_abbrev=False)
        self._parsers: dict[str, Callable[[str], Any]] = {}
        self._needed: set[str] = set()

    def option(
        self, name: str, text: str, default: str | None = None, *,
        parse: Callable[[str], Any] = str, variable: str = "", needed: bool = False,
    ) -> None:  # fmt: skip
        """Add an option; its value is that of the command line, else of the variable, else `default`."""
        variable = variable or self.variable(name)
        known = os.environ.get(variable, default)
        self._parser.add_argument(f"--{name}", default=known, metavar="VALUE", help=f"{text} [{variable}]")
        self._parsers[name] = parse
        if needed:
            self._needed.add(name)

    def flag(self, name: str, text: str) -> None:
        """Add an option that is set or not."""
        variable = self.variable(name)
        known = os.environ.get(variable, "") not in {"", "0", "false"}
        self._parser.add_argument(
            f"--{name}", action="store_true", default=known, help=f"{text} [{variable}]"
        )

    def variable(self, name: str) -> str:
        """Return the environment variable of an option."""
        return f"{self._prefix}_{name.replace('-', '_').upper()}"

    def names(self) -> list[str]:
        """Return the options there are."""
        return [
            text.removeprefix("--")
            for action in self._parser._actions  # noqa: SLF001 - there is no other way to ask
            for text in action.option_strings
            if text.startswith("--") and text != "--help"
        ]

    def logging(self) -> None:
        """Add the options of the log."""
        self.option("log-format", "text (key=value) or json.", "json", parse=parse_log_format)
        self.option("log-level", "debug, info, warning or error.", "info", parse=parse_log_level)

    def read(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Return what they are.

        Raises:
            UsageError: when one is missing or means nothing.

        """
        found = self._parser.parse_args(arguments)
        for name, parse in self._parsers.items():
            attribute = name.replace("-", "_")
            text = getattr(found, attribute)
            if text is None and name in self._needed:
                raise UsageError(f"--{name} is missing", f"give it, or set {self.variable(name)}")
            if text is not None:
                setattr(found, attribute, _parsed(name, parse, text))
        return found

    def end(self, error: Exception, code: int) -> NoReturn:
        """Say why the program ends, and end it."""
        sys.stderr.write(f"{self._program}: {error}\n")
        sys.exit(code)


def _parsed(name: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"--{name}: {error.cause}", error.cure) from None
    except ValueError:
        raise UsageError(f"--{name} {text} is not right", "see --help") from None


def count(text: str) -> int:
    """Return a number that is not below 0.

    Raises:
        UsageError: when it is.
        ValueError: when it is none.

    """
    found = int(text)
    if found < 0:
        raise UsageError(f"{text} is less than none", "give 0 or more")
    return found


def one_of(*names: str) -> Callable[[str], str]:
    """Return a parser that takes one of these."""

    def parse(text: str) -> str:
        if text not in names:
            raise UsageError(f"there is no {text}", f"choose one of {', '.join(names)}")
        return text

    return parse
