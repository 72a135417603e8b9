"""Languages of the report: the same keys, and numbers, dates and plurals by hand."""

import string
from datetime import date

import pytest

from aftermap.errors import InputError
from aftermap.products.report.wording import clean, languages, plural_form, wording

FORMS = {
    "en": {"one", "other"},
    "fr": {"one", "other"},
    "es": {"one", "other"},
    "ar": {"zero", "one", "two", "few", "many", "other"},
}


def gaps(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def forms(entry):
    return entry.values() if isinstance(entry, dict) else [entry]


def test_the_languages():
    assert languages() == ("ar", "en", "es", "fr")
    with pytest.raises(InputError, match="no report is written in 'xx': expected one of ar, en, es, fr"):
        wording("xx")


@pytest.mark.parametrize("code", ["fr", "es", "ar"])
def test_every_language_says_the_same_things(code):
    english, other = wording("en").tree, wording(code).tree
    assert set(other) - {"first_day"} == set(english)
    assert list(other["phrases"]) == list(english["phrases"]) and len(other["months"]) == 12
    for key, entry in english["phrases"].items():
        translated = other["phrases"][key]
        assert isinstance(translated, dict) == isinstance(entry, dict), key
        wanted = set.union(*(gaps(text) for text in forms(entry)))
        found = set.union(*(gaps(text) for text in forms(translated)))
        assert found == wanted, key
        if isinstance(entry, dict):
            assert set(translated) == FORMS[code], key
        # what names the scale, and letters of the compass, are the same in all
        if key not in ("north", "page") and code == "ar":
            assert all(
                any("\u0600" <= letter <= "\u06ff" for letter in text) for text in forms(translated)
            ), key


@pytest.mark.parametrize(
    ("code", "number", "form"),
    [
        *[("en", 0, "other"), ("en", 1, "one"), ("en", 2, "other"), ("fr", 0, "one"), ("fr", 1, "one")],
        *[("fr", 2, "other"), ("es", 0, "other"), ("es", 1, "one"), ("ar", 0, "zero"), ("ar", 1, "one")],
        *[("ar", 2, "two"), ("ar", 3, "few"), ("ar", 10, "few"), ("ar", 11, "many"), ("ar", 99, "many")],
        *[("ar", 100, "other"), ("ar", 102, "other"), ("ar", 103, "few"), ("ar", 111, "many")],
    ],
)
def test_plural_forms_of_cldr(code, number, form):
    assert plural_form(code, number) == form


@pytest.mark.parametrize(
    ("code", "small", "thousand", "large", "decimal", "percent"),
    [
        ("en", "7", "1,234", "1,234,567", "-0.5", "32.3 %"),
        ("fr", "7", "1\u202f234", "1\u202f234\u202f567", "-0,5", "32,3\u202f%"),
        ("es", "7", "1234", "1.234.567", "-0,5", "32,3\u00a0%"),
        ("ar", "7", "1,234", "1,234,567", "-0.5", "\u206632.3%\u2069"),
    ],
)
def test_numbers(code, small, thousand, large, decimal, percent):
    words = wording(code)
    assert [words.number(each) for each in (7, 1234, 1_234_567)] == [small, thousand, large]
    assert words.number(-0.5, 1).replace("\u2212", "-") == decimal and words.percent(0.3231) == percent


def test_dates():
    day = date(2011, 5, 1)
    assert wording("en").date(day) == "1 May 2011" and wording("fr").date(day) == "1er mai 2011"
    assert wording("fr").date(date(2011, 8, 24)) == "24 août 2011"
    assert wording("es").date(day) == "1 de mayo de 2011" and wording("ar").date(day) == "1 أيار/مايو 2011"
    assert wording("es").date(None) == "fecha no indicada"


def test_places():
    assert wording("fr").degrees(-94.50031, "lon") == "94,5003°\u00a0O"
    assert wording("en").degrees(-12.0, "lat") == "12.0000°\u00a0S"


def test_a_text_of_somebody_else_is_one_line_that_turns_nothing():
    assert clean(" a\tb\r\n c\x00\x1b[1m \u202eevil\u2066 \ud800") == "a b c[1m evil"
    assert clean("\u200fعربي\u200e") == "\u200fعربي\u200e"
    assert clean("x" * 300, 10) == "xxxxxxxxx…"
    assert wording("ar").given("a.tif") == "\u2068a.tif\u2069" and wording("en").given("a.tif") == "a.tif"
