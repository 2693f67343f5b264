"""Whatever comes from the network: other sites, other machines, hostile files, and nonsense."""

import io
import json
import logging
import re
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from PIL import Image, PngImagePlugin

from omokage.__main__ import main
from omokage.errors import UserError
from omokage.explore.directions import write_directions
from omokage.explore.provenance import KEY
from omokage.studio import server as server_module
from omokage.studio import uploads
from omokage.studio.security import MOST_UPLOAD, is_local, names_of
from omokage.studio.server import create_app, serve
from omokage.web.guard import MOST_BYTES

# Before any browser: Python 3.11 may fail to parse its many modules on the stack of a browser's greenlet.
with suppress(ImportError):
    import schemathesis  # noqa: F401

ORIGIN = {"Origin": "http://localhost"}
WALL = {"count": 1}


def png(width=32, height=32, **text):
    buffer, chunks = io.BytesIO(), PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    Image.new("RGB", (width, height), "pink").save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


# Other sites.


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::2]"])
def test_other_host_names_are_refused(client, host):
    reply = client.get("/api/studio", headers={"Host": host})
    assert reply.status_code == 400
    assert reply.json()["code"] == "host"


@pytest.mark.parametrize("host", ["localhost", "localhost:7860", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST"])
def test_its_own_names_are_served(client, host):
    assert client.get("/api/boards", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "granted"),
    [
        ({}, True),  # a program, not a browser
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://localhost:8000"}, False),  # another server on this machine
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_other_sites_change_nothing(client, headers, granted):
    for method, path in (("POST", "/api/boards"), ("DELETE", "/api/uploads/" + "0" * 64)):
        reply = client.request(
            method, path, headers=headers, json={"name": "Mine"} if method == "POST" else None
        )
        assert (reply.status_code == 403) is not granted
        if not granted:
            assert reply.json()["code"] == "origin"


def test_a_form_of_another_kind_is_no_call(client):
    """What a page can send without asking first."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        reply = client.post("/api/boards", content=b'{"name": "Mine"}', headers={"Content-Type": kind})
        assert reply.status_code == 422


def test_every_answer_has_the_headers(client, plain):
    paths = ["/", "/api/studio", "/nowhere", "/pictures/0.png", "/static/../server.py", "/texts/en.json"]
    for path in paths:
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


def test_there_is_no_page_of_docs_that_loads_from_elsewhere(client):
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404
    assert client.get("/api/openapi.json").json()["openapi"].startswith("3.")


# Beyond this machine.


@pytest.fixture(scope="module")
def guarded(models):
    from starlette.testclient import TestClient

    app = create_app(models, token="secret", hosts=("studio.example",))
    with TestClient(app, base_url="http://studio.example") as client:
        yield client


def test_beyond_this_machine_a_token_is_needed(guarded, plain):
    guarded.cookies.clear()
    assert guarded.get("/").status_code == 200
    for path in ("/api/studio", "/api/boards", "/pictures/0.png", "/files/a/b", "/latents/0.safetensors"):
        reply = guarded.get(path)
        assert (reply.status_code, reply.json()["code"]) == (401, "token")
    for token in ("", "Secret", "secret2", "s"):
        headers = {"Authorization": f"Bearer {token}"}
        assert guarded.post("/api/session", headers=headers).status_code == 401
        assert guarded.get("/api/boards", headers=headers).status_code == 401
    bearer = {"Authorization": "Bearer secret"}
    assert guarded.get("/api/boards", headers=bearer).status_code == 200
    reply = guarded.post("/api/session", headers=bearer)
    assert reply.status_code == 204
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert guarded.get("/api/boards").status_code == 200  # by the cookie now
    other = guarded.post("/api/boards", json={"name": "x"}, headers={"Origin": "https://evil.example"})
    assert other.status_code == 403
    guarded.cookies.clear()


def test_a_cookie_alone_opens_no_session(guarded):
    guarded.cookies.set("omokage-studio", "secret")
    assert guarded.post("/api/session").status_code == 401
    guarded.cookies.clear()


def test_which_names_a_server_answers_to():
    assert is_local("127.0.0.1")
    assert not is_local("0.0.0.0")
    assert names_of("127.0.0.1") == ("localhost", "127.0.0.1", "[::1]")
    assert "192.168.1.5" in names_of("192.168.1.5")
    assert "[fe80::1]" in names_of("fe80::1")
    assert socket.gethostname().lower() in names_of("0.0.0.0")
    assert "lab.example.org" in names_of("0.0.0.0", ("Lab.example.org",))


# Sizes and places.


def test_bodies_are_limited(client):
    reply = client.post("/api/boards", content=b"x" * (MOST_BYTES + 1))
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")

    def pieces():  # without a length
        for _ in range(40):
            yield b"x" * 2**20

    assert client.post("/api/uploads", content=pieces()).status_code == 413
    assert (
        client.post(
            "/api/uploads", content=b"x", headers={"Content-Length": str(MOST_UPLOAD + 1)}
        ).status_code
        == 413
    )
    assert client.get("/" + "x" * 3000).status_code == 414


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static//etc/passwd",
        "/static/..%2fserver.py",
        "/static/index.html",
        "/texts/../texts/en.toml",
        "/texts/en.toml",
        "/pictures/../../etc/passwd.png",
        "/pictures/%2e%2e%2f%2e%2e%2fetc%2fpasswd.png",
        "/files/../../../etc/passwd",
        "/files/x/..%2f..%2fetc%2fpasswd",
        "/api/faces/..%2f..%2fx.png",
        "/api/boards/..%2fx",
        "/latents/..%2fx.safetensors",
    ],
)
def test_no_path_reaches_the_disk(client, path):
    reply = client.get(path)
    assert reply.status_code == 404
    assert b"root:" not in reply.content


# Files.


def bomb(width, height):
    """A PNG whose header promises so many pixels; its data would fill them with zeros."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(2**20), 9) * 4
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg():
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 90).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"<html><script>alert(1)</script></html>", "not a PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG"),
        (b"%PDF-1.7", "not a PNG"),
        (b"GIF89a" + bytes(20), "cannot be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be read"),
        (jpeg()[:2000], "cut short"),
        (bomb(10_000, 5_000), "40 megapixels"),
        (bomb(2**31 - 1, 2**31 - 1), "too large|cannot be read"),
        (png(4, 4), "too small"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "cannot be read"),
    ],
)
def test_what_is_no_picture_gets_a_friendly_sentence(client, data, said):
    reply = client.post("/api/uploads", content=data, headers={"X-File-Name": "face.png"})
    assert reply.status_code == 422
    told = reply.json()
    assert told["code"] == "unreadable"
    assert re.search(said, told["error"]), told
    assert told["error"].endswith(".")
    assert len(told["error"]) < 300


