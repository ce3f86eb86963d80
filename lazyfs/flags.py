"""Options as flags: a command has one for each field of a dataclass of `config`."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from lazyfs.config import Option, SourceOptions, environment_name, options_of
from lazyfs.errors import UsageError


def with_options(kind: type[SourceOptions]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every option of `kind`, and pass them to it as one object called `options`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.name != "options"]
        table = options_of(kind)

        def called(**given: Any) -> None:
            values = {name: _value(name, table[name], given.pop(name)) for name in table}
            command(**given, options=kind(**{n: v for n, v in values.items() if v is not None}))

        extra = [_parameter(name, option) for name, option in table.items()]
        called.__signature__ = signature.replace(parameters=[*own, *extra])  # type: ignore[attr-defined]
        called.__doc__, called.__name__ = command.__doc__, command.__name__
        return called

    return decorate


def _parameter(name: str, option: Option) -> inspect.Parameter:
    """Return the parameter typer makes an option of, from a field of the configuration."""
    kind: Any = bool if isinstance(option.default, bool) else list[str] if option.many else str | None
    flag = typer.Option(
        f"--{name.replace('_', '-')}",
        help=option.help,
        envvar=environment_name(name),
        metavar=None if kind is bool else option.metavar,
        show_default=option.default if isinstance(option.default, str) else False,
    )
    default: Any = option.default if kind is bool else [] if option.many else None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, flag]
    )


def _value(name: str, option: Option, given: Any) -> Any:
    """Return what an option's text means; None when it was not given.

    Raises:
        UsageError: when it means nothing.

    """
    if isinstance(given, bool):
        return given
    if option.many and option.parse is None:
        return tuple(given or ())
    if given is None or option.parse is None:
        return given
    try:
        return tuple(map(option.parse, given)) if option.many else option.parse(given)
    except UsageError as error:
        flag = f"--{name.replace('_', '-')}"
        cause = error.cause if flag in error.cause else f"{flag}: {error.cause}"
        raise UsageError(cause, error.cure) from None
