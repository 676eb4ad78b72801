-- A replica's claim round: due timers, sessions of dead replicas, and sessions to drive.
-- ARGV  replica lease_ms cap urgent chores webhook_chores most thinkers {editor n more slots}…
--       cap: sessions of a tenant that may be driven at a time, for each editor
--       urgent, chores, webhook_chores, n: how many are wanted; sessions that are too late for an edit come on top of n
--       most: sessions for all editors together     thinkers: those that the replica knows, judges among them, as JSON; '' = all
--       more: further ones, of tenants that drive less than their share of the replicas' `slots` while others fill them
-- ->    {claims, chores, recovered, joined, timers_left}
--       claims: {id, fence, editor, attempts, seq, now_ms, deadline_ms}
--       attempts: of drivers at this session without an event, this one included: the others died, or failed because of a bug
--       chores: <kind>:<id>, each comes again until it is completed
--       recovered: how many sessions of dead replicas were queued again
--       timers_left: 1 if further timers are due: sessions that are to wake may be among them
--       joined: 1 if the replica was not known: it is new, or was taken for dead and lost its sessions
although_full()
local replica, lease, cap = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local claims, chores, recovered = {}, {}, 0
local capacity = {chore = tonumber(ARGV[5]), webhook = tonumber(ARGV[6])}

pardon(now, lease)
-- A lease that ends that far ahead was given before Redis' clock went back, by a failover to a machine that is behind: a dead
-- replica would keep its sessions for as long. Not less, for replicas with a longer lease.
for _, replica_ahead in ipairs(redis.call('ZRANGEBYSCORE', P .. 'replicas', string.format('(%.0f', now + 6 * lease), '+inf')) do
  redis.call('ZADD', P .. 'replicas', now + 6 * lease, replica_ahead)
end
local joined = redis.call('ZADD', P .. 'replicas', now + lease, replica)

