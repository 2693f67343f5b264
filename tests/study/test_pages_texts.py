"""The words of a study and the files that a browser loads, without a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from omokage.errors import UserError
from omokage.study import pages
from omokage.study.design import PARTS, RESPONSES, Design, preset

STATIC = Path(pages.__file__).parent / "static"


def leaves(words, above=""):
    for key, value in words.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def test_all_languages_have_the_same_words_and_placeholders():
    english = dict(leaves(pages.texts("en")))
    for language in pages.languages():
        other = dict(leaves(pages.texts(language)))
        assert other.keys() == english.keys()
        for key, text in other.items():
            assert set(pages.PLACEHOLDER.findall(text)) == set(pages.PLACEHOLDER.findall(english[key])), key
            assert text or key.endswith(".score"), key


def test_every_text_that_a_script_names_exists_and_every_text_is_used():
    scripts = "\n".join(path.read_text("utf-8") for path in STATIC.glob("*.js"))
    texts = dict(leaves(pages.texts("en")))
    named = re.findall(r"""(?:say|paragraphs)\(\s*(?:returned \? )?["`]([^"`]+)["`]""", scripts)
    named += re.findall(r'["`]((?:\w+\.)+[\w$.{}]+)["`]', scripts)
    named += ["common.panel", "kinds.*.about", "kinds.*.task"]  # read without say()
    patterns = {re.sub(r"\$\{[^}]*\}", "*", name) for name in named}
    patterns |= {f"dashboard.{name}" for name in patterns}
    wanted = [re.compile(re.escape(name).replace(r"\*", r"\w+") + r"\Z") for name in patterns]
    counts = re.search(r"COUNTS = \[(.*)\]", scripts)
    used = set(re.findall(r'"(\w+)"', counts[1])) | {"open", "paused", "closed", "median"}
    for key in texts:
        if key.startswith(("briefing.sections.", "consent.statements.")) or key in (
            "name", "common.noscript", "common.skip"
        ):
            continue
        last = key.removeprefix("dashboard.")
        assert any(one.match(key) for one in wanted) or last in used, f"no script uses {key}"
    roots = {key.split(".")[0] for key in texts}
    for name in named:
        if not set("$*") & set(name) and name.split(".")[0] in roots and name.count(".") and "/" not in name:
            assert name in texts, f"there is no text {name}"


def test_every_prompt_answer_and_statement_of_a_design_has_a_text():
    words = pages.texts("ja")
    for kind, answers in RESPONSES.items():
        assert kind in words["kinds"]
        for answer in answers:
            assert f"check_{answer}" in words["prompts"]
            assert answer in words["trial"] or answer.isdigit()
        if kind != "rating":
            assert kind in words["prompts"]
    assert all(f"rating_{part}" in words["prompts"] for part in PARTS)
    standard = [one.id for one in Design().consent]
    rai2020 = [one["id"] for one in preset("rai2020")["consent"]]
    assert len(rai2020) == 8
    values = {"withdrawal_days": 14, "last_day": "14 May"}
    for names in (standard, rai2020):
        shown = pages.consent_shown(pages.texts("en"), names, values)
        assert [one["id"] for one in shown] == names
        assert len({one["text"] for one in shown}) == len(names)
        assert not any("{" in one["text"] for one in shown)


def own(tmp_path, text, language="en"):
    (tmp_path / "texts").mkdir(exist_ok=True)
    (tmp_path / "texts" / f"{language}.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_study_replaces_texts_key_by_key_and_adds_sections(tmp_path):
    folder = own(
        tmp_path,
        '[trial]\nnext = "Go on"\n'
        '[briefing.sections.reward]\nheading = "Reward"\ntext = "{researcher} pays."\n'
        '[consent.statements]\nvideo = "I have seen the video."\n',
    )
    words = pages.texts("en", folder)
    assert words["trial"]["next"] == "Go on"
    assert words["trial"]["stop"] == pages.texts("en")["trial"]["stop"]
    assert list(words["briefing"]["sections"])[-1] == "reward"
    assert pages.consent_shown(words, ["video"], {})[0]["text"] == "I have seen the video."
    own(tmp_path, '[trial]\nnext = "Next one"\n')
    assert pages.texts("en", folder)["trial"]["next"] == "Next one"  # a changed file is read again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[trial]\nnex = "Go on"\n', r"no page uses trial\.nex"),
        ('[trial]\nnext = "Go on {nobody}"\n', r"\{nobody\} in trial\.next has no meaning"),
        ("[trial]\nnext = 3\n", r"trial\.next must be a text"),
        ("[trial\n", "cannot be read as TOML"),
    ],
)
def test_wrong_texts_of_a_study_are_refused_by_name(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        pages.texts("en", own(tmp_path, text))


def test_a_language_that_the_package_lacks_needs_every_text(tmp_path):
    with pytest.raises(UserError, match="no texts in the language 'de'"):
        pages.texts("de", tmp_path)
    with pytest.raises(UserError, match=r"de\.toml lacks common\.continue"):
        pages.texts("de", own(tmp_path, 'name = "Deutsch"\n', "de"))
    whole = (Path(pages.__file__).parent / "texts" / "en.toml").read_text("utf-8")
    own(tmp_path, whole.replace('name = "English"', 'name = "Deutsch"'), "de")
    assert pages.languages(tmp_path)["de"] == "Deutsch"
    for wrong in ("../en", "EN", ""):
        with pytest.raises(UserError, match="no code of a language"):
            pages.texts(wrong, tmp_path)


def test_a_statement_without_text_is_refused():
    with pytest.raises(UserError, match="'dance' has no text"):
        pages.consent_shown(pages.texts("en"), ["dance"], {})


def test_lines_of_a_file_join_with_a_space_in_english_and_without_in_japanese():
    assert "want to know whether people can" in pages.texts("en")["kinds"]["pairs"]["debriefing"]
    for key, text in leaves(pages.texts("ja")):
        assert not re.search(r"[^\x00-\u2e7f] [^\x00-\u2e7f]", text), key


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("make", [pages.page, pages.dashboard])
def test_pages_have_nothing_inline_nothing_foreign_and_escape_the_title(make):
    text = make("en", '<script>alert("x")</script>')
    parser = Tags()
    parser.feed(text)
    assert [tag for tag, _ in parser.tags].count("script") == 1
    for tag, attributes in parser.tags:
        assert tag != "style"
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            target = attributes.get(name, "")
            assert re.fullmatch(r"(static/[\w.]+|#\w+)?", target)
            if target.startswith("static/"):
                assert pages.static_file(target.removeprefix("static/"))


def test_static_files_are_a_closed_list_without_addresses():
    assert {"page.js", "dashboard.js", "style.css", "icon.svg"} <= pages.static_files().keys()
    for name in ("page.html", "../pages.py", "/etc/passwd", "", "..", "style.css/"):
        assert pages.static_file(name) is None
    for name, file in pages.static_files().items():
        addresses = set(re.findall(rb"https?://[^\"'\s)]+", file.content))
        assert addresses <= {b"http://www.w3.org/2000/svg"}, name
        assert b"eval(" not in file.content
        assert b"innerHTML" not in file.content
