import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.drawn import draw_illustration
from omokage.data.engines import cluster
from omokage.data.engines.cluster import Ray
from omokage.data.engines.processes import Steps
from omokage.data.store import shards
from omokage.errors import UserError

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'omokage[ray]')")

QUICK = Options(detector="cascade-example", clean=False, upscale="lanczos")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def nobody_there(*_: object, **__: object) -> None:
    raise ConnectionError("Could not find any running Ray instance.")


def test_without_ray_or_without_a_cluster(folder_of_faces, tmp_path, monkeypatch):
    folder = folder_of_faces(3)
    with pytest.raises(UserError, match="--engine ray"):
        build([folder], tmp_path / "set", as_faces=True, address="auto")
    with pytest.raises(UserError, match="local, ray"):
        build([folder], tmp_path / "set", as_faces=True, engine="spark")
    with pytest.raises(UserError, match="leave it out with --address"):
        build([folder], tmp_path / "set", as_faces=True, engine="ray", address="auto", workers=2)
    with monkeypatch.context() as patch:
        patch.setattr(ray, "is_initialized", lambda: False)
        patch.setattr(ray, "init", nobody_there)
        with pytest.raises(
            UserError, match=r"no Ray cluster at auto \(.*\): start one with `ray start --head`"
        ):
            build([folder], tmp_path / "set", as_faces=True, engine="ray", address="auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'omokage\[ray\]'"):
        build([folder], tmp_path / "set", as_faces=True, engine="ray")
    assert not (tmp_path / "set").exists()


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    """Ray as the engine starts it; what runs meanwhile uses it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(Ray(workers=2)._connected())
        except UserError as error:  # on a busy machine Ray gives up waiting for its own processes
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            stack.enter_context(Ray(workers=2)._connected())
        yield
    assert not ray.is_initialized()


@pytest.fixture
def small_batches(monkeypatch) -> None:
    monkeypatch.setattr(cluster, "BATCH_ITEMS", 2)
    monkeypatch.setattr(cluster, "WINDOW_BATCHES", 2)
    monkeypatch.setattr(shards, "SHARD_PICTURES", 8)


def dies(marker: Path):
    """Ends its process the first time that it is called, whoever calls."""

    def die() -> None:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def test_same_face_set_though_a_worker_is_killed(two_cpus, small_batches, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(8):
        Image.fromarray(draw_illustration(i, (160, 220)).image).save(folder / f"{i}.png")
    (folder / "0.txt").write_text("1girl, pink hair")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:2000])
    build([folder], tmp_path / "here", size=32, workers=1, options=QUICK)
    original, killed = cluster._dumps, tmp_path / "killed"

    def with_a_death(work) -> bytes:
        die = dies(killed)

        def in_the_middle(job):
            if job.file == "5.png":
                die()
            return work(job)

        return original(in_the_middle)

    monkeypatch.setattr(cluster, "_dumps", with_a_death)
    report = build([folder], tmp_path / "there", size=32, options=QUICK, engine="ray")
    assert killed.exists()
    assert report.kept > 5
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_faces_as_they_come(two_cpus, small_batches, folder_of_faces, tmp_path):
    folder = folder_of_faces(20)
    (folder / "1.jpg").write_bytes(b"no picture")
    build([folder], tmp_path / "here", as_faces=True, size=16)
    build([folder], tmp_path / "there", as_faces=True, size=16, engine="ray")
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_an_item_that_kills_every_worker_is_lost(two_cpus, small_batches, monkeypatch):
    monkeypatch.setattr(cluster, "RETRIES", 0)

    def work(n: int) -> int:
        if n == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return n * n

    results = list(Ray().run(range(6), Steps(lambda n: n, work, lambda n: -n)))
    assert results == [(n, -3 if n == 3 else n * n) for n in range(6)]


def test_what_workers_raise_is_told(two_cpus, small_batches):
    def work(n: int) -> int:
        if n == 1:
            raise UserError("install it")
        return 1 // n

    steps = Steps(lambda n: n, work, lambda n: -1)
    with pytest.raises(UserError, match=r"^install it$"):
        list(Ray().run([2, 1], steps))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(Ray().run([2, 0], steps))


def test_other_versions_are_refused(two_cpus, monkeypatch):
    monkeypatch.setattr(cluster, "versions", lambda: {**cluster_versions, "pillow": "1.0"})
    with pytest.raises(UserError, match=r"a worker of Ray has pillow .*, this machine 1\.0"):
        list(Ray().run([1], Steps(lambda n: n, lambda n: n, lambda n: n)))


cluster_versions = cluster.versions()
