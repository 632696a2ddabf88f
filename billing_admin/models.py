"""What the desk itself keeps: API keys, answers to repeated write calls, and the log of worker runs."""

import hashlib
import secrets

from django.contrib.auth.models import Group
from django.db import models

from customers.models import public_id


def digest(secret: str) -> str:
    """Keys are 32 random bytes, so a plain digest cannot be guessed back; slow hashing would slow every request."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_key_id() -> str:
    return public_id("key")


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


class Heartbeat(models.Model):
    """When the clockwork was last heard; one row per task."""

    name = models.CharField(max_length=60, primary_key=True)
    at = models.DateTimeField()
