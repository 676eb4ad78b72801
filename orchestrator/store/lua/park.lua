-- Let go of a session until somebody speaks or a time comes.
-- KEYS  meta agenda
-- ARGV  id fence expected until_ms('' = now) prefix
-- ->    1 parked | 0 the log has grown meanwhile | -1 fenced
local meta = redis.call('HMGET', KEYS[1], 'seq', 'fence')
if meta[2] ~= ARGV[2] then return -1 end
if meta[1] ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'owner', '')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- Not before a moment from now, or a replica whose clock is behind would park and claim it in a circle.
local when = math.max(tonumber(ARGV[4]) or 0, now + 250)
if ARGV[4] == '' then
  when = now
  redis.call('PUBLISH', ARGV[5] .. 'wake', ARGV[1])
end
redis.call('ZADD', KEYS[2], 'XX', when, ARGV[1])
return 1
