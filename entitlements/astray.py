"""Reading: balances that belong to nobody, or contradict the catalog. There are none, unless somebody wrote by hand.

The database lets nobody delete a customer or a contract with balances, or a published item. That these exist when a
window begins it does not look up for each row, since they are copied from the window before: this query does, for all
of them at once.
"""

from django.db import connection

_ASTRAY = """
SELECT b.id FROM entitlements_balance b
LEFT JOIN customers_customer c ON c.id = b.customer_id
LEFT JOIN customers_subscription s ON s.id = b.subscription_id
LEFT JOIN catalog_feature f ON f.id = b.feature_id
LEFT JOIN catalog_planitem i ON i.id = b.item_id
LEFT JOIN catalog_planversion v ON v.id = i.version_id
WHERE c.id IS NULL OR f.id IS NULL
  OR (b.subscription_id IS NOT NULL AND s.customer_id IS DISTINCT FROM b.customer_id)
  OR (b.item_id IS NOT NULL AND i.feature_id IS DISTINCT FROM b.feature_id)
  OR (b.plan_id IS NOT NULL AND v.plan_id IS DISTINCT FROM b.plan_id)
ORDER BY b.id LIMIT %s
"""


def astray(*, most: int = 100) -> list[int]:
    """Ids of balances of which something does not exist, or is of another customer, feature or plan."""
    with connection.cursor() as cursor:
        cursor.execute(_ASTRAY, [most])
        return [found for (found,) in cursor.fetchall()]
