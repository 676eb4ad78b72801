-- A finished session is archived: it may leave Redis after a while, and the archive too at a time.
-- ARGV  id tenant retention_ms forget_ms('' = never)
-- ->    1 | 0 it was deleted meanwhile
local id, tenant, retention = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not redis.call('ZSCORE', P .. 'index:' .. tenant, id) then return 0 end
local key = P .. 's:' .. id
-- Should the session be deleted while a caller's key for it is remembered, the key has to be found.
local record = redis.call('HGET', key, 'idempotency')
local remembered = record and redis.call('PTTL', record) or 0
redis.call('PEXPIRE', key, string.format('%.0f', math.max(retention, remembered)), 'NX')
redis.call('PEXPIRE', P .. 'log:' .. id, string.format('%.0f', retention), 'NX')
-- What is still to be delivered is tried again within a day and a tenth, and lengthens this.
redis.call('PEXPIRE', P .. 'deliveries:' .. id, string.format('%.0f', retention + 1.2 * DAY), 'NX')
if ARGV[4] ~= '' then redis.call('ZADD', P .. 'timers', ARGV[4], 'forget:' .. id) end
return 1
