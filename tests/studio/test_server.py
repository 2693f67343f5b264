"""The calls of the studio's page."""

import asyncio
import io
import json
import os
import shlex
import tempfile
import threading

import numpy as np
import pytest
from PIL import Image

from omokage.__main__ import main
from omokage.model import load_model
from omokage.sampling import gathered, sample
from omokage.settings import Settings
from omokage.studio import drawing as drawing_module
from omokage.studio import jobs as jobs_module
from omokage.studio import uploads
from omokage.studio.server import create_app
from omokage.terms import LANGUAGES, terms


def seed(model, number, **more):
    return {"model": model, "from": {"seed": number}, **more}


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def tiles(client, told):
    """The faces of a sprite, uint8 (N, H, W, 3)."""
    reply = client.get(told["sprite"])
    assert reply.status_code == 200
    assert "immutable" in reply.headers["cache-control"]
    sprite, (height, width) = opened(reply.content), told["tile"]
    places = [divmod(number, told["columns"]) for number in range(len(told["faces"]))]
    return np.stack([sprite[y * height :, x * width :][:height, :width] for y, x in places])


def draw(client, *faces, **more):
    reply = client.post("/api/draw", json={"faces": faces, **more})
    assert reply.status_code == 200, reply.text
    return reply.json()


def followed(client, job):
    """All events of a job: (kind, data)."""
    events = []
    with client.stream("GET", f"/api/jobs/{job}/events") as reply:
        for line in reply.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((kind, json.loads(line.removeprefix("data: "))))
    return events


def finished(client, path, body):
    """What a job has made."""
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    kind, told = followed(client, reply.json()["job"])[-1]
    assert kind == "done", told
    return told


# The models.


def test_the_page_learns_what_models_have_and_lack(client, models):
    told = client.get("/api/studio").json()
    styled, plain = told["models"]
    assert [each["id"] for each in told["models"]] == [each.id for each in models]
    assert styled["can"]["steer"]
    assert styled["can"]["mix_layers"]
    assert sorted(layer for kind in styled["layers"].values() for layer in kind) == list(
        range(1, models[0].model.layers + 1)
    )
    assert {each["name"] for each in styled["directions"]} == {"hair=blue", "hair=red", "glasses"}
    assert styled["directions"][0]["swatch"].startswith("#")
    assert not plain["can"]["steer"]
    assert plain["directions"] == []
    assert "hair" in plain["choices"]
    for model in told["models"]:
        lacks = {name for name, has in model["can"].items() if not has}
        assert lacks <= set(model["why_not"])
        assert all(sentence.endswith(".") for sentence in model["why_not"].values())
        assert model["terms"]


def test_the_page_has_the_sentences_about_selling_that_files_have(client, models):
    for language in LANGUAGES:
        said = client.get(f"/texts/{language}.json").json()["terms"]
        assert said["own"] == terms(models[0].model, language).sentence
        assert said["shipped"] == terms(load_model("fast-64", "cpu"), language).sentence


# Drawing.


@pytest.mark.parametrize("which", [0, 1])
def test_a_wall_shows_the_faces_that_sampling_draws(client, models, which):
    asked = {"model": models[which].id, "start": 5, "count": 20, "psi": 0.5}
    told = client.post("/api/wall", json=asked).json()
    exact, _ = gathered(sample(models[which].model, range(5, 25), Settings(psi=0.5)))
    assert told["next"] == 25
    assert (tiles(client, told) == exact).all()
    assert [face["from"]["seed"] for face in told["faces"]] == list(range(5, 25))
    again = draw(client, *told["faces"])
    assert (again["sprite"], [face["key"] for face in again["faces"]]) == (told["sprite"], told["keys"])


