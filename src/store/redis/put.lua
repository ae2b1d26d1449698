-- Writes a container's record if the version that is stored is the expected one (0: nothing is stored).
-- KEYS: containers. ARGV: id, expected version, record, version of records. Answers nil, or what is stored instead.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  local readable, record = pcall(cjson.decode, stored)
  if not readable or type(record) ~= 'table' or record.v ~= tonumber(ARGV[4]) or record.version ~= tonumber(ARGV[2]) then
    return stored
  end
elseif ARGV[2] ~= '0' then
  return ''
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return false
