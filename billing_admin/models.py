"""What the desk itself keeps: API keys, answers to repeated write calls, and the log of worker runs."""

import hashlib
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from customers.models import Customer, Operation, public_id


def digest(secret: str) -> str:
    """Keys are 32 random bytes, so a plain digest cannot be guessed back; slow hashing would slow every request."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_key_id() -> str:
    return public_id("key")


def new_approval_id() -> str:
    return public_id("apr")


def new_export_id() -> str:
    return public_id("exp")


def new_batch_id() -> str:
    return public_id("imp")


class ApiKey(models.Model):
    """A key of the API, with the permissions of one role. The secret is shown once and kept as a digest."""

    public_id = models.CharField(max_length=24, unique=True, default=new_key_id, editable=False)
    name = models.CharField(max_length=120)
    role = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="api_keys")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=12, editable=False, help_text="The last characters, to tell keys apart.")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=150, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.name} (…{self.hint})"

    @classmethod
    def issue(cls, name: str, role: Group, *, by: str) -> "tuple[ApiKey, str]":
        """A new key and its secret; nobody can read the secret again."""
        secret = f"bk_{secrets.token_urlsafe(32)}"
        return cls.objects.create(name=name, role=role, digest=digest(secret), hint=secret[-4:], created_by=by), secret


class IdempotentAnswer(models.Model):
    """The answer given to a write call, kept so that a repeated call gets it again instead of acting twice."""

    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="answers")
    idempotency_key = models.CharField(max_length=255)
    request_digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    body = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "idempotency_key"], name="one_answer_per_key")]
        indexes = [models.Index(fields=["at"], name="answer_at")]


class WorkerRun(models.Model):
    """One pass of a worker over the work that was due."""

    task = models.CharField(max_length=30)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    done = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    effects = models.JSONField(default=dict, help_text="Counts, and money by currency in minor units.")

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index(fields=["task", "-id"], name="run_of_task")]


class WorkerFailure(models.Model):
    """One customer or row that a run could not finish, with its cause; retried by a person or the next run."""

    run = models.ForeignKey(WorkerRun, on_delete=models.CASCADE, related_name="failures")
    what = models.CharField(max_length=60, help_text="Public id of what failed.")
    cause = models.CharField(max_length=300)
    detail = models.TextField(blank=True)
    at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index(fields=["-at"], condition=models.Q(resolved_at=None), name="failure_open")]


class Preference(models.Model):
    """How the desk looks to one person."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="preference")
    time_zone = models.CharField(max_length=63, blank=True, help_text="Empty: UTC.")


class Heartbeat(models.Model):
    """When the clockwork was last heard; one row per task."""

    name = models.CharField(max_length=60, primary_key=True)
    at = models.DateTimeField()


class ApprovalRule(models.Model):
    """From which size on an act needs a second person, and who that can be."""

    act = models.CharField(max_length=40, help_text="Key of the act (billing_admin/approving.py).")
    measure = models.CharField(max_length=20, blank=True, help_text="What is measured; empty: every such act.")
    above = models.DecimalField(max_digits=24, decimal_places=6, null=True, blank=True)
    currency = models.CharField(max_length=3, blank=True, help_text="Of an amount; empty: any.")
    for_roles = models.ManyToManyField(
        Group, blank=True, related_name="+", help_text="Whose acts need it; empty: everybody's."
    )
    approver = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="approves")
    within_hours = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Counted together with what the same person did for the customer in so long."
    )
    expires_hours = models.PositiveSmallIntegerField(default=72)
    is_active = models.BooleanField(default=True)
    created_by = models.CharField(max_length=150, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("act", "above", "id")
        indexes = [models.Index(fields=["act"], condition=Q(is_active=True), name="approval_rule_of_act")]

    def __str__(self) -> str:
        return f"{self.act} above {self.above}" if self.above is not None else self.act


class ApprovalRequestQuerySet(models.QuerySet):
    def waiting(self, now: datetime) -> "ApprovalRequestQuerySet":
        return self.filter(state=ApprovalRequest.State.WAITING, expires_at__gt=now)


class ApprovalRequest(models.Model):
    """One act that waits for a second person: as it was asked for, with what it would do when it was asked for."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting for approval"
        APPLIED = "applied", "Approved and done"
        REFUSED = "refused", "Refused"
        WITHDRAWN = "withdrawn", "Withdrawn"
        EXPIRED = "expired", "Expired"
        OUTDATED = "outdated", "Outdated: ask again"

    public_id = models.CharField(max_length=24, unique=True, default=new_approval_id, editable=False)
    act = models.CharField(max_length=40)
    title = models.CharField(max_length=200)
    rule = models.ForeignKey(ApprovalRule, on_delete=models.SET_NULL, null=True, related_name="requests")
    why = models.CharField(max_length=300, help_text="The rule as it was, in a sentence.")
    approver = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, related_name="approval_requests")
    inputs = models.JSONField(help_text="What was asked for; the act is made from it again.")
    shown = models.JSONField(help_text="The preview as it was when it was asked for.")
    fingerprint = models.CharField(max_length=64, help_text="Of that preview: what is applied is what was approved.")
    reason = models.TextField(blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    requested_by = models.CharField(max_length=150)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, related_name="+")
    requested_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True)
    answer = models.TextField(blank=True, help_text="Why it was refused or withdrawn, or what had moved.")
    operation = models.ForeignKey(Operation, on_delete=models.PROTECT, null=True, related_name="+")

    objects = ApprovalRequestQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = [("decide_approval", "Can approve and refuse what others ask for")]
        constraints = [
            # The same thing asked twice is one request.
            models.UniqueConstraint(
                fields=["act", "fingerprint", "requested_by"],
                condition=Q(state="waiting"),
                name="one_request_per_preview",
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], condition=Q(state="waiting"), name="approval_waiting")]

    def __str__(self) -> str:
        return self.public_id


class SavedFilter(models.Model):
    """A list as somebody narrowed it, under a name: theirs alone, or for everybody who may see the list."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_filters")
    page = models.CharField(max_length=80, help_text="The list, by the name of its address.")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=2000, help_text="What stands behind the question mark.")
    is_shared = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("name", "id")
        constraints = [
            models.UniqueConstraint(fields=["user", "page", "name"], name="one_filter_of_a_name"),
        ]
        indexes = [models.Index(fields=["page"], condition=Q(is_shared=True), name="filter_shared")]

    def __str__(self) -> str:
        return self.name


