-- Set the expiry of an archived session: when it leaves Redis, and when it is deleted.
-- ARGV  id tenant retention_ms forget_ms('' = never)
-- ->    1 | 0 it was deleted
local id, tenant, retention = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not redis.call('ZSCORE', P .. 'index:' .. tenant, id) then return 0 end
although_full()
local key = P .. 's:' .. id
-- `delete` has to find the caller's idempotency key for as long as that is stored.
local record = redis.call('HGET', key, 'idempotency')
local remembered = record and redis.call('PTTL', record) or 0
redis.call('PEXPIRE', key, string.format('%.0f', math.max(retention, remembered)), 'NX')
if redis.call('PEXPIRE', P .. 'log:' .. id, string.format('%.0f', retention), 'NX') == 1 then
  -- It leaves Redis earlier than was assumed when it was created.
  local h = redis.call('HMGET', key, 'leaves', 'bytes')
  local slot, bytes = leave_slot(now_ms() + retention, retention), tonumber(h[2]) or 0
  count_log_bytes(id, tenant, h[1], -bytes)
  if h[1] then redis.call('HSET', key, 'leaves', slot) end
  count_log_bytes(id, tenant, h[1] and slot, bytes)
end
-- The longest wait between two delivery attempts is a day and a tenth; each attempt extends the expiry.
redis.call('PEXPIRE', P .. 'deliveries:' .. id, string.format('%.0f', retention + 1.2 * DAY), 'NX')
if ARGV[4] ~= '' then redis.call('ZADD', P .. 'timers', ARGV[4], 'forget:' .. id) end
return 1
