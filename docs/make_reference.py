"""Write docs/settings.md and docs/commands.md from the code; a test fails when they are not what the code says.

Run: `python -m docs.make_reference`.
"""

import dataclasses
import inspect
import re
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main

from fmcib_module.cli import app
from fmcib_module.settings import Settings

DOCS = Path(__file__).parent


def main() -> None:
    """Write both pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """File name -> text of each generated page."""
    return {"settings.md": settings_page(), "commands.md": commands_page()}


def settings_page() -> str:
    """The settings of a run: a table of their fields."""
    words = attribute_texts(Settings)
    hints = typing.get_type_hints(Settings)
    rows = [
        f"| `{field.name}` | {_values(hints[field.name])} | {_default(field.default)} | {words[field.name]} |"
        for field in dataclasses.fields(Settings)
    ]
    head = (
        "# Settings\n\nKeys of a file for `fmcib run --config FILE.yml` and of `config/*.yml`; keyword arguments of "
        "`fmcib_module.run`.\nAn unknown key is an error. Made from the code by `python -m docs.make_reference`.\n"
    )
    return "\n".join([head, "| key | values | default | meaning |", "| --- | --- | --- | --- |", *rows, ""])


def commands_page() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    head = (
        "# Commands\n\nMade from the code by `python -m docs.make_reference`; `fmcib COMMAND --help` says the same.\n"
    )
    return "\n".join([head, *_command_lines("fmcib", root)])


def attribute_texts(kind: type) -> dict[str, str]:
    """Attribute -> its text in the class's Google docstring, on one line."""
    section = inspect.getdoc(kind).partition("Attributes:\n")[2]  # type: ignore[union-attr]
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section, flags=re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


def _values(hint: object) -> str:
    if typing.get_origin(hint) is tuple:
        return f"list of {_values(typing.get_args(hint)[0])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{member.value}`" for member in hint)
    return {str: "text", int: "integer", bool: "true, false", float: "number"}[typing.cast("type", hint)]


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _command_lines(path: str, command: Any) -> list[str]:
    if hasattr(command, "commands"):
        lines = []
        for name, child in command.commands.items():
            lines += _command_lines(f"{path} {name}", child)
        return lines
    shown = [parameter for parameter in command.params if parameter.name != "help"]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    usage = " ".join([path, *(_metavar(p) for p in arguments)])
    rows = [f"| `{_names(p)}` | {_cell(p.help or '')} | {_shown_default(p)} |" for p in shown if _is_option(p)]
    table = ["| option | meaning | default |", "| --- | --- | --- |", *rows, ""] if rows else []
    inputs = [f"* `{_metavar(p)}` {p.help}" for p in arguments if getattr(p, "help", "")]
    text = "\n".join(line.strip() for line in (command.help or "").splitlines())
    return [f"## {path}\n", f"```\n{usage} [OPTIONS]\n```\n", text, "", *inputs, "", *table]


def _metavar(parameter: Any) -> str:
    word = str(parameter.metavar or parameter.name.upper())
    return word if parameter.required else f"[{word}]"


def _is_option(parameter: Any) -> bool:
    return parameter.param_type_name == "option"


def _names(parameter: Any) -> str:
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _shown_default(parameter: Any) -> str:
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    value = parameter.default
    if value is None or value is False or callable(value) or str(value).startswith("Sentinel"):
        return ""
    return f"`{getattr(value, 'value', value)}`"


if __name__ == "__main__":
    main()
