-- A new session: its log with the first event, its place on the agenda and in its tenant's index.
-- KEYS  meta log agenda index idempotency(or meta again)
-- ARGV  id tenant event fingerprint use_idempotency ttl_ms prefix limit
-- ->    {1, id, fingerprint} made | {0, id, fingerprint} made before under this key | {-1, waiting} agenda full
if ARGV[5] == '1' then
  local before = redis.call('HMGET', KEYS[5], 'id', 'fingerprint')
  if before[1] then return {0, before[1], before[2]} end
end
local waiting = redis.call('ZCARD', KEYS[3])
if waiting >= tonumber(ARGV[8]) then return {-1, waiting} end
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[5], 'id', ARGV[1], 'fingerprint', ARGV[4])
  redis.call('PEXPIRE', KEYS[5], ARGV[6])
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], 'seq', 1, 'fence', 0, 'owner', '', 'tenant', ARGV[2])
if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'idempotency', KEYS[5]) end
redis.call('XADD', KEYS[2], '1-0', 'e', ARGV[3])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZADD', KEYS[4], now, ARGV[1])
redis.call('PUBLISH', ARGV[7] .. 'live:' .. ARGV[1], '1 ' .. ARGV[3])
redis.call('PUBLISH', ARGV[7] .. 'wake', ARGV[1])
return {1, ARGV[1], ARGV[4]}
