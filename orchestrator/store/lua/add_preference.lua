-- Store what a person said of sessions, which is deleted with the first of them.
-- ARGV  id tenant record at_ms most_bytes replace('1' = in place of one of the same id) {session}…
-- ->    {1, record} stored | {0, record} that of the same id | {-1, session} which does not exist | {-2, bytes} too many
local id, tenant, record = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HGET', P .. 'preferences:' .. tenant, id)
if known and ARGV[6] ~= '1' then return { 0, known } end
for i = 7, #ARGV do
  if not redis.call('ZSCORE', P .. 'index:' .. tenant, ARGV[i]) then return { -1, ARGV[i] } end
end
local bytes = tonumber(redis.call('HGET', P .. 'preference_bytes', tenant) or '0')
if not known and bytes + #record > tonumber(ARGV[5]) then return { -2, tostring(bytes) } end
redis.call('HSET', P .. 'preferences:' .. tenant, id, record)
redis.call('ZADD', P .. 'preferred:' .. tenant, ARGV[4], id)
for i = 7, #ARGV do redis.call('SADD', P .. 'preferences_of:' .. ARGV[i], id) end
redis.call('HINCRBY', P .. 'preference_bytes', tenant, #record - (known and #known or 0))
return { 1, record }
