-- Forgets an attempt if it is still the one that was seen. KEYS: attempt. ARGV: seen.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return false
