"""The Stripe account that the keys belong to, and since when it does not answer."""

from datetime import datetime

from django.db import transaction

from payments.facts import AccountFacts
from payments.gateway import StripeTrouble, WrongAccount, any_account, key_digest
from payments.models import StripeAccount


def connect(now: datetime) -> StripeAccount:
    """The account of the keys; asked for once per key. Raises `StripeTrouble`, among it `WrongAccount`: the books of
    one account are not continued in another.
    """
    known = StripeAccount.present()
    if known is not None and known.key_digest == key_digest():
        return known
    found = any_account().account()
    if known is not None and (known.stripe_id, known.livemode) != (found.id, found.livemode):
        raise WrongAccount(_other_account(known, found), "wrong_account")
    row = StripeAccount(
        pk=StripeAccount.SINGLE,
        stripe_id=found.id,
        name=found.name or (known.name if known else ""),
        livemode=found.livemode,
        key_digest=key_digest(),
        connected_at=now,
        last_answer_at=now,
    )
    StripeAccount.objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["id"], update_fields=["name", "key_digest", "last_answer_at"]
    )
    return StripeAccount.objects.get(pk=StripeAccount.SINGLE)


def connected(now: datetime) -> StripeAccount | None:
    """The account, read with the present key; None where that cannot be done now, which is written down."""
    try:
        return connect(now)
    except StripeTrouble as error:
        failing(error, now)
        return None


def _other_account(known: StripeAccount, found: AccountFacts) -> str:
    mode = {True: "live", False: "test"}
    return (
        f"The key is of {found.id} ({mode[found.livemode]}), but the books here are of "
        f"{known.stripe_id} ({mode[known.livemode]}). Use a key of that account."
    )


def reached(now: datetime) -> datetime | None:
    """Stripe has answered. Returns since when it had not, where that was so."""
    with transaction.atomic():
        account = StripeAccount.objects.select_for_update().filter(pk=StripeAccount.SINGLE).first()
        if account is None:
            return None
        since, account.failing_since, account.last_error = account.failing_since, None, ""
        account.last_answer_at = now
        account.save(update_fields=["failing_since", "last_error", "last_answer_at"])
    return since


def failing(error: StripeTrouble, now: datetime) -> None:
    """Stripe did not answer, or not as it should."""
    with transaction.atomic():
        account = StripeAccount.objects.select_for_update().filter(pk=StripeAccount.SINGLE).first()
        if account is not None:
            account.failing_since = account.failing_since or now
            account.last_error = error.sentence[:300]
            account.save(update_fields=["failing_since", "last_error"])
