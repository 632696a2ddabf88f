"""Amounts as Stripe counts them: smallest units, with a least and a greatest charge per currency."""

from tests.stripe_double.errors import refused

LEAST = {
    "usd": 50, "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250,
    "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300,
    "nzd": 50, "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip
GREATEST = 99_999_999
GREATER = {"cop": 9_999_999_999, "huf": 9_999_999_999, "idr": 999_999_999_999, "inr": 999_999_999, "jpy": 9_999_999_999}
# Currencies without a minor unit, and all the others Stripe takes.
WHOLE = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
OTHERS = """
    afn all amd ang aoa ars awg azn bam bbd bdt bmd bnd bob bsd bwp byn bzd cdf cny cop crc cve dop dzd egp etb fjd fkp
    gel gip gmd gtq gyd hnl htg idr ils isk jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr
    mwk mzn nad ngn nio npr pab pen pgk php pkr qar rsd rub sar sbd scr shp sle sos srd std szl tjs top try ttd twd tzs
    uah ugx uyu uzs wst xcd yer zar zmw
"""
ZERO_DECIMAL = set(WHOLE.split())
THREE_DECIMAL = {"bhd", "jod", "kwd", "omr", "tnd"}
SUPPORTED = ZERO_DECIMAL | THREE_DECIMAL | set(LEAST) | set(OTHERS.split())
# Amounts that must end in zeros: three-decimal currencies go to the nearest ten; two currencies without a minor unit
# are still counted in hundredths.
STEPS = {**dict.fromkeys(THREE_DECIMAL, 10), "isk": 100, "ugx": 100}
SIGNS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


def check_currency(currency: str) -> str:
    """The currency in lower case, or a 400 for one that Stripe does not take."""
    code = currency.lower()
    if code not in SUPPORTED:
        raise refused(f"Invalid currency: {currency}. Stripe currently supports these currencies: …", param="currency")
    return code


def check_step(amount: int, currency: str, param: str = "amount") -> None:
    step = STEPS.get(currency, 1)
    if amount % step:
        message = f"Invalid amount: {amount} {currency.upper()} must be a multiple of {step}."
        raise refused(message, code="parameter_invalid_integer", param=param)


def check_charge(amount: int, currency: str) -> None:
    check_step(amount, currency)
    if amount < least(currency):
        message = f"Amount must be at least {shown(least(currency), currency)}"
        raise refused(message, code="amount_too_small", param="amount")
    if amount > greatest(currency):
        message = f"Amount must be no more than {shown(greatest(currency), currency)}"
        raise refused(message, code="amount_too_large", param="amount")


def least(currency: str) -> int:
    return LEAST.get(currency, 1 if currency in ZERO_DECIMAL else 50)


def greatest(currency: str) -> int:
    return GREATER.get(currency, GREATEST)


def shown(amount: int, currency: str) -> str:
    """For people: "$12.00", "¥500", "CHF 12.00"."""
    places = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    number = f"{abs(amount) / 10**places:,.{places}f}"
    sign = SIGNS.get(currency, f"{currency.upper()} ")
    return f"{'-' if amount < 0 else ''}{sign}{number}"
