"""SQL that keeps published versions frozen, whoever writes: the admin, an inline, `QuerySet.update()` or psql."""

FREEZE = """
CREATE FUNCTION catalog_refuse_frozen_item() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wanted bigint; state text;
BEGIN
  IF TG_OP = 'DELETE' THEN wanted := OLD.version_id; ELSE wanted := NEW.version_id; END IF;
  SELECT v.state INTO state FROM catalog_planversion v WHERE v.id = wanted;
  IF TG_OP = 'UPDATE' AND OLD.version_id <> NEW.version_id THEN
    RAISE EXCEPTION 'An item cannot move to another version.' USING ERRCODE = 'restrict_violation';
  END IF;
  IF state <> 'draft' THEN
    RAISE EXCEPTION 'Version % is %: its items are frozen. Make a new version.', wanted, state
      USING ERRCODE = 'restrict_violation';
  END IF;
  IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER frozen_item BEFORE INSERT OR UPDATE OR DELETE ON catalog_planitem
  FOR EACH ROW EXECUTE FUNCTION catalog_refuse_frozen_item();

CREATE FUNCTION catalog_refuse_frozen_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state = 'draft' THEN
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
  END IF;
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'Version % was published and cannot be deleted. Archive it.', OLD.id
      USING ERRCODE = 'restrict_violation';
  END IF;
  IF (NEW.plan_id, NEW.number, NEW.tailored, NEW.cadence, NEW.published_at,
      NEW.trial_days, NEW.trial_end, NEW.commitment)
     IS DISTINCT FROM (OLD.plan_id, OLD.number, OLD.tailored, OLD.cadence, OLD.published_at,
      OLD.trial_days, OLD.trial_end, OLD.commitment)
     OR NEW.state = 'draft' THEN
    RAISE EXCEPTION 'Version % is %: it is frozen. Make a new version.', OLD.id, OLD.state
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER frozen_version BEFORE UPDATE OR DELETE ON catalog_planversion
  FOR EACH ROW EXECUTE FUNCTION catalog_refuse_frozen_version();
"""

THAW = """
DROP TRIGGER frozen_version ON catalog_planversion;
DROP FUNCTION catalog_refuse_frozen_version();
DROP TRIGGER frozen_item ON catalog_planitem;
DROP FUNCTION catalog_refuse_frozen_item();
"""
