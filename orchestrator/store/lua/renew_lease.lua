-- Renew the lease on every session of a replica.
-- ARGV  replica lease_ms
-- ->    1 | 0 it was taken for dead, and its sessions were given away
although_full()
if not redis.call('ZSCORE', P .. 'replicas', ARGV[1]) then return 0 end
pardon(now_ms(), tonumber(ARGV[2]))
redis.call('ZADD', P .. 'replicas', now_ms() + ARGV[2], ARGV[1])
return 1
