-- Writes a container's record if the version that is stored is the expected one (0: nothing is stored).
-- KEYS: containers. ARGV: id, expected version, record, newest version of records that the writer can read. Answers nil,
-- or what is stored instead.

-- An older record is replaced by one of the newest version. What the writer cannot read is nothing he may replace.
local function readable(record)
  return type(record) == 'table' and type(record.v) == 'number' and record.v >= 1 and record.v <= tonumber(ARGV[4])
end

local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  local decoded, record = pcall(cjson.decode, stored)
  if not decoded or not readable(record) or record.version ~= tonumber(ARGV[2]) then
    return stored
  end
elseif ARGV[2] ~= '0' then
  return ''
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return false
