"""The configuration as a whole through the API: text, checks, replacement, earlier versions; users' hashes."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from nacl.pwhash import argon2id
from tests.control.support import Server, running, running_file, serving

from polycast.config import crypto, load, load_bytes
from polycast.config.dialects.registry import DIALECTS
from polycast.config.schema import Configuration
from polycast.config.whole import load_text, text_of
from polycast.control.console import editor
from polycast.errors import ConfigurationError

TEXT = """\
# The settings of a test.
rtspAddress: 127.0.0.1:0
rtspTransports: [tcp]
rtmp: no
hls: no
webrtc: no
srt: no
api: yes
apiAddress: 127.0.0.1:0
apiPersist: yes
# The cameras.
paths:
  cam:  # at the door
    maxReaders: 3
"""


async def text(server: Server) -> str:
    found: str = (await server.get("/v1/config/text"))["text"]
    return found


async def replaced(server: Server, new: str, **more: Any) -> tuple[int, str]:
    response = await server.post("/v1/config/replace", {"text": new, **more})
    return response.status_code, response.text


async def versions(server: Server) -> list[tuple[int, str]]:
    items = (await server.get("/v1/config/versions/list"))["items"]
    return [(item["number"], item["replacedBy"]) for item in items]


async def test_the_text_of_the_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    async with running_file(file, TEXT) as server:
        found = await server.get("/v1/config/text")
        assert found["text"] == TEXT
        new = TEXT.replace("maxReaders: 3", "maxReaders: 4  # more")
        assert await replaced(server, new, digest=found["digest"]) == (200, "")
        assert file.read_text() == new
        assert server.app.configuration.paths["cam"].max_readers == 4
        assert await text(server) == new
        status, problem = await replaced(server, TEXT, digest=found["digest"])
        assert status == 409, "somebody else was faster"
        assert "changed meanwhile" in problem
        assert file.read_text() == new
        assert await server.reload()
        assert server.app.settings.status.failures == 0


async def test_only_one_of_several_editors_replaces_a_text() -> None:
    """They send at the same time what they have made of the same text: what one has saved must not be lost."""
    async with running() as server:
        found = await server.get("/v1/config/text")
        texts = [f"{found['text']}# {number}\n" for number in range(4)]
        answers = await asyncio.gather(*(replaced(server, new, digest=found["digest"]) for new in texts))
        statuses = [status for status, _ in answers]
        assert sorted(statuses) == [200, 409, 409, 409]
        assert await text(server) == texts[statuses.index(200)]


async def test_without_persistence_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    old = TEXT.replace("apiPersist: yes\n", "")
    async with running_file(file, old) as server:
        new = old.replace("maxReaders: 3", "maxReaders: 4 # more")
        assert await replaced(server, new) == (200, "")
        assert file.read_text() == old
        assert await text(server) == new, "what is in effect"
        await server.changed("/v1/config/paths/edit/cam", {"maxReaders": 5})
        generated = await text(server)
        assert "maxReaders: 5" in generated
        assert (
            load_bytes(generated.encode(), {}, "polycast.yml", None).configuration.paths
            == server.app.configuration.paths
        )
        assert await server.reload()
        assert await text(server) == old


async def test_what_was_not_written_is_not_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    async with running_file(file, TEXT.replace("apiPersist: yes", "apiPersist: no")) as server:
        assert (await server.get("/v1/config/text"))["isGenerated"] is False
        await server.changed("/v1/config/paths/edit/cam", {"maxReaders": 5})
        await server.changed("/v1/config/set", {"apiPersist": True})
        assert "maxReaders: 3" in file.read_text()
        found = await server.get("/v1/config/text")
        assert found["isGenerated"] is True
        assert "maxReaders: 5" in found["text"], "it is in effect, although the file says something else"
        assert (await replaced(server, found["text"]))[0] == 200
        assert file.read_text() == found["text"]
        assert (await server.get("/v1/config/text"))["isGenerated"] is False


async def test_texts_include_only_files_of_the_configuration(tmp_path: Path) -> None:
    """Errors in an included file tell what is in it: whoever may check a text could read any file of this machine."""
    folder = tmp_path / "server"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "conf.d" / "one.yml").write_text("paths:\n  one:\n")
    for name in ("known.yml", "secret.yml"):
        (tmp_path / name).write_text(f"{name[:-4]}: x\n" if name == "secret.yml" else "paths:\n  known:\n")
    text = f"include: [conf.d/*.yml, {tmp_path}/known.yml]\n{TEXT}"
    async with running_file(folder / "polycast.yml", text) as server:
        for included in (
            str(tmp_path / "secret.yml"),
            "../secret.yml",
            "conf.d/../../secret.yml",
            "conf.d/*/../../../secret.yml",
            f"{folder}.yml",
        ):
            new = f"include: ['{included}']\n"
            response = await server.post("/v1/config/check", {"text": new})
            (problem,) = response.json()["problems"]
            assert "not in the folder of the configuration" in problem["text"], included
            status, refused = await replaced(server, new)
            assert status == 400
            assert "not in the folder of the configuration" in refused
        for included in (f"{tmp_path}/known.yml", "conf.d/one.yml", "conf.d/*"):
            response = await server.post("/v1/config/check", {"text": f"include: ['{included}']\n"})
            assert response.json()["problems"] == [], included
        (folder / "server.key").write_text("secret: x\n")
        for included in ("server.key", "server*", "*"):
            response = await server.post("/v1/config/check", {"text": f"include: ['{included}']\n"})
            (problem,) = response.json()["problems"]
            assert "has other files than .yml and .yaml" in problem["text"], included
            assert "secret" not in problem["text"]


def test_a_configuration_in_the_root_directory_includes_nothing_more(tmp_path: Path) -> None:
    """Containers have it there, and everything is below."""
    secret = tmp_path / "secret.yml"
    secret.write_text("secret: x\n")
    for included in (str(secret), str(secret)[1:]):
        with pytest.raises(ConfigurationError, match="not in the folder"):
            load_text(f"include: '{included}'\n", "/polycast.yml", Configuration(), {}, ())


async def test_texts_are_checked_by_line(tmp_path: Path) -> None:
    async with running_file(tmp_path / "polycast.yml", TEXT) as server:
        before = server.app.configuration

        async def check(new: str) -> Any:
            response = await server.post("/v1/config/check", {"text": new})
            assert response.status_code == 200
            return response.json()

        assert await check(TEXT) == {"problems": [], "warnings": []}
        wrong = TEXT.replace("maxReaders: 3", "maxReaders: many").replace("# The cameras.", "rtspAddres: x")
        found = await check(wrong)
        lines = wrong.split("\n")
        assert [lines[problem["line"] - 1].strip() for problem in found["problems"]] == [
            "rtspAddres: x",
            "maxReaders: many",
        ]
        assert "did you mean" in found["problems"][0]["text"]
        assert not found["problems"][0]["text"].startswith(("line", str(tmp_path)))
        (problem,) = (await check("paths: [\n"))["problems"]
        assert problem == {"line": 2, "text": "a closing bracket is missing"}
        assert server.app.configuration is before
        status, problem = await replaced(server, wrong)
        assert status == 400
        assert "rtspAddres" in problem
        assert server.app.configuration is before


@pytest.mark.parametrize("body", [{}, {"text": 3}, {"text": None}])
async def test_a_text_is_needed(body: dict[str, Any]) -> None:
    async with running() as server:
        for path in ("check", "replace"):
            assert (await server.post(f"/v1/config/{path}", body)).status_code == 400
        response = await server.api.post("/v1/config/check", content=b'{"text": "\\ud800"}')
        assert response.status_code == 400


async def test_earlier_versions_are_restored(tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    async with running_file(file, TEXT) as server:
        assert await versions(server) == []
        await server.changed("/v1/config/paths/edit/cam", {"maxReaders": 7})
        edited = file.read_text()
        file.write_text(TEXT.replace("maxReaders: 3", "maxReaders: 8"))
        assert await server.reload()
        assert await versions(server) == [(2, "signal"), (1, "api")]
        assert (await server.get("/v1/config/versions/get/1"))["text"] == TEXT
        assert (await server.get("/v1/config/versions/get/2"))["text"] == edited
        await server.changed("/v1/config/versions/restore/1")
        assert file.read_text() == TEXT
        assert server.app.configuration.paths["cam"].max_readers == 3
        assert await versions(server) == [(3, "api"), (2, "signal"), (1, "api")], "to restore can be undone, too"
        await server.changed("/v1/config/versions/restore/3")
        assert server.app.configuration.paths["cam"].max_readers == 8
        assert (await server.post("/v1/config/versions/restore/99")).status_code == 404
        assert (await server.api.get("/v1/config/versions/get/x")).status_code == 404


async def test_ten_versions_are_kept_without_a_file() -> None:
    async with running(paths={"cam": {}}) as server:
        for number in range(1, 13):
            await server.changed("/v1/config/paths/edit/cam", {"maxReaders": number})
        kept = await versions(server)
        assert [number for number, _ in kept] == list(range(12, 2, -1))
        assert "maxReaders: 2" in (await server.get("/v1/config/versions/get/3"))["text"]
        await server.changed("/v1/config/versions/restore/3")
        assert server.app.configuration.paths["cam"].max_readers == 2
        assert "maxReaders: 2" in await text(server)


async def test_a_refused_change_leaves_no_version(tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    async with running_file(file, TEXT) as server:
        file.write_text(TEXT + "wrong: yes\n")  # so it is not loaded, however soon it is noticed
        status, problem = await replaced(server, TEXT.replace("maxReaders: 3", "maxReaders: 4"))
        assert status == 409
        assert "nothing was changed" in problem
        assert (await replaced(server, "paths: {a: {maxReaders: x}}"))[0] == 400
        assert await versions(server) == []


async def test_commands_need_credentials_here_as_well() -> None:
    async with running(paths={"cam": {}}) as server:
        before = server.app.configuration
        new = (await text(server)).replace("cam:", "cam: {runOnInit: touch pwned}")
        status, problem = await replaced(server, new)
        assert status == 403
        assert "runOnInit" in problem
        assert server.app.configuration is before
    async with running(paths={"cam": {"runOnRead": "true"}}) as server:
        await server.changed("/v1/config/paths/edit/cam", {"runOnRead": ""})
        assert (await server.post("/v1/config/versions/restore/1")).status_code == 403
        assert server.app.configuration.paths["cam"].run_on_read == ""


async def test_other_sites_change_nothing() -> None:
    async with running() as server:
        foreign = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
        for path in ("config/replace", "config/check", "config/versions/restore/1", "auth/hash"):
            response = await server.api.post(f"/v1/{path}", content=b'{"text": ""}', headers=foreign)
            assert response.status_code == 403, path


async def test_an_encrypted_file_stays_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYCAST_CONFKEY", "k" * 16)
    file = tmp_path / "polycast.yml"
    file.write_bytes(crypto.encrypt(TEXT.encode(), "k" * 16))
    async with serving(load(str(file), os.environ)) as server:
        assert await text(server) == TEXT
        assert (await replaced(server, TEXT + "# end\n"))[0] == 200
        assert crypto.decrypt(file.read_bytes(), "k" * 16).decode() == TEXT + "# end\n"
        await server.changed("/v1/config/versions/restore/1")
        assert crypto.decrypt(file.read_bytes(), "k" * 16).decode() == TEXT


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_generated_text_means_the_same(dialect: Any, tmp_path: Path) -> None:
    file = tmp_path / dialect.file
    everything = dialect.names_of_all[0]
    file.write_text(
        "logLevel: debug\nreadTimeout: 7s\nrtmpAddress: ':2000'\nauthInternalUsers:\n"
        "- user: me\n  pass: '007'\n  permissions: [{action: read, path: '~^a: #'}]\n"
        f"paths:\n  '~^x(.*)$': {{maxReaders: 2}}\n  cam: {{source: 'rtsp://u:p@h/a?b=1&c'}}\n  {everything}:\n"
    )
    loaded = load(str(file), {}).configuration
    again = load_bytes(text_of(loaded).encode(), {}, dialect.file, dialect).configuration
    assert again.paths == loaded.paths
    assert text_of(again) == text_of(loaded)
    assert again.auth_internal_users == loaded.auth_internal_users


async def test_passwords_are_hashed() -> None:
    async with running() as server:
        response = await server.post("/v1/auth/hash", {"password": "sesame"})
        hashed = response.json()["hash"]
        assert argon2id.verify(hashed.removeprefix("argon2:").encode(), b"sesame")
        users = [
            {"user": "admin", "pass": hashed, "permissions": [{"action": "api"}]},
            {"user": "any", "permissions": [{"action": "read"}]},
        ]
        response = await server.api.patch("/v3/config/global/patch", json={"authInternalUsers": users})
        assert response.status_code == 200, response.text
        assert (await server.api.get("/v1/config/status")).status_code == 401
        assert (await server.api.get("/v1/config/status", auth=("admin", "sesame"))).status_code == 200
        for wrong in ({}, {"password": ""}, {"password": 3}, {"password": "x" * 201}):
            response = await server.api.post("/v1/auth/hash", json=wrong, auth=("admin", "sesame"))
            assert response.status_code == 400


async def test_other_work_does_not_wait_for_passwords_that_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hashed(password: str) -> str:
        released.wait()
        return password

    monkeypatch.setattr(editor, "_hashed", hashed)
    more_than_threads = 40  # of the loop: 32 at most
    async with running() as server:
        waiting = [
            asyncio.create_task(server.post("/v1/auth/hash", {"password": "x"})) for _ in range(more_than_threads)
        ]
        try:
            handled = "POST /v1/auth/hash"
            await server.until(lambda: sum(handled in line for line in server.log.lines) == more_than_threads)
            assert (await server.get("/v1/config/get"))["api"] is True
        finally:
            released.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_the_schema_describes_all_settings() -> None:
    async with running() as server:
        found = await server.get("/v1/config/schema")
        values = await server.get("/v3/config/global/get")
        assert {item["key"] for item in found["settings"]} == set(values)
        by_key = {item["key"]: item for item in found["settings"]}
        assert by_key["logLevel"]["choices"] == ["error", "warn", "info", "debug"]
        assert by_key["rtspAddress"]["restarts"] == ["RTSP"]
        assert by_key["readTimeout"]["restarts"] == []
        assert by_key["hls"]["kind"] == "boolean"
        assert all(item["section"] and item["description"] for item in found["settings"])
        path = await server.get("/v3/config/pathdefaults/get")
        assert {item["key"] for item in found["pathSettings"]} == set(path) - {"name"}
