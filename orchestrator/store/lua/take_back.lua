-- Let nobody join a session any more whose caller left and did not come back in time.
-- ARGV  id tenant request
-- ->    1 | 0 somebody has joined it, or its caller left again later
local left = redis.call('HGET', P .. 's:' .. ARGV[1], 'left')
-- A second, since the replica's clock measured the time.
if left and tonumber(left) > now_ms() + 1000 then return 0 end
return redis.call('LREM', handed_over(ARGV[2], ARGV[3]), 1, ARGV[1])
