-- A replica's claim round: due timers, sessions of dead replicas, and sessions to drive.
-- ARGV  replica lease_ms cap urgent chores webhook_chores editor n editor n …
--       cap: sessions of a tenant that may be driven at a time, for each editor
--       urgent, chores, webhook_chores, n: how many are wanted; sessions that are too late for an edit come on top of n
-- ->    {claims, chores, recovered, joined, more}
--       claims: {id, fence, editor, attempts, seq, now_ms, deadline_ms}
--       attempts: of drivers at this session without an event, this one included: the others died, or failed because of a bug
--       chores: <kind>:<id>, each comes again until it is completed
--       recovered: how many sessions of dead replicas were queued again
--       more: 1 if further timers are due: sessions that are to wake may be among them
--       joined: 1 if the replica was not known: it is new, or was taken for dead and lost its sessions
although_full()
local replica, lease, cap = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local claims, chores, recovered = {}, {}, 0
local capacity = {chore = tonumber(ARGV[5]), webhook = tonumber(ARGV[6])}

pardon(now, lease)
local joined = redis.call('ZADD', P .. 'replicas', now + lease, replica)

local function own(id)
  local h = redis.call('HMGET', P .. 's:' .. id, 'state', 'lane', 'tenant', 'seq', 'deadline')
  if h[1] ~= 'ready' then return false end
  local fence = next_fence(id)
  redis.call('HSET', P .. 's:' .. id, 'state', 'owned', 'owner', replica)
  redis.call('HDEL', P .. 's:' .. id, 'spoken')
  redis.call('SADD', P .. 'own:' .. replica, id)
  redis.call('HINCRBY', P .. 'inflight:' .. h[2], h[3], 1)
  redis.call('ZREM', P .. 'timers', 'wake:' .. id)
  claims[#claims + 1] = {id, fence, h[2], redis.call('HINCRBY', P .. 's:' .. id, 'attempts', 1), h[4], now, h[5]}
  return true
end

local timers = redis.call('ZRANGEBYSCORE', P .. 'timers', '-inf', now, 'LIMIT', 0, 200)
local due_in_all = redis.call('ZCOUNT', P .. 'timers', '-inf', now)
for _, due in ipairs(timers) do
  local kind, id = string.match(due, '^(%a+):(.+)$')
  if kind == 'wake' then
    redis.call('ZREM', P .. 'timers', due)
    local state = redis.call('HGET', P .. 's:' .. id, 'state')
    if state == 'ready' or state == 'parked' then make_urgent(id) end
  else
    local sort = (kind == 'hook' or kind == 'deliver') and 'webhook' or 'chore'
    if capacity[sort] > 0 then
      capacity[sort] = capacity[sort] - 1
      redis.call('ZADD', P .. 'timers', now + 6 * lease, due)
      chores[#chores + 1] = due
    else
      -- Postponed: chores beyond the capacity would otherwise fill the 200 timers read here, before sessions that are to wake.
      -- The more there are, the longer, so that a backlog of hours is not moved through once a second.
      redis.call('ZADD', P .. 'timers', now + math.max(1000, due_in_all), due)
    end
  end
end

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', P .. 'replicas', '-inf', now)) do
  -- In batches, so that no call takes long; the rest stays with the dead replica until the next round.
  for _, id in ipairs(redis.call('SRANDMEMBER', P .. 'own:' .. dead, 200)) do
    local h = redis.call('HMGET', P .. 's:' .. id, 'lane', 'tenant')
    if h[1] then
      next_fence(id)
      disown(id, dead, h[1], h[2])
      resume(id)
      recovered = recovered + 1
    else
      redis.call('SREM', P .. 'own:' .. dead, id)
    end
  end
  if redis.call('SCARD', P .. 'own:' .. dead) == 0 then redis.call('ZREM', P .. 'replicas', dead) end
end

for _ = 1, tonumber(ARGV[4]) do
  local popped = redis.call('ZPOPMIN', P .. 'urgent')
  if not popped[1] then break end
  own(popped[1])
end

-- Record the pace of a busy editor: milliseconds between two claims while sessions are queued, over about a minute.
local function record_pace(editor, n)
  local key = P .. 'pace:' .. editor
  if tonumber(redis.call('HGET', P .. 'waiting', editor) or '0') <= 0 then return end
  local h = redis.call('HMGET', key, 'since', 'n')
  if not h[1] then
    redis.call('HSET', key, 'since', now, 'n', 0)
    return
  end
  local since, count = tonumber(h[1]), tonumber(h[2]) + n
  if now - since >= 2000 and count >= 5 then redis.call('HSET', key, 'ms', (now - since) / count, 'at', now) end
  if now - since > 60000 then since, count = (since + now) / 2, count / 2 end
  redis.call('HSET', key, 'since', since, 'n', count)
end

-- Whether no time is left for an edit; one is tried anyway while half of the session's time is left.
local function too_late(id, edit_ms)
  local h = redis.call('HMGET', P .. 's:' .. id, 'created', 'deadline')
  return h[2] and now + math.min(edit_ms, (h[2] - h[1]) / 2) > tonumber(h[2])
end

for i = 7, #ARGV, 2 do
  local editor, left, late = ARGV[i], tonumber(ARGV[i + 1]), 0
  local ring, wanted = P .. 'ring:' .. editor, left
  local edit_ms = tonumber(redis.call('HGET', P .. 'pace:' .. editor, 'edit') or '0')
  while left > 0 and late < 200 do
    local tenant = redis.call('LPOP', ring)
    if not tenant then break end
    if tonumber(redis.call('HGET', P .. 'inflight:' .. editor, tenant) or '0') >= cap then
      redis.call('SADD', P .. 'capped:' .. editor, tenant)
    else
      local popped = redis.call('ZPOPMIN', queue_key(editor, tenant))
      if popped[1] then count_dequeued(editor) end
      if redis.call('ZCARD', queue_key(editor, tenant)) > 0 then redis.call('RPUSH', ring, tenant) end
      if popped[1] and own(popped[1]) then
        -- Sessions past their deadline do not consume capacity or count toward the pace.
        if too_late(popped[1], edit_ms) then late = late + 1 else left = left - 1 end
      end
    end
  end
  if wanted > left then record_pace(editor, wanted - left) end
end
return {claims, chores, recovered, joined, due_in_all > #timers and 1 or 0}