@pytest.mark.parametrize(
    "recipe",
    [
        "no JSON",
        "[" * 100_000,
        '{"format": 1}',
        '{"format": 1, "kind": "face", "model": {"recipe": "x", "images": 1, "snapshot": "%s"},'
        ' "faces": [{"seeds": "0-900000"}]}' % ("0" * 64),
    ],
)
def test_a_hostile_recipe_is_a_plain_picture(client, recipe):
    began = time.process_time()
    told = client.post("/api/uploads", content=png(**{KEY: recipe})).json()
    assert "restored" not in told
    assert told["width"] == 32
    assert time.process_time() - began < 5


def test_a_recipe_with_damaged_points_gives_lines_alone(client, models):
    told = {
        "format": 1,
        "kind": "face",
        "model": {"recipe": "x", "images": 1, "snapshot": models[1].model.snapshot_hash},
        "faces": [{"z": {"shape": [8], "float32": "AAAA"}}],
        "arguments": {"studio": [{"model": 5}]},
    }
    restored = client.post("/api/uploads", content=png(**{KEY: json.dumps(told)})).json()["restored"]
    assert restored["faces"] == []
    assert restored["model_here"]
    assert restored["lines"]


def test_uploads_leave_nothing_on_the_disk(client, tmp_path, monkeypatch):
    written = []
    real = open

    def watched(file, mode="r", *args, **more):
        written.append(str(file)) if any(letter in str(mode) for letter in "wax+") else None
        return real(file, mode, *args, **more)

    monkeypatch.setattr("builtins.open", watched)
    assert client.post("/api/uploads", content=png(100, 100)).status_code == 200
    assert written == []


def test_the_latest_uploads_are_kept_in_bounds(monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 10**6)
    monkeypatch.setattr(uploads, "detected", lambda pixels, detector: [])
    kept = uploads.Uploads()
    for number in range(6):
        kept.keep(uploads.read_upload(png(300, 300 + number)))
    assert kept._kept.bytes <= 10**6
    assert 1 <= len(kept._kept) < 6


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"format": "omokage board 1"}', b"[" * 90_000, b'{"a": NaN}']
)
def test_what_is_no_board_file_is_refused(client, data):
    before = client.get("/api/boards").json()
    reply = client.post("/api/boards/import", content=data)
    assert reply.status_code == 422
    assert reply.json()["error"]
    assert client.get("/api/boards").json() == before


# The server itself.


