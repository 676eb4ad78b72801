-- Shared by the scripts: prepended to each of them. Every key begins with P, so all lie in one cluster slot.
--
-- A session is   ready (queued: in its tenant's queue, or urgent), owned (a replica drives it), parked (suspended: it waits
--                for a person) or done. Its hash s:<id> holds this state, its owner, its editor (in the field lane), and in the
--                field attempts how often it was claimed since a driver last wrote to it or gave it up in good order.
-- q:<editor>:<tenant>  its queued sessions: those that were started before new ones, each the oldest first
-- ring:<editor>        tenants with queued sessions, in the order of their turns; a tenant at its cap is in capped:<editor>
-- inflight:<editor>    owned sessions by tenant       waiting   queued sessions by editor
-- urgent             queued sessions that need no editor first: cancelled, past the deadline, written to by a caller
-- replicas           by the end of their lease        own:<replica>   the sessions a replica drives
-- timers             <kind>:<id> by when it is due    unfinished   how many sessions are
-- open:<tenant>      its unfinished sessions by their deadline     spent:<day>   editor seconds by tenant, of days since 1970
-- hooks:<tenant>     its webhook endpoints            deliveries:<id>   the webhook deliveries of a session
-- bytes:<tenant>     bytes of its logs in Redis, by the time at which they leave it (see leave_slot)
-- sizes:<tenant>     bytes of the images of each of its sessions, archived ones too     blobs   their sum by tenant
-- pace:<editor>      ms, at: milliseconds between two claims, and when that was measured; since, n: the measurement under way;
--                    edit, work: milliseconds that an edit takes, and a session from its first turn to its end
local P = KEYS[1]
local NEW = 1e15 -- added to the score of new sessions, which sorts them behind those that were started

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local DAY = 86400000

