-- Set the expiry of an archived session: when it leaves Redis, and when it is deleted.
-- ARGV  id tenant retention_ms forget_ms('' = never)
-- ->    1 | 0 it was deleted
local id, tenant, retention = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not redis.call('ZSCORE', P .. 'index:' .. tenant, id) then return 0 end
local key = P .. 's:' .. id
-- `delete` has to find the caller's idempotency key for as long as that is stored.
local record = redis.call('HGET', key, 'idempotency')
local remembered = record and redis.call('PTTL', record) or 0
redis.call('PEXPIRE', key, string.format('%.0f', math.max(retention, remembered)), 'NX')
redis.call('PEXPIRE', P .. 'log:' .. id, string.format('%.0f', retention), 'NX')
-- The longest wait between two delivery attempts is a day and a tenth; each attempt extends the expiry.
redis.call('PEXPIRE', P .. 'deliveries:' .. id, string.format('%.0f', retention + 1.2 * DAY), 'NX')
if ARGV[4] ~= '' then redis.call('ZADD', P .. 'timers', ARGV[4], 'forget:' .. id) end
return 1