@pytest.fixture
def serving(models, tmp_path, monkeypatch):
    """The studio as `omokage studio` serves it; returns its address."""
    monkeypatch.setattr(server_module.controls, "open_model", lambda source, directions: models[1])
    monkeypatch.setattr("omokage.studio.service.preview", lambda model: None)  # it takes seconds to make
    started, servers, lines = threading.Event(), [], []
    real = server_module.uvicorn_server

    def kept(config):
        servers.append(real(config))
        return servers[0]

    monkeypatch.setattr(server_module, "uvicorn_server", kept)

    def tell(line):
        lines.append(line)
        started.set()

    how = {"port": 0, "data": tmp_path, "tell": tell}
    thread = threading.Thread(target=lambda: serve(["x"], **how), daemon=True)
    thread.start()
    assert started.wait(30)
    while not (servers and servers[0].started):
        time.sleep(0.01)
        assert thread.is_alive()
    yield lines[0].removeprefix("studio: ")
    servers[0].should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def test_no_call_leaves_an_address_in_a_log(serving, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with httpx.Client(base_url=serving) as client:
        assert client.get("/").status_code == 200
        assert client.get("/api/boards").status_code == 200
        assert client.post("/api/wall", json={"model": "0" * 12}).status_code == 404
        reply = client.get("/api/boards")
        assert "server" not in reply.headers
    ours = [
        record for record in caplog.records if not record.name.startswith(("httpx", "httpcore", "asyncio"))
    ]
    assert not [record for record in ours if "127.0.0.1" in record.getMessage()]
    out, err = capfd.readouterr()
    assert "GET" not in out + err


def test_what_cannot_be_served_is_told_in_one_line(models, tmp_path, capsys):
    path = str(models[0].model.path)
    other = tmp_path / "other.safetensors"
    write_directions(other, replace(models[0].directions, snapshot="0" * 64))
    for arguments, said in (
        ([str(tmp_path / "none")], "none"),
        ([path, path], "give it once"),
        ([str(models[1].model.path), "--directions", str(other)], "belong to none"),
        ([path, "--directions", str(tmp_path / "no.safetensors")], "no such file"),
        ([path, "--port", "70000"], "65,535"),
    ):
        assert main(["studio", "--no-browser", "--port", "0", *arguments]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert len(told.splitlines()) == 1


def test_a_port_that_is_taken_is_told():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UserError, match="--port"):
            serve(port=other.getsockname()[1])


# Nonsense.

EXAMPLES = 4  # for each call, allowed and not allowed


def with_real_names(value, model):
    """A generated body in which models are one that is open, so that the calls get further."""
    if isinstance(value, dict):
        return {
            name: model if name == "model" and isinstance(one, str) else with_real_names(one, model)
            for name, one in value.items()
        }
    return [with_real_names(one, model) for one in value] if isinstance(value, list) else value


def test_no_call_that_the_description_allows_or_forbids_ends_in_a_server_error(client, plain):
    schemathesis = pytest.importorskip("schemathesis")
    jsonschema = pytest.importorskip("jsonschema")
    from schemathesis import GenerationMode

    board = client.post("/api/boards", json={"name": "Mine"}).json()["id"]
    description = client.get("/api/openapi.json").json()

    def check(response, answer):
        said = response["content"]["application/json"]["schema"]
        jsonschema.validate(answer, {**said, "components": description["components"]})

    schema = schemathesis.openapi.from_dict(description)
    operations = [found.ok() for found in schema.get_all_operations()]
    told: Counter[tuple[str, int]] = Counter()

    def try_out(operation, mode):
        @seed(0)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case):
            path = operation.path.replace("{board}", board)
            for name, value in (case.path_parameters or {}).items():
                path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
            body = case.body if not isinstance(case.body, type(schemathesis.core.NOT_SET)) else None
            body = with_real_names(body, plain)
            kind = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
            reply = client.request(case.method.upper(), path, **kind)
            told[operation.label, reply.status_code] += 1
            assert reply.status_code < 500, (operation.label, path, body, reply.text)
            documented = {*operation.definition.raw["responses"], "404", "405", "414"}
            assert str(reply.status_code) in documented
            if reply.status_code >= 400:
                assert {"error", "code"} == set(reply.json())
            elif reply.headers.get("content-type") == "application/json":
                check(operation.definition.raw["responses"]["200"], reply.json())

        one()

    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            raw = any("octet-stream" in body.media_type for body in operation.body)
            if mode is GenerationMode.POSITIVE or (operation.body and not raw):  # any bytes are allowed
                try_out(operation, mode)
    assert {label for label, _ in told} == {operation.label for operation in operations}
    assert len(operations) >= 25
    assert sum(code < 400 for _, code in told) >= 10, told


def test_small_answers_are_sent_at_once():
    """Without the protocol's name asyncio leaves TCP_NODELAY off, and every answer waits for 40 ms."""
    from omokage.web.serving import bound

    with bound("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
