-- Shared by the scripts: prepended to each of them. Every key begins with P, so all lie in one cluster slot.
--
-- A session is   ready (queued: in its tenant's queue, or urgent), owned (a replica drives it), parked (suspended: it waits
--                for a person) or done. Its hash s:<id> holds this state, its owner, its editor (in the field lane), in the field
--                attempts how often it was claimed since a driver last wrote to it or gave it up in good order, and in caller
--                until when the caller is waiting who alone can get its result, if there is one.
-- q:<editor>:<tenant>  its queued sessions: those that were started before new ones, each the oldest first
-- work:<editor>        tenants with queued or owned sessions, by the editor milliseconds that they got there (see enter)
-- left:<editor>        the same of tenants that have none any more, while that is more than others got
-- turns:<editor>       those with queued sessions, by the same: the least comes next; a tenant at its cap is in capped:<editor>
-- inflight:<editor>    owned sessions by tenant       waiting   queued sessions by editor
-- urgent             queued sessions that need no editor first: cancelled, past the deadline, written to by a caller
-- replicas           by the end of their lease        own:<replica>   the sessions a replica drives
-- timers             <kind>:<id> by when it is due    unfinished   how many sessions are
-- open:<tenant>      its unfinished sessions by their deadline     spent:<day>   editor seconds by tenant, of days since 1970
-- handed:<tenant>:<request>   sessions whose callers were told to repeat that request, or left; those have in
--                    left of s:<id> until when they can come back
-- joined:<id>        the one that the request with this id joined
-- hooks:<tenant>     its webhook endpoints            deliveries:<id>   the webhook deliveries of a session; in
--                    endpoint the webhook that is notified of it alone, if there is one (field webhook of s:<id>)
-- bytes:<tenant>     bytes of its sessions in Redis, by the time at which they leave it (see leave_slot)
-- made:<tenant>      digests of the pictures made for it, by the second
-- share:<id>         a link to a session             shares:<tenant>   its links, by the second at which they expire
-- training           consent to training by tenant      withheld:<tenant>   its sessions that are withheld from it
-- sizes:<tenant>     bytes of the images of each of its sessions, archived ones too     blobs   their sum by tenant
-- preferences:<tenant>   what its people prefer, by id; preferred:<tenant>   their ids by the time of their creation
-- preferences_of:<id>    those of a session, which are deleted with it     preference_bytes   their bytes by tenant
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

-- What a session takes of Redis besides its events (the first node of its stream, its hash, its places in the indexes), and a
-- delivery besides its first record (its attempts, its timer). Measured with Redis 7 on 2026-11-29: 5.9 and 1.9 kB.
local SESSION_BYTES, DELIVERY_BYTES = 6000, 2000

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

