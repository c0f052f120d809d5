-- additive
-- Caps of tokens that subscriptions pay for, among limits: in five hours, and in a week.
ALTER TABLE usage.limits ADD COLUMN seat_tokens_per_5_hours bigint CHECK (seat_tokens_per_5_hours > 0),
  ADD COLUMN seat_tokens_per_week bigint CHECK (seat_tokens_per_week > 0);

-- What such caps count, read when one is new.
CREATE INDEX events_of_seats ON usage.events (attempt_id) WHERE payer = 'seat';

-- What a seat costs a month, from a month on: "user:user_..." or "key:key_..."; nothing ends it.
CREATE TABLE usage.seat_prices (
  scope usage.words NOT NULL,
  month usage.words NOT NULL CHECK (month ~ '^[0-9]{4}-[0-9]{2}$'),
  price_nano_usd bigint NOT NULL CHECK (price_nano_usd >= 0),
  PRIMARY KEY (scope, month)
);