def test_fixed_values_are_seen_in_the_faces(client, models, plain, monkeypatch):
    """Of many faces those are chosen in which the network sees what is fixed; here it sees the brightness."""

    class Seeing:
        offered, trusted = ("glasses",), ("glasses",)

        def __call__(self, pixels):
            bright = (pixels.mean((1, 2, 3)) > middle).astype("f4")
            return type("Seen", (), {"probabilities": {"glasses": np.stack([1 - bright, bright], 1)},
                                     "__len__": lambda self: len(bright)})()  # fmt: skip

    drawn, _ = gathered(sample(models[1].model, range(200)))
    middle = np.median(drawn.mean((1, 2, 3)))
    monkeypatch.setitem(client.app.state.studio.__dict__, "network", Seeing())
    asked = {"model": plain, "count": 8, "fixed": {"glasses": "yes", "hair": "random"}}
    told = client.post("/api/wall", json=asked).json()
    expected = [number for number in range(200) if drawn[number].mean() > middle][:8]
    assert [face["from"]["seed"] for face in told["faces"]] == expected
    assert told["next"] == expected[-1] + 1
    assert "glasses yes" in told["told"][0]
    assert told["notes"] == [
        {"code": "chosen", "fixed": {"glasses": "yes"}, "n": 8, "tried": expected[-1] + 1}
    ]
    middle = 256
    told = client.post("/api/wall", json=asked).json()
    assert (told["faces"], told["sprite"], told["next"]) == ([], None, 128)


def test_broken_faces_are_replaced_and_it_is_said_by_what(client, models, plain, monkeypatch):
    draw_rows = drawing_module._drawn

    def some_broken(model, rows):
        pixels, finite = draw_rows(model, rows)
        return pixels, finite & np.array([pixel.sum() % 3 != 0 for pixel in pixels])

    monkeypatch.setattr(drawing_module, "_drawn", some_broken)
    asked = {"model": plain, "start": 1000, "count": 12, "broken": "replace"}
    told = client.post("/api/wall", json=asked).json()
    assert told["replaced"] > 0
    assert all(told["finite"])
    assert told["next"] == 1000 + 12 + told["replaced"]
    assert "no critic" in told["told"][0]  # the detector sees no faces in the tiny model's pictures


def test_large_tiles_are_made_smaller_on_the_wall_alone(client, styled, monkeypatch):
    monkeypatch.setattr("omokage.studio.pictures.WALL", 8)
    assert draw(client, seed(styled, 1))["tile"] == [8, 8]
    assert draw(client, seed(styled, 1), size="full")["tile"] == [16, 16]
    monkeypatch.setattr("omokage.studio.server.MOST_FULL", 16 * 16 * 3)
    two = {"faces": [seed(styled, 1), seed(styled, 2)], "size": "full"}
    assert client.post("/api/draw", json=two).json()["code"] == "too_large"


def test_a_grid_changes_two_things(client, styled):
    face = seed(styled, 3)
    axes = {
        "rows": {"what": "psi", "values": [0.3, 1]},
        "columns": {"what": "hair=blue", "values": [-2, 0, 2]},
    }
    told = client.post("/api/grid", json={"face": face, **axes}).json()
    assert told["row_names"] == ["0.3", "1.0"]
    single = [draw(client, {**face, "psi": psi, "edits": {"hair=blue": steps}})
              for psi in (0.3, 1) for steps in (-2, 0, 2)]  # fmt: skip
    assert [each["key"] for each in told["faces"]] == [each["faces"][0]["key"] for each in single]
    assert (tiles(client, told) == np.concatenate([tiles(client, each) for each in single])).all()


def test_flat_faces_are_the_same(client, styled, plain):
    for model in (styled, plain):
        face = {"model": model, "from": {"near": seed(model, 3, psi=0.7), "seed": 5, "distance": 0.4}}
        (flat,) = client.post("/api/flatten", json={"faces": [face]}).json()["faces"]
        assert set(flat["from"]) == {"point"}
        assert (tiles(client, draw(client, flat)) == tiles(client, draw(client, face))).all()
    assert client.post("/api/flatten", json={"faces": [seed(styled, 3)]}).json()["faces"] == [seed(styled, 3)]


