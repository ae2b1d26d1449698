-- Reads several keys at one moment. KEYS: hashes and strings. Answers for each the fields and values, or the value, of
-- what is there.
local all = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then
    all[i] = redis.call('HGETALL', key)
  elseif kind == 'string' then
    all[i] = { redis.call('GET', key) }
  else
    all[i] = {}
  end
end
return all
