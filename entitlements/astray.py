"""Reading: balances that contradict the catalog. There are none, unless somebody wrote by hand.

The database checks the customer, the contract, the grant and the override of a balance. Its feature and its plan follow
from its item, and published items are never deleted (a trigger keeps them), so those three it does not check again for
each window that begins: this query does, for all of them at once.
"""

from django.db import connection

_ASTRAY = """
SELECT b.id FROM entitlements_balance b
LEFT JOIN catalog_feature f ON f.id = b.feature_id
LEFT JOIN catalog_planitem i ON i.id = b.item_id
LEFT JOIN catalog_planversion v ON v.id = i.version_id
WHERE f.id IS NULL OR (b.item_id IS NOT NULL AND i.feature_id IS DISTINCT FROM b.feature_id)
  OR (b.plan_id IS NOT NULL AND v.plan_id IS DISTINCT FROM b.plan_id)
ORDER BY b.id LIMIT %s
"""


def astray(*, most: int = 100) -> list[int]:
    """Ids of balances whose feature or item does not exist, or whose item is of another feature or plan."""
    with connection.cursor() as cursor:
        cursor.execute(_ASTRAY, [most])
        return [found for (found,) in cursor.fetchall()]