def test_a_client_that_goes_away_is_not_drawn_for(models, monkeypatch):
    """Called as an ASGI server calls it: the body, then the client closes the connection."""
    gate, batches, real = threading.Event(), [], drawing_module._drawn

    def gated(model, rows):
        assert gate.wait(20)
        batches.append(len(rows))
        return real(model, rows)

    monkeypatch.setattr(drawing_module, "_drawn", gated)
    app = create_app(models)
    body = {"faces": [seed(models[1].id, number) for number in range(40)]}

    async def call(path, body, left):
        messages = [{"type": "http.request", "body": json.dumps(body).encode()}]
        answers = []

        async def receive():
            if messages:
                return messages.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            answers.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
                 "query_string": b"", "headers": headers, "http_version": "1.1", "scheme": "http",
                 "server": ("localhost", 80), "client": ("127.0.0.1", 1), "root_path": ""}  # fmt: skip
        await app(scope, receive, send)
        return answers[0]["status"]

    async def scene():
        stays, leaves = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(call("/api/draw", {"faces": [seed(models[1].id, 99)]}, stays))
        await asyncio.sleep(0.2)
        drawn = asyncio.create_task(call("/api/draw", body, leaves))
        walled = asyncio.create_task(
            call("/api/wall", {"model": models[1].id, "broken": "replace", "start": 500}, leaves)
        )
        await asyncio.sleep(0.2)
        leaves.set()
        assert await asyncio.wait_for(drawn, 10) == 409
        assert await asyncio.wait_for(walled, 10) == 409
        gate.set()
        assert await asyncio.wait_for(first, 10) == 200

    failed = []

    def run():
        try:
            asyncio.run(scene())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)  # playwright leaves a running loop in a worker's main thread
    thread.start()
    thread.join(60)
    gate.set()
    app.state.studio.close()
    assert not failed
    assert sum(batches) <= 1 + 16  # at most what was being drawn already


# Files.


@pytest.mark.parametrize(
    ("which", "face", "files"),
    [
        (1, lambda model: seed(model, 17, psi=0.7), 0),
        (0, lambda model: seed(model, 17, psi=-0.35, settings={"noise": "none", "layers": 2}), 0),
        (0, lambda model: seed(model, 3, psi=0.7, edits={"hair=blue": 1.3, "glasses": -0.7}), 0),
        (0, lambda model: {"model": model, "from": {
            "mix": [seed(model, 3, psi=0.6), seed(model, 9, psi=0.6)], "layers": "coarse"}}, 0),
        (0, lambda model: {"model": model, "from": {
            "near": seed(model, 3, psi=0.6), "seed": 5, "distance": 0.35}, "edits": {"glasses": 2}}, 1),
        (1, lambda model: {"model": model, "from": {
            "between": [seed(model, 3, psi=0.6), seed(model, 9)], "weights": [0.3, 0.7]}}, 1),
    ],
)  # fmt: skip
def test_the_command_draws_the_same_pixels(client, models, tmp_path, monkeypatch, capsys, which, face, files):
    document = face(models[which].id)
    (told,) = draw(client, document, exact=True)["faces"]
    shown = opened(client.get(f"/api/faces/{told['key']}.png").content)
    answer = client.post("/api/command", json={"action": "sample", "face": document}).json()
    monkeypatch.chdir(tmp_path)
    assert len(answer["files"]) == files
    for file in answer["files"]:
        (tmp_path / file["name"]).write_bytes(client.get(file["url"]).content)
    for command in answer["command"].split(" && "):
        words = shlex.split(command)
        assert words[0] == "omokage"
        assert main(words[1:]) == 0, capsys.readouterr().err
    assert (opened((tmp_path / "face.png").read_bytes()) == shown).all()


def test_commands_of_films_and_of_pictures_of_several(client, plain):
    faces = [seed(plain, number, psi=0.7) for number in (3, 4, 5, 9)]
    film = client.post("/api/command", json={"action": "walk", "faces": faces}).json()
    assert film["command"].startswith("omokage walk 3 4 5 9 --psi=0.7 -m ")
    several = client.post("/api/command", json={"action": "sample", "faces": faces}).json()
    assert several["command"].startswith("omokage sample 3-5,9 --psi=0.7 -m ")
    quoted = client.post("/api/command", json={"action": "invert", "face": faces[0], "name": "a b'; rm x"})
    assert shlex.split(quoted.json()["command"])[2] == "a b'; rm x"


