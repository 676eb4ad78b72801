-- Append events to a session's log if its last sequence number is the expected one.
-- ARGV  id expected fence('' = not the driver) terminal spent ending blob_bytes begins {event digest head}…
--       spent: editor seconds that these events report; blob_bytes: of the images that they name
--       ending: whether they end the session or ask for its end, and are recorded even if Redis is full
--       begins: whether they begin a turn or an edit
--       digest, head: see record_event
-- ->    {'ok', seq} | {'full', seq} recorded, and the tenant's images take all that they may | {'conflict', seq} | {'fenced'} | {'gone'}
--       {'abandoned'} the caller who alone could get the result is gone, and these events do not end the session
--       {'left'} that caller left and may come back, and these events begin something
local id, expected, fence, terminal = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local key = P .. 's:' .. id
local h = redis.call('HMGET', key, 'seq', 'fence', 'owner', 'state', 'lane', 'tenant', 'leaves', 'attempts', 'most_blobs', 'caller',
  'webhook', 'left')
if not h[1] then return {'gone'} end
if fence ~= '' and (fence ~= h[2] or h[4] ~= 'owned') then return {'fenced'} end
if h[1] ~= expected then return {'conflict', tonumber(h[1])} end
if fence ~= '' and ARGV[6] ~= '1' and h[10] and tonumber(h[10]) < now_ms() then return {'abandoned'} end
if fence ~= '' and ARGV[8] == '1' and h[12] then return {'left'} end
if ARGV[6] == '1' then although_full() end
-- What a caller ended themselves, a repeat of the request does not join.
if fence == '' and ARGV[6] == '1' and h[12] then redis.call('HSET', key, 'left', 0) end
local seq, bytes = tonumber(h[1]), 0
-- Where the tenant or the session has webhooks, each event that they subscribe to becomes a chore in the same step.
local announced = (h[11] or redis.call('EXISTS', P .. 'hooks:' .. h[6]) == 1) and {finished = true, review_requested = true} or {}
for i = 9, #ARGV, 3 do
  seq = seq + 1
  bytes = bytes + record_event(id, seq, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if next(announced) and announced[cjson.decode(ARGV[i]).type] then
    redis.call('ZADD', P .. 'timers', now_ms(), 'hook:' .. id .. '/' .. seq)
    redis.call('PUBLISH', P .. 'wake', '')
  end
end
redis.call('HSET', key, 'seq', seq)
if h[8] and fence ~= '' then redis.call('HDEL', key, 'attempts') end
count_log_bytes(id, h[6], h[7], bytes)
count_blob_bytes(id, h[6], tonumber(ARGV[7]))
local full = h[9] and blob_bytes_of(h[6]) >= tonumber(h[9])
if tonumber(ARGV[5]) > 0 then
  local spent = spent_on(now_ms())
  redis.call('HINCRBYFLOAT', spent, h[6], ARGV[5])
  redis.call('PEXPIRE', spent, 3 * DAY)
  local advance = tonumber(redis.call('HGET', key, 'advance') or '0')
  local covered = math.min(advance, ARGV[5] * 1000)
  if covered > 0 then redis.call('HSET', key, 'advance', advance - covered) end
  charge(h[5], h[6], ARGV[5] * 1000 - covered)
end
if terminal then
  redis.call('ZREM', P .. 'open:' .. h[6], id)
  disown(id, h[3], h[5], h[6])
  redis.call('HSET', key, 'state', 'done')
  redis.call('DECR', P .. 'unfinished')
  redis.call('ZADD', P .. 'timers', now_ms(), 'archive:' .. id)
elseif fence == '' then
  -- A caller wrote: signal the driver, or make the session claimable. Only what ends it needs no editor, and is not queued.
  if h[4] == 'owned' then
    if ARGV[6] == '1' then redis.call('HSET', key, 'spoken', 1) end
    redis.call('PUBLISH', P .. 'signal', id)
  elseif h[4] ~= 'done' and ARGV[6] == '1' then
    redis.call('ZREM', P .. 'timers', 'wake:' .. id)
    make_urgent(id)
  elseif h[4] == 'parked' then
    enqueue(id, false)
  end
end
return {full and 'full' or 'ok', seq}
