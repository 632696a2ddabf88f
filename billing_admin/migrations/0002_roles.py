from django.db import migrations

from billing_admin.roles import ROLES, grant


def drop(apps, schema_editor):
    apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias).filter(name__in=ROLES).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("billing_admin", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("catalog", "0001_initial"),
        ("customers", "0001_initial"),
        ("entitlements", "0001_initial"),
        ("invoicing", "0001_initial"),
        ("payments", "0001_initial"),
        ("deals", "0001_initial"),
    ]

    operations = [migrations.RunPython(grant, drop)]
