import numpy as np
import pytest
import torch

from omokage.errors import UserError
from omokage.explore.arithmetic import Direction, Tag, direction, having, parse_tag, pictures_along
from omokage.explore.inversion import as_images
from omokage.sampling import to_pixels

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
    back = direction(wide, tagged_faces, BLUE, RED, max_faces=10)
    assert back.counts == (10, 10)


def test_adding_the_way_once_changes_the_mean_face_of_one_tag_to_that_of_the_other(wide, tagged_faces):
    way = direction(wide, tagged_faces, RED, BLUE)
    z = wide.encode(as_images(tagged_faces.pixels(way.others, 16)))
    before, after = (wide.decode(z + strength * way.latent).mean(0) for strength in (0, 1))
    top = (after - before)[:, :8].mean((1, 2))
    assert top[0] < -0.2  # less red
    assert top[2] > 0.2  # more blue


def test_pictures_move_along_the_way_from_where_they_are(wide, tagged_faces):
    way = direction(wide, tagged_faces, RED, BLUE)
    pictures, called = tagged_faces.pixels(way.others, 16), [f"own {i}" for i in range(len(way.others))]
    rows = pictures_along(wide, pictures, called, way, (0, 1, 2.5))
    assert [row.heading for row in rows] == called
    z = wide.encode(as_images(pictures))
    for i, row in enumerate(rows):
        assert list(row.captions) == ["0", "1", "2.5"]
        assert (row.pixels[0] == pictures[i]).all()  # a flow leads a picture back to itself
        moved = torch.stack([z[i] + strength * way.latent for strength in (0, 1, 2.5)])
        expected = to_pixels(wide.inverse(moved)).astype(int)
        assert np.abs(row.pixels - expected).max() <= 1
        assert row.not_finite == 0


def test_what_is_not_finite_on_the_way_is_counted(wide, tagged_faces):
    far = Direction(torch.full(wide.latent_shape, 1e38), (8, 8), np.arange(2))
    rows = pictures_along(wide, tagged_faces.pixels(np.arange(2), 16), ["a", "b"], far, (0, 1, 1.5))
    assert [row.finite.tolist() for row in rows] == [[True, False, False]] * 2
    assert [row.not_finite for row in rows] == [2, 2]


def test_latents_that_are_not_finite_are_left_out_and_counted(wide, tagged_faces, monkeypatch):
    whole = direction(wide, tagged_faces, RED, BLUE)
    assert whole.not_finite == (0, 0)
    encode = type(wide.network).encode

    def breaking(self, images, *given):
        z = encode(self, images, *given)
        return torch.where(torch.arange(len(z)).view(-1, 1) == 3, torch.nan, z)

    monkeypatch.setattr(type(wide.network), "encode", breaking)
    way = direction(wide, tagged_faces, RED, BLUE)
    assert (way.counts, way.not_finite) == ((11, 18), (1, 2))  # one of a batch
    assert way.latent.isfinite().all()


def test_a_model_without_a_finite_latent_has_no_direction(wide, tagged_faces):
    with torch.no_grad():
        wide.network.levels[0][0].log_scale[0, 0] = 200.0
    with pytest.raises(UserError, match="no tagged face has a finite latent: this model is broken"):
        direction(wide, tagged_faces, RED, BLUE)


@pytest.mark.parametrize("text", ["hair", "=red", "hair=", ""])
def test_what_is_no_tag_is_refused(text):
    with pytest.raises(UserError, match=r"--from: .*is not a tag; write it like hair=blonde"):
        parse_tag(text, "--from")


def test_unknown_tags_and_too_few_faces_are_refused(wide, tagged_faces, family_model):
    with pytest.raises(UserError, match="no labels 'hiar'; there are hair, eyes"):
        direction(wide, tagged_faces, Tag("hiar", "red"), BLUE)
    with pytest.raises(UserError, match="no face has hair=bleu; did you mean blue"):
        direction(wide, tagged_faces, RED, Tag("hair", "bleu"))
    with pytest.raises(UserError, match="0 faces have hair=red and not the other tag"):
        direction(wide, tagged_faces, RED, Tag("eyes", "green"))
    with pytest.raises(UserError, match="dcgan cannot encode"):
        direction(family_model("dcgan"), tagged_faces, RED, BLUE)
