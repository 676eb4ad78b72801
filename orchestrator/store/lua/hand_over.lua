-- Let a repeat of the request join the session: its caller was told to repeat it.
-- ARGV  id tenant request ttl_ms
-- ->    1 | 0 the session was deleted
although_full()
if redis.call('EXISTS', P .. 's:' .. ARGV[1]) == 0 then return 0 end
local key = handed_over(ARGV[2], ARGV[3])
redis.call('LREM', key, 0, ARGV[1]) -- this command may come twice
redis.call('RPUSH', key, ARGV[1])
redis.call('PEXPIRE', key, ARGV[4])
renew_caller(ARGV[1], ARGV[4])
return 1
