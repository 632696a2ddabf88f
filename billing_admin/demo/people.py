"""The staff of the demo company: one login for each role."""

from django.contrib.auth.models import Group, User

PASSWORD = "demo"  # noqa: S105  meant to be known: it opens a demo on one's own machine

PEOPLE = {
    # username: role, first name, last name, what the terminal says
    "admin": ("Admin", "Ada", "Admin", "may do everything"),
    "ops": ("Ops", "Olga", "Marsh", "customers, balances, invoices"),
    "sales": ("Sales engineer", "Samir", "Kaya", "deals, plans, cancellations"),
    "finance": ("Finance", "Fiona", "Lund", "invoices, payments, voids"),
    "readonly": ("Read-only", "Rita", "Onli", "may look"),
}


def build() -> None:
    for username, (role, first, last, _) in PEOPLE.items():
        user, made = User.objects.get_or_create(
            username=username,
            defaults={
                "first_name": first,
                "last_name": last,
                "email": f"{username}@billing.example",
                "is_staff": True,
                "is_superuser": username == "admin",
            },
        )
        if made:
            user.set_password(PASSWORD)
            user.save(update_fields=["password"])
        user.groups.add(Group.objects.get_or_create(name=role)[0])


def logins() -> str:
    lines = [f"  {username:<9} {words}" for username, (_, _, _, words) in PEOPLE.items()]
    return "\n".join([*lines, f"  The password of each is: {PASSWORD}"])
