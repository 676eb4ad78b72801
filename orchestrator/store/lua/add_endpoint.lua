-- Add a webhook endpoint if the tenant's others are still those that were counted.
-- ARGV  tenant id record {id}…
-- ->    1 | 0 there are others
local key = P .. 'hooks:' .. ARGV[1]
-- The same command again: its answer was lost, and the client retried.
if redis.call('HEXISTS', key, ARGV[2]) == 1 then return 1 end
if redis.call('HLEN', key) ~= #ARGV - 3 then return 0 end
for i = 4, #ARGV do
  if redis.call('HEXISTS', key, ARGV[i]) == 0 then return 0 end
end
redis.call('HSET', key, ARGV[2], ARGV[3])
return 1
