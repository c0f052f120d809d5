-- additive
-- Whose spend it was, by id: chargeback by user. Empty: nobody was named, or the day was folded before users were.
ALTER TABLE billing.metered_lines ADD COLUMN person usage.words NOT NULL DEFAULT '';
