-- Caps of tokens that subscriptions pay for, among limits: in five hours, and in a week.
ALTER TABLE limits ADD COLUMN seat_tokens_per_5_hours INTEGER CHECK (seat_tokens_per_5_hours > 0);
ALTER TABLE limits ADD COLUMN seat_tokens_per_week INTEGER CHECK (seat_tokens_per_week > 0);

-- What such caps count, read when one is new.
CREATE INDEX events_of_seats ON events (attempt_id) WHERE payer = 'seat';

-- What a seat costs a month, from a month on: "user:user_..." or "key:key_..."; nothing ends it.
CREATE TABLE seat_prices (
  scope TEXT NOT NULL,
  month TEXT NOT NULL CHECK (month GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]'),
  price_nano_usd INTEGER NOT NULL CHECK (price_nano_usd >= 0),
  PRIMARY KEY (scope, month)
) STRICT, WITHOUT ROWID;