-- Let the rest of the script write although Redis is at its maxmemory. Only scripts that end, free or hand over may do so.
-- Redis refuses the first write of a script that may use more memory, and nothing after a first one that cannot, such as DEL:
-- a script must not be stopped half way (Redis' documentation of EVAL, "Eval flags"; so in Redis 7, 8 and Valkey).
local function although_full() redis.call('DEL', P .. 'full') end

-- Where no replica was heard for half a lease, Redis stood still or none could reach it: nobody was heard, so nobody is dead, and
-- the leases that were good when the silence began start again. Replicas are heard every third of a lease, and every claim.
local function pardon(now, lease)
  local last = redis.call('ZREVRANGE', P .. 'replicas', 0, 0, 'WITHSCORES')[2]
  local heard = last and last - lease
  if not heard or now - heard <= lease / 2 then return end
  for _, replica in ipairs(redis.call('ZRANGEBYSCORE', P .. 'replicas', string.format('(%.0f', heard), '+inf')) do
    redis.call('ZADD', P .. 'replicas', now + lease, replica)
  end
end

local function spent_on(now) return P .. 'spent:' .. string.format('%.0f', math.floor(now / DAY)) end

-- How many sessions of a tenant are not finished. A replica of an earlier version does not remove those that it finishes;
-- an hour after its deadline every session is finished.
local function open_of(tenant, most, now)
  local key = P .. 'open:' .. tenant
  if redis.call('ZCARD', key) >= most then redis.call('ZREMRANGEBYSCORE', key, '-inf', now - 3600000) end
  return redis.call('ZCARD', key)
end

-- Log bytes are counted in slots of a sixteenth of the retention, by when they leave Redis at the latest. A count that was
-- never taken back, by a replica of an earlier version, lapses with its slot.
local function leave_slot(at, retention)
  local size = math.max(60000, math.floor(retention / 16))
  return string.format('%.0f', math.ceil(at / size) * size)
end

local function count_log_bytes(id, tenant, slot, bytes)
  if not slot then return end
  redis.call('HINCRBY', P .. 's:' .. id, 'bytes', bytes)
  if redis.call('HINCRBY', P .. 'bytes:' .. tenant, slot, bytes) <= 0 then redis.call('HDEL', P .. 'bytes:' .. tenant, slot) end
end

local function log_bytes_of(tenant, now)
  local sum, slots = 0, redis.call('HGETALL', P .. 'bytes:' .. tenant)
  for i = 1, #slots, 2 do
    if tonumber(slots[i]) < now then redis.call('HDEL', P .. 'bytes:' .. tenant, slots[i]) else sum = sum + slots[i + 1] end
  end
  return sum
end

local function count_blob_bytes(id, tenant, bytes)
  if bytes == 0 then return end
  if redis.call('HINCRBY', P .. 'sizes:' .. tenant, id, bytes) <= 0 then redis.call('HDEL', P .. 'sizes:' .. tenant, id) end
  if redis.call('HINCRBY', P .. 'blobs', tenant, bytes) <= 0 then redis.call('HDEL', P .. 'blobs', tenant) end
end

local function blob_bytes_of(tenant) return tonumber(redis.call('HGET', P .. 'blobs', tenant) or '0') end

-- Add an event to a log. A long instruction that the log has already is replaced by the number of the event that has it.
--   digest: of a long instruction, '' otherwise     head: the event's JSON without it, up to ',"instruction_at":'
local function record_event(id, seq, event, digest, head)
  local at = digest ~= '' and redis.call('HGET', P .. 's:' .. id, 'text:' .. digest)
  local stored = at and head .. at .. '}' or event
  redis.call('XADD', P .. 'log:' .. id, seq .. '-0', 'e', stored)
  if digest ~= '' and not at then redis.call('HSET', P .. 's:' .. id, 'text:' .. digest, seq) end
  redis.call('PUBLISH', P .. 'live:' .. id, seq .. ' ' .. event)
  return #stored
end

local function queue_key(editor, tenant) return P .. 'q:' .. editor .. ':' .. tenant end

-- One session fewer is queued. When none is left the measurement of the pace restarts: idle time does not count.
local function count_dequeued(editor)
  if redis.call('HINCRBY', P .. 'waiting', editor, -1) <= 0 then redis.call('HDEL', P .. 'pace:' .. editor, 'since', 'n') end
end

-- Queue a session. It becomes urgent at its deadline, however long the queue.
local function enqueue(id, is_new)
  local key = P .. 's:' .. id
  local h = redis.call('HMGET', key, 'lane', 'tenant', 'created', 'deadline')
  local editor, tenant = h[1], h[2]
  redis.call('HSET', key, 'state', 'ready', 'owner', '')
  redis.call('ZADD', queue_key(editor, tenant), (is_new and NEW or 0) + h[3], id)
  redis.call('HINCRBY', P .. 'waiting', editor, 1)
  redis.call('ZADD', P .. 'timers', h[4], 'wake:' .. id)
  if redis.call('ZCARD', queue_key(editor, tenant)) == 1 and redis.call('SISMEMBER', P .. 'capped:' .. editor, tenant) == 0 then
    redis.call('RPUSH', P .. 'ring:' .. editor, tenant)
  end
  redis.call('PUBLISH', P .. 'wake', editor)
end

-- Remove a session from its queue; a tenant without another leaves the ring.
local function dequeue(id, editor, tenant)
  if redis.call('ZREM', queue_key(editor, tenant), id) == 0 then return end
  count_dequeued(editor)
  if redis.call('ZCARD', queue_key(editor, tenant)) == 0 then
    redis.call('LREM', P .. 'ring:' .. editor, 0, tenant)
    redis.call('SREM', P .. 'capped:' .. editor, tenant)
  end
end

-- Let the next replica that claims take the session, before all queued ones.
local function make_urgent(id)
  local h = redis.call('HMGET', P .. 's:' .. id, 'lane', 'tenant')
  dequeue(id, h[1], h[2])
  redis.call('HSET', P .. 's:' .. id, 'state', 'ready', 'owner', '')
  redis.call('ZADD', P .. 'urgent', now_ms(), id)
  redis.call('PUBLISH', P .. 'wake', '')
end

-- Queue a session again that a replica released or lost; one that a caller wrote to in the meantime becomes urgent.
local function resume(id)
  if redis.call('HDEL', P .. 's:' .. id, 'spoken') == 1 then make_urgent(id) else enqueue(id, false) end
end

-- Fences never repeat, not even after Redis was restored from an older file, since they are no less than the time.
local function next_fence(id)
  local fence = math.max(tonumber(redis.call('HGET', P .. 's:' .. id, 'fence')) + 1, now_ms())
  redis.call('HSET', P .. 's:' .. id, 'fence', string.format('%.0f', fence))
  return fence
end

-- Remove a session from the replica that owns it.
local function disown(id, replica, editor, tenant)
  if redis.call('SREM', P .. 'own:' .. replica, id) == 0 then return end
  redis.call('HSET', P .. 's:' .. id, 'owner', '')
  if redis.call('HINCRBY', P .. 'inflight:' .. editor, tenant, -1) <= 0 then redis.call('HDEL', P .. 'inflight:' .. editor, tenant) end
  if redis.call('SREM', P .. 'capped:' .. editor, tenant) == 1 then
    redis.call('RPUSH', P .. 'ring:' .. editor, tenant)
    redis.call('PUBLISH', P .. 'wake', editor)
  end
end

-- How many sessions are ahead of the one at that rank (from 0) in its tenant's queue: tenants take turns, and those behind
-- its tenant in the ring have had one turn fewer when its own comes.
local function sessions_ahead(editor, tenant, rank)
  local n, turns = rank, rank + 1
  for _, other in ipairs(redis.call('LRANGE', P .. 'ring:' .. editor, 0, 999)) do
    if other == tenant then
      turns = rank
    else
      n = n + math.min(redis.call('ZCARD', queue_key(editor, other)), turns)
    end
  end
  return n
end

-- Milliseconds until so many sessions are claimed, at the pace last measured while sessions were queued; nil: unknown.
local function wait_ms(editor, n, now)
  local h = redis.call('HMGET', P .. 'pace:' .. editor, 'ms', 'at')
  if not h[1] or now - h[2] > 600000 then return nil end
  return math.floor(n * h[1])
end
