"""SQL that keeps overrides append-only, customers' revisions true, and what balances belong to, whoever writes."""

GUARD = """
CREATE FUNCTION entitlements_refuse_edited_override() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'Override % stays for the record. Revoke it.', OLD.public_id USING ERRCODE = 'restrict_violation';
  END IF;
  IF (NEW.public_id, NEW.customer_id, NEW.subscription_id, NEW.feature_id, NEW."on", NEW.units, NEW.text, NEW.unlimited,
      NEW.effective_from, NEW.effective_until, NEW.created_at)
     IS DISTINCT FROM (OLD.public_id, OLD.customer_id, OLD.subscription_id, OLD.feature_id, OLD."on", OLD.units,
      OLD.text, OLD.unlimited, OLD.effective_from, OLD.effective_until, OLD.created_at)
     OR (OLD.revoked_at IS NOT NULL AND NEW.stops_at IS DISTINCT FROM OLD.stops_at)
     OR (NEW.stops_at > OLD.stops_at) OR (NEW.stops_at IS NULL AND OLD.stops_at IS NOT NULL) THEN
    RAISE EXCEPTION 'Override % cannot be edited. Revoke it and give another.', OLD.public_id
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER override_append_only BEFORE UPDATE OR DELETE ON entitlements_featureoverride
  FOR EACH ROW EXECUTE FUNCTION entitlements_refuse_edited_override();

CREATE FUNCTION entitlements_touch_of_override() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE customers_customer SET revision = revision WHERE id = NEW.customer_id;
  RETURN NULL;
END $$;
CREATE TRIGGER touch_customer AFTER INSERT OR UPDATE ON entitlements_featureoverride
  FOR EACH ROW EXECUTE FUNCTION entitlements_touch_of_override();
CREATE TRIGGER touch_customer AFTER INSERT OR UPDATE ON entitlements_grant
  FOR EACH ROW EXECUTE FUNCTION entitlements_touch_of_override();

CREATE FUNCTION entitlements_keep_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'customers_customer'
     AND EXISTS (SELECT 1 FROM entitlements_balance WHERE customer_id = OLD.id)
     OR TG_TABLE_NAME = 'customers_subscription'
     AND EXISTS (SELECT 1 FROM entitlements_balance WHERE subscription_id = OLD.id) THEN
    RAISE EXCEPTION 'Row % of % has balances.', OLD.id, TG_TABLE_NAME USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER keep_owner BEFORE DELETE ON customers_customer
  FOR EACH ROW EXECUTE FUNCTION entitlements_keep_owner();
CREATE TRIGGER keep_owner BEFORE DELETE ON customers_subscription
  FOR EACH ROW EXECUTE FUNCTION entitlements_keep_owner();
"""

UNGUARD = """
DROP TRIGGER keep_owner ON customers_subscription;
DROP TRIGGER keep_owner ON customers_customer;
DROP FUNCTION entitlements_keep_owner();
DROP TRIGGER touch_customer ON entitlements_grant;
DROP TRIGGER touch_customer ON entitlements_featureoverride;
DROP FUNCTION entitlements_touch_of_override();
DROP TRIGGER override_append_only ON entitlements_featureoverride;
DROP FUNCTION entitlements_refuse_edited_override();
"""
