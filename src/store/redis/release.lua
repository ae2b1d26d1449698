-- Gives back all that a holder holds. KEYS: claims of the host. ARGV: holder.
local held = redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do
  if held[i + 1] == ARGV[1] then redis.call('HDEL', KEYS[1], held[i]) end
end
return false