def test_a_dropped_picture_gives_its_face_back(client, styled, plain, models):
    near = {"model": plain, "from": {"near": seed(plain, 3, psi=0.7), "seed": 5, "distance": 0.4}}
    (flat,) = client.post("/api/flatten", json={"faces": [near]}).json()["faces"]
    edited = seed(styled, 3, psi=0.7, edits={"hair=blue": 1.5})
    for face in (seed(plain, 17, psi=0.5), near, flat, edited):
        (told,) = draw(client, face)["faces"]
        png = client.get(f"/api/faces/{told['key']}.png").content
        restored = client.post("/api/uploads", content=png).json()["restored"]
        assert restored["model_here"]
        assert restored["faces"] == [face]
        assert any(line.startswith("model: ") for line in restored["lines"])


def test_a_drawing_is_searched_for_in_steps(client, plain, monkeypatch):
    class Quickly(uploads.Effort):
        def __init__(self):
            super().__init__(steps=6, more=2, samples=16, side=32)

    monkeypatch.setattr(uploads, "Effort", Quickly)
    monkeypatch.setattr(jobs_module, "PAUSE", 0.0)
    buffer = io.BytesIO()
    Image.new("RGB", (80, 60), (200, 120, 90)).save(buffer, "JPEG")
    brought = client.post("/api/uploads", content=buffer.getvalue(), headers={"X-File-Name": "a.jpg"}).json()
    assert (brought["width"], brought["height"], brought["faces"]) == (80, 60, [])
    asked = {"kind": "invert", "upload": brought["upload"], "model": plain, "box": [10, 10, 40, 40]}
    events = followed(client, client.post("/api/jobs", json=asked).json()["job"])
    kinds = [kind for kind, _ in events]
    assert kinds.count("picture") >= 2
    assert "progress" in kinds
    assert kinds[-1] == "done"
    told = events[-1][1]
    assert set(told["face"]["from"]) == {"point"}
    assert told["fit"]["words"]
    found = opened(client.get(told["nearest"]).content)
    assert np.abs(tiles(client, draw(client, told["face"]))[0].astype(int) - found).max() <= 1
    assert opened(client.get(told["before"]).content).shape == found.shape
    # A pin keeps the point, and the drawing is forgotten.
    board = client.post("/api/boards", json={"name": "From paper"}).json()["id"]
    edit = {"edit": "pin", "face": told["face"], "made_by": "upload"}
    client.post(f"/api/boards/{board}/edits", json=edit)
    studio = client.app.state.studio
    assert studio.store.point(told["face"]["from"]["point"]) is not None
    assert client.delete(f"/api/uploads/{brought['upload']}").status_code == 204
    assert client.post("/api/jobs", json=asked).json()["code"] == "unknown_upload"


def test_jobs_are_cancelled_and_their_files_deleted(client):
    studio = client.app.state.studio
    started, release = threading.Event(), threading.Event()

    def work(job):
        (job.folder / "half").write_bytes(b"x")
        with job.task("working", 10) as task:
            started.set()
            assert release.wait(20)
            task.advance()
        return {}

    job, waiting = studio.jobs.start(work), studio.jobs.start(lambda job: {"never": True})
    assert started.wait(20)
    assert client.get(f"/api/jobs/{job.id}").json()["state"] == "running"
    assert client.delete(f"/api/jobs/{waiting.id}").status_code == 204
    assert client.delete(f"/api/jobs/{job.id}").status_code == 204
    release.set()
    assert followed(client, job.id)[-1] == ("error", {"error": "Cancelled.", "code": "cancelled"})
    studio.jobs.start(lambda job: {})
    follow_up = studio.jobs.start(lambda job: {"fine": 1})
    assert followed(client, follow_up.id)[-1] == ("done", {"fine": 1})
    assert not job.folder.exists()
    assert waiting.result is None


