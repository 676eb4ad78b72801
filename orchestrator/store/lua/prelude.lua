-- What the scripts share; it stands before each of them. Every key begins with P, so all lie in one cluster slot.
--
-- A session is   ready (in its tenant's queue, or urgent), owned (a replica drives it), parked (it waits for a person)
--                or done. Its hash s:<id> says which, whose it is, and which lane (editor) it waits for.
-- q:<lane>:<tenant>  its ready sessions: those that began before new ones, each the oldest first
-- ring:<lane>        tenants with ready sessions, whose turn is next first; a tenant at its cap waits in capped:<lane>
-- inflight:<lane>    owned sessions by tenant         waiting   ready sessions by lane
-- urgent             ready sessions that take no place on an editor first: cancelled, past the deadline, spoken to
-- replicas           by the end of their lease        own:<replica>   the sessions a replica drives
-- timers             <kind>:<id> by when it is due    unfinished   how many sessions are
-- open:<tenant>      its unfinished sessions by their deadline     spent:<day>   editor seconds by tenant, of days since 1970
-- hooks:<tenant>     its webhook endpoints            deliveries:<id>   what they are, or were, told of a session
local P = KEYS[1]
local BEGAN = 1e15 -- puts sessions that nobody drove yet behind those that somebody did

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local DAY = 86400000

local function spent_on(now) return P .. 'spent:' .. string.format('%.0f', math.floor(now / DAY)) end

-- How many sessions of a tenant are not finished. A replica of an earlier version does not take out those that it finishes:
-- an hour after their deadline they are, whoever drove them.
local function open_of(tenant, most, now)
  local key = P .. 'open:' .. tenant
  if redis.call('ZCARD', key) >= most then redis.call('ZREMRANGEBYSCORE', key, '-inf', now - 3600000) end
  return redis.call('ZCARD', key)
end

local function in_line(lane, tenant) return P .. 'q:' .. lane .. ':' .. tenant end

-- So many fewer wait in a lane. Where none is left its pace is measured anew: what passes until the next line is no pace.
local function waits_less(lane)
  if redis.call('HINCRBY', P .. 'waiting', lane, -1) <= 0 then redis.call('HDEL', P .. 'pace:' .. lane, 'since', 'n') end
end

-- Put a session in line. It becomes urgent at its deadline, however long the line.
local function enqueue(id, is_new)
  local key = P .. 's:' .. id
  local h = redis.call('HMGET', key, 'lane', 'tenant', 'created', 'deadline')
  local lane, tenant = h[1], h[2]
  redis.call('HSET', key, 'state', 'ready', 'owner', '')
  redis.call('ZADD', in_line(lane, tenant), (is_new and BEGAN or 0) + h[3], id)
  redis.call('HINCRBY', P .. 'waiting', lane, 1)
  redis.call('ZADD', P .. 'timers', h[4], 'wake:' .. id)
  if redis.call('ZCARD', in_line(lane, tenant)) == 1 and redis.call('SISMEMBER', P .. 'capped:' .. lane, tenant) == 0 then
    redis.call('RPUSH', P .. 'ring:' .. lane, tenant)
  end
  redis.call('PUBLISH', P .. 'wake', lane)
end

-- Take a session out of its line; where its tenant has no other, the tenant leaves the ring.
local function dequeue(id, lane, tenant)
  if redis.call('ZREM', in_line(lane, tenant), id) == 0 then return end
  waits_less(lane)
  if redis.call('ZCARD', in_line(lane, tenant)) == 0 then
    redis.call('LREM', P .. 'ring:' .. lane, 0, tenant)
    redis.call('SREM', P .. 'capped:' .. lane, tenant)
  end
end

-- Let whichever replica asks first take it, whatever else waits.
local function urge(id)
  local h = redis.call('HMGET', P .. 's:' .. id, 'lane', 'tenant')
  dequeue(id, h[1], h[2])
  redis.call('HSET', P .. 's:' .. id, 'state', 'ready', 'owner', '')
  redis.call('ZADD', P .. 'urgent', now_ms(), id)
  redis.call('PUBLISH', P .. 'wake', '')
end

-- Put a session back that a replica let go of, or was made to; one that somebody spoke to meanwhile goes first.
local function resume(id)
  if redis.call('HDEL', P .. 's:' .. id, 'spoken') == 1 then urge(id) else enqueue(id, false) end
end

-- Fences never repeat, not even after Redis came back from an older file: time has passed since.
local function next_fence(id)
  local fence = math.max(tonumber(redis.call('HGET', P .. 's:' .. id, 'fence')) + 1, now_ms())
  redis.call('HSET', P .. 's:' .. id, 'fence', string.format('%.0f', fence))
  return fence
end

-- A replica lets go of a session, or is made to.
local function disown(id, replica, lane, tenant)
  if redis.call('SREM', P .. 'own:' .. replica, id) == 0 then return end
  redis.call('HSET', P .. 's:' .. id, 'owner', '')
  if redis.call('HINCRBY', P .. 'inflight:' .. lane, tenant, -1) <= 0 then redis.call('HDEL', P .. 'inflight:' .. lane, tenant) end
  if redis.call('SREM', P .. 'capped:' .. lane, tenant) == 1 then
    redis.call('RPUSH', P .. 'ring:' .. lane, tenant)
    redis.call('PUBLISH', P .. 'wake', lane)
  end
end

-- How many sessions go before the one at that place (from 0) of its tenant's line: tenants take turns, and those behind it in
-- the ring have had one less when its own comes.
local function ahead(lane, tenant, place)
  local n, turns = place, place + 1
  for _, other in ipairs(redis.call('LRANGE', P .. 'ring:' .. lane, 0, 999)) do
    if other == tenant then
      turns = place
    else
      n = n + math.min(redis.call('ZCARD', in_line(lane, other)), turns)
    end
  end
  return n
end

-- Milliseconds that so many sessions take to get their turn, at the pace of the last time the lane was full; nil: unknown.
local function wait_ms(lane, n, now)
  local h = redis.call('HMGET', P .. 'pace:' .. lane, 'ms', 'at')
  if not h[1] or now - h[2] > 600000 then return nil end
  return math.floor(n * h[1])
end
