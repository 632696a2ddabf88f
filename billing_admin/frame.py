"""The admin frame's looks: title, colours, navigation. Read by unfold through the settings."""

UNFOLD = {
    "SITE_TITLE": "Billing back office",
    "SITE_HEADER": "Billing back office",
    "SHOW_HISTORY": True,
}