class ExportQuerySet(models.QuerySet):
    def left(self, now: datetime) -> "ExportQuerySet":
        """Not written yet, and nobody at work on it has been heard of lately."""
        silent = Q(heard_at=None) | Q(heard_at__lte=now - Export.SILENCE)
        return self.filter(silent, state__in=(Export.State.WAITING, Export.State.RUNNING))

    def over(self, now: datetime) -> "ExportQuerySet":
        return self.filter(state=Export.State.DONE, expires_at__lte=now)


class Export(models.Model):
    """A list as a CSV file, written by a worker. The file goes when it expires; the row stays."""

    SILENCE = timedelta(minutes=2)

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Being written"
        DONE = "done", "Ready"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Expired"

    public_id = models.CharField(max_length=24, unique=True, default=new_export_id, editable=False)
    kind = models.CharField(max_length=40, help_text="Which list (billing_admin/exports.py).")
    query = models.CharField(max_length=2000, blank=True, help_text="What the list was narrowed to.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="exports")
    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, null=True, related_name="exports")
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    total = models.PositiveIntegerField(null=True, help_text="Rows to write, counted at the start.")
    done = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0, help_text="Bytes of the file.")
    problem = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    heard_at = models.DateTimeField(null=True, help_text="When whoever writes it was last heard of.")
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = [("see_all_exports", "Can see and download the exports of others")]
        constraints = [
            models.CheckConstraint(
                condition=Q(user=None, key__isnull=False) | Q(user__isnull=False, key=None),
                name="export_of_somebody",
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-id"], name="export_of_person"),
            models.Index(fields=["id"], condition=Q(state__in=["waiting", "running"]), name="export_left"),
            models.Index(fields=["expires_at"], condition=Q(state="done"), name="export_over"),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def asked_by(self) -> str:
        """As the journal names them. Reads `user` and `key`, which should be joined."""
        return f"api:{self.key.name}" if self.key else self.user.get_username() if self.user else ""


class Batch(models.Model):
    """One act for many rows: read from a file, or for customers who were chosen in their list. It is tried without
    writing, confirmed, and carried out row by row; what is left of it is its rows that wait."""

    class Source(models.TextChoices):
        FILE = "file", "Import"
        CHOSEN = "chosen", "Bulk act"

    class State(models.TextChoices):
        TRYING = "trying", "Being tried"
        TRIED = "tried", "Tried, not confirmed"
        RUNNING = "running", "Under way"
        STOPPED = "stopped", "Stopped"
        FINISHED = "finished", "Done"
        TAKING_BACK = "taking_back", "Being taken back"
        TAKEN_BACK = "taken_back", "Taken back"

    public_id = models.CharField(max_length=24, unique=True, default=new_batch_id, editable=False)
    kind = models.CharField(max_length=20, help_text="What each row does (billing_admin/row_acts.py).")
    source = models.CharField(max_length=6, choices=Source)
    title = models.CharField(max_length=300, help_text="The file's name, or who was chosen and how.")
    digest = models.CharField(max_length=64, help_text="Of what was read, so that the same file is noticed.")
    reason = models.TextField()
    state = models.CharField(max_length=12, choices=State, default=State.TRYING)
    total = models.PositiveIntegerField()
    fingerprint = models.CharField(max_length=64, blank=True, help_text="Of the dry run as it was looked at.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, related_name="+")
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    approval = models.CharField(max_length=24, blank=True)
    approved_by = models.CharField(max_length=150, blank=True)
    taken_back_by = models.CharField(max_length=150, blank=True)
    take_back_reason = models.TextField(blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["kind", "digest"], name="batch_of_same_file"),
            models.Index(
                fields=["id"], condition=Q(state__in=["trying", "running", "taking_back"]), name="batch_under_way"
            ),
        ]

    def __str__(self) -> str:
        return self.public_id


class BatchRow(models.Model):
    """One row of a batch: what was asked for, what it would do, and what became of it."""

    class State(models.TextChoices):
        READ = "read", "Not tried yet"
        READY = "ready", "Ready"
        LEFT_OUT = "left_out", "Left out"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        TAKEN_BACK = "taken_back", "Taken back"
        KEPT = "kept", "Kept"

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="rows")
    line = models.PositiveIntegerField(help_text="In the file; the heading is line 1.")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, related_name="batch_rows")
    cells = models.JSONField(help_text="What was asked for, by column.")
    state = models.CharField(max_length=10, choices=State, default=State.READ)
    before = models.CharField(max_length=300, blank=True)
    after = models.CharField(max_length=300, blank=True)
    facts = models.JSONField(default=dict, help_text="What may not move between trying and doing.")
    code = models.CharField(max_length=60, blank=True)
    column = models.CharField(max_length=60, blank=True)
    problem = models.CharField(max_length=500, blank=True)
    operations = models.JSONField(default=list, help_text="Public ids of the acts that came of it.")
    done_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("line", "id")
        constraints = [models.UniqueConstraint(fields=["batch", "line"], name="line_once_per_batch")]
        indexes = [models.Index(fields=["batch", "state", "line"], name="batch_row_state")]
