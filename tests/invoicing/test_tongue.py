"""How documents speak: money, dates and stored sentences in the customer's language."""

from decimal import Decimal
from pathlib import Path

import pytest

from invoicing.phrases import WORDS
from invoicing.tongue import Tongue
from tests.instants import MARCH_1

SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("locale", "money"),
    [
        ("en_US", "−€1,234.56"),
        ("de_DE", f"−1.234,56{SPACE}€"),
        ("de-AT", f"−€{SPACE}1.234,56"),
        ("ja_JP", "−€1,234.56"),
        ("nonsense", "−€1,234.56"),
        ("", "−€1,234.56"),
    ],
)
def test_money_is_written_as_the_locale_does(locale, money):
    assert Tongue.of(locale).money(-123456, "EUR").replace("\N{NARROW NO-BREAK SPACE}", SPACE) == money


def test_currencies_keep_their_own_digits():
    german = Tongue.of("de_DE")

    assert (german.money(1200, "JPY"), german.money(1500, "KWD")) == (f"1.200{SPACE}¥", f"1,500{SPACE}KWD")
    assert german.rate(Decimal("0.000002"), "USD") == f"0,000002{SPACE}$"


def test_dates_never_speak_another_language_than_the_words():
    assert Tongue.of("de_DE").date(MARCH_1) == "1. März 2026"
    assert Tongue.of("fr_FR").date(MARCH_1) == "1 Mar 2026"
    assert Tongue.of("en_US").date(MARCH_1) == "Mar 1, 2026"


@pytest.mark.parametrize(
    ("stored", "german"),
    [
        (
            "Pro, 16 of 30 days: $50.00 × 1,382,400 s / 2,592,000 s = $26.67",
            "Pro, 16 von 30 Tagen: 50,00 $ × 1.382.400 s / 2.592.000 s = 26,67 $",
        ),
        (
            "12,840 used − 500 included: 1,000 × $0.10 + $2.00 flat = $102.00",
            "12.840 verbraucht − 500 enthalten: 1.000 × 0,10 $ + 2,00 $ pauschal = 102,00 $",
        ),
        ("Unused time on Pro (from 14 Mar 2026)", "Ungenutzte Zeit: Pro (ab 14. März 2026)"),
        ("Pro · API calls beyond 10,000", "Pro · API calls über 10.000 hinaus"),
        ("Credit for Pro", "Gutschrift für Pro"),
    ],
)
def test_a_stored_sentence_is_retold_in_german(stored, german):
    assert Tongue.of("de_DE").retell(stored, "USD").replace(SPACE, " ") == german


@pytest.mark.parametrize("name", ["Model 4.5", "Used of once included", "Flat 12 per May", "Plan 2026.1"])
def test_the_name_of_a_plan_stays_as_it_is(name):
    assert Tongue.of("de_DE").retell(name, "USD") == name


def test_every_language_has_every_word_with_the_same_facts():
    def facts(text: str) -> set[str]:
        return {part.split("}")[0] for part in text.split("{")[1:]}

    english = {key: facts(text) for key, text in WORDS["en"].items()}

    assert {
        language: {key: facts(text) for key, text in words.items()} for language, words in WORDS.items()
    } == dict.fromkeys(WORDS, english)


def test_every_word_is_said_somewhere():
    root = Path(__file__).resolve().parent.parent.parent
    sources = [*(root / "invoicing").glob("*.py"), *(root / "billing_admin").glob("hosted*.py")]
    text = "".join(p.read_text() for p in sources if p.name != "phrases.py")
    text += "".join(p.read_text() for p in (root / "templates" / "hosted").iterdir())

    said = {key for key in WORDS["en"] if any(form in text for form in (f'"{key}"', f"'{key}'", f"say.{key}"))}

    assert set(WORDS["en"]) - said == set()