def test_the_files_of_a_killed_studio_are_deleted_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, young, other = (tmp_path / f"{jobs_module.PREFIX}{name}" for name in ("killed", "young", "other"))
    for folder in (killed, young):
        folder.mkdir()
        (folder / "face.png").write_bytes(b"x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other.symlink_to(elsewhere)
    running = jobs_module.Jobs()
    try:
        for folder in (killed, running._folder):
            os.utime(folder, (1, 1))
        os.utime(other, (1, 1), follow_symlinks=False)
        jobs_module.Jobs().close()
        assert not killed.exists()
        assert {*tmp_path.iterdir()} == {young, other, elsewhere, running._folder}
    finally:
        running.close()
    assert not running._folder.exists()


def test_a_lost_connection_goes_on_where_it_was(client):
    job = client.app.state.studio.jobs.start(
        lambda job: [job.tell("picture", {"n": n}) for n in range(5)] and {}
    )
    followed(client, job.id)
    with client.stream("GET", f"/api/jobs/{job.id}/events", headers={"Last-Event-ID": "4"}) as reply:
        text = "".join(reply.iter_text())
    assert '{"n": 4}' in text
    assert '{"n": 3}' not in text


def test_a_board_goes_out_as_a_file_and_comes_back(client, plain):
    near = {"model": plain, "from": {"near": seed(plain, 3), "seed": 5, "distance": 0.4}}
    (flat,) = client.post("/api/flatten", json={"faces": [near]}).json()["faces"]
    board = client.post("/api/boards", json={"name": "Twins"}).json()["id"]
    path = f"/api/boards/{board}/edits"
    first = client.post(path, json={"edit": "pin", "face": seed(plain, 3), "made_by": "roll"}).json()["pins"][
        0
    ]
    client.post(path, json={"edit": "pin", "face": flat, "parents": [first["id"]], "made_by": "vary"})
    client.post(path, json={"edit": "note", "pin": first["id"], "text": "the elder"})
    made = finished(client, "/api/export", {"kind": "board", "board": board})
    reply = client.get(made["file"])
    assert "attachment" in reply.headers["content-disposition"]
    assert len(reply.content) == made["bytes"]
    told = client.post("/api/boards/import", content=reply.content).json()
    one, other = told["pins"]
    assert (told["name"], one["note"], one["face"]) == ("Twins", "the elder", seed(plain, 3))
    assert other["parents"] == [one["id"]]
    assert other["face"] == flat
    strange = json.loads(reply.content)
    strange["pins"][0]["note"] = "the\ud800 \x1belder"
    told = client.post("/api/boards/import", content=json.dumps(strange)).json()
    assert client.get(f"/api/boards/{told['id']}").json()["pins"][0]["note"] == "the elder"
    lost = json.loads(reply.content)
    lost["points"] = {}
    assert client.post("/api/boards/import", content=json.dumps(lost)).status_code == 422


def test_a_board_is_packed_with_its_notes(client, plain, tmp_path):
    import zipfile

    board = client.post("/api/boards", json={"name": "Cast"}).json()["id"]
    for number in range(2):
        edit = {"edit": "pin", "face": seed(plain, number), "made_by": "roll"}
        client.post(f"/api/boards/{board}/edits", json=edit)
    made = finished(client, "/api/jobs", {"kind": "folder", "board": board, "faces": []})
    with zipfile.ZipFile(io.BytesIO(client.get(made["file"]).content)) as packed:
        assert sum(name.endswith(".png") for name in packed.namelist()) == 3
    film = finished(client, "/api/jobs", {"kind": "film", "faces": [seed(plain, 1), seed(plain, 2)],
                                          "seconds": 0.2, "size": 32})  # fmt: skip
    assert client.get(film["file"]).headers["content-type"] == "video/mp4"


def test_a_board_keeps_pins_and_undoes(client, styled):
    board = client.post("/api/boards", json={"name": "Heroine"}).json()
    edit = {"edit": "pin", "face": seed(styled, 3), "made_by": "roll", "request": "a"}
    for _ in range(2):  # a repeated request is applied once
        told = client.post(f"/api/boards/{board['id']}/edits", json=edit).json()
    assert [pin["face"] for pin in told["pins"]] == [seed(styled, 3)]
    assert client.post(f"/api/boards/{board['id']}/undo").json()["pins"] == []
    assert len(client.post(f"/api/boards/{board['id']}/redo", json={"request": "b"}).json()["pins"]) == 1
    assert client.delete(f"/api/boards/{board['id']}").status_code == 204
    assert client.get(f"/api/boards/{board['id']}").json()["code"] == "unknown_board"
    assert client.post(f"/api/boards/{board['id']}/restore", json={}).json()["name"] == "Heroine"
