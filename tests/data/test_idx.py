"""MNIST's files: read where they are sound, left out or refused in one line where they are not."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.sources.idx import Idx
from omokage.data.steps.read import Unreadable
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: np.ndarray, kind: int = 0x08) -> bytes:
    """An IDX file of that array of bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.tobytes()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (12, 7, 5), np.uint8)


@pytest.fixture(scope="module")
def labels():
    return np.arange(12, dtype=np.uint8)[::-1]


def rejected(out):
    return [line.split(",", 1) for line in (out / "rejected.csv").read_text().splitlines()[1:]]


@pytest.mark.parametrize("compressed", [(False, False), (True, True), (True, False)])
def test_pictures_and_labels_are_those_of_the_files(tmp_path, pictures, labels, compressed):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, array, packed in zip((IMAGES, LABELS), (pictures, labels), compressed, strict=True):
        data = gzip.compress(idx(array)) if packed else idx(array)
        (folder / (name + ".gz" * packed)).write_bytes(data)
    Image.new("RGB", (5, 7)).save(folder / "beside.png")
    report = build([folder], tmp_path / "faces", as_faces=True, workers=2)
    assert (report.found, report.kept, report.rejected) == (13, 13, 0)
    faces = FaceSet.open(tmp_path / "faces")
    assert faces.index["label"].to_pylist() == [None, *map(str, labels)]
    read = [np.asarray(Image.open(io.BytesIO(faces.image_bytes(i)))) for i in range(1, 13)]
    assert (np.stack(read) == pictures).all()
    # What is there already is found again.
    assert build([folder], tmp_path / "faces", as_faces=True).already


def test_a_single_file_is_a_source_too(tmp_path, pictures, labels):
    (tmp_path / IMAGES).write_bytes(idx(pictures))
    (tmp_path / LABELS).write_bytes(idx(labels))
    (tmp_path / "digits").write_bytes(idx(pictures))  # by content, whatever the name
    for name, known in ((IMAGES, "11"), ("digits", None)):
        build([tmp_path / name], tmp_path / f"{name}-faces", as_faces=True)
        faces = FaceSet.open(tmp_path / f"{name}-faces")
        assert len(faces) == 12
        columns = faces.index.to_pydict()
        assert columns.get("label", [None])[0] == known


