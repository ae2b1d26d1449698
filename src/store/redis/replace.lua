-- Writes an attempt if what is stored is still what was seen (empty: nothing). KEYS: attempt. ARGV: seen, new, seconds to
-- live. Answers nil, or what is stored instead.
local stored = redis.call('GET', KEYS[1]) or ''
if stored ~= ARGV[1] then return stored end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return false
