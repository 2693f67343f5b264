"""Faces are kept or rejected on a page; every verdict is on the disk before the next face comes."""

import threading
import time
from contextlib import closing, contextmanager

import numpy as np
import pytest
from browsing import DESKTOP, PHONE
from PIL import Image

pytest.importorskip("fastapi", reason="a review needs the extra: pip install 'omokage[studio]'")

from study_visitors import TestClient

from omokage.data.build import build
from omokage.data.derive.reviewing import Verdicts, read_review
from omokage.data.store.faceset import FaceSet
from omokage.review.server import create_app


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{i}.png")
    build([folder], folder.parent / "reviewed", as_faces=True, workers=1)
    return FaceSet.open(folder.parent / "reviewed")


@contextmanager
def client(faces, path, rows=range(6)):
    with closing(Verdicts(path)) as verdicts:
        app = create_app(faces, rows, verdicts)
        with TestClient(app, base_url="http://localhost:7861") as client:
            yield client


def test_a_verdict_is_written_before_it_is_answered(faces, tmp_path):
    path = tmp_path / "review.csv"
    with client(faces, path, [5, 1]) as page:
        assert page.get("/api/review").json()["verdicts"] == ["", ""]
        assert page.get("/api/faces/0").content == faces.image_bytes(5)
        assert page.get("/api/faces/0").headers["content-type"] == "image/png"
        assert page.get("/api/faces/1/about").json()["key"] == faces.keys[1]
        told = page.post("/api/verdicts", json={"face": 1, "verdict": "reject"})
        assert told.json() == {"faces": 2, "kept": 0, "rejected": 1}
        assert read_review(path).rejected(faces.index).nonzero()[0].tolist() == [1]
    with client(faces, path, [5, 1]) as page:  # begun again
        assert page.get("/api/review").json()["verdicts"] == ["", "reject"]


def test_nobody_else_reviews(faces, tmp_path):
    path = tmp_path / "review.csv"
    good = {"face": 0, "verdict": "keep"}
    with client(faces, path) as page:
        for headers, status in (
            ({"Host": "evil.example"}, 400),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "http://localhost:1"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": "http://localhost:7861"}, 200),
        ):
            assert page.post("/api/verdicts", json=good, headers=headers).status_code == status, headers
        assert read_review(path).verdicts.keys() == {faces.index["sha256"][0].as_py().hex()}
        wrong_ones = [{"face": face, "verdict": "keep"} for face in (6, -1, "0", None, 1.5)]
        for wrong in (*wrong_ones, {"face": 0, "verdict": "x"}, {**good, "more": 1}, [], None):
            assert page.post("/api/verdicts", json=wrong).status_code in (404, 422), wrong
        for place in ("/api/faces/6", "/api/faces/x", "/static/..%2fserver.py", "/manifest.json", "/docs"):
            assert page.get(place).status_code in (404, 422), place
        reply = page.get("/")
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]


@contextmanager
def served(faces, path):
    import uvicorn

    with closing(Verdicts(path)) as verdicts:
        config = uvicorn.Config(create_app(faces, range(6), verdicts), port=0, log_level="error", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_one_key_keeps_or_rejects_a_face(browser, faces, tmp_path, size):
    path = tmp_path / "review.csv"
    problems = []
    with served(faces, path) as address:
        page = browser.new_context(**size).new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.wait_for_selector("body[data-face='0']")
        for number, key in enumerate(("k", "x", "X")):
            page.keyboard.press(key)
            page.wait_for_selector(f"body[data-face='{number + 1}']")
        page.click("#reject")
        page.wait_for_selector("body[data-face='4']")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("body[data-face='3']")
        page.keyboard.press("u")
        page.wait_for_selector("#count:text('not judged')")
        assert "4 of 6: not judged · 1 kept, 2 rejected" in page.inner_text("#count")
        assert page.evaluate("document.body.scrollWidth - document.documentElement.clientWidth") <= 0
        assert page.evaluate("document.querySelector('#face').naturalWidth") == 64
        page.reload()  # it goes on at the first face without a verdict
        page.wait_for_selector("body[data-face='3']")
        page.context.close()
    assert problems == []
    assert read_review(path).rejected(faces.index).nonzero()[0].tolist() == [1, 2]
