-- Delete a finished session; removing its images is a chore, which survives a crash.
-- ARGV  id tenant
-- ->    1 deleted | 0 it is not finished
local id = ARGV[1]
local h = redis.call('HMGET', P .. 's:' .. id, 'state', 'idempotency')
if h[1] and h[1] ~= 'done' then return 0 end
-- A caller's key must not lead to a session that is gone.
if h[2] and redis.call('HGET', h[2], 'id') == id then redis.call('DEL', h[2]) end
redis.call('DEL', P .. 's:' .. id, P .. 'log:' .. id, P .. 'deliveries:' .. id)
redis.call('ZREM', P .. 'index:' .. ARGV[2], id)
redis.call('ZREM', P .. 'timers', 'archive:' .. id, 'forget:' .. id)
redis.call('ZADD', P .. 'timers', now_ms() + 60000, 'purge:' .. id)
return 1
