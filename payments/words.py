"""Sentences for what Stripe says in codes. Pure."""

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


def why_declined(code: str, decline_code: str, message: str = "") -> str:
    """What happened, for staff. An unknown code gives Stripe's own sentence."""
    return DECLINES.get(decline_code) or DECLINES.get(code) or message or "The payment was declined."
