-- Release a session until a caller writes to it or a time comes, or to the queue at once.
-- ARGV  id fence expected until_ms('' = queue it again) untried
--       untried: 1 if no driver was started: only this claim is no longer counted as an attempt
-- ->    1 | 0 the log has grown since | -1 fenced
although_full()
local id = ARGV[1]
local h = redis.call('HMGET', P .. 's:' .. id, 'seq', 'fence', 'owner', 'state', 'lane', 'tenant')
if h[2] ~= ARGV[2] or h[4] ~= 'owned' then return -1 end
if ARGV[4] == '' then
  redis.call('HDEL', P .. 's:' .. id, 'attempts')
  disown(id, h[3], h[5], h[6])
  resume(id)
  return 1
end
if h[1] ~= ARGV[3] then return 0 end
disown(id, h[3], h[5], h[6])
redis.call('HSET', P .. 's:' .. id, 'state', 'parked')
if ARGV[5] == '0' then redis.call('HDEL', P .. 's:' .. id, 'attempts') else redis.call('HINCRBY', P .. 's:' .. id, 'attempts', -1) end
-- 250 ms from now at the earliest: a replica whose clock is behind would otherwise suspend and claim it in a loop.
redis.call('ZADD', P .. 'timers', math.max(tonumber(ARGV[4]), now_ms() + 250), 'wake:' .. id)
return 1
