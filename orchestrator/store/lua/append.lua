-- Record events at the end of a session's log, if it ends where the writer thinks it does.
-- KEYS  meta log agenda
-- ARGV  id prefix expected fence('' = not the driver) terminal events…
-- ->    {'ok', seq} | {'conflict', seq} | {'fenced'} | {'gone'}
local meta = redis.call('HMGET', KEYS[1], 'seq', 'fence', 'owner')
if not meta[1] then return {'gone'} end
if ARGV[4] ~= '' and ARGV[4] ~= meta[2] then return {'fenced'} end
if meta[1] ~= ARGV[3] then return {'conflict', tonumber(meta[1])} end
local seq = tonumber(meta[1])
for i = 6, #ARGV do
  seq = seq + 1
  redis.call('XADD', KEYS[2], seq .. '-0', 'e', ARGV[i])
  redis.call('PUBLISH', ARGV[2] .. 'live:' .. ARGV[1], seq .. ' ' .. ARGV[i])
end
redis.call('HSET', KEYS[1], 'seq', seq)
if ARGV[5] == '1' then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HSET', KEYS[1], 'owner', '')
elseif ARGV[4] == '' then
  if meta[3] == '' then
    -- Nobody drives it (it waits for a person): whoever is free may take it now.
    local t = redis.call('TIME')
    redis.call('ZADD', KEYS[3], t[1] * 1000 + math.floor(t[2] / 1000), ARGV[1])
    redis.call('PUBLISH', ARGV[2] .. 'wake', ARGV[1])
  else
    redis.call('PUBLISH', ARGV[2] .. 'signal', ARGV[1])
  end
end
return {'ok', seq}
