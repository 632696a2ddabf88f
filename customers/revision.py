"""SQL that counts a customer's revision up with every change of what they hold, whoever writes.

What is computed from a customer's contracts may be kept by any process for as long as the revision stands still: it
is read in the same statement as what changes with use.
"""

COUNT_UP = """
CREATE FUNCTION customers_next_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.revision := OLD.revision + 1;
  RETURN NEW;
END $$;
CREATE TRIGGER next_revision BEFORE UPDATE ON customers_customer
  FOR EACH ROW EXECUTE FUNCTION customers_next_revision();

CREATE FUNCTION customers_touch_of_contract() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE customers_customer SET revision = revision WHERE id = NEW.customer_id;
  RETURN NULL;
END $$;
CREATE TRIGGER touch_customer AFTER INSERT OR UPDATE OF customer_id, product_id, state, started_at, ends_at, add_on
  ON customers_subscription FOR EACH ROW EXECUTE FUNCTION customers_touch_of_contract();

CREATE FUNCTION customers_touch_of_phase() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE customers_customer SET revision = revision
    WHERE id = (SELECT s.customer_id FROM customers_subscription s
                WHERE s.id = CASE WHEN TG_OP = 'DELETE' THEN OLD.subscription_id ELSE NEW.subscription_id END);
  RETURN NULL;
END $$;
CREATE TRIGGER touch_customer AFTER INSERT OR UPDATE OR DELETE ON customers_phase
  FOR EACH ROW EXECUTE FUNCTION customers_touch_of_phase();
"""

FORGET = """
DROP TRIGGER touch_customer ON customers_phase;
DROP FUNCTION customers_touch_of_phase();
DROP TRIGGER touch_customer ON customers_subscription;
DROP FUNCTION customers_touch_of_contract();
DROP TRIGGER next_revision ON customers_customer;
DROP FUNCTION customers_next_revision();
"""
