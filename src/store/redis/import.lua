-- Puts a whole store there. KEYS: what is there now. ARGV: '1' to replace what is there, how many strings follow, then
-- for each its key, value and seconds to live; then for each entry of a hash its key, field and value.
-- Answers nil, or a key that is there.
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    if ARGV[1] ~= '1' then
      return key
    end
    redis.call('DEL', key)
  end
end
local at = 3
for _ = 1, tonumber(ARGV[2]) do
  redis.call('SET', ARGV[at], ARGV[at + 1], 'EX', ARGV[at + 2])
  at = at + 3
end
while at <= #ARGV do
  redis.call('HSET', ARGV[at], ARGV[at + 1], ARGV[at + 2])
  at = at + 3
end
return false
