-- Write as a new session would, which fails for the reason for which that would.
-- ->    Redis' INFO memory and INFO persistence
redis.call('SET', P .. 'probe', '1', 'PX', 60000)
return redis.call('INFO', 'memory') .. redis.call('INFO', 'persistence')
