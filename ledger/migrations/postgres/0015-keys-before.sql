-- additive
-- Of a provider whose keys have no names: the ids of those that were there before a rotation made one (JSON). What is there besides
-- them was made by a try that was broken off.
ALTER TABLE billing.rotations ADD COLUMN keys_before usage.words;
