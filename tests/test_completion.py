"""Completion, as the shells themselves do it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from polycast.cli import COMMANDS, main, make_parser
from polycast.cli.completion import commands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my polycast.yml").touch()
    return tmp_path


def need(shell: str) -> str:
    program = shutil.which(shell)
    if program is None:
        assert not os.environ.get("POLYCAST_REQUIRE_TOOLS"), f"{shell} is missing"
        pytest.skip(f"{shell} is not installed")
    return program


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def run(folder: Path, *command: str, text: str = "") -> list[str]:
    done = subprocess.run(
        command, input=text, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"},
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


CASES = [
    ("polycast se", {"service"}, {"top"}),
    ("polycast ", set(COMMANDS), {"install"}),
    ("polycast --d", {"--demo", "--dialect"}, {"--check"}),
    ("polycast m", {"migrate", "my polycast.yml"}, {"top"}),
    ("polycast top --in", {"--insecure", "--interval"}, {"--once"}),
    ("polycast service ", {"install"}, {"top"}),
    ("polycast service install --format ", {"systemd", "winsw"}, {"install", "my polycast.yml"}),
    ("polycast completion ", {"bash", "zsh", "fish"}, {"my polycast.yml"}),
    ("polycast doctor --dialect ", {"mediamtx"}, {"top"}),
    ("polycast migrate m", {"my polycast.yml"}, {"migrate"}),
]


def test_bash(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = script("bash", capsys)
    for line, expected, absent in CASES:
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        ask = f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _polycast; printf "%s\\n" "${{COMPREPLY[@]}}"'
        found = set(run(folder, need("bash"), "--norc", "-c", f"{program}\n{ask}"))
        assert expected <= found, line
        assert not absent & found, line


def test_fish(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fish = need("fish")
    (folder / "script.fish").write_text(script("fish", capsys))
    for line, expected, absent in CASES:
        lines = run(folder, fish, "--no-config", "-c", f"source script.fish; complete -C '{line}'")
        found = {each.partition("\t")[0].replace("\\", "") for each in lines}
        assert expected <= found, line
        assert not absent & found, line


ZSH = """
autoload -Uz compinit; compinit -u -D
eval "$(cat script.zsh)"
zstyle ':completion:*' list-grouped false
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then builtin compadd "$@"; return; fi
    builtin compadd -O matched_words "$@"
    print -rl -- $matched_words >> found.txt
    builtin compadd "$@"
}
zle -C ask complete-word _main_complete
ask-and-exit() { LBUFFER="$LINE_TO_COMPLETE"; zle ask; exit }
zle -N zle-line-init ask-and-exit
"""


def test_zsh(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal of zsh's own (zpty), where what is passed to compadd is written down."""
    zsh = need("zsh")
    (folder / "script.zsh").write_text(script("zsh", capsys))
    (folder / "prepare.zsh").write_text(ZSH)
    for line, expected, absent in CASES:
        (folder / "found.txt").write_text("")
        ask = (
            "zmodload zsh/zpty; zpty shell \"LINE_TO_COMPLETE='" + line + "' zsh -f -i\"; "
            "zpty -w shell 'source prepare.zsh'; while zpty -r shell output; do :; done"
        )
        run(folder, zsh, "-f", "-c", ask)
        found = set((folder / "found.txt").read_text().replace("\\", "").splitlines())
        assert expected <= {each.rstrip("=") for each in found}, line
        assert not absent & found, line


def test_every_command_is_known() -> None:
    assert [command.name for command in commands(make_parser())] == ["", *COMMANDS]
    assert all(command.help for command in commands(make_parser()))
    assert all(option.help for command in commands(make_parser()) for option in command.options)
