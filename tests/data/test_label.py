import json
from contextlib import suppress

import pytest

from omokage.data.sources.labels import Labels, merge
from omokage.data.sources.record import from_record
from omokage.data.sources.sidecar import Ambiguous, marks_in, read_sidecar
from omokage.data.sources.table import LabelTable, is_table
from omokage.errors import UserError


def test_tags_of_both_styles():
    for text in (
        b"1girl long_hair blue_eyes",
        b"1girl, long hair, blue eyes\n",
        b"1girl\nlong_hair\nblue_eyes",
    ):
        assert read_sidecar("a.txt", text).tags == ("1girl", "long hair", "blue eyes")
    labels = read_sidecar("a.txt", b"silver_hair, rating:questionable, artist:someone")
    blond = read_sidecar("a.txt", b"blonde hair, yellow eyes")
    assert (blond.colour("hair"), blond.colour("eyes")) == ("blonde", "yellow")
    assert (labels.rating, labels.artist, labels.colour("hair")) == ("questionable", "someone", "gray")


def test_records_of_boorus():
    danbooru = {
        "tag_string_general": "red_hair solo",
        "tag_string_artist": "some_one",
        "rating": "g",
        "source": "http://x",
    }
    assert from_record(danbooru) == Labels(("red hair", "solo"), "general", "some one", None, "http://x")
    old = {"rating": "q", "tags": [{"name": "smile", "category": "0"}, {"name": "kei", "category": "1"}]}
    assert from_record(old) == Labels(("smile",), "questionable", "kei")
    by_category = {"tags": {"general": ["hat"], "artist": ["mo"]}, "rating": "safe"}
    assert from_record(by_category) == Labels(("hat",), "general", "mo")
    assert from_record({"rating": "weird"}).rating == "explicit"  # unknown words are not taken for harmless
    assert from_record({"rating": None, "tags": 7}) == Labels()


@pytest.mark.parametrize("data", [b"{broken", b"[1, 2]", b"7", b"\xff\xfe", b"[" * 100_000])
def test_broken_sidecars_say_why(data):
    with pytest.raises(ValueError, match="labels"):
        read_sidecar("a.json", data)


def test_the_stricter_rating_holds():
    assert merge(Labels(rating="general"), Labels(rating="explicit")).rating == "explicit"
    assert merge(Labels(("a",), artist="x"), Labels(("b", "a"), artist="y")) == Labels(("a", "b"), artist="x")


