-- Replace the value of a hash field if it is still the one that was read, and set a timer in the same step.
-- ARGV  key field old new timer('' = none) due_ms('' = remove it) keep_ms('' = unchanged)
-- ->    1 | 0 the value changed, or is gone
local key = P .. ARGV[1]
if redis.call('HGET', key, ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('HSET', key, ARGV[2], ARGV[4])
if ARGV[7] ~= '' then redis.call('PEXPIRE', key, ARGV[7], 'GT') end
if ARGV[5] ~= '' and ARGV[6] == '' then
  redis.call('ZREM', P .. 'timers', ARGV[5])
elseif ARGV[5] ~= '' then
  redis.call('ZADD', P .. 'timers', ARGV[6], ARGV[5])
end
return 1
