"""What an ask may come to, besides an answer."""

from enum import Enum


class Instead(Enum):
    """`DJANGO`: the ordinary endpoint has to answer; nothing was counted. `AGAIN`: what the holding said is no longer
    true; nothing was counted. `AWAY`: the database is away."""

    DJANGO = "django"
    AGAIN = "again"
    AWAY = "away"


# The body of a good answer, or what happens instead.
Reply = bytes | Instead
