-- When old rows were last removed by the settings' rules, unix ms.
ALTER TABLE poll ADD COLUMN pruned_at INTEGER;
