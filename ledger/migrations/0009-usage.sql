-- The most that an open attempt can come to, proven or reckoned: what a budget of mode expected lets be under way at once goes by it, and
-- what is booked for work that will never say what it used.
ALTER TABLE reservations ADD COLUMN most_nano_usd INTEGER;
