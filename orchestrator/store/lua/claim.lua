-- Take sessions whose time on the agenda has come. One sorted set is queue, lease and timer: its score is when a
-- session may be taken: at once when new, after the lease when owned, at the deadline when it waits for a person.
-- KEYS  agenda
-- ARGV  prefix replica limit lease_ms
-- ->    {{id, fence}, …}
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local meta = ARGV[1] .. 's:' .. id
  local fence = redis.call('HINCRBY', meta, 'fence', 1)
  redis.call('HSET', meta, 'owner', ARGV[2])
  redis.call('ZADD', KEYS[1], now + ARGV[4], id)
  out[#out + 1] = {id, fence}
end
return out