-- Remove what a person said of sessions; false if there is none of that id.
local function remove_preference(id, tenant)
  local record = redis.call('HGET', P .. 'preferences:' .. tenant, id)
  if not record then return false end
  redis.call('HDEL', P .. 'preferences:' .. tenant, id)
  redis.call('ZREM', P .. 'preferred:' .. tenant, id)
  for _, session in ipairs(cjson.decode(record).sessions) do redis.call('SREM', P .. 'preferences_of:' .. session, id) end
  if redis.call('HINCRBY', P .. 'preference_bytes', tenant, -#record) <= 0 then redis.call('HDEL', P .. 'preference_bytes', tenant) end
  return true
end

local function queue_key(editor, tenant) return P .. 'q:' .. editor .. ':' .. tenant end

-- One session fewer is queued. When none is left the measurement of the pace restarts: idle time does not count.
local function count_dequeued(editor)
  if redis.call('HINCRBY', P .. 'waiting', editor, -1) <= 0 then redis.call('HDEL', P .. 'pace:' .. editor, 'since', 'n') end
end

local function handed_over(tenant, request) return P .. 'handed:' .. tenant .. ':' .. request end

-- Never shorter: the last renewal of one who waits may come after it was handed over.
local function renew_caller(id, ms)
  local ends = math.max(now_ms() + ms, tonumber(redis.call('HGET', P .. 's:' .. id, 'caller') or '0'))
  redis.call('HSET', P .. 's:' .. id, 'caller', string.format('%.0f', ends))
end

local function inflight_of(editor, tenant) return tonumber(redis.call('HGET', P .. 'inflight:' .. editor, tenant) or '0') end

-- A tenant has sessions at an editor again. It starts level with the one that got least, so that idle time is no credit (start-time
-- fair queueing; Goyal, Vin and Cheng, 1996). The fraction puts those that start level into the order of their arrival.
local function enter(editor, tenant)
  local key, least = P .. 'work:' .. editor, 0
  if redis.call('ZSCORE', key, tenant) then return end
  for _ = 1, 8 do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if not first[1] then break end
    if inflight_of(editor, first[1]) > 0 or redis.call('ZCARD', queue_key(editor, first[1])) > 0 then
      least = tonumber(first[2])
      break
    end
    redis.call('ZREM', key, first[1]) -- a replica of an earlier version took its last session
  end
  local left, came = P .. 'left:' .. editor, math.floor(least) + math.floor(now_ms() / 10) % 1e6 / 1e6
  -- One that went and comes back is not level yet with those that got less; a minute of work is remembered at most.
  came = math.max(came, math.min(tonumber(redis.call('ZSCORE', left, tenant) or '0'), came + 60000))
  redis.call('ZREM', left, tenant)
  redis.call('ZREMRANGEBYSCORE', left, '-inf', least)
  redis.call('ZADD', key, came, tenant)
end

-- Put a tenant where it belongs by what it has queued and in flight.
local function update_turn(editor, tenant)
  local queued = redis.call('ZCARD', queue_key(editor, tenant)) > 0
  if queued or inflight_of(editor, tenant) > 0 then
    enter(editor, tenant)
  else
    local got = redis.call('ZSCORE', P .. 'work:' .. editor, tenant)
    if got and redis.call('ZREM', P .. 'work:' .. editor, tenant) == 1 then redis.call('ZADD', P .. 'left:' .. editor, got, tenant) end
    if redis.call('ZCARD', P .. 'work:' .. editor) == 0 then redis.call('DEL', P .. 'left:' .. editor) end
  end
  if not queued then redis.call('SREM', P .. 'capped:' .. editor, tenant) end
  if queued and redis.call('SISMEMBER', P .. 'capped:' .. editor, tenant) == 0 then
    redis.call('ZADD', P .. 'turns:' .. editor, redis.call('ZSCORE', P .. 'work:' .. editor, tenant), tenant)
  else
    redis.call('ZREM', P .. 'turns:' .. editor, tenant)
  end
end

local function charge(editor, tenant, ms)
  redis.call('ZADD', P .. 'work:' .. editor, 'XX', 'INCR', ms, tenant)
  redis.call('ZADD', P .. 'turns:' .. editor, 'XX', 'INCR', ms, tenant)
end

-- What a claim is charged in advance: an edit. The work that is then reported counts beyond that, see append.
local function advance_of(editor)
  local edit = tonumber(redis.call('HGET', P .. 'pace:' .. editor, 'edit') or '0')
  return edit > 0 and edit or 1000
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
  update_turn(editor, tenant)
  redis.call('PUBLISH', P .. 'wake', editor)
end

-- Remove a session from its queue.
local function dequeue(id, editor, tenant)
  if redis.call('ZREM', queue_key(editor, tenant), id) == 0 then return end
  count_dequeued(editor)
  update_turn(editor, tenant)
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
  local advance = redis.call('HGET', P .. 's:' .. id, 'advance')
  if advance then
    redis.call('HDEL', P .. 's:' .. id, 'advance')
    charge(editor, tenant, -advance)
  end
  if redis.call('SREM', P .. 'capped:' .. editor, tenant) == 1 then redis.call('PUBLISH', P .. 'wake', editor) end
  update_turn(editor, tenant)
end

-- How many sessions are ahead of the one at that rank (from 0) in its tenant's queue, if each costs an edit: those of other
-- tenants whose turn comes while they have had less. An estimate where more than 64 tenants wait.
local function sessions_ahead(editor, tenant, rank)
  local work, turns, advance = P .. 'work:' .. editor, P .. 'turns:' .. editor, advance_of(editor)
  local from = tonumber(redis.call('ZSCORE', work, tenant) or redis.call('ZRANGE', work, 0, 0, 'WITHSCORES')[2] or '0')
  if redis.call('ZCARD', turns) > 64 then
    local queued, own = tonumber(redis.call('HGET', P .. 'waiting', editor) or '0'), redis.call('ZCARD', queue_key(editor, tenant))
    return math.min(rank + math.max(0, queued - own), rank * redis.call('ZCARD', turns) + redis.call('ZCOUNT', turns, '-inf', '(' .. from))
  end
  local n, others = rank, redis.call('ZRANGE', turns, 0, -1, 'WITHSCORES')
  for i = 1, #others, 2 do
    local other, edits = others[i], (from - others[i + 1]) / advance + rank
    if other ~= tenant and edits > -1e-10 then
      local level = math.floor(edits + 0.5)
      if math.abs(edits - level) > 1e-10 then level = math.ceil(edits) elseif other < tenant then level = level + 1 end
      n = n + math.min(redis.call('ZCARD', queue_key(editor, other)), level)
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
