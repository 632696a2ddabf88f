"""How documents speak to a customer: money, dates, numbers and words in their language. Pure.

Texts exist in English and German; whoever reads another language gets English words and dates, with money and numbers
as their locale writes them. Amounts are minor units.
"""

import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property

from babel import Locale, UnknownLocaleError
from babel.dates import format_skeleton
from babel.numbers import format_decimal, get_currency_symbol

from catalog.money import exponent, plain, to_major
from invoicing.phrases import PHRASES, WORDS

ENGLISH = "en"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Tongue:
    """One reader's way of reading; `Tongue.of("de_AT")`. What no locale is called is read as American English.

    `dates` is the locale of dates, where it is another one.
    """

    locale: Locale
    dates: Locale | None = None

    @classmethod
    def of(cls, name: str) -> "Tongue":
        try:
            return cls(Locale.parse(name.replace("-", "_")))
        except (UnknownLocaleError, ValueError, TypeError):
            return cls(Locale("en", "US"))

    @cached_property
    def language(self) -> str:
        return self.locale.language if self.locale.language in WORDS else ENGLISH

    @cached_property
    def spoken(self) -> Locale:
        """The locale of words and dates: never another language than the texts."""
        own = self.locale if self.locale.language == self.language else Locale("en", "GB")
        return self.dates or own

    @property
    def words(self) -> dict[str, str]:
        return WORDS[self.language]

    def say(self, key: str, **facts: object) -> str:
        return self.words[key].format(**facts)

    def money(self, minor: int, currency: str) -> str:
        """`$26.67`, `26,67 €`, credits with a real minus: `−$10.00`."""
        text = self._price(abs(to_major(minor, currency)), currency, exponent(currency))
        return f"−{text}" if minor < 0 else text

    def rate(self, amount: Decimal, currency: str) -> str:
        """A price with all the digits it needs."""
        return self._price(amount, currency, max(exponent(currency), len(plain(amount).partition(".")[2])))

    def _price(self, amount: Decimal, currency: str, digits: int) -> str:
        pattern = copy(self.locale.currency_formats["standard"])
        pattern.frac_prec = digits, digits
        shown: str = pattern.apply(amount, self.locale, currency=currency, currency_digits=False)
        return shown

    def number(self, value: Decimal) -> str:
        text: str = format_decimal(value, locale=self.locale, decimal_quantization=False)
        return text.replace("-", "−")

    def date(self, at: datetime) -> str:
        return str(format_skeleton("yMMMd", at.astimezone(UTC), locale=self.spoken))

    def instant(self, at: datetime) -> str:
        """With the time, for what ends at an hour: `2 Mar 2026, 14:05 UTC`."""
        return f"{self.date(at)}, {at.astimezone(UTC):%H:%M} UTC"

    def span(self, start: datetime | None, end: datetime | None) -> str:
        """`1 Mar – 1 Apr 2026`; the end is the instant at which the next one begins."""
        if start is None:
            return ""
        return f"{self.date(start)} – {self.date(end)}" if end else self.say("from", date=self.date(start))

    def retell(self, text: str, currency: str) -> str:
        """A sentence that was stored in American English, with its amounts, numbers, dates and known phrases ours."""
        for phrase, ours in PHRASES.get(self.language, ()):
            text = phrase.sub(ours, text)
        return _tokens(currency).sub(self._token(currency), text)

    def _token(self, currency: str) -> Callable[[re.Match[str]], str]:
        def said(found: re.Match[str]) -> str:
            if amount := found["money"]:
                value = Decimal(amount.replace(",", ""))
                return self._price(value, currency, len(amount.partition(".")[2]))
            if found["month"]:
                return self._day(int(found["day"]), MONTHS.index(found["month"]) + 1, found["year"])
            return self.number(Decimal(found["number"].replace(",", "")))

        return said

    def _day(self, day: int, month: int, year: str | None) -> str:
        at = datetime(int(year or 2000), month, day, tzinfo=UTC)
        return str(format_skeleton("yMMMd" if year else "MMMd", at, locale=self.spoken))


# What staff read: the desk's own way with money and days.
DESK = Tongue(Locale("en", "US"), dates=Locale("en", "GB"))


def _tokens(currency: str) -> re.Pattern[str]:
    """Amounts, dates and numbers with separators, as stored sentences write them."""
    symbol = re.escape(get_currency_symbol(currency, locale="en_US"))
    return re.compile(
        rf"{symbol}\s?(?P<money>\d[\d,]*(?:\.\d+)?)"
        rf"|(?<![\w.])(?P<day>\d{{1,2}}) (?P<month>{'|'.join(MONTHS)})(?: (?P<year>\d{{4}}))?\b"
        # A name such as "Model 4.5" keeps its point: a fraction is a quantity only before these.
        r"|(?<![\w.,])(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w.,]\d|\w)"
        r"|\d+\.\d+(?= (?:%|×|used|of|included|verbraucht|von|enthalten)))"
    )
