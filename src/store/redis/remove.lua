-- Forgets a container and its activity. KEYS: containers, activity. ARGV: id.
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return false
