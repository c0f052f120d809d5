-- additive
-- The price list that was fetched last: each proxy takes it into its own folder, and reckons with it from there.
CREATE TABLE usage.price_list (
  one bigint PRIMARY KEY CHECK (one = 1),
  digest usage.words NOT NULL,
  text text NOT NULL,
  at_ms bigint NOT NULL
);
