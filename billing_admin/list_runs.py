"""The passes of the clockwork that have to do with files and lists: exports to write, batches to carry out."""

from collections.abc import Callable
from datetime import datetime, timedelta

from billing_admin.alone import Kind, alone_at
from billing_admin.flows import batches, exports
from billing_admin.models import Batch, Export
from billing_admin.runs import Pass, open_failures

EXPORTS, BATCHES = "write_exports", "carry_out_rows"
NAMES = {EXPORTS: "Exports", BATCHES: "Imports and bulk acts"}
# Work of a pass goes on for so long; what is left is for the next one. Well below the limit of a task.
PATIENCE = timedelta(minutes=5)


def write_exports(*, clock: Callable[[], datetime]) -> Pass:
    """Write what nobody is at, and remove what is over."""
    now = clock()
    this = Pass(EXPORTS, now)
    for export in Export.objects.left(now).select_related("user").order_by("id"):
        if exports.write(export, clock=clock).state == Export.State.DONE:
            this.wrote()
    if cleared := exports.clear(now=now):
        this.wrote(done=cleared)
    return this


def carry_out_rows(*, clock: Callable[[], datetime]) -> Pass:
    """Go on with imports and bulk acts that nobody has carried out to their end, and drop what nobody confirmed."""
    now = clock()
    this = Pass(BATCHES, now)
    for batch in Batch.objects.filter(state__in=batches.UNDER_WAY).order_by("id"):
        try:
            with alone_at(Kind.BATCH, batch.pk) as is_ours:
                done = batches.go_on(batch, clock=clock, until=now + PATIENCE) if is_ours else 0
            if is_ours:
                open_failures(batch.public_id).update(resolved_at=clock())
            if done:
                this.wrote(done=done)
        except Exception as error:
            this.fail(batch.public_id, error)
    if dropped := batches.drop_unconfirmed(now=now):
        this.wrote(done=dropped)
    return this
