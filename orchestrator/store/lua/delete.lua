-- Delete a finished session; removing its images is a chore, which survives a crash.
-- ARGV  id tenant most_preferences
-- ->    1 deleted | 0 it is not finished | 2 it has more preferences than are removed in one call: call again
local id = ARGV[1]
local h = redis.call('HMGET', P .. 's:' .. id, 'state', 'idempotency', 'leaves', 'bytes')
if h[1] and h[1] ~= 'done' then return 0 end
although_full()
local preferences = redis.call('SPOP', P .. 'preferences_of:' .. id, ARGV[3])
for _, preference in ipairs(preferences) do remove_preference(preference, ARGV[2]) end
if redis.call('EXISTS', P .. 'preferences_of:' .. id) == 1 then return 2 end
count_log_bytes(id, ARGV[2], h[3], -(tonumber(h[4]) or 0))
count_blob_bytes(id, ARGV[2], -(tonumber(redis.call('HGET', P .. 'sizes:' .. ARGV[2], id)) or 0))
-- A caller's key must not lead to a session that is gone.
if h[2] and redis.call('HGET', h[2], 'id') == id then redis.call('DEL', h[2]) end
redis.call('DEL', P .. 's:' .. id, P .. 'log:' .. id, P .. 'deliveries:' .. id)
for _, member in ipairs(redis.call('ZRANGE', P .. 'shares:' .. ARGV[2], 0, -1)) do
  if string.sub(member, 1, #id + 1) == id .. '/' then
    redis.call('DEL', P .. 'share:' .. string.sub(member, #id + 2))
    redis.call('ZREM', P .. 'shares:' .. ARGV[2], member)
  end
end
redis.call('SREM', P .. 'withheld:' .. ARGV[2], id)
redis.call('ZREM', P .. 'index:' .. ARGV[2], id)
redis.call('ZREM', P .. 'timers', 'archive:' .. id, 'forget:' .. id)
redis.call('ZADD', P .. 'timers', now_ms() + 60000, 'purge:' .. id)
return 1
