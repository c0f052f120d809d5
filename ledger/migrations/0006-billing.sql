-- Whose spend it was, by id: chargeback by user. Empty: nobody was named, or the day was folded before users were.
ALTER TABLE metered_lines ADD COLUMN person TEXT NOT NULL DEFAULT '';
