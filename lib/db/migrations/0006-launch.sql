-- No change of the schema: lib/db/launch_upgrade.rs converts launch arguments that are refused now.
SELECT 1;
