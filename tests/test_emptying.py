"""How the tables are emptied after tests that commit."""

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from customers.models import Operation
from tests import builders as a


@pytest.mark.django_db(transaction=True)
def test_nothing_stays_but_what_migrations_of_every_run_would_make_again():
    """Also what is protected from being changed: the journal, published versions."""
    a.use(a.on(a.pro()), 3)
    permissions = Permission.objects.count()
    assert Operation.objects.exists()

    call_command("flush", verbosity=0, interactive=False)

    with connection.cursor() as cursor:
        filled = [t for t in connection.introspection.table_names(cursor) if holds_something(cursor, t)]
    assert set(filled) == {"django_migrations", "django_content_type", "auth_permission"}
    assert Permission.objects.count() == permissions > 0


@pytest.mark.django_db
def test_the_triggers_are_at_work_in_the_next_test():
    """What was published stays as it is, by the database itself."""
    version = a.pro().current_version

    with pytest.raises(DatabaseError), transaction.atomic():
        version.items.all()._raw_delete(connection.alias)


def holds_something(cursor, table: str) -> bool:
    cursor.execute(f"SELECT EXISTS (SELECT FROM {connection.ops.quote_name(table)})")  # noqa: S608 - a table's name
    return cursor.fetchone()[0]
