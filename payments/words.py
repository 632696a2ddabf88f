"""Sentences for what Stripe says in codes, and for where a collection stands. Pure."""

from dataclasses import dataclass

DECLINES = {
    "insufficient_funds": "There was not enough money on the account.",
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The security code was wrong.",
    "incorrect_number": "The card number was wrong.",
    "lost_card": "The bank declined the card.",
    "stolen_card": "The bank declined the card.",
    "fraudulent": "The payment looked like fraud and was stopped.",
    "card_velocity_exceeded": "The card is over its limit.",
    "currency_not_supported": "The card cannot pay in this currency.",
    "do_not_honor": "The bank declined the card without saying why.",
    "generic_decline": "The bank declined the card without saying why.",
    "processing_error": "The bank could not process the payment.",
    "authentication_required": "The bank wants the customer to confirm the payment.",
    "debit_not_authorized": "The customer has not authorised the debit.",
    "account_closed": "The bank account is closed.",
    "no_account": "There is no such bank account.",
}
DISPUTES = {
    "needs_response": "The customer disputes the payment; Stripe waits for evidence.",
    "under_review": "The customer disputes the payment; the bank looks at the evidence.",
    "warning_needs_response": "The bank asks about the payment; answer before it becomes a dispute.",
    "warning_under_review": "The bank asks about the payment and looks at the answer.",
    "lost": "The dispute was lost: the money went back to the customer.",
}


REFUNDS = {
    "lost_or_stolen_card": "The card was lost or stolen.",
    "expired_or_canceled_card": "The card has expired or was closed.",
    "charge_for_pending_refund_disputed": "The customer disputes the payment.",
    "insufficient_funds": "There was not enough money on our account with Stripe.",
    "declined": "The bank refused it.",
    "merchant_request": "It was stopped in Stripe.",
}


def why_refund_failed(reason: str) -> str:
    """Why money could not be given back, for staff."""
    return REFUNDS.get(reason, "The bank sent the money back.")


def why_declined(code: str, decline_code: str, message: str = "") -> str:
    """What happened, for staff. An unknown code gives Stripe's own sentence."""
    return DECLINES.get(decline_code) or DECLINES.get(code) or message or "The payment was declined."


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a collection stands: the tone of its dot, what is the case, and what comes next."""

    tone: str
    what: str
    next: str


# State → tone, what is the case, what comes next. Where Stripe said what is wrong, that stands instead of the case.
STANDINGS = {
    "waiting": Standing("wait", "It is on its way to Stripe.", "Nothing to do: a worker takes the next step."),
    "needs_method": Standing(
        "wait",
        "There is no saved payment method to charge.",
        "Send the customer the link to save one, or the page on which this can be paid.",
    ),
    "sent": Standing(
        "info",
        "The customer pays it on Stripe's page; nothing is charged by itself.",
        "Nothing to do until it is due.",
    ),
    "requires_action": Standing(
        "wait",
        "The bank wants the customer to confirm the payment.",
        "Send the customer the hosted page: they confirm the payment there.",
    ),
    "declined": Standing(
        "bad",
        "The payment was declined.",
        "Ask the customer for another payment method, or record a payment that came another way.",
    ),
    "processing": Standing("info", "The bank is at it.", "Nothing to do: debits usually take a few business days."),
    "paid": Standing("good", "Stripe took the money in.", "Nothing is left to do."),
    "paid_outside": Standing(
        "good", "It was settled without a payment through Stripe; Stripe knows.", "Nothing is left to do."
    ),
    "partially_refunded": Standing("info", "Part of the money went back to the customer.", "Nothing is left to do."),
    "refunded": Standing("off", "All of the money went back to the customer.", "Nothing is left to do."),
    "disputed": Standing(
        "bad",
        "The customer disputes the payment.",
        "Answer in Stripe's dashboard before its deadline; until the bank decides the money is held back.",
    ),
    "dispute_lost": Standing(
        "bad",
        "The dispute was lost: the money went back to the customer.",
        "It still counts as paid here. Make a credit note for what is not owed, or ask for the money another way.",
    ),
    "void": Standing("off", "Stripe does not ask for it any more.", "Nothing is left to do."),
    "uncollectible": Standing(
        "bad", "Stripe was told that it is not expected to be paid.", "A payment can still be recorded."
    ),
    "parked": Standing("bad", "Stripe cannot collect it as it is.", "Mend the cause, then try again."),
}
# Its own next step for some causes of being parked.
AFTER_PARKED = {
    "below_minimum": "Record a payment that comes another way, or let account credit cover it on the next invoice.",
    "total_mismatch": "Take the balance, tax or discount off the customer in Stripe, then try again.",
    "foreign_line": "Delete the draft in Stripe, or the line that is not ours, then try again.",
    "asks_for_less": "Collect it anew: Stripe's invoice is voided, and another one asks for what is due here.",
    "too_fine_for_stripe": "Record a payment that comes another way: Stripe cannot take this amount.",
    "resource_missing": "Somebody removed it in Stripe. Collect it anew.",
    "no_progress": "Look at it in Stripe's dashboard, then try again.",
}
# Business days until a bank has answered, by Stripe's word for the way to pay.
DAYS_OF_DEBITS = {"us_bank_account": 4, "bacs_debit": 4, "acss_debit": 5, "au_becs_debit": 4, "sepa_debit": 14}


def after_processing(method_type: str) -> str:
    """What comes next while a bank is at it; `method_type` is Stripe's word for the way to pay."""
    days = DAYS_OF_DEBITS.get(method_type)
    if days is None:
        return STANDINGS["processing"].next
    return f"Nothing to do: the bank usually answers within {days} business days."


