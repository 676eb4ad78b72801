-- Renew the leases of callers who wait for sessions that only they can get the result of.
-- ARGV  caller_ms id…
-- ->    how many of these sessions are not finished
although_full()
local waiting = 0
for i = 2, #ARGV do
  local state = redis.call('HGET', P .. 's:' .. ARGV[i], 'state')
  if state and state ~= 'done' then
    renew_caller(ARGV[i], ARGV[1])
    waiting = waiting + 1
  end
end
return waiting