def header(*sizes, kind=0x08):
    return bytes([0, 0, kind, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


HOSTILE = {
    "wrong magic": (b"\x01\x02\x08\x03" + bytes(100), "does not begin like one"),
    "empty": (b"", "does not begin like one"),
    "floats": (header(1, 2, 2, kind=0x0D) + bytes(16), "type 0x0d"),
    "four dimensions": (header(1, 2, 2, 3) + bytes(12), "4 dimensions"),
    "half a header": (header(5, 2, 2)[:9], "header is not whole"),
    "beyond the file": (header(4_000_000, 2, 2) + bytes(16), "claims 16,000,000 bytes, but it has 16"),
    "more than claimed": (header(1, 2, 2) + bytes(5), "but it has more"),
    "giant": (header(2**32 - 1, 2, 2) + bytes(16), "the limit is"),
    "giant picture": (header(1, 2**20, 2**20) + bytes(16), "too many pixels"),
    "no pictures": (header(0, 28, 28), "without anything"),
    "packed beyond": (gzip.compress(header(1000, 2, 2) + bytes(16)), "but it has 16"),
    "packed bomb": (gzip.compress(header(1, 2, 2) + bytes(50_000_000)), "but it has more"),
    "packed and cut": (gzip.compress(header(9, 99, 99) + np.random.bytes(88209))[:-4000], "damaged"),
    "packed nonsense": (b"\x1f\x8b\x08\x00" + bytes(range(60)), "damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_left_out_with_one_line(tmp_path, pictures, kind):
    data, said = HOSTILE[kind]
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte").write_bytes(data)
    (folder / IMAGES).write_bytes(idx(pictures))
    report = build([folder], tmp_path / "faces", as_faces=True)
    assert (report.kept, report.rejected) == (12, 1)
    ((name, reason),) = rejected(tmp_path / "faces")
    assert name == "mnist/t10k-images-idx3-ubyte"
    assert said in reason
    with pytest.raises(UserError, match="cannot be read") as caught:
        build([folder / "t10k-images-idx3-ubyte"], tmp_path / "other", as_faces=True)
    assert "\n" not in str(caught.value)
    assert said in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / IMAGES
    path.write_bytes(HOSTILE["packed bomb"][0])
    bomb = Idx(path)
    read = []
    opened = bomb._opened

    def counting():
        file = opened()
        before = file.read
        file.read = lambda n: read.append(n) or before(n)
        return file

    bomb._opened = counting
    with pytest.raises(Unreadable, match="more"):
        bomb.check()
    assert sum(read) <= 16 + 5 + 5


def test_labels_that_do_not_fit_are_left_out(tmp_path, pictures, labels):
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / IMAGES).write_bytes(idx(pictures))
    (folder / LABELS).write_bytes(idx(labels[:-1]))
    (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(idx(pictures)))
    report = build([folder], tmp_path / "faces", as_faces=True)
    assert (report.kept, report.rejected) == (12, 2)
    assert "label" not in FaceSet.open(tmp_path / "faces").index.column_names
    reasons = dict(rejected(tmp_path / "faces"))
    assert "unpacked" in reasons[f"mnist/{IMAGES}.gz"]
    assert "without as many pictures" in reasons[f"mnist/{LABELS}"]
    with pytest.raises(UserError, match="IDX labels without"):
        build([folder / LABELS], tmp_path / "other", as_faces=True)


def test_two_sources_of_one_name_are_refused(tmp_path, pictures, labels):
    for parent in ("a", "b"):
        folder = tmp_path / parent / "mnist"
        folder.mkdir(parents=True)
        (folder / IMAGES).write_bytes(idx(pictures))
        (folder / LABELS).write_bytes(idx(labels))
    with pytest.raises(UserError, match="rename one"):
        build([tmp_path / "a" / "mnist", tmp_path / "b" / "mnist"], tmp_path / "faces", as_faces=True)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The 1,797 digits that scikit-learn ships (Alpaydin & Kaynak 1998), as files like those of MNIST."""
    datasets = pytest.importorskip("sklearn.datasets", reason="pip install scikit-learn for real digits")
    found = datasets.load_digits()
    folder = tmp_path_factory.mktemp("digits") / "mnist"
    folder.mkdir()
    pixels = (found.images * (255 / 16)).round().astype(np.uint8)
    (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(idx(pixels)))
    (folder / f"{LABELS}.gz").write_bytes(gzip.compress(idx(found.target.astype(np.uint8))))
    return folder


def test_the_mnist_recipe_trains_on_digits_by_label(tmp_path, digits, capsys):
    faces, run = tmp_path / "faces", tmp_path / "run"
    assert main(["build", str(digits), "-o", str(faces), "--as-faces"]) == 0
    labels = FaceSet.open(faces).index["label"].to_pylist()
    assert sorted(set(labels)) == list("0123456789")
    assert len(labels) == 1797
    narrow = [
        "model.channels=[32, 16, 8, 8]",
        "discriminator.channels=[8, 8, 16, 32]",
        "batch=8",
        "condition=label",
    ]
    command = [
        "train",
        "yao2021-dcgan-mnist",
        "--data",
        str(faces),
        "-o",
        str(run),
        "--images",
        "32",
        *narrow,
    ]
    assert main(command) == 0
    assert "label of 1,797 faces: 0 178, 1 182" in capsys.readouterr().err.replace("\n", " ")
    out = tmp_path / "seven.png"
    assert main(["sample", str(run), "--condition", "label=7", "--seeds", "0-3", "-o", str(out)]) == 0
    grey = np.asarray(Image.open(out))
    assert (grey == grey[..., :1]).all()
    assert main(["sample", str(run), "--condition", "label=17", "--seeds", "0", "-o", str(out)]) == 2
    assert "there are 0, 1, 2" in capsys.readouterr().err
