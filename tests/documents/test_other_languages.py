"""Code in the documents that is neither a command, a program in Python nor a configuration of Polycast."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.documents.snippets import SNIPPETS, Snippet
from tests.interop.tools import make_certificate, require

RUN_ELSEWHERE = {"sh", "python", "yaml"}
"""Languages of test_commands.py, test_programs.py and tests/test_documents.py."""
DRAWINGS = {"text"}
VOID = {"img", "input", "source"}
NGINX = """
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    {temporary}
    {server}
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
FIELDS_OF_REQUEST = {"ip", "user", "password", "path", "action", "query"}


def of(language: str) -> list[Snippet]:
    return [each for each in SNIPPETS if each.language == language and not each.reason]


def name(snippet: Snippet) -> str:
    return snippet.name


def test_every_language_has_a_test() -> None:
    tested = {"json", "html", "nginx", "haproxy"}
    assert {each.language for each in SNIPPETS if not each.reason} == tested | RUN_ELSEWHERE | DRAWINGS


@pytest.mark.parametrize("snippet", of("json"), ids=name)
def test_json(snippet: Snippet) -> None:
    content = json.loads(snippet.text)
    if "action" in content:  # what an authentication server receives: tests/hub and tests/security compare the fields
        assert set(content) >= FIELDS_OF_REQUEST


@pytest.mark.parametrize("snippet", of("html"), ids=name)
def test_html(snippet: Snippet) -> None:
    """tests/web plays with these elements; here only what belongs together is closed."""
    stack: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in VOID:
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    Parser().feed(snippet.text)
    assert not stack
    assert "8888/mystream" in snippet.text or "8889/mystream" in snippet.text


@pytest.mark.parametrize("snippet", of("nginx"), ids=name)
def test_nginx(snippet: Snippet, tmp_path: Path) -> None:
    require("nginx")
    temporary = " ".join(f"{each}_temp_path {tmp_path / each};" for each in TEMPORARY)
    file = tmp_path / "nginx.conf"
    make_certificate(tmp_path)
    server = snippet.text if "server {" in snippet.text else f"server {{ listen 127.0.0.1:1; {snippet.text} }}"
    server = re.sub(r"(ssl_certificate) /.*;", rf"\1 {tmp_path}/server.crt;", server)
    server = re.sub(r"(ssl_certificate_key) /.*;", rf"\1 {tmp_path}/server.key;", server)
    file.write_text(NGINX.format(temporary=temporary, server=server))
    command = ["nginx", "-t", "-p", tmp_path, "-c", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snippet", of("haproxy"), ids=name)
def test_haproxy(snippet: Snippet, tmp_path: Path) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    file = tmp_path / "haproxy.cfg"
    file.write_text(snippet.text)
    done = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
