"""SQL that keeps overrides append-only and customers' revisions true, whoever writes."""

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
"""

UNGUARD = """
DROP TRIGGER touch_customer ON entitlements_grant;
DROP TRIGGER touch_customer ON entitlements_featureoverride;
DROP FUNCTION entitlements_touch_of_override();
DROP TRIGGER override_append_only ON entitlements_featureoverride;
DROP FUNCTION entitlements_refuse_edited_override();
"""
