-- Schedule the deliveries of a session's event: a record and a timer for each endpoint. Those already scheduled are kept.
-- ARGV  id keep_ms {delivery record}…
-- ->    1 | 0 the session was deleted
local id = ARGV[1]
local key = P .. 'deliveries:' .. id
local h = redis.call('HMGET', P .. 's:' .. id, 'state', 'tenant')
local state, tenant, bytes = h[1], h[2], 0
if not state then return 0 end
for i = 3, #ARGV, 2 do
  if redis.call('HSETNX', key, ARGV[i], ARGV[i + 1]) == 1 then
    bytes = bytes + #ARGV[i + 1] + DELIVERY_BYTES
    redis.call('ZADD', P .. 'timers', now_ms(), 'deliver:' .. id .. '/' .. ARGV[i])
  end
end
-- Their attempts take up to four days, and a deleted session's count lapses with the others.
if bytes > 0 then
  local keep = tonumber(ARGV[2])
  redis.call('HINCRBY', P .. 'bytes:' .. tenant, leave_slot(now_ms() + keep + 4 * DAY, keep), bytes)
end
-- Until the session is finished and archived, `expire` sets this.
if state == 'done' then redis.call('PEXPIRE', key, ARGV[2], 'NX') end
redis.call('PUBLISH', P .. 'wake', '')
return 1
