-- Create a session: its log with the first event, its entry in the queue and in its tenant's index.
-- ARGV  id tenant editor event fingerprint idempotency('' = none) ttl_ms limit deadline_ms most_open('' = any) most_spent('' = any)
--       most_log('' = any) most_blobs('' = any) digest retention_ms blob_bytes request caller_ms('' = nobody waits)
--       webhook('' = none) thinker judge('' = the thinker) created_ms
--       most_open: unfinished sessions that the tenant may have; most_spent: editor seconds that it may use in a day (UTC)
--       most_log: bytes of its logs in Redis; most_blobs: bytes of its images
--       digest: of a long instruction; retention_ms: a log's after its end; blob_bytes: of the images in the event
--       fingerprint, request: digests of the request, of an earlier version and of this one
--       caller_ms: the lease of a caller who waits without an idempotency key
--       created_ms: of the event, as callers are shown it; an export from that moment on has the session
--       webhook: the record of an endpoint that is notified of this session alone
-- ->    {1, id, request} created | {0, id, request} created before under this key, or handed over by its caller's replica;
--       where an earlier version recorded the key, its fingerprint stands for request
--       {-1, unfinished} too many sessions | {-2, ms} it would be done only after that long, past its deadline
--       {-3, open} the tenant has as many as it may | {-4, ms} its seconds of the day are used up; ms to the next
--       {-5, bytes} its logs fill what it may use of Redis | {-6, bytes} its images fill what it may store
local id, tenant, editor, event, fingerprint, idempotency = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
-- The same command again: its answer was lost, and the client retried. Checked first, or it would find its own key.
local request, caller_ms, webhook = ARGV[17], ARGV[18], ARGV[19]
if redis.call('EXISTS', P .. 's:' .. id) == 1 then return {1, id, request} end
local record = P .. 'idem:' .. tenant .. ':' .. idempotency
if idempotency ~= '' then
  local before = redis.call('HMGET', record, 'id', 'fingerprint', 'request')
  if before[1] then return {0, before[1], before[3] or before[2]} end
elseif caller_ms ~= '' then
  -- A caller was told to repeat the request, since its replica shut down, or left: each repeat joins one of the sessions, and the
  -- same one when this command comes again.
  local joined = P .. 'joined:' .. id
  local before = redis.call('GET', joined)
  if before then return {0, before, request} end
  local left = redis.call('LPOP', handed_over(tenant, request))
  while left do
    local h = redis.call('HMGET', P .. 's:' .. left, 'seq', 'left')
    if h[1] and not (h[2] and tonumber(h[2]) < now_ms()) then
      renew_caller(left, caller_ms)
      redis.call('SET', joined, left, 'PX', 60000)
      if redis.call('HDEL', P .. 's:' .. left, 'left') == 1 then redis.call('PUBLISH', P .. 'signal', left) end
      return {0, left, request}
    end
    left = redis.call('LPOP', handed_over(tenant, request))
  end
end
local unfinished = tonumber(redis.call('GET', P .. 'unfinished') or '0')
if unfinished >= tonumber(ARGV[8]) then return {-1, unfinished} end
local now = now_ms()
if ARGV[10] ~= '' and open_of(tenant, tonumber(ARGV[10]), now) >= tonumber(ARGV[10]) then
  return {-3, redis.call('ZCARD', P .. 'open:' .. tenant)}
end
if ARGV[11] ~= '' and tonumber(redis.call('HGET', spent_on(now), tenant) or '0') >= tonumber(ARGV[11]) then
  return {-4, DAY - now % DAY}
end
if ARGV[12] ~= '' then
  local bytes = log_bytes_of(tenant, now)
  if bytes >= tonumber(ARGV[12]) then return {-5, bytes} end
end
if ARGV[13] ~= '' then
  local bytes = blob_bytes_of(tenant)
  if bytes + ARGV[16] > tonumber(ARGV[13]) then return {-6, bytes} end
end
local ahead = sessions_ahead(editor, tenant, redis.call('ZCARD', queue_key(editor, tenant)))
if ahead > 0 then
  local wait = wait_ms(editor, ahead + 1, now)
  -- Its work has to fit in too; a session that would start with three quarters of its time left is accepted anyway.
  local work = math.min(tonumber(redis.call('HGET', P .. 'pace:' .. editor, 'work') or '0'), (ARGV[9] - now) * 3 / 4)
  if wait and now + wait + work > tonumber(ARGV[9]) then return {-2, math.floor(wait + work)} end
end
local key = P .. 's:' .. id
redis.call('HSET', key, 'seq', 1, 'fence', 0, 'tenant', tenant, 'lane', editor, 'created', ARGV[22], 'deadline', ARGV[9],
  'thinker', ARGV[20])
if ARGV[21] ~= '' then redis.call('HSET', key, 'judge', ARGV[21]) end
if idempotency ~= '' then
  redis.call('HSET', record, 'id', id, 'fingerprint', fingerprint, 'request', request)
  redis.call('PEXPIRE', record, ARGV[7])
  redis.call('HSET', key, 'idempotency', record)
end
if ARGV[13] ~= '' then redis.call('HSET', key, 'most_blobs', ARGV[13]) end
if caller_ms ~= '' then renew_caller(id, caller_ms) end
if webhook ~= '' then
  redis.call('HSET', key, 'webhook', 1)
  redis.call('HSET', P .. 'deliveries:' .. id, 'endpoint', webhook)
end
local slot = leave_slot(ARGV[9] + ARGV[15], tonumber(ARGV[15]))
redis.call('HSET', key, 'leaves', slot)
-- The caller's key is stored twice.
count_log_bytes(id, tenant, slot, SESSION_BYTES + 2 * #idempotency + #webhook + record_event(id, 1, event, ARGV[14], ''))
count_blob_bytes(id, tenant, tonumber(ARGV[16]))
redis.call('ZADD', P .. 'index:' .. tenant, ARGV[22], id)
redis.call('INCR', P .. 'unfinished')
redis.call('ZADD', P .. 'open:' .. tenant, ARGV[9], id)
enqueue(id, true)
return {1, id, request}
