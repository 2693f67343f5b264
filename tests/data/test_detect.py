import math

import numpy as np
import pytest

from omokage.data.drawn import draw_illustration
from omokage.data.steps.cascade import CascadeDetector
from omokage.data.steps.detect import FaceScore, NetworkDetector, open_detector
from omokage.data.steps.face import Face, clipped, overlap, separate
from omokage.data.steps.yolo import OnnxDetector
from omokage.errors import UserError


def hits(found: list[Face], boxes: list[list[int]]) -> int:
    return sum(any(overlap(face, Face(*map(float, box), 1.0)) >= 0.4 for face in found) for box in boxes)


@pytest.fixture(scope="module")
def scenes():
    return [draw_illustration(seed, (360, 480)) for seed in (11, 12, 13)]


def test_the_network_finds_drawn_faces_where_they_are(scenes):
    detector = NetworkDetector()
    found = [detector(scene.image) for scene in scenes]
    faces = sum(len(scene.boxes) for scene in scenes)
    assert sum(map(hits, found, (scene.boxes for scene in scenes))) >= 0.85 * faces
    assert sum(map(len, found)) <= 1.3 * faces
    for face in (f for one in found for f in one):
        assert 0.5 <= face.score <= 1
        assert face.x >= 0
        assert face.x + face.width <= 480
        assert face.tilt is not None
    again = NetworkDetector()
    assert again(scenes[0].image) == found[0]
    assert again.described == detector.described


def test_bfloat16_finds_the_same_faces(scenes):
    full, half = NetworkDetector(), open_detector("network", precision="bf16")
    assert full.described["precision"] == "fp32"
    assert half.described["precision"] == "bf16"
    for scene in scenes:
        sure = [face for face in full(scene.image) if face.score > 0.6]
        others = half(scene.image)
        assert sure
        for face in sure:
            twin = max(others, key=lambda other: overlap(face, other))
            assert overlap(face, twin) > 0.9
            assert abs(face.score - twin.score) < 0.05


def test_the_cascade_gives_boxes_of_faces_not_of_heads(scenes):
    for detector in (CascadeDetector(), open_detector("cascade", rotations=True)):
        found = [detector(scene.image) for scene in scenes]
        assert sum(map(hits, found, (scene.boxes for scene in scenes))) >= 2
    assert open_detector("cascade-example").described == CascadeDetector().described


def test_turned_faces_are_found_by_looking_again(scenes):
    import cv2

    scene = max(scenes, key=lambda s: max(box[2] for box in s.boxes))
    x, y, w, h = max(scene.boxes, key=lambda box: box[2])
    centre = (x + w / 2, y + h / 2)
    turned = cv2.warpAffine(scene.image, cv2.getRotationMatrix2D(centre, -15, 1), (480, 360))
    looks = CascadeDetector(1.05, 2, 20, (0, -15, 15))(turned)
    near = [f for f in looks if math.dist(f.centre, centre) < 0.35 * w]
    assert near
    assert all(f.tilt in (None, 15.0) for f in near)


def test_face_score_tells_faces_from_walls(scenes):
    judge = FaceScore()
    x, y, w, h = scenes[0].boxes[0]
    face = judge(scenes[0].image, Face(x, y, w, h, 1))
    assert face > 0.4
    plain = np.full((200, 200, 3), 180, np.uint8)
    assert judge(plain, Face(60, 60, 60, 60, 1)) < 0.2


def test_separate_keeps_the_surest_of_each_place():
    faces = [
        Face(0, 0, 10, 10, 0.5),
        Face(1, 1, 10, 10, 0.9),
        Face(30, 0, 10, 10, 0.4),
        Face(3, 3, 4, 4, 0.8),
    ]
    assert [f.score for f in separate(faces)] == [0.9, 0.4]
    assert clipped(Face(-5, -5, 10, 10, 1), 20, 20) == Face(0, 0, 5, 5, 1)
    assert clipped(Face(50, 0, 10, 10, 1), 20, 20) is None


def test_tiny_and_odd_pictures_are_no_trouble():
    detector = NetworkDetector()
    for shape in ((1, 1, 3), (1, 900, 3), (17, 5, 3)):
        assert detector(np.zeros(shape, np.uint8)) == []


def test_yolo_boxes_of_every_layout(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    # Centre 32, 16, size 16 in a 64×64 input: in the picture of 128×64, twice as far, less the grey above.
    layouts = {
        "v8": np.array([[[32.0], [32.0], [16.0], [16.0], [0.9]]]),
        "v5": np.array([[[32.0, 32.0, 16.0, 16.0, 0.9, 1.0]] * 3]),
        "nms": np.array([[[24.0, 24.0, 40.0, 40.0, 0.9, 0.0]]]),
    }
    for name, out in layouts.items():
        value = numpy_helper.from_array(out.astype(np.float32), "boxes")
        node = helper.make_node("Constant", [], ["out"], value=value)
        use = helper.make_node("ReduceMax", ["images"], ["unused"], keepdims=0)
        graph = helper.make_graph(
            [node, use],
            name,
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, out.shape)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, tmp_path / f"{name}.onnx")
        (face,) = OnnxDetector(tmp_path / f"{name}.onnx")(np.zeros((64, 128, 3), np.uint8))
        assert (face.x, face.y, face.width, face.height) == (48, 16, 32, 32), name
        assert face.score == pytest.approx(0.9)
    (tmp_path / "no.onnx").write_bytes(b"no")
    with pytest.raises(UserError, match="not an ONNX file"):
        open_detector(str(tmp_path / "no.onnx"))


def test_refusals(tmp_path):
    (tmp_path / "no.safetensors").write_bytes(b"no")
    for call, message in [
        (lambda: open_detector("faces"), "no detector"),
        (lambda: open_detector(threshold=2.0), "impossible"),
        (lambda: NetworkDetector(path=tmp_path / "no.safetensors"), "not an omokage face detector"),
        (lambda: NetworkDetector(path=tmp_path / "none"), "cannot be read"),
        (lambda: CascadeDetector(path=tmp_path / "none"), "cannot be read"),
    ]:
        with pytest.raises(UserError, match=message):
            call()
