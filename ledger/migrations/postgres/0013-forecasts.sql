-- additive
-- Forecasts by user, and what is planned of one: which scopes there are is the program's to know.
ALTER TABLE billing.forecasts DROP CONSTRAINT forecasts_scope_check, ADD CHECK (length(scope) > 0);
ALTER TABLE billing.planned_events DROP CONSTRAINT planned_events_scope_check, ADD CHECK (length(scope) > 0);