-- Let the replica drive a session; `advance`: what its tenant is charged until its work is reported.
local function own(id, advance)
  local h = redis.call('HMGET', P .. 's:' .. id, 'state', 'lane', 'tenant', 'seq', 'deadline')
  if h[1] ~= 'ready' then return false end
  local fence = next_fence(id)
  redis.call('HSET', P .. 's:' .. id, 'state', 'owned', 'owner', replica)
  redis.call('HDEL', P .. 's:' .. id, 'spoken')
  redis.call('SADD', P .. 'own:' .. replica, id)
  redis.call('HINCRBY', P .. 'inflight:' .. h[2], h[3], 1)
  redis.call('ZREM', P .. 'timers', 'wake:' .. id)
  update_turn(h[2], h[3])
  if advance then
    redis.call('HSET', P .. 's:' .. id, 'advance', advance)
    charge(h[2], h[3], advance)
  end
  claims[#claims + 1] = {id, fence, h[2], redis.call('HINCRBY', P .. 's:' .. id, 'attempts', 1), h[4], now, h[5]}
  return true
end

local timers = redis.call('ZRANGEBYSCORE', P .. 'timers', '-inf', now, 'LIMIT', 0, 200)
local due_in_all = redis.call('ZCOUNT', P .. 'timers', '-inf', now)
for _, due in ipairs(timers) do
  local kind, id = string.match(due, '^(%a+):(.+)$')
  if kind == 'wake' then
    redis.call('ZREM', P .. 'timers', due)
    local h = redis.call('HMGET', P .. 's:' .. id, 'state', 'deadline')
    if (h[1] == 'ready' or h[1] == 'parked') and now >= (tonumber(h[2]) or 0) then
      make_urgent(id)
    elseif h[1] == 'parked' then
      -- It was given back for a while, and needs its editor and thinker: only a replica that knows them may take it.
      enqueue(id, false)
    end
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
  local since, count = math.min(tonumber(h[1]), now), tonumber(h[2]) + n
  if now - since >= 2000 and count >= 5 then redis.call('HSET', key, 'ms', (now - since) / count, 'at', now) end
  if now - since > 60000 then since, count = (since + now) / 2, count / 2 end
  redis.call('HSET', key, 'since', since, 'n', count)
end

-- Whether no time is left for an edit; one is tried anyway while half of the session's time is left.
local function too_late(id, edit_ms)
  local h = redis.call('HMGET', P .. 's:' .. id, 'created', 'deadline')
  return h[2] and now + math.min(edit_ms, (h[2] - h[1]) / 2) > tonumber(h[2])
end

local most, thinkers = tonumber(ARGV[7]), nil
if ARGV[8] ~= '' then
  thinkers = {}
  for _, name in ipairs(cjson.decode(ARGV[8])) do thinkers[name] = true end
end

-- Take the first session of a tenant's queue that the replica can serve: while a name is rolled out, others wait for one that
-- knows it. Returns nil if there is none among the first, otherwise how many of n it uses up.
local function take(editor, tenant, advance, edit_ms)
  for _, id in ipairs(redis.call('ZRANGE', queue_key(editor, tenant), 0, 15)) do
    local asked = thinkers and redis.call('HMGET', P .. 's:' .. id, 'thinker', 'judge') or {}
    if (not asked[1] or thinkers[asked[1]]) and (not asked[2] or thinkers[asked[2]]) then
      redis.call('ZREM', queue_key(editor, tenant), id)
      count_dequeued(editor)
      if own(id, advance) then
        -- Sessions past their deadline do not consume capacity or count toward the pace.
        return too_late(id, edit_ms) and 0 or 1
      end
      update_turn(editor, tenant)
      return 0
    end
  end
  return nil
end

for i = 9, #ARGV, 4 do
  local editor, left, more, slots = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local turns, late, claimed, aside = P .. 'turns:' .. editor, 0, 0, {}
  local edit_ms, advance = tonumber(redis.call('HGET', P .. 'pace:' .. editor, 'edit') or '0'), advance_of(editor)
  -- A replica of an earlier version queues tenants in a list.
  for _ = 1, 200 do
    local tenant = redis.call('LPOP', P .. 'ring:' .. editor)
    if not tenant then break end
    update_turn(editor, tenant)
  end
  while left > 0 and most > 0 and late < 200 and #aside < 64 do
    local tenant = redis.call('ZRANGE', turns, 0, 0)[1]
    if not tenant then break end
    if inflight_of(editor, tenant) >= cap then
      redis.call('SADD', P .. 'capped:' .. editor, tenant)
      update_turn(editor, tenant)
    else
      local used = take(editor, tenant, advance, edit_ms)
      if not used then
        if redis.call('ZCARD', queue_key(editor, tenant)) > 0 then aside[#aside + 1] = tenant end
        redis.call('ZREM', turns, tenant)
      else
        left, most, claimed = left - used, most - used, claimed + used
        if used == 0 then late = late + 1 end
      end
    end
  end
  -- Twice, since a session has an edit in flight for a part of its time only.
  local fleet_slots = more > 0 and 2 * slots * redis.call('ZCARD', P .. 'replicas')
  for _, tenant in ipairs(more > 0 and redis.call('ZRANGE', turns, 0, 63) or {}) do
    if more <= 0 or most <= 0 then break end
    local mine, tenants = inflight_of(editor, tenant), redis.call('HLEN', P .. 'inflight:' .. editor)
    if mine == 0 then tenants = tenants + 1 end
    if tenants > 1 and mine < math.min(cap, math.max(1, math.floor(fleet_slots / tenants))) then
      local used = take(editor, tenant, advance, edit_ms) or 0
      more, most, claimed = more - used, most - used, claimed + used
    end
  end
  for _, tenant in ipairs(aside) do update_turn(editor, tenant) end
  if claimed > 0 then record_pace(editor, claimed) end
end
return {claims, chores, recovered, joined, due_in_all > #timers and 1 or 0}
