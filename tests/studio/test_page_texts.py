"""The words of the studio's page, and what its files may not have in them, without a browser."""

import re
import tomllib
from pathlib import Path

import omokage.studio
from omokage.attributes import ATTRIBUTES
from omokage.settings import OFFERED

HERE = Path(omokage.studio.__file__).parent
SCRIPTS = {path.name: path.read_text("utf-8") for path in sorted((HERE / "static").glob("*.js"))}
# What a model or the server names: looked up by its name, not by a name in a script.
BY_NAME = ("attributes.", "values.", "settings.", "lacks.", "errors.", "fit.")


def words(language):
    def leaves(table, above=""):
        for key, value in table.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{above}{key}.")
            else:
                yield f"{above}{key}", value

    return dict(leaves(tomllib.loads((HERE / "texts" / f"{language}.toml").read_text("utf-8"))))


def test_both_languages_have_the_same_words_with_the_same_places():
    english, japanese = words("en"), words("ja")
    # What the model and the server name is English already.
    own = ("values.", "facts.")
    assert {key for key in japanese if not key.startswith(own)} == {
        key for key in english if not key.startswith(own)
    }
    for key, text in english.items():
        assert text
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", japanese[key])), key


def test_every_word_in_a_script_exists_and_every_word_is_used():
    english = words("en")
    text = "\n".join(SCRIPTS.values())
    exact = set(re.findall(r'["(]([a-z_]+\.[a-z_]+)"', text))
    kept = {name for name in exact if name.split(".")[0] in {key.split(".")[0] for key in english}}
    assert kept - english.keys() == set(), "a script says what has no text"
    assert len(kept) > 150
    patterns = [
        re.compile(re.sub(r"\\\$\\\{[^}]*\\\}", r"\\w+", re.escape(name)) + r"\Z")
        for name in re.findall(r"`([a-z_]+\.[^`]*)`", text)
    ]
    for key in english:
        used = key in kept or key.startswith(BY_NAME) or any(one.match(key) for one in patterns)
        assert used or key == "name", f"no script uses {key}"


def test_every_attribute_value_and_setting_has_a_japanese_word():
    japanese = words("ja")
    wanted = {f"attributes.{name}" for name in ATTRIBUTES}
    wanted |= {f"values.{value}" for each in ATTRIBUTES.values() for value in each.values}
    wanted |= {f"settings.{setting.name}" for setting in OFFERED}
    assert wanted - japanese.keys() == set()


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    page = (HERE / "static" / "index.html").read_text("utf-8")
    assert "style=" not in page
    assert not re.search(r"\son\w+=", page)
    assert re.findall(r"<script[^>]*>(.+?)</script>", page) == []
    for name, text in {**SCRIPTS, "index.html": page}.items():
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
        assert "innerHTML" not in text, name
        assert 'setAttribute("style"' not in text, name
        if name != "index.html" and name not in ("studio.js", "theme.js"):
            assert f'<link rel="modulepreload" href="static/{name}">' in page
        for imported in re.findall(r'(?:from|import) "([^"]+)"', text):
            assert imported.removeprefix("./") in SCRIPTS, f"{name} imports {imported}"
