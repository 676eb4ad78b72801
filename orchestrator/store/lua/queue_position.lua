-- The position of a session in its queue.
-- ARGV  id
-- ->    {} it is not queued | {ahead, ms('' = unknown)}
local h = redis.call('HMGET', P .. 's:' .. ARGV[1], 'state', 'lane', 'tenant')
if h[1] ~= 'ready' then return {} end
local rank = redis.call('ZRANK', queue_key(h[2], h[3]), ARGV[1])
if not rank then return {0, 0} end
local n = sessions_ahead(h[2], h[3], rank)
return {n, wait_ms(h[2], n + 1, now_ms()) or ''}
