import numpy as np
import pytest
import torch
from omokage.explore.attributes import Tag, direction, having, parse_tag, write_attribute
from omokage.explore.encode import as_images
from PIL import Image

from omokage.errors import UserError

RED, BLUE = Tag("hair", "red"), Tag("hair", "blue")


@pytest.fixture
def wide(family_model):
    return family_model("glow")


def test_tags_are_read_from_joined_values(tagged_faces):
    red, blue = having(tagged_faces, RED), having(tagged_faces, BLUE)
    assert np.flatnonzero(~red[:20]).tolist() == [4]
    assert np.flatnonzero(blue[:20]).tolist() == [3]
    assert blue[20:].all()
    assert not red[20:].any()


def test_the_way_is_the_difference_of_means_without_those_that_have_both(wide, tagged_faces):
    way = direction(wide, tagged_faces, RED, BLUE)
    assert way.counts == (12, 20)  # of 18 red ones, six are kept to be shown
    z = wide.encode(as_images(tagged_faces.everything(16))).double()
    start = [i for i in range(20) if i not in (3, 4, *way.others.tolist())]
    expected = z[20:].mean(0) - z[start].mean(0)
    torch.testing.assert_close(way.latent.double(), expected, atol=1e-5, rtol=1e-4)
    back = direction(wide, tagged_faces, BLUE, RED, most=10)
    assert back.counts == (10, 10)


def test_adding_the_way_once_changes_the_mean_face_of_one_tag_to_that_of_the_other(wide, tagged_faces):
    way = direction(wide, tagged_faces, RED, BLUE)
    z = wide.encode(as_images(tagged_faces.pixels(way.others, 16)))
    before, after = (wide.decode(z + strength * way.latent).mean(0) for strength in (0, 1))
    top = (after - before)[:, :8].mean((1, 2))
    assert top[0] < -0.2  # less red
    assert top[2] > 0.2  # more blue


def test_the_figure(wide, tagged_faces, picture_files, tmp_path):
    path, way = write_attribute(
        wide, tagged_faces, RED, BLUE, tmp_path / "a.png", files=picture_files, strengths=(0, 1, 2)
    )
    page = Image.open(path)
    assert page.text["Title"] == "From hair=red to hair=blue"
    assert page.text["from"] == f"hair=red, mean of {way.counts[0]} faces"
    assert page.text["strengths"] == "0, 1, 2"
    assert page.text["pictures"] == "own-0.png, own-1.png, own-2.png"
    path, way = write_attribute(wide, tagged_faces, RED, BLUE, tmp_path / "b.png")
    assert Image.open(path).text["pictures"] == ", ".join(tagged_faces.keys[i] for i in way.others)


@pytest.mark.parametrize("text", ["hair", "=red", "hair=", ""])
def test_what_is_no_tag_is_refused(text):
    with pytest.raises(UserError, match=r"--from: .*is not a tag; write it like hair=blonde"):
        parse_tag(text, "--from")


def test_unknown_tags_and_too_few_faces_are_refused(wide, tagged_faces, family_model, tmp_path):
    with pytest.raises(UserError, match="no labels 'hiar'; there are hair, eyes"):
        direction(wide, tagged_faces, Tag("hiar", "red"), BLUE)
    with pytest.raises(UserError, match="no face has hair=bleu; did you mean blue"):
        direction(wide, tagged_faces, RED, Tag("hair", "bleu"))
    with pytest.raises(UserError, match="0 faces have hair=red and not the other tag"):
        direction(wide, tagged_faces, RED, Tag("eyes", "green"))
    with pytest.raises(UserError, match="dcgan cannot encode"):
        write_attribute(family_model("dcgan"), tagged_faces, RED, BLUE, tmp_path / "a.png")
