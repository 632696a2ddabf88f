"""What the desk itself keeps: API keys, answers to repeated write calls, and the log of worker runs."""

import hashlib
import secrets
from datetime import datetime

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
