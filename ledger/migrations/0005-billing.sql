-- What was spent before the meter began, as bills say it: money by UTC hour, provider, key and model. Made from bills and usage that were read, and
-- made anew whenever they change. The hours of a day's bill come from the usage that the provider reports by the hour, where it does.
CREATE TABLE billed_hours (
  provider TEXT NOT NULL CHECK (length(provider) > 0),
  hour_ms INTEGER NOT NULL,
  billed_key TEXT NOT NULL,
  model TEXT NOT NULL,
  cost_nano_usd INTEGER NOT NULL,
  PRIMARY KEY (provider, hour_ms, billed_key, model)
) STRICT, WITHOUT ROWID;
