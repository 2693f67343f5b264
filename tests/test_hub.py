"""``hf://``: a published model from a hub, played here by a server of this process."""

import hashlib
import http.server
import json
import threading
from types import SimpleNamespace

import pytest

from omokage import api
from omokage.__main__ import main
from omokage.errors import UserError
from omokage.hub import download, push
from omokage.model import SHIPPED, load_model

hub = pytest.importorskip("huggingface_hub", reason="not installed (pip install 'omokage[hub]')")
COMMIT = "c0ffee" + "0" * 34
LATER = "beef" + "1" * 36


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, with a branch, and a hash of weights that is wrong in the second commit."""

    weights = SHIPPED.read_bytes()
    revisions = {COMMIT: COMMIT, "main": COMMIT, "other": LATER, LATER: LATER}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.asked.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        commit = self.revisions.get(parts[3]) if len(parts) == 5 and parts[2] == "resolve" else None
        files = {"model.safetensors": self.weights, "pickle.bin": b"never"}
        digest = hashlib.sha256(self.weights if commit == COMMIT else b"others").hexdigest()
        files["config.json"] = json.dumps({"files": {"model.safetensors": digest}}).encode()
        known = parts[:2] == ["mori", "faces"]
        if not known or commit is None or parts[4] not in files:
            self.send_response(404)
            code = "RepoNotFound" if not known else "EntryNotFound" if commit else "RevisionNotFound"
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = files[parts[4]]
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def here(server, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", server)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # another test may switch it off
    Hub.asked.clear()


def test_a_model_is_loaded_by_its_address(tmp_path, capsys) -> None:
    shipped = load_model(SHIPPED, "cpu")
    found = api.load("hf://mori/faces")
    assert f"hf://mori/faces is now hf://mori/faces@{COMMIT}, which stays the same" in capsys.readouterr().err
    assert found.snapshot_hash == shipped.snapshot_hash
    for command in (["sample", f"hf://mori/faces@{COMMIT}"], ["sample", "-m", "hf://mori/faces@main"]):
        assert main([*command, "-n", "1", "-o", str(tmp_path / "face.png")]) == 0
    assert (tmp_path / "face.png").is_file()
    assert not any("pickle" in path for path in Hub.asked)
    Hub.asked.clear()
    download(f"hf://mori/faces@{COMMIT}")  # a commit never changes, so nobody is asked again
    assert Hub.asked == []


def test_weights_of_another_hash_are_refused() -> None:
    with pytest.raises(UserError, match=r"does not have the hash that config\.json names; it is not loaded"):
        load_model("hf://mori/faces@other")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("hf://mori/none", "there is no such repository"),
        ("hf://mori/faces@v9", "there is no such revision"),
        ("hf://mori", "write it like hf://owner/name"),
        ("hf://mori/../faces", "write it like hf://owner/name"),
        ("hf://mori/faces@../../x", "write it like hf://owner/name"),
    ],
)
def test_other_addresses_are_refused_in_one_line(address, why, capsys) -> None:
    assert main(["sample", address, "-n", "1"]) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


def test_a_folder_is_pushed(monkeypatch, tmp_path) -> None:
    did = []
    fake = SimpleNamespace(
        create_repo=lambda name, exist_ok: did.append(("create", name, exist_ok)),
        upload_folder=lambda **how: (
            did.append(("upload", how["repo_id"], how["folder_path"])) or SimpleNamespace(oid=COMMIT)
        ),
    )
    monkeypatch.setattr(hub, "HfApi", lambda endpoint: fake)
    assert push(tmp_path, "mori/faces") == f"hf://mori/faces@{COMMIT}"
    assert did == [("create", "mori/faces", True), ("upload", "mori/faces", str(tmp_path))]
    with pytest.raises(UserError, match="write it like owner/name"):
        push(tmp_path, "faces")
    monkeypatch.setattr(fake, "create_repo", lambda name, exist_ok: (_ for _ in ()).throw(OSError("no way")))
    with pytest.raises(UserError, match=r"no way; .* is complete, push it again later"):
        push(tmp_path, "mori/faces")
