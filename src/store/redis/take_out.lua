-- Takes a record out if it is still as it was seen. KEYS: a hash, or a string. ARGV: what was seen, and for a hash its
-- field. Answers nil, or what is there instead.
local stored
if ARGV[2] then
  stored = redis.call('HGET', KEYS[1], ARGV[2])
else
  stored = redis.call('GET', KEYS[1])
end
if stored ~= ARGV[1] then
  return stored or ''
end
if ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return false
