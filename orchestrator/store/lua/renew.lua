-- Extend the lease of owned sessions.
-- KEYS  agenda
-- ARGV  prefix lease_ms id fence id fence …
-- ->    ids that are owned no longer
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lost = {}
for i = 3, #ARGV, 2 do
  if redis.call('HGET', ARGV[1] .. 's:' .. ARGV[i], 'fence') == ARGV[i + 1] then
    redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
