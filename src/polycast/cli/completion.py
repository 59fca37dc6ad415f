"""The command ``polycast completion``: prints what makes a shell complete the command line.

The scripts are made from the parsers of the commands, so they know every option.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

INSTRUCTIONS: Final = {
    "bash": 'eval "$(polycast completion bash)", in ~/.bashrc',
    "zsh": 'eval "$(polycast completion zsh)", in ~/.zshrc, after compinit',
    "fish": "polycast completion fish > ~/.config/fish/completions/polycast.fish",
}
"""How each shell gets its script."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or the program without one."""

    name: str
    help: str
    options: tuple[Option, ...]
    words: tuple[str, ...]
    """What its first argument may be, besides a file."""
    takes_file: bool


def main(arguments: Sequence[str], program: argparse.ArgumentParser) -> int:
    """Run the command; return the exit status. ``program``: the parser of the command line without a command."""
    shell = make_parser().parse_args(arguments).shell
    sys.stdout.write({"bash": bash, "zsh": zsh, "fish": fish}[shell](commands(program)))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="polycast completion",
        description="Print a script for completion in a shell.",
        epilog="; ".join(f"{shell}: {how}" for shell, how in INSTRUCTIONS.items()),
    )
    parser.add_argument("shell", choices=tuple(INSTRUCTIONS), help="the shell")
    return parser


def commands(program: argparse.ArgumentParser) -> list[Command]:
    """Return the program, whose name is empty, and its commands."""
    from polycast.cli import crypto, discover, doctor, migrate, service, top

    parsers = {
        "": program,
        "encrypt": crypto.make_parser("encrypt"),
        "decrypt": crypto.make_parser("decrypt"),
        "migrate": migrate.make_parser(),
        "top": top.make_parser(),
        "service": service.make_parser(),
        "doctor": doctor.make_parser(),
        "discover": discover.make_parser(),
        "completion": make_parser(),
    }
    return [_command(name, parser) for name, parser in parsers.items()]


def _command(name: str, parser: argparse.ArgumentParser) -> Command:
    options: list[Option] = []
    words: list[str] = []
    takes_file = False
    for action in parser._actions:
        choices = tuple(map(str, action.choices or ()))
        if action.option_strings:
            text = _first_sentence(action.help)
            options.append(Option(tuple(action.option_strings), text, action.nargs != 0, choices))
        elif isinstance(action, argparse._SubParsersAction):
            words += choices
            for nested in action.choices.values():
                options += _command("", nested).options
                takes_file |= _command("", nested).takes_file
        elif choices:
            words += choices
        else:
            takes_file |= action.dest in ("config", "file", "input", "output")
    unique = {option.names: option for option in options}
    return Command(name, _first_sentence(parser.description), tuple(unique.values()), tuple(words), takes_file)


def _first_sentence(text: str | None) -> str:
    return (text or "").partition(". ")[0].partition(" (")[0].rstrip(".").replace("%%", "%")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def bash(known: Sequence[Command]) -> str:
    """Return the script for bash."""
    lines = [
        "_polycast() {",
        '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
        '    local command="" words="" files="" word',
        "    if (( COMP_CWORD > 1 )); then command=${COMP_WORDS[1]}; fi",
        "    COMPREPLY=()",
        '    case "$command" in',
    ]
    for command in (*known[1:], known[0]):
        names = " ".join(name for option in command.options for name in option.names)
        words = " ".join((names, *command.words))
        first = f" {' '.join(each.name for each in known[1:])}" if not command.name else ""
        lines.append(f"        {command.name or '*'})")
        lines.append(f'            words="{words}" files="{"yes" if command.takes_file else ""}"')
        if first:
            lines.append(f'            if (( COMP_CWORD == 1 )); then words+="{first}"; fi')
        valued = [option for option in command.options if option.takes_value]
        if valued:
            lines.append('            case "$previous" in')
            for option in valued:
                choices = f'words="{" ".join(option.choices)}" files=""' if option.choices else 'words="" files="yes"'
                lines.append(f"                {'|'.join(option.names)}) {choices} ;;")
            lines.append("            esac")
        lines.append("            ;;")
    lines += [
        "    esac",
        '    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$words" -- "$current")',
        '    if [[ -n "$files" && "$current" != -* ]]; then',
        '        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")',
        "        compopt -o filenames 2>/dev/null",
        "    fi",
        "}",
        "complete -F _polycast polycast",
    ]
    return "\n".join(lines) + "\n"


def zsh(known: Sequence[Command]) -> str:
    """Return the script for zsh."""
    lines = ["#compdef polycast", "_polycast() {", "    local -a commands", "    commands=("]
    lines += [f"        {_quoted(f'{command.name}:{command.help}')}" for command in known[1:]]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )) && [[ $words[CURRENT] != -* ]]; then",
        "        _describe command commands",
        "        _files",
        "        return",
        "    fi",
        "    local command=$words[2]",
        "    case $command in",
    ]
    for command in (*known[1:], known[0]):
        if command.name:
            lines += [
                f"        {command.name})",
                "            shift words; (( CURRENT-- ))",
                "            _arguments -s \\",
            ]
        else:
            lines += ["        *)", "            _arguments -s \\"]
        arguments = [_zsh_option(option, name) for option in command.options for name in option.names]
        if command.words:
            arguments.append(_quoted(f"1:argument:({' '.join(command.words)})"))
        if command.takes_file:
            arguments.append("'*:file:_files'")
        lines.append(" \\\n".join(f"                {argument}" for argument in arguments))
        lines.append("            ;;")
    lines += [
        "    esac",
        "}",
        'if [[ $funcstack[1] == _polycast ]]; then _polycast "$@"; else compdef _polycast polycast; fi',
    ]
    return "\n".join(lines) + "\n"


def _zsh_option(option: Option, name: str) -> str:
    text = option.help
    for special in "\\[]:":
        text = text.replace(special, f"\\{special}")
    value = ""
    if option.takes_value:
        value = f":value:({' '.join(option.choices)})" if option.choices else ":value:_files"
    equals = "=" if option.takes_value and name.startswith("--") else ""
    return _quoted(f"{name}{equals}[{text}]{value}")


def fish(known: Sequence[Command]) -> str:
    """Return the script for fish."""
    names = " ".join(command.name for command in known[1:])
    lines = ["complete -c polycast -e"]
    for command in known:
        if command.name:
            condition = f"__fish_seen_subcommand_from {command.name}"
            lines.append(
                f"complete -c polycast -n __fish_is_first_arg -a {command.name} -d {_fish_quoted(command.help)}"
            )
        else:
            condition = f"not __fish_seen_subcommand_from {names}"
        if not command.takes_file:
            lines.append(f"complete -c polycast -n {_fish_quoted(condition)} -f")
        for word in command.words:
            lines.append(f"complete -c polycast -n {_fish_quoted(condition)} -a {word}")
        for option in command.options:
            flags = [f"-s {name[1:]}" if len(name) == 2 else f"-l {name[2:]}" for name in option.names]
            value = ""
            if option.takes_value:
                value = f" -x -a {_fish_quoted(' '.join(option.choices))}" if option.choices else " -r"
            parts = (f"-n {_fish_quoted(condition)}", *flags, f"-d {_fish_quoted(option.help)}{value}")
            lines.append(f"complete -c polycast {' '.join(parts)}")
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
