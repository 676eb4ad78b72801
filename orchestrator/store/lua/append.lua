-- Append events to a session's log if its last sequence number is the expected one.
-- ARGV  id expected fence('' = not the driver) terminal spent events…
--       spent: editor seconds that these events report
-- ->    {'ok', seq} | {'conflict', seq} | {'fenced'} | {'gone'}
local id, expected, fence, terminal = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local key = P .. 's:' .. id
local h = redis.call('HMGET', key, 'seq', 'fence', 'owner', 'state', 'lane', 'tenant')
if not h[1] then return {'gone'} end
if fence ~= '' and (fence ~= h[2] or h[4] ~= 'owned') then return {'fenced'} end
if h[1] ~= expected then return {'conflict', tonumber(h[1])} end
local seq = tonumber(h[1])
-- Where the tenant has webhooks, each event that they subscribe to becomes a chore in the same step.
local announced = redis.call('EXISTS', P .. 'hooks:' .. h[6]) == 1 and {finished = true, review_requested = true} or {}
for i = 6, #ARGV do
  seq = seq + 1
  redis.call('XADD', P .. 'log:' .. id, seq .. '-0', 'e', ARGV[i])
  redis.call('PUBLISH', P .. 'live:' .. id, seq .. ' ' .. ARGV[i])
  if next(announced) and announced[cjson.decode(ARGV[i]).type] then
    redis.call('ZADD', P .. 'timers', now_ms(), 'hook:' .. id .. '/' .. seq)
    redis.call('PUBLISH', P .. 'wake', '')
  end
end
redis.call('HSET', key, 'seq', seq)
if tonumber(ARGV[5]) > 0 then
  local spent = spent_on(now_ms())
  redis.call('HINCRBYFLOAT', spent, h[6], ARGV[5])
  redis.call('PEXPIRE', spent, 3 * DAY)
end
if terminal then
  redis.call('ZREM', P .. 'open:' .. h[6], id)
  disown(id, h[3], h[5], h[6])
  redis.call('HSET', key, 'state', 'done')
  redis.call('DECR', P .. 'unfinished')
  redis.call('ZADD', P .. 'timers', now_ms(), 'archive:' .. id)
elseif fence == '' then
  -- A caller wrote: signal the driver, or make the session claimable at once.
  if h[4] == 'owned' then
    redis.call('HSET', key, 'spoken', 1)
    redis.call('PUBLISH', P .. 'signal', id)
  elseif h[4] ~= 'done' then
    redis.call('ZREM', P .. 'timers', 'wake:' .. id)
    make_urgent(id)
  end
end
return {'ok', seq}
