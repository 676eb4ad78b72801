-- Remove what a person said of sessions.
-- ARGV  id tenant
-- ->    1 | 0 there is none of that id
although_full()
return remove_preference(ARGV[1], ARGV[2]) and 1 or 0
