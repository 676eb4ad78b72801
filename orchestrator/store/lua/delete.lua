-- Forget a session that is not being driven.
-- KEYS  meta log agenda index
-- ARGV  id
-- ->    1 forgotten | 0 it is on the agenda still
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[4], ARGV[1])
return 1
