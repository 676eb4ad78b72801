-- What is to be told of an event of a session: a record and a timer for each endpoint. What is planned already stays as it is.
-- ARGV  id keep_ms {delivery record}…
-- ->    1 | 0 the session was deleted
local id = ARGV[1]
local key = P .. 'deliveries:' .. id
local state = redis.call('HGET', P .. 's:' .. id, 'state')
if not state then return 0 end
for i = 3, #ARGV, 2 do
  if redis.call('HSETNX', key, ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('ZADD', P .. 'timers', now_ms(), 'deliver:' .. id .. '/' .. ARGV[i])
  end
end
-- Before that, `retain` sees to it.
if state == 'done' then redis.call('PEXPIRE', key, ARGV[2], 'NX') end
redis.call('PUBLISH', P .. 'wake', '')
return 1