# Where the books part: subject and kind → what is the case.
DIFFERENCES = {
    ("customer", "missing_here"): "Nobody here is linked with it",
    ("customer", "missing_there"): "Deleted in Stripe",
    ("customer", "status"): "Other name or e-mail",
    ("customer", "owner"): "Other id",
    ("invoice", "missing_here"): "Not known here",
    ("invoice", "missing_there"): "Not in Stripe",
    ("invoice", "amount"): "Other amount",
    ("invoice", "status"): "Other status",
    ("invoice", "owner"): "Other customer",
    ("payment", "missing_here"): "Not recorded here",
    ("payment", "missing_there"): "Not in Stripe",
    ("payment", "amount"): "Other amount, or a refund without its credit note",
    ("payment", "status"): "A dispute that is not shown here",
    ("payment", "owner"): "Recorded for another invoice",
    ("subscription", "missing_here"): "Not followed here",
    ("subscription", "missing_there"): "Not in Stripe",
    ("subscription", "amount"): "Other quantity or price",
    ("subscription", "status"): "Other status or period",
    ("subscription", "owner"): "Other customer",
}
# Why none of the repairs is safe, and what a person can do.
NOT_REPAIRED = {
    ("customer", "missing_here"): "Link it under Stripe customers, or take our id out of its metadata.",
    ("customer", "owner"): "It carries the id of somebody else. Decide which customer it is, and mend its metadata.",
    ("invoice", "missing_here"): "Void it in Stripe if it is one too many, or record here what it stands for.",
    ("invoice", "missing_there"): "It is settled here. Nothing is asked for, and Stripe cannot be given its past.",
    ("invoice", "amount"): "Which amount is right? Credit the difference here, or collect the invoice anew.",
    ("invoice", "status"): "It was settled there without money. Record a payment here, void it, or collect it anew.",
    ("invoice", "owner"): "Find out who was asked for the money; void the wrong one and collect it anew.",
    ("payment", "missing_there"): "Nothing shows that this money came. Ask who recorded it.",
    ("payment", "amount"): "Compare both sides: correct it with a credit note here, or with a refund there.",
    ("payment", "owner"): "The money came for another invoice. Correct it with a credit note and a payment by hand.",
    ("subscription", "owner"): "It moved to another customer. End it there and begin it for the right one.",
}