def test_tables(tmp_path):
    (tmp_path / "t.csv").write_text("file,hair,rating,tags\na.jpg,red,g,smile|hat\nb/c.png,,e,\n")
    table = LabelTable(tmp_path / "t.csv")
    assert (len(table), table.columns) == (2, ["hair"])
    assert table.get("x/a.jpg") == Labels(("smile", "hat"), "general", other=(("hair", "red"),))
    assert table.get("b/c.png").rating == "explicit"
    assert table.get("d.png") is None
    lines = [{"id": 12, "tags": "hat", "rating": "s"}, {"md5": "f" * 32, "tag_string": "smile"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = LabelTable(tmp_path / "t.jsonl")
    assert table.get("0012/12.jpg").rating == "sensitive"
    assert table.get("f" * 32 + ".png").tags == ("smile",)
    for text in ("name,x\n", "", "file,a\nx\n", '{"a": 1}', "[1]", "{"):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(UserError, match="bad"):
            LabelTable(tmp_path / "bad")


@pytest.mark.parametrize(
    ("name", "data", "table"),
    [
        ("a.csv", b"\xef\xbb\xbffile,hair\na.png,red\n", True),
        ("a.csv", b"name,hair\na.png,red\n", False),
        ("a.csv", b"file\na.png\n", False),
        ("a.csv", b"\x89PNG\r\n\x1a\n", False),
        ("A.CSV", b'"file","tags"\n', True),
        ("a.txt", b"file,hair\n", False),
        ("a.json", b'{"b/a.PNG": [[1, 2, 3, 4]]}', True),
        ("a.json", b'{"tags": "smile", "file": "a.png"}', False),
        ("a.json", b'[{"id": 1, "tags": "smile"}, {"id": 2}]', True),
        ("a.json", b'[{"id": 1, "tags": "smile"}]', False),
        ("a.json", b'["smile", "tea"]', False),
        ("a.jsonl", b'{"md5": "ab"}\r\n{"md5": "cd"}\n', True),
        ("a.jsonl", b'{"tags": "ab"}\n{"tags": "cd"}\n', False),
        ("a.json", b"{" * 70_000, False),
        ("a.json", b"", False),
    ],
)
def test_which_files_are_tables(name, data, table):
    assert is_table(name, data) == table
    if table:
        assert read_sidecar(name, data) == Labels()


@pytest.mark.parametrize(
    ("text", "rating", "artists", "told"),
    [
        ('[{"id":1,"rating":"e","artist":"mira"},{"id":0,"artist":"kei"}]', "explicit", "mira|kei", True),
        ('[{"id":1,"tags":"hat"},{"id":2,"tags":"rating:questionable"}]', "questionable", None, True),
        ('{"id":1,"rating":"g"}\n{"id":2,"x_restrict":1}\n', "explicit", None, True),
        ('[{"file":"0.png","rating":"g"},{"file":"1.png","rating":"e"}]', "general", None, False),
        ('[{"file":"1.png"},{"filename":"a/0","rating":"e","artist":"kei"}]', "explicit", "kei", False),
        ('{"0.PNG":{"rating":"e"},"1.png":{"rating":"g"}}', "explicit", None, False),
        ('{"1.png":{"rating":"g"},"2.png":{"rating":"e"}}', "explicit", None, True),
        ('[{"file":"0.png"},{"file":"0.png","rating":"e"}]', "explicit", None, False),
    ],
)
def test_several_records_beside_one_picture(text, rating, artists, told):
    assert is_table("0.json", text.encode())
    if told:
        with pytest.raises(Ambiguous, match="2 records, none of which names the picture") as reason:
            read_sidecar("0.json", text.encode(), "sub/0.png")
        labels = reason.value.labels
    else:
        labels = read_sidecar("0.json", text.encode(), "sub/0.png")
    assert (labels.rating, labels.artist) == (rating, artists)


def test_many_records_take_no_minutes():
    records = [{"id": i + 1, "artist": f"a{i}", "rating": "g"} for i in range(4_000)]
    text = json.dumps([*records, {"rating": "e"}]).encode()
    with pytest.raises(Ambiguous) as reason:
        read_sidecar("0.json", text, "0.png")
    assert reason.value.labels.rating == "explicit"
    labels = read_sidecar("0.txt", text)
    assert (labels.rating, labels.artist, len(labels.also)) == ("explicit", "a0", 3_999)


def test_several_records_that_are_damaged_are_told():
    for text in ('[{"id":1,"rating":"e"},{"id":2}', '[{"id":1},{"id":2},5]'):
        with pytest.raises(ValueError, match="labels that are no JSON"):
            read_sidecar("0.json", text.encode(), "0.png")
    assert marks_in(b'[{"id":1,"rating":"e"},{"id":2}').rating == "explicit"


@pytest.mark.parametrize(
    "record",
    [
        {"rating": "e"}, {"rating": "E"}, {"Rating": "Explicit"}, {"RATING": " explicit "},
        {"rating": ["g", "e"]},
        {"rating": {"name": "explicit"}}, {"rating": {"general": 0.1, "explicit": 0.8}},
        {"rating": "rating:e"},
        {"rating": "R-18"}, {"rating": "R18"}, {"rating": "r-18g"}, {"rating": "R-18G"}, {"rating": "18+"},
        {"rating": "mature"}, {"rating": "Adult"}, {"rating": "NSFW"}, {"rating": 5}, {"rating": True},
        {"x_restrict": 1}, {"x_restrict": 2}, {"x_restrict": "1"}, {"xRestrict": 1}, {"X_Restrict": 1.0},
        {"safety": "unsafe"}, {"is_mature": True}, {"is_mature": 1}, {"is_mature": "true"},
        {"isMature": True},
        {"mature": True}, {"nsfw": True}, {"is_nsfw": "yes"}, {"rating_explicit": True},
        {"rating_explicit": 0.9},
        {"rating_general": 0.2, "rating_explicit": 0.7}, {"sensitive": True}, {"possibly_sensitive": True},
        {"over_18": True}, {"hide_as_adult": True}, {"adult_content": True}, {"age_limit": "r18"},
        {"maturity_rating": "NSFW"}, {"content_rating": "adult"}, {"sensitive_flags": ["Nudity"]},
        {"tags": ["R-18", "hat"]}, {"tags": ["R-18G"]}, {"tags": "hat r-18"}, {"tags": ["rating:explicit"]},
        {"tags": [{"name": "R-18", "translated_name": None}]}, {"tags": {"rating": ["explicit"]}},
        {"tags": {"general": ["hat"], "meta": ["nsfw"]}}, {"tags": ["meta:nsfw"]},
        {"rating": "g", "tags": "R18"},
        {"rating": "safe", "x_restrict": 1}, {"post": {"rating": "e"}}, {"illust": {"x_restrict": 2}},
        {"rating": "general", "is_mature": True}, {"labels": [{"val": "porn"}]}, {"tags": "１８禁, hat"},
        {"tag_string_general": "hat nsfw"}, {"hashtags": ["R18"]}, {"category": "newgrounds", "rating": "a"},
    ],
)  # fmt: skip
def test_what_is_adult_is_known_in_every_shape(record):
    assert from_record(record).rating == "explicit"
    assert read_sidecar("a.json", json.dumps(record).encode("utf-16")).rating == "explicit"
    assert read_sidecar("a.json", json.dumps([record]).encode()).rating == "explicit"
    assert read_sidecar("A.TXT", json.dumps(record).encode("utf-8-sig")).rating == "explicit"


@pytest.mark.parametrize(
    "record",
    [
        {}, {"rating": None}, {"rating": ""}, {"rating": []}, {"rating": "none"}, {"is_mature": False},
        {"nsfw": 0}, {"nsfw": "false"}, {"nsfw": "0"}, {"nsfw": 0.02}, {"nsfw": "0.02"}, {"is_nsfw": "No"},
        {"sensitive": False}, {"sensitive_flags": []}, {"age_limit": 0}, {"labels": []}, {"sanity_level": 2},
        {"tags": ["safety pin", "hat", "rating star"]}, {"rating_explicit": 0.1},
        {"labels": [{"val": "art"}]},
    ],
)  # fmt: skip
def test_what_says_nothing_is_no_rating(record):
    assert from_record(record).rating is None


@pytest.mark.parametrize(
    ("record", "rating"),
    [
        ({"rating": "g"}, "general"),
        ({"rating": "safe"}, "general"),
        ({"rating": "SFW"}, "general"),
        ({"rating": "all-age"}, "general"),
        ({"x_restrict": 0}, "general"),
        ({"x_restrict": 0, "sanity_level": 4}, "sensitive"),
        ({"x_restrict": 0, "sanity_level": 6}, "questionable"),
        ({"rating_general": 0.9, "rating_explicit": 0.05}, "general"),
        ({"rating": {"general": 0.9, "sensitive": 0.08}}, "general"),
        ({"general": 0.9, "sensitive": 0.08, "questionable": 0.01, "explicit": 0.01}, "general"),
        ({"general": 0.1, "sensitive": 0.8, "questionable": 0.05, "explicit": 0.05}, "sensitive"),
        ({"nsfw": 0.02, "explicit": 0.01, "hentai": 0.1}, None),
        ({"general": ["hat"], "safe": True}, None),
        ({"safety": "sketchy"}, "questionable"),
        ({"rating": "q"}, "questionable"),
        ({"tags": ["suggestive", "hat"]}, "sensitive"),
        ({"tags": "hat, questionable"}, "questionable"),
        ({"category": "newgrounds", "rating": "e"}, "general"),
        ({"category": "newgrounds", "rating": "t"}, "sensitive"),
        # s: sensitive, but where it is known to be the mildest of three
        ({"rating": "s"}, "sensitive"),
        ({"rating": "s", "category": "danbooru"}, "sensitive"),
        ({"rating": "s", "file_url": "https://cdn.donmai.us/original/a.png"}, "sensitive"),
        ({"rating": "s", "file_url": "https://note621.net/a.png"}, "sensitive"),
        ({"rating": "s", "source": "https://e621.net/posts/1"}, "sensitive"),
        ({"rating": "s", "category": "e621"}, "general"),
        ({"rating": "S", "category": "sankaku"}, "general"),
        ({"rating": "s", "category": "yandere"}, "general"),
        ({"rating": "s", "file_url": "https://static1.e621.net/data/a.png"}, "general"),
        ({"rating": "s", "file": {"url": "https://static1.e621.net/data/a.png"}}, "general"),
        ({"rating": "s", "jpeg_url": "https://files.yande.re/jpeg/a.jpg"}, "general"),
        ({"rating": "s", "tags": [{"id": "1", "name": "hat", "category": "0"}]}, "general"),
        ({"rating": "q", "category": "e621"}, "questionable"),
        ({"rating": "e", "category": "e621"}, "explicit"),
    ],
)
def test_ratings_of_sites(record, rating):
    assert from_record(record).rating == rating


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("1girl, rating:explicit", "explicit"), ("1girl rating:e", "explicit"),
        ("1girl\nrating: e", "explicit"),
        ("rating:e\nrating:g", "explicit"), ("rating:g\nrating:e", "explicit"),
        ("rating_explicit, 1girl", "explicit"),
        ("1girl, explicit", "explicit"), ("R-18", "explicit"), ("1girl, r18", "explicit"),
        ("nsfw 1girl", "explicit"),
        ("Rating:Explicit", "explicit"), ("rating=e", "explicit"),
        ("rating:e artist:mira\n1girl", "explicit"),
        ("safety:unsafe", "explicit"), ("1girl, general", "general"), ("score_9, rating_safe", "general"),
        ("1girl, sensitive", "sensitive"), ("rating:s", "sensitive"), ("1girl, hat", None), ("", None),
        ("rating:weird", "explicit"), ("meta:rating:q", "questionable"), ("safety pin, hat", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.txt", "a.caption", "A.TXT"])
def test_ratings_among_tags(text, rating, name):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert read_sidecar(name, text.replace("\n", "\r\n").encode(encoding)).rating == rating


@pytest.mark.parametrize(
    ("record", "artist"),
    [
        ({"author": {"id": 1, "name": "mira", "nick": "Mira P"}}, "mira|Mira P"),
        ({"user": {"id": 1, "name": "ミラ", "account": "mira"}}, "ミラ|mira"),
        ({"author": {"username": "mira", "type": "regular"}}, "mira"),
        ({"artist": ["mira", {"name": "kei"}]}, "mira|kei"),
        ({"artist": {"name": "Mira", "username": "mira"}}, "Mira"),
        ({"Artist": "mira"}, "mira"),
        ({"creator": "mira"}, "mira"),
        ({"creator": {"name": "mira"}}, "mira"),
        ({"artists": [{"artist": {"name": "mira"}}]}, "mira"),
        ({"tags": ["creator:mira", "hat"]}, "mira"),
        ({"tags": {"artist": ["mira_(pix)"], "general": ["hat"]}}, "mira (pix)"),
        ({"tags": {"artist": "mira kei"}}, "mira|kei"),
        ({"tags": {"artist": [{"name": "mira"}]}}, "mira"),
        ({"tags": [{"names": ["mira"], "category": "artist"}]}, "mira"),
        ({"tags_artist": ["mira"], "md5": "ab" * 16}, "mira"),
        ({"tag_string_artist": "mira_(pix) kei"}, "mira (pix)|kei"),
        ({"username": "mira"}, "mira"),
        ({"username": "uploader", "md5": "ab" * 16}, None),
        ({"user": {"name": "uploader"}, "artist": "mira"}, "mira"),
        ({"user": 12345}, None),
        ({"tags": [{"name": "mira", "type": 1}], "author": {"name": "uploader"}, "md5": "ab" * 16}, "mira"),
        ({"author": "mira", "md5": "ab" * 16}, "mira"),
        ({"author": "mira", "tags": ["artist:kei"]}, "kei|mira"),
        ({"post": {"artist": "mira"}}, "mira"),
    ],
)
def test_artists_in_every_shape(record, artist):
    assert from_record(record).artist == artist


@pytest.mark.parametrize(
    "text",
    ["hat, artist:mira", "creator:mira\nhat", "hat artist:mira", "author: mira, hat", "by mira, hat",
     "hat, @mira",
     "hat, art by mira", "ARTIST:Mira", "rating:g artist:mira\nhat"],
)  # fmt: skip
def test_artists_among_tags(text):
    labels = read_sidecar("a.txt", text.encode("utf-16"))
    assert labels.artist == "mira"
    assert "mira" not in labels.tags


def test_tags_that_only_look_like_artists():
    labels = read_sidecar("a.txt", b"@_@, by the sea, by a window, standing")
    assert (labels.artist, labels.tags) == (None, ("@_@", "by the sea", "by a window", "standing"))


@pytest.mark.parametrize(
    "data",
    [
        b'{"tags": ["hat"], "rating": "e", "author": {"name": "mira"}, "sou',
        b'{"rating": ["explicit"], "artist": "mira" broken}',
        b'{"x_restrict": 1, "artist": "mira", }',
        b"{'x_restrict': 1, 'artist': 'mira'}",
        b"{'rating': 'e', 'artist': 'mira'}",
        b'{"is_nsfw": true, "artist": "mira", ',
        b"1girl, rating:e, artist:mira, \xff\xfe\x83",
        b'{"rating": "e", "artist": "mira", "caption": "\x83\x7e\x83\x89"}',
    ],
)
def test_marks_survive_damage(data):
    name = "a.json" if data[:1] == b"{" else "a.txt"
    with pytest.raises(ValueError, match="labels"):
        read_sidecar(name, data)
    labels = marks_in(data)
    assert (labels.rating, labels.also) == ("explicit", ("mira",))


def test_nesting_without_end_is_refused():
    nest: object = "e"
    for _ in range(900):
        nest = [nest]
    for record in ({"rating": nest}, {"artist": nest}, {"tags": {"a": nest}}):
        # Whatever comes first, Python's limit or the end: no other error.
        with suppress(ValueError):
            read_sidecar("a.json", json.dumps(record).encode())


def test_what_several_files_say_of_the_artist_is_kept():
    both = merge(Labels(artist="mira"), Labels(artist="kei"))
    assert (both.artist, both.also) == ("mira", ("kei",))


def test_a_broken_record_in_a_text_file_is_no_list_of_tags():
    with pytest.raises(ValueError, match="no JSON"):
        read_sidecar("a.txt", b'{"rating": "e", "tags": ["hat"')
    assert read_sidecar("a.txt", b"{{masterpiece}}, hat").tags == ("{{masterpiece}}", "hat")
    assert read_sidecar("a.txt", b"[hat], rating:e").rating == "explicit"
