-- Let a repeat of the request join the session: its caller was told to repeat it, or left.
-- ARGV  id tenant request ttl_ms left
--       left: 1 if the caller is not known to come back: its driver begins no turn and no edit until then
-- ->    1 | 0 the session was deleted
although_full()
if redis.call('EXISTS', P .. 's:' .. ARGV[1]) == 0 then return 0 end
local key = handed_over(ARGV[2], ARGV[3])
redis.call('LREM', key, 0, ARGV[1]) -- this command may come twice
redis.call('RPUSH', key, ARGV[1])
-- The list stays for longer than a caller who left has, so that a session to which nobody came is found there.
local ttl = ARGV[5] == '1' and ARGV[4] + 10000 or tonumber(ARGV[4])
redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), ttl))
renew_caller(ARGV[1], ARGV[4])
if ARGV[5] == '1' then redis.call('HSET', P .. 's:' .. ARGV[1], 'left', string.format('%.0f', now_ms() + ARGV[4])) end
return 1
