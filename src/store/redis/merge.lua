-- Merges signs of use, all or none. KEYS: activity. ARGV: for each container its id, the last use, the last check-in and
-- the connections it told of (both empty if there was none). Answers nil, or the id whose value cannot be read.

-- Nanoseconds are beyond what a double holds exactly: numbers are compared by their digits. They have no leading zeroes.
local function above(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local merged = {}
for i = 1, #ARGV, 4 do
  local id, active, at, connections = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local known = merged[id] or redis.call('HGET', KEYS[1], id)
  if known then
    local known_active, known_at, known_connections = string.match(known, '^(%d+) (%d*) (%d*)$')
    if not known_active then return id end
    if above(known_active, active) then active = known_active end
    if above(known_at, at) or (known_at == at and above(known_connections, connections)) then
      at, connections = known_at, known_connections
    end
  end
  merged[id] = active .. ' ' .. at .. ' ' .. connections
end
for id, value in pairs(merged) do redis.call('HSET', KEYS[1], id, value) end
return false
