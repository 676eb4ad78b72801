-- Forget a session that is not being driven.
-- KEYS  meta log agenda index
-- ARGV  id
-- ->    1 forgotten | 0 it is on the agenda still
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
-- A caller's key must not lead to a session that is gone; the key lies in the same partition.
local key = redis.call('HGET', KEYS[1], 'idempotency')
if key and redis.call('HGET', key, 'id') == ARGV[1] then redis.call('DEL', key) end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[4], ARGV[1])
return 1
