-- Queue again a session that a replica owns without driving it: the answer to its claim was lost, or its driver failed.
-- ARGV  replica id failed
--       failed: 1 if its driver failed because of a bug; otherwise its claim is no attempt
-- ->    1 | 0 it does not own it
although_full()
if redis.call('SISMEMBER', P .. 'own:' .. ARGV[1], ARGV[2]) == 0 then return 0 end
local h = redis.call('HMGET', P .. 's:' .. ARGV[2], 'lane', 'tenant')
if not h[1] then return redis.call('SREM', P .. 'own:' .. ARGV[1], ARGV[2]) end
if ARGV[3] ~= '1' then redis.call('HINCRBY', P .. 's:' .. ARGV[2], 'attempts', -1) end
next_fence(ARGV[2])
disown(ARGV[2], ARGV[1], h[1], h[2])
resume(ARGV[2])
return 1
