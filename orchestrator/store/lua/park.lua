-- Let go of a session until somebody speaks or a time comes, or at once.
-- ARGV  id fence expected until_ms('' = put it back in line)
-- ->    1 | 0 the log has grown meanwhile | -1 fenced
local id = ARGV[1]
local h = redis.call('HMGET', P .. 's:' .. id, 'seq', 'fence', 'owner', 'state', 'lane', 'tenant')
if h[2] ~= ARGV[2] or h[4] ~= 'owned' then return -1 end
if ARGV[4] == '' then
  disown(id, h[3], h[5], h[6])
  resume(id)
  return 1
end
if h[1] ~= ARGV[3] then return 0 end
disown(id, h[3], h[5], h[6])
redis.call('HSET', P .. 's:' .. id, 'state', 'parked')
-- Not before a moment from now, or a replica whose clock is behind would park and claim it in a circle.
redis.call('ZADD', P .. 'timers', math.max(tonumber(ARGV[4]), now_ms() + 250), 'wake:' .. id)
return 1
